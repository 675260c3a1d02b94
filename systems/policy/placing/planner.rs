//! A schedule that is worked out before anything runs: where each goal goes and when, as far as is
//! known beforehand. Transfers are thought to have the network to themselves, goals take the fewest
//! cores they can run on, and memory is left to the machines.

use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use crate::machines::{Fleet, Workload};

/// Where and when a goal could run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spot {
    /// The place of the machine among those that compute.
    pub(super) place: usize,
    pub(super) cores: Vec<u32>,
    pub(super) start: f64,
    pub(super) end: f64,
}

/// What has been planned so far.
#[derive(Debug, Clone)]
pub(super) struct Planner<'w> {
    pub(super) workload: &'w Workload,
    pub(super) fleet: &'w Fleet,
    /// The machines that compute, with their numbers.
    pub(super) machines: Vec<(usize, &'w Machine)>,
    /// Whether a goal may go into a gap between two that have been planned.
    has_gaps: bool,
    /// For each machine and core, from when to when it is taken, in order.
    taken: Vec<Vec<Vec<(f64, f64)>>>,
    /// By goal, in the order in which they were planned.
    spots: Vec<Option<Spot>>,
}

impl<'w> Planner<'w> {
    pub(super) fn new(
        workload: &'w Workload,
        fleet: &'w Fleet,
        machines: Vec<(usize, &'w Machine)>,
        has_gaps: bool,
    ) -> Self {
        let cores = |&(_, machine): &(usize, &Machine)| vec![Vec::new(); machine.cores as usize];
        Self {
            taken: machines.iter().map(cores).collect(),
            spots: vec![None; workload.len()],
            workload,
            fleet,
            machines,
            has_gaps,
        }
    }

    /// The spot of a goal that has been planned.
    pub(super) fn spot(&self, drv: DrvId) -> Option<&Spot> {
        self.spots[drv.index()].as_ref()
    }

    /// All goals.
    pub(super) fn goals(&self) -> impl Iterator<Item = DrvId> + use<> {
        (0..self.workload.len()).map(DrvId::from_index)
    }

    /// How long a goal takes on the machine at a place, if it fits there.
    pub(super) fn span(&self, drv: DrvId, place: usize) -> Option<f64> {
        let (number, machine) = self.machines[place];
        let cores = self.workload.cores(drv).least;
        let fits = self.workload.fits(drv, machine);
        fits.then(|| self.workload.span(drv, (number, machine), cores))
    }

    /// The times of a goal on all machines that it fits.
    pub(super) fn spans(&self, drv: DrvId) -> impl Iterator<Item = f64> + '_ {
        (0..self.machines.len()).filter_map(move |place| self.span(drv, place))
    }

    /// The mean of these.
    pub(super) fn mean_span(&self, drv: DrvId) -> f64 {
        let (count, sum) = self
            .spans(drv)
            .fold((0.0, 0.0), |(n, sum), span| (n + 1.0, sum + span));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// How long data takes from one machine to another.
    pub(super) fn transfer(&self, bytes: u64) -> f64 {
        self.fleet.network.time(bytes)
    }

    /// What needs a goal's output, and how long that takes to another machine.
    pub(super) fn successors(&self, drv: DrvId) -> Vec<(DrvId, f64)> {
        let workload = self.workload;
        let mut all: Vec<(DrvId, f64)> = workload.successors(drv).map(|next| (next, 0.0)).collect();
        for &data in workload.outputs(drv) {
            let time = self.transfer(workload.size(data));
            all.extend(workload.consumers(data).map(|next| (next, time)));
        }
        all
    }

    /// When all that a goal needs can be on the machine at a place. What has not been planned is
    /// thought to be there.
    fn ready_at(&self, drv: DrvId, place: usize, before: &Before) -> f64 {
        let end = |maker: DrvId, sent: f64| match self.spot(maker) {
            Some(spot) if spot.place == place => spot.end,
            Some(spot) => spot.end + sent,
            None => 0.0,
        };
        let mut ready = 0.0_f64;
        for &maker in &before.0[drv.index()] {
            ready = ready.max(end(maker, 0.0));
        }
        for &data in self.workload.inputs(drv) {
            let sent = self.transfer(self.workload.size(data));
            ready = ready.max(match self.workload.maker(data) {
                Some(maker) => end(maker, sent),
                None if self.fleet.storage.is_some() => sent,
                None => 0.0,
            });
        }
        ready
    }

    /// The first spot for a goal on the machine at a place.
    pub(super) fn evaluate(&self, drv: DrvId, place: usize, before: &Before) -> Option<Spot> {
        let span = self.span(drv, place)?;
        let count = self.workload.cores(drv).least as usize;
        let ready = self.ready_at(drv, place, before);
        let cores = &self.taken[place];
        if !self.has_gaps {
            let last = |core: usize| cores[core].last().map_or(0.0, |&(_, end)| end);
            let mut order: Vec<usize> = (0..cores.len()).collect();
            order.sort_by(|&one, &other| last(one).total_cmp(&last(other)));
            let chosen = &order[..count];
            let start = chosen
                .iter()
                .fold(ready, |start, &core| start.max(last(core)));
            let cores = chosen.iter().map(|&core| core as u32).collect();
            return Some(Spot {
                place,
                cores,
                start,
                end: start + span,
            });
        }
        let mut starts = vec![ready];
        let ends = cores.iter().flatten().map(|&(_, end)| end);
        starts.extend(ends.filter(|&end| end > ready));
        starts.sort_unstable_by(f64::total_cmp);
        starts.into_iter().find_map(|start| {
            let free = |core: &usize| is_free(&cores[*core], start, start + span);
            let free: Vec<u32> = (0..cores.len())
                .filter(free)
                .take(count)
                .map(|core| core as u32)
                .collect();
            (free.len() == count).then_some(Spot {
                place,
                cores: free,
                start,
                end: start + span,
            })
        })
    }

    /// The spot where a goal ends first, on equal terms the machine that comes first.
    pub(super) fn earliest_end(&self, drv: DrvId, before: &Before) -> Option<Spot> {
        self.best(drv, before, |spot| spot.end)
    }

    /// The spot with the smallest cost.
    pub(super) fn best(
        &self,
        drv: DrvId,
        before: &Before,
        cost: impl Fn(&Spot) -> f64,
    ) -> Option<Spot> {
        let places = 0..self.machines.len();
        let spots = places.filter_map(|place| self.evaluate(drv, place, before));
        spots.min_by(|one, other| cost(one).total_cmp(&cost(other)))
    }

    /// Plans a goal.
    pub(super) fn take(&mut self, drv: DrvId, spot: Spot) {
        for &core in &spot.cores {
            let list = &mut self.taken[spot.place][core as usize];
            let at = list.partition_point(|&(start, end)| (start, end) < (spot.start, spot.end));
            list.insert(at, (spot.start, spot.end));
        }
        self.spots[drv.index()] = Some(spot);
    }

    /// What has been planned, in the order in which machines are to start it.
    pub(super) fn into_spots(self, order: &[DrvId]) -> Vec<(DrvId, Spot)> {
        let mut spots = self.spots;
        let mut all: Vec<(DrvId, Spot)> = order
            .iter()
            .filter_map(|&drv| Some((drv, spots[drv.index()].take()?)))
            .collect();
        // What is planned for one instant stays in the order in which it was planned.
        all.sort_by(|one, other| one.1.start.total_cmp(&other.1.start));
        all
    }
}

/// Whether a core is not taken at any time between two instants.
fn is_free(taken: &[(f64, f64)], start: f64, end: f64) -> bool {
    let next = taken.partition_point(|&(_, other)| other <= start);
    // What takes no time fits anywhere but inside another.
    taken[next..]
        .iter()
        .all(|&(from, to)| from >= end || to <= start)
}

/// What each goal needs, directly.
#[derive(Debug)]
pub(super) struct Before(pub(super) Vec<Vec<DrvId>>);

impl Before {
    pub(super) fn new(workload: &Workload) -> Self {
        let mut before = vec![Vec::new(); workload.len()];
        for drv in workload.in_order() {
            for next in workload.successors(drv) {
                before[next.index()].push(drv);
            }
        }
        Self(before)
    }
}
