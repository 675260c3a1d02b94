//! How fast binary caches are: measured while a run asks them and downloads from them, and supposed
//! before that.

use std::time::Duration;

use bevy_ecs::prelude::Resource;
use hashbrown::HashMap;
use windrow_components::ids::PathId;
use windrow_net::store_url::Kind;

use crate::helpers::HelperConfig;

/// How long an answer takes, as long as none has come.
const SUPPOSED_LATENCY: Duration = Duration::from_millis(100);

/// What is supposed to have been downloaded already, and in which time: 10 MB a second. What is
/// measured soon outweighs it.
const SUPPOSED_BYTES: u64 = 1_000_000;
const SUPPOSED_TIME: Duration = Duration::from_millis(100);

/// How fast a cache is.
#[derive(Debug, Default)]
struct Speed {
    /// It lies on this machine, so that nothing of it is downloaded.
    is_local: bool,
    /// The shortest time that an answer has taken.
    latency: Option<Duration>,
    /// A question that has not been answered, and when it was asked.
    asked: Option<(PathId, Duration)>,
    /// What was downloaded.
    bytes: u64,
    /// How long these downloads took, each for itself, without the latency.
    time: Duration,
}

/// A download that has not ended.
#[derive(Debug)]
struct UnderWay {
    sub: usize,
    bytes: u64,
    since: Duration,
}

/// How fast substituters are that are binary caches, by their places among all substituters.
///
/// What one download had while it shared the line with others is what the next one will have.
#[derive(Debug, Default, Resource)]
pub struct Speeds {
    subs: HashMap<usize, Speed>,
    under_way: HashMap<PathId, UnderWay>,
}

impl Speeds {
    /// Those of a run with that configuration, before anything is measured.
    pub fn of_config(config: &HelperConfig) -> Self {
        let mut speeds = Self::default();
        for (nth, url) in config.caches.urls.iter().enumerate() {
            let sub = config.substituters.len() + nth;
            let is_local = matches!(url.kind, Kind::File(_) | Kind::Local(_));
            speeds.subs.entry(sub).or_default().is_local = is_local;
        }
        speeds
    }

    /// A cache is asked for paths.
    pub fn ask(&mut self, sub: usize, paths: &[PathId], now: Duration) {
        let speed = self.subs.entry(sub).or_default();
        if speed.asked.is_none() {
            speed.asked = paths.first().map(|&path| (path, now));
        }
    }

    /// What was measured, for another run, whose clock is another one.
    pub(crate) fn for_run(mut self) -> Self {
        self.subs.values_mut().for_each(|speed| speed.asked = None);
        self.under_way.clear();
        self
    }

    /// It does not answer what it was asked for a path. The next question is timed.
    pub fn give_up(&mut self, sub: usize, path: PathId) {
        let speed = self.subs.entry(sub).or_default();
        speed.asked.take_if(|(asked, _)| *asked == path);
    }

    /// It has answered, or what it said in an earlier run was remembered.
    pub fn hear(&mut self, sub: usize, path: PathId, remembered: bool, now: Duration) {
        let speed = self.subs.entry(sub).or_default();
        let Some((_, asked)) = speed.asked.take_if(|(asked, _)| *asked == path) else {
            return;
        };
        if !remembered {
            let took = now.saturating_sub(asked);
            speed.latency = Some(speed.latency.map_or(took, |least| least.min(took)));
        }
    }

    /// A download of `bytes` bytes begins.
    pub fn begin(&mut self, sub: usize, path: PathId, bytes: u64, now: Duration) {
        let since = now;
        self.under_way.insert(path, UnderWay { sub, bytes, since });
    }

    /// A download has ended, and counts if it is complete.
    pub fn end(&mut self, path: PathId, is_complete: bool, now: Duration) {
        let Some(UnderWay { sub, bytes, since }) = self.under_way.remove(&path) else {
            return;
        };
        if is_complete {
            let speed = self.subs.entry(sub).or_default();
            let latency = speed.latency.unwrap_or_default();
            speed.bytes = speed.bytes.saturating_add(bytes);
            speed.time += now.saturating_sub(since).saturating_sub(latency);
        }
    }

    /// How long a cache takes to begin to answer.
    pub fn latency(&self, sub: usize) -> Duration {
        match self.subs.get(&sub) {
            Some(speed) if speed.is_local => Duration::ZERO,
            speed => speed
                .and_then(|speed| speed.latency)
                .unwrap_or(SUPPOSED_LATENCY),
        }
    }

    /// How long a cache takes to send `bytes` bytes once it has begun.
    pub fn transfer(&self, sub: usize, bytes: u64) -> Duration {
        let (mut known, mut time) = (SUPPOSED_BYTES, SUPPOSED_TIME);
        if let Some(speed) = self.subs.get(&sub) {
            if speed.is_local {
                return Duration::ZERO;
            }
            known = known.saturating_add(speed.bytes);
            time += speed.time;
        }
        let micros = u128::from(bytes) * time.as_micros() / u128::from(known);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(index: usize) -> PathId {
        PathId::from_index(index)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_measured_outweighs_what_is_supposed() {
        let mut speeds = Speeds::default();
        assert_eq!(speeds.latency(0), SUPPOSED_LATENCY);
        assert_eq!(speeds.transfer(0, 10_000_000), SECOND);
        speeds.ask(0, &[path(1), path(2)], SECOND);
        speeds.hear(0, path(2), false, SECOND * 2);
        assert_eq!(speeds.latency(0), SUPPOSED_LATENCY, "another was timed");
        speeds.hear(0, path(1), false, SECOND * 3);
        assert_eq!(speeds.latency(0), SECOND * 2);
        // 9 MB in 10 seconds, of which 2 are latency.
        speeds.begin(0, path(1), 9_000_000, SECOND * 3);
        speeds.end(path(1), true, SECOND * 13);
        let expected = Duration::from_millis(8100);
        assert_eq!(speeds.transfer(0, 10_000_000), expected);
        // Neither what failed nor another cache's counts.
        speeds.begin(0, path(2), 1, SECOND * 13);
        speeds.end(path(2), false, SECOND * 99);
        speeds.begin(1, path(3), 1, SECOND * 13);
        speeds.end(path(3), true, SECOND * 99);
        assert_eq!(speeds.transfer(0, 10_000_000), expected);
        assert_eq!(speeds.latency(1), SUPPOSED_LATENCY);
    }

    #[test]
    fn what_is_not_answered_is_not_timed() {
        let mut speeds = Speeds::default();
        speeds.ask(0, &[path(1), path(2)], SECOND);
        speeds.give_up(0, path(2));
        speeds.ask(0, &[path(3)], SECOND * 2);
        speeds.give_up(0, path(1));
        speeds.ask(0, &[path(1)], SECOND * 90);
        speeds.hear(0, path(1), false, SECOND * 91);
        assert_eq!(speeds.latency(0), SECOND);
        // The clock of another run begins anew.
        speeds.ask(0, &[path(4)], SECOND * 92);
        let mut speeds = speeds.for_run();
        assert_eq!(speeds.latency(0), SECOND);
        speeds.ask(0, &[path(5)], SECOND);
        speeds.hear(0, path(5), false, SECOND + SECOND / 2);
        assert_eq!(speeds.latency(0), SECOND / 2);
    }

    #[test]
    fn the_shortest_answer_is_the_latency_and_what_is_remembered_is_none() {
        let mut speeds = Speeds::default();
        for (remembered, took, expected) in [
            (true, 0, SUPPOSED_LATENCY),
            (false, 5, SECOND * 5),
            (false, 3, SECOND * 3),
            (false, 4, SECOND * 3),
            (true, 0, SECOND * 3),
        ] {
            speeds.ask(0, &[path(1)], SECOND);
            speeds.hear(0, path(1), remembered, SECOND * (1 + took));
            assert_eq!(speeds.latency(0), expected);
        }
    }
}
