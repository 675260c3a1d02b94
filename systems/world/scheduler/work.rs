//! How long what must be built takes together, as far as that is estimated: for who tells how much
//! time is left. Each derivation is counted once, from when it is expected to its end.

use std::time::Duration;

use windrow_components::ids::DrvId;

use super::Scheduler;

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Whether somebody wants to know.
    is_kept: bool,
    /// Derivations that are expected, and have not been estimated.
    new: Vec<DrvId>,
    /// By derivation, what was counted for it in microseconds; 0 if nothing was.
    counted: Vec<u64>,
}

impl Scheduler {
    /// From now on it is counted.
    pub fn keep_work(&mut self) {
        self.work.is_kept = true;
    }

    /// Whether it is counted.
    pub fn keeps_work(&self) -> bool {
        self.work.is_kept
    }

    pub(super) fn note_work(&mut self, drvs: impl Iterator<Item = DrvId>) {
        if self.work.is_kept {
            self.work.new.extend(drvs);
        }
    }

    /// Counts what has come to be expected since, by estimates in microseconds; those for which
    /// there is none stay unknown.
    pub fn count_work(&mut self, estimate: impl Fn(DrvId) -> Option<u64>) {
        for drv in std::mem::take(&mut self.work.new) {
            let counted = &mut self.work.counted;
            if counted.len() <= drv.index() {
                counted.resize(drv.index() + 1, 0);
            }
            let counted = &mut counted[drv.index()];
            if let (0, Some(estimate)) = (*counted, estimate(drv)) {
                *counted = estimate.max(1);
                self.counts.work += Duration::from_micros(*counted);
                self.counts.estimated += 1;
            }
        }
    }

    #[inline]
    pub(super) fn forget_work(&mut self, drv: DrvId) {
        let counted = self.work.counted.get_mut(drv.index());
        let counted = counted.map_or(0, std::mem::take);
        if counted > 0 {
            self.counts.work -= Duration::from_micros(counted);
            self.counts.estimated -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::default_options;

    #[test]
    fn each_derivation_counts_once_until_it_ends() {
        let mut scheduler = Scheduler::new(default_options());
        let [a, b, c] = [0, 1, 2].map(DrvId::from_index);
        scheduler.expect_builds([a].into_iter());
        scheduler.count_work(|_| Some(7));
        assert_eq!(scheduler.counts().work, Duration::ZERO, "nobody asked");
        scheduler.keep_work();
        scheduler.expect_builds([a, b, c].into_iter());
        let known = |drv| (drv != c).then_some(5);
        scheduler.count_work(known);
        scheduler.expect_builds([a].into_iter());
        scheduler.count_work(known);
        let counts = scheduler.counts();
        assert_eq!(
            (counts.work, counts.estimated),
            (Duration::from_micros(10), 2)
        );
        scheduler.forget_work(a);
        scheduler.forget_work(a);
        scheduler.forget_work(c);
        let counts = scheduler.counts();
        assert_eq!(
            (counts.work, counts.estimated),
            (Duration::from_micros(5), 1)
        );
    }
}
