//! Transfers that share a network: which ends next, when each has its share of the bandwidth as the
//! model says. Knows machines by their numbers and sizes in megabytes.

use hashbrown::HashMap;
use windrow_components::machine::NetworkModel;

/// A transfer under way.
#[derive(Debug)]
struct Flow {
    id: u64,
    from: usize,
    to: usize,
    /// Megabytes that have not come.
    left: f64,
    /// Megabytes a second.
    rate: f64,
}

/// All transfers under way.
#[derive(Debug)]
pub(super) struct Flows {
    model: NetworkModel,
    /// In megabytes a second.
    bandwidth: f64,
    active: Vec<Flow>,
    now: f64,
    /// Whether transfers have begun or ended since rates were worked out.
    is_stale: bool,
}

impl Flows {
    pub(super) fn new(model: NetworkModel, bandwidth: f64) -> Self {
        Self {
            model,
            bandwidth,
            active: Vec::new(),
            now: 0.0,
            is_stale: false,
        }
    }

    fn advance(&mut self, now: f64) {
        let passed = now - self.now;
        for flow in &mut self.active {
            flow.left = (flow.left - flow.rate * passed).max(0.0);
        }
        self.now = now;
    }

    /// A transfer begins.
    pub(super) fn begin(&mut self, id: u64, (from, to): (usize, usize), megabytes: f64, now: f64) {
        self.advance(now);
        self.active.push(Flow {
            id,
            from,
            to,
            left: megabytes,
            rate: 0.0,
        });
        self.is_stale = true;
    }

    /// The place of the transfer that ends first, of equals the one that began first, and when.
    fn first(&mut self) -> Option<(usize, f64)> {
        if self.is_stale {
            self.is_stale = false;
            self.share();
        }
        let left = |flow: &Flow| match flow.left {
            0.0 => 0.0,
            left => left / flow.rate,
        };
        let times = self.active.iter().map(left).enumerate();
        let (place, time) = times.min_by(|one, other| one.1.total_cmp(&other.1))?;
        Some((place, self.now + time))
    }

    /// When the next transfer ends, if nothing else happens before that.
    pub(super) fn next_end(&mut self) -> Option<f64> {
        self.first().map(|(_, time)| time)
    }

    /// Lets time pass until the next transfer has ended, and takes that.
    pub(super) fn pop(&mut self) -> Option<u64> {
        let (place, time) = self.first()?;
        self.advance(time);
        self.is_stale = true;
        Some(self.active.remove(place).id)
    }

    /// A transfer is cut, if it is under way.
    pub(super) fn cut(&mut self, id: u64, now: f64) {
        if let Some(place) = self.active.iter().position(|flow| flow.id == id) {
            self.advance(now);
            self.active.remove(place);
            self.is_stale = true;
        }
    }

    /// Works out the rate of each transfer.
    fn share(&mut self) {
        match self.model {
            NetworkModel::MaxMin => self.share_max_min(),
            _ => {
                let rate = self.bandwidth / self.active.len() as f64;
                self.active.iter_mut().for_each(|flow| flow.rate = rate);
            }
        }
    }

    /// Fills pairs of machines evenly: the direction of a machine with the least left for each of
    /// its pairs is full first, and what its pairs have then they keep.
    fn share_max_min(&mut self) {
        let mut transfers: HashMap<(usize, usize), f64> = HashMap::new();
        for flow in &self.active {
            *transfers.entry((flow.from, flow.to)).or_default() += 1.0;
        }
        // An end is a machine and a direction: what it has left, and how many pairs share that.
        let mut ends: HashMap<(usize, bool), (f64, u32)> = HashMap::new();
        let mut pairs: Vec<(usize, usize)> = transfers.keys().copied().collect();
        pairs.sort_unstable();
        for &(from, to) in &pairs {
            for end in [(from, true), (to, false)] {
                ends.entry(end).or_insert((self.bandwidth, 0)).1 += 1;
            }
        }
        let mut rates: HashMap<(usize, usize), f64> = HashMap::new();
        while !pairs.is_empty() {
            let shares = ends.iter().filter(|(_, (_, count))| *count > 0);
            let shares =
                shares.map(|(&end, &(left, count))| (left.max(0.0) / f64::from(count), end));
            let narrowest =
                shares.min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            let Some((share, (machine, sends))) = narrowest else {
                break;
            };
            let is_full = |&mut (from, to): &mut (usize, usize)| match sends {
                true => from == machine,
                false => to == machine,
            };
            for (from, to) in pairs.extract_if(.., is_full) {
                rates.insert((from, to), share);
                for end in [(from, true), (to, false)] {
                    if let Some((left, count)) = ends.get_mut(&end) {
                        *left -= share;
                        *count -= 1;
                    }
                }
            }
        }
        for flow in &mut self.active {
            let pair = (flow.from, flow.to);
            flow.rate = rates[&pair] / transfers[&pair];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_is_shared_by_all() {
        let mut flows = Flows::new(NetworkModel::Shared, 10.0);
        flows.begin(1, (0, 1), 30.0, 0.0);
        assert_eq!(flows.next_end(), Some(3.0));
        flows.begin(2, (2, 3), 10.0, 1.0);
        // 20 are left of the first, and each has 5.
        assert_eq!(flows.next_end(), Some(3.0));
        assert_eq!(flows.pop(), Some(2));
        assert_eq!(flows.next_end(), Some(4.0));
        assert_eq!((flows.pop(), flows.pop()), (Some(1), None));
    }

    #[test]
    fn pairs_have_what_their_narrower_end_leaves_them() {
        let mut flows = Flows::new(NetworkModel::MaxMin, 12.0);
        // Three senders to one machine; one of them sends to another as well.
        for (id, pair) in [(1, (0, 9)), (2, (1, 9)), (3, (2, 9)), (4, (2, 8))] {
            flows.begin(id, pair, 8.0, 0.0);
        }
        // 4 for each to machine 9, and the 8 that are left of machine 2 to machine 8.
        assert_eq!(flows.next_end(), Some(1.0));
        assert_eq!(flows.pop(), Some(4));
        assert_eq!(flows.next_end(), Some(2.0));
        // Two transfers of one pair share what it has.
        let mut flows = Flows::new(NetworkModel::MaxMin, 12.0);
        flows.begin(1, (0, 1), 12.0, 0.0);
        flows.begin(2, (0, 1), 12.0, 0.0);
        flows.begin(3, (2, 1), 12.0, 0.0);
        assert_eq!(flows.next_end(), Some(2.0));
        assert_eq!(
            (flows.pop(), flows.pop(), flows.next_end()),
            (Some(3), Some(1), Some(3.0))
        );
    }

    proptest! {
        /// No direction of a machine has more than its bandwidth, and each pair has one that has no
        /// more to give.
        #[test]
        fn shares_are_max_min_fair(pairs in proptest::collection::vec((0..5_usize, 5..9_usize), 1..30)) {
            let mut flows = Flows::new(NetworkModel::MaxMin, 1.0);
            for (id, &pair) in (0..).zip(&pairs) {
                flows.begin(id, pair, 1.0, 0.0);
            }
            flows.share();
            let sum = |end: (usize, bool)| -> f64 {
                let of_end = flows.active.iter().filter(|flow| match end.1 {
                    true => flow.from == end.0,
                    false => flow.to == end.0,
                });
                of_end.map(|flow| flow.rate).sum()
            };
            for flow in &flows.active {
                let sums = [sum((flow.from, true)), sum((flow.to, false))];
                prop_assert!(sums.iter().all(|&sum| sum <= 1.0 + 1e-9), "{:?}", sums);
                prop_assert!(sums.iter().any(|&sum| sum >= 1.0 - 1e-9), "{:?}", sums);
            }
        }
    }
}
