//! What is looked at by other threads for goals whose children have exited: how it is ended, and
//! when that takes too long.

use std::time::Duration;

use bevy_ecs::prelude::Entity;
use hashbrown::HashMap;
use windrow_components::building::Deadlines;
use windrow_components::request::ChildLimits;
use windrow_sys::interrupt::Stop;

/// One that is under way.
#[derive(Debug)]
struct Scan {
    stop: Stop,
    /// When the child of the goal did what: the limit on its time is that of the scan too.
    deadlines: Deadlines,
    /// Whether it is ended for having taken too long, and after how many seconds.
    timed_out: Option<u64>,
}

/// Those that are under way.
#[derive(Debug, Default)]
pub struct Scans(HashMap<Entity, Scan>);

impl Scans {
    /// Begins one. What is done for it is to be done under what is returned.
    pub fn begin(&mut self, goal: Entity, deadlines: Deadlines) -> Stop {
        let stop = Stop::default();
        let scan = Scan {
            stop: stop.clone(),
            deadlines,
            timed_out: None,
        };
        self.0.insert(goal, scan);
        stop
    }

    /// It has ended. After how many seconds it was to end for having taken too long, if so.
    pub fn end(&mut self, goal: Entity) -> Option<u64> {
        self.0.remove(&goal)?.timed_out
    }

    /// Ends all of them.
    pub fn stop_all(&self) {
        self.0.values().for_each(|scan| scan.stop.set());
    }

    /// Ends one that has taken too long by now; else when it will have, if ever.
    pub fn judge(&mut self, goal: Entity, limits: ChildLimits, now: Duration) -> Option<Duration> {
        let scan = self.0.get_mut(&goal)?;
        let at = scan.deadlines.timeout(limits)?;
        if now < at {
            return Some(at);
        }
        scan.timed_out = Some(limits.timeout_s);
        scan.stop.set();
        None
    }

    /// The engine was stopped until `now` for that long, perhaps together with these.
    pub fn engine_was_stopped(&mut self, now: Duration, stopped: Duration) {
        for scan in self.0.values_mut() {
            scan.deadlines.engine_was_stopped(now, stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_ends_with_the_time_of_its_build() {
        let second = Duration::from_secs;
        let limits = ChildLimits {
            max_silent_time_s: 1,
            timeout_s: 10,
            max_log_size: 0,
        };
        let goal = Entity::from_raw_u32(3).unwrap();
        let mut scans = Scans::default();
        let mut deadlines = Deadlines::new(second(5), true);
        deadlines.exited = Some(second(7));
        let stop = scans.begin(goal, deadlines);
        assert_eq!(scans.judge(goal, limits, second(14)), Some(second(15)));
        scans.engine_was_stopped(second(20), second(6));
        assert_eq!(scans.judge(goal, limits, second(20)), Some(second(21)));
        assert!(!stop.is_set());
        assert_eq!(scans.judge(goal, limits, second(21)), None);
        assert!(stop.is_set());
        assert_eq!(scans.end(goal), Some(10));

        let stop = scans.begin(goal, Deadlines::new(second(5), false));
        assert_eq!(scans.judge(goal, limits, second(99)), None);
        assert!(!stop.is_set());
        scans.stop_all();
        assert!(stop.is_set());
        assert_eq!(scans.end(goal), None);
    }
}
