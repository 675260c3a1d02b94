//! A line of a certain bandwidth, which all transfers on it share equally.

use std::collections::BTreeMap;

/// Transfers on their way. Time is in microseconds, as everywhere in a simulation; what has been
/// sent is counted in millionths of a byte, so that there are no fractions.
#[derive(Debug)]
pub(super) struct Link<T> {
    /// In bytes a second, which is millionths of a byte a microsecond; above 0.
    bandwidth: u64,
    /// By how much each of those that are under way from the beginning would have been sent when
    /// they end, and a number of their own.
    active: BTreeMap<(u128, u64), T>,
    begun: u64,
    /// How much that is now.
    sent: u128,
    now: u64,
}

impl<T> Link<T> {
    pub(super) fn new(bandwidth: u64) -> Self {
        Self {
            bandwidth: bandwidth.max(1),
            active: BTreeMap::new(),
            begun: 0,
            sent: 0,
            now: 0,
        }
    }

    /// Lets time pass. None of the transfers ends before `now`.
    fn advance(&mut self, now: u64) {
        let passed = u128::from(now - self.now) * u128::from(self.bandwidth);
        let share = passed.checked_div(self.active.len() as u128);
        self.sent += share.unwrap_or_default();
        self.now = now;
    }

    /// A transfer of `bytes` bytes begins.
    pub(super) fn begin(&mut self, transfer: T, bytes: u64, now: u64) {
        self.advance(now);
        let end = self.sent + u128::from(bytes) * 1_000_000;
        self.active.insert((end, self.begun), transfer);
        self.begun += 1;
    }

    /// When the next one ends, if nothing else happens before that.
    pub(super) fn next_end(&self) -> Option<u64> {
        let (&(end, _), _) = self.active.first_key_value()?;
        let left = end.saturating_sub(self.sent) * self.active.len() as u128;
        let time = left.div_ceil(u128::from(self.bandwidth));
        Some(
            self.now
                .saturating_add(u64::try_from(time).unwrap_or(u64::MAX)),
        )
    }

    /// Takes one that has ended by now.
    pub(super) fn pop_ended(&mut self, now: u64) -> Option<T> {
        self.advance(now);
        let first = self.active.first_entry()?;
        (first.key().0 <= self.sent).then(|| first.remove())
    }

    /// Gives up those that are `over`.
    pub(super) fn give_up(&mut self, over: impl Fn(&T) -> bool, now: u64) -> Vec<T> {
        self.advance(now);
        let given_up = self.active.extract_if(.., |_, transfer| over(transfer));
        given_up.map(|(_, transfer)| transfer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_sent_together_shares_the_line() {
        let mut link = Link::new(1_000_000);
        link.begin('a', 300, 0);
        assert_eq!(link.next_end(), Some(300));
        link.begin('b', 300, 100);
        // 100 of the first have come; both get half.
        assert_eq!(link.next_end(), Some(500));
        assert_eq!(link.pop_ended(500), Some('a'));
        assert_eq!(link.pop_ended(500), None);
        // 200 of the second have.
        assert_eq!(link.next_end(), Some(600));
        link.begin('c', 1000, 550);
        assert_eq!(link.give_up(|name| *name == 'c', 560), ['c']);
        assert_eq!(link.next_end(), Some(605));
        assert_eq!(link.pop_ended(605), Some('b'));
        assert_eq!(link.next_end(), None);
        link.begin('d', 0, 700);
        assert_eq!(link.next_end(), Some(700));
        assert_eq!(link.pop_ended(700), Some('d'));
    }

    proptest! {
        /// A line that is never idle takes as long as all bytes do, however they are cut.
        #[test]
        fn no_bandwidth_is_lost(sizes in proptest::collection::vec(1..10_000_u64, 1..40), bandwidth in 1..5_000_000_u64) {
            let mut link = Link::new(bandwidth);
            for (nth, &size) in sizes.iter().enumerate() {
                link.begin(nth, size, 0);
            }
            let (mut now, mut ended) = (0, 0);
            while let Some(end) = link.next_end() {
                prop_assert!(end >= now);
                now = end;
                while link.pop_ended(now).is_some() {
                    ended += 1;
                }
            }
            prop_assert_eq!(ended, sizes.len());
            let all = sizes.iter().sum::<u64>() as f64 * 1e6 / bandwidth as f64;
            prop_assert!((now as f64 - all).abs() <= 1.0 + sizes.len() as f64, "{} {}", now, all);
        }
    }
}
