//! The fifth system: what should have happened by now. Silence, total time, log size, and locks to
//! try again.

pub mod grace;
pub mod hook;

use std::time::Duration;

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use windrow_components::building::{BuildLog, Child, Deadlines};
use windrow_components::count::count;
use windrow_components::request::ChildLimits;

use crate::failure::FailureKind;
use crate::process::kill;
use crate::world::children::{ChildCgroup, Condemned, LINGER};
use crate::world::{Host, Scheduler};

/// A child that is watched.
type WatchedChild = (
    &'static mut Child,
    &'static BuildLog,
    Option<&'static Condemned>,
    Option<&'static ChildCgroup>,
);

/// Kills children that took too long or wrote too much (Nix 1.8: `DerivationGoal::cancel`); their
/// exit is noticed as any other. Gives up on logs that what a child left behind holds open.
///
/// Nix 1.8: `Goal::cancel`, `DerivationGoal::handleChildOutput`, `DerivationGoal::handleEOF`.
/// Nix 1.8: `SubstitutionGoal::cancel`.
pub fn condemn(
    mut commands: Commands,
    mut children: Query<WatchedChild>,
    mut host: NonSendMut<Host>,
    scheduler: Res<Scheduler>,
) {
    let now = scheduler.now;
    while let Some(goal) = host.alarms.pop_due(now) {
        let Ok((mut child, log, condemned, cgroup)) = children.get_mut(goal) else {
            let next = host.scans.judge(goal, scheduler.limits_of(goal), now);
            if let Some(at) = next {
                host.alarms.set(at, goal);
            }
            continue;
        };
        let cgroup = cgroup.and_then(|cgroup| cgroup.0.as_ref());
        if let Some(exited) = child.deadlines.exited {
            // What it left behind may hold its log open, but it did not take too long itself.
            let waited = child.log.is_none() || exited + LINGER <= now;
            host.note_if_over(goal, &mut child, waited);
        } else if scheduler.is_cancelled(goal) {
            // It was asked to end.
            kill::kill(&child, cgroup);
        } else if condemned.is_some() {
        } else if let Some(why) =
            why_condemned(scheduler.limits_of(goal), &child.deadlines, log, now)
        {
            kill::kill(&child, cgroup);
            commands.entity(goal).insert(why);
        } else {
            host.watch_time(scheduler.limits_of(goal), goal, &child.deadlines);
        }
    }
}

/// Ends the children of goals that were cancelled; their exit is noticed as any other. Who has none
/// yet has it ended when it is there.
pub fn cancel(
    children: Query<(Option<&Child>, Option<&ChildCgroup>)>,
    mut host: NonSendMut<Host>,
    mut scheduler: ResMut<Scheduler>,
) {
    let now = scheduler.now;
    for goal in scheduler.take_cancelled() {
        let Ok((child, cgroup)) = children.get(goal) else {
            continue;
        };
        if let Some(child) = child {
            let cgroup = cgroup.and_then(|cgroup| cgroup.0.as_ref());
            host.cancel(goal, (child, cgroup), now);
        }
    }
}

fn why_condemned(
    limits: ChildLimits,
    deadlines: &Deadlines,
    log: &BuildLog,
    now: Duration,
) -> Option<Condemned> {
    let over = |since: Duration, seconds: u64| {
        deadlines.limited
            && seconds > 0
            && now.saturating_sub(since) >= Duration::from_secs(seconds)
    };
    let is_late = deadlines.timeout(limits).is_some_and(|at| at <= now);
    let (silent_s, timeout_s) = (limits.max_silent_time_s, limits.timeout_s);
    let (kind, reason) = if over(deadlines.last_output, silent_s) {
        let reason = format!("timed out after {} of silence", count(silent_s, "second"));
        (FailureKind::TimedOut, reason)
    } else if is_late {
        let reason = format!("timed out after {}", count(timeout_s, "second"));
        (FailureKind::TimedOut, reason)
    } else if limits.max_log_size > 0 && log.size > limits.max_log_size {
        let bytes = count(limits.max_log_size, "byte");
        let reason = format!("was killed after writing more than {bytes} of log output");
        (FailureKind::LogLimit, reason)
    } else {
        return None;
    };
    Some(Condemned { reason, kind })
}

/// Makes goals ready again whose locks are due for another try.
///
/// Nix 1.8: `Worker::waitForAWhile`.
pub fn retry_locks(mut scheduler: ResMut<Scheduler>) {
    scheduler.retry_parked();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_deadline_counts() {
        let seconds = Duration::from_secs;
        let limits = |max_silent_time_s, timeout_s| ChildLimits {
            max_silent_time_s,
            timeout_s,
            max_log_size: 0,
        };
        let mut child = Deadlines {
            started: seconds(1),
            limited: true,
            last_output: seconds(5),
            exited: None,
            stopped: Duration::ZERO,
        };
        assert_eq!(child.next(limits(0, 0)), None);
        assert_eq!(child.next(limits(3, 10)), Some(seconds(8)));
        assert_eq!(child.next(limits(7, 10)), Some(seconds(11)));
        assert_eq!(child.next(limits(0, 10)), Some(seconds(11)));
        // Only a child that still runs can take too long, and a hook's build is limited by the
        // hook.
        child.limited = false;
        assert_eq!(child.next(limits(3, 10)), None);
        child.limited = true;
        child.exited = Some(seconds(6));
        assert_eq!(child.next(limits(3, 10)), None);
        assert_eq!(child.timeout(limits(3, 10)), Some(seconds(11)));
        // While the engine is stopped, nobody's time passes.
        child.exited = None;
        child.engine_was_stopped(seconds(100), seconds(90));
        assert_eq!(child.next(limits(7, 0)), Some(seconds(102)));
        assert_eq!(child.next(limits(0, 10)), Some(seconds(101)));
        child.engine_was_stopped(seconds(100), seconds(90));
        assert_eq!(child.last_output, seconds(100));
    }
}
