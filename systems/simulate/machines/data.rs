//! Data between simulated machines: who waits for which, what is sent, what has come.

use std::collections::VecDeque;

use hashbrown::HashMap;
use windrow_components::ids::DrvId;
use windrow_components::machine::{Cluster, Network, NetworkModel, Role};

use super::agenda::{Agenda, What};
use super::network::Flows;
use super::outcome::{MachineOutcome, Sent, sends};
use crate::machines::{Board, DataAt, Workload};

/// Something that is sent, or is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    pub(super) data: u32,
    pub(super) from: usize,
    pub(super) to: usize,
    start: f64,
}

/// Where all data is, and what is on its way.
#[derive(Debug)]
pub(super) struct Data {
    network: Network,
    flows: Flows,
    /// Whether anything is ever sent.
    is_sent: bool,
    storage: Option<usize>,
    /// The machine that made each piece of data, or had it from the beginning.
    origins: Vec<Option<usize>>,
    /// How many inputs of each goal are not where it was placed.
    missing: Vec<u32>,
    /// Goals that wait for data to come to their machine.
    waiting: HashMap<(u32, usize), Vec<DrvId>>,
    /// The machines to which data is to be sent once it is made, one for each that asked.
    wanted: HashMap<u32, Vec<usize>>,
    /// What waits for its turn, by the machine it is sent to.
    queued: Vec<VecDeque<Transfer>>,
    /// How many transfers to a machine are under way, in all and from each other machine.
    active: HashMap<usize, u32>,
    active_pairs: HashMap<(usize, usize), u32>,
    under_way: HashMap<u64, Transfer>,
    begun: u64,
    /// Whether each machine has failed and is not back.
    down: Vec<bool>,
}

/// What data moves through: the agenda, what policies see, what is counted.
pub(super) struct Moves<'a> {
    pub(super) now: f64,
    pub(super) agenda: &'a mut Agenda,
    pub(super) board: &'a mut Board,
    pub(super) workload: &'a Workload,
    pub(super) outcome: &'a mut MachineOutcome,
    pub(super) record: bool,
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Data {
    pub(super) fn new(cluster: &Cluster, workload: &Workload) -> Self {
        let machines = &cluster.machines;
        let storage = machines
            .iter()
            .position(|machine| machine.role == Role::Storage);
        let origin = |data: u32| match workload.maker(data) {
            None => storage,
            Some(_) => None,
        };
        let network = cluster.network;
        Self {
            flows: Flows::new(network.model, network.bandwidth / 1e6),
            network,
            is_sent: sends(cluster),
            storage,
            origins: (0..workload.data_count() as u32).map(origin).collect(),
            missing: vec![0; workload.len()],
            waiting: HashMap::new(),
            wanted: HashMap::new(),
            queued: machines.iter().map(|_| VecDeque::new()).collect(),
            active: HashMap::new(),
            active_pairs: HashMap::new(),
            under_way: HashMap::new(),
            begun: 0,
            down: vec![false; machines.len()],
        }
    }

    /// How many inputs of a goal are not where it was placed.
    pub(super) fn missing(&self, drv: DrvId) -> u32 {
        self.missing[drv.index()]
    }

    /// A goal is placed on a machine: what it needs is sent there, or will be when it is made.
    pub(super) fn request(&mut self, drv: DrvId, machine: usize, moves: &mut Moves<'_>) {
        if !self.is_sent {
            return;
        }
        let workload = moves.workload;
        for &data in workload.inputs(drv) {
            let origin = self.origins[data as usize];
            if origin.is_none() && workload.maker(data).is_none() {
                // Without a storage machine it is everywhere.
                continue;
            }
            let before = moves.board.data_at(data, machine);
            if before != DataAt::Here {
                self.missing[drv.index()] += 1;
                self.waiting.entry((data, machine)).or_default().push(drv);
            }
            if origin == Some(machine) || self.network.reuse && before != DataAt::Elsewhere {
                continue;
            }
            moves.board.want_data(data, machine);
            match origin {
                Some(from) => self.send(data, (from, machine), moves),
                None => self.wanted.entry(data).or_default().push(machine),
            }
        }
    }

    /// A goal has made its data on a machine: that is sent to whoever has asked for it, and to the
    /// storage machine what no goal needs.
    pub(super) fn made(&mut self, drv: DrvId, machine: usize, moves: &mut Moves<'_>) {
        let workload = moves.workload;
        if !self.is_sent {
            for &data in workload.outputs(drv) {
                self.origins[data as usize] = Some(machine);
            }
            return;
        }
        for &data in workload.outputs(drv) {
            self.origins[data as usize] = Some(machine);
            self.arrive(data, machine, moves);
            for to in self.wanted.remove(&data).unwrap_or_default() {
                if to != machine {
                    self.send(data, (machine, to), moves);
                }
            }
        }
        let Some(storage) = self.storage else { return };
        for &data in workload.outputs(drv) {
            if workload.consumers(data).next().is_none() {
                self.send(data, (machine, storage), moves);
            }
        }
    }

    /// Data is at a machine.
    fn arrive(&mut self, data: u32, machine: usize, moves: &mut Moves<'_>) {
        if moves.board.add_data(data, machine) {
            for drv in self.waiting.remove(&(data, machine)).unwrap_or_default() {
                self.missing[drv.index()] -= 1;
            }
        }
    }

    fn send(&mut self, data: u32, (from, to): (usize, usize), moves: &mut Moves<'_>) {
        let start = moves.now;
        self.queued[to].push_back(Transfer {
            data,
            from,
            to,
            start,
        });
        self.begin_what_may(to, moves);
    }

    /// Begins the transfers to a machine whose turn it is.
    fn begin_what_may(&mut self, to: usize, moves: &mut Moves<'_>) {
        if self.down[to] {
            return;
        }
        let mut at = 0;
        while let Some(transfer) = self.queued[to].get(at).copied() {
            let all = self.active.get(&to).copied().unwrap_or(0);
            if self.network.downloads.is_some_and(|most| all >= most) {
                return;
            }
            let pair = (transfer.from, to);
            let of_pair = self.active_pairs.get(&pair).copied().unwrap_or(0);
            let has_enough = |most: u32| of_pair >= most;
            if self.down[transfer.from] || self.network.downloads_from_each.is_some_and(has_enough)
            {
                at += 1;
                continue;
            }
            self.queued[to].remove(at);
            *self.active.entry(to).or_default() += 1;
            *self.active_pairs.entry(pair).or_default() += 1;
            let id = self.begun;
            self.begun += 1;
            moves.outcome.transfers += 1;
            moves.outcome.megabytes += megabytes(moves.workload.size(transfer.data));
            self.under_way.insert(id, transfer);
            match self.network.latency {
                0.0 => self.begin(id, moves),
                latency => moves
                    .agenda
                    .add(moves.now + latency, What::TransferBegins(id)),
            }
        }
    }

    /// The first byte of a transfer comes.
    pub(super) fn begin(&mut self, id: u64, moves: &mut Moves<'_>) {
        let Some(&transfer) = self.under_way.get(&id) else {
            return;
        };
        let size = megabytes(moves.workload.size(transfer.data));
        match self.network.model {
            NetworkModel::Constant => {
                let time = size / (self.network.bandwidth / 1e6);
                moves.agenda.add(moves.now + time, What::TransferEnds(id));
            }
            _ => self
                .flows
                .begin(id, (transfer.from, transfer.to), size, moves.now),
        }
    }

    /// When the next of the transfers that share the network ends.
    pub(super) fn next_end(&mut self) -> Option<f64> {
        self.flows.next_end()
    }

    /// That one.
    pub(super) fn pop(&mut self) -> Option<u64> {
        self.flows.pop()
    }

    /// The machine that made a piece of data, or had it from the beginning.
    pub(super) fn origin(&self, data: u32) -> Option<usize> {
        self.origins[data as usize]
    }

    /// A transfer has ended.
    pub(super) fn end(&mut self, id: u64, moves: &mut Moves<'_>) -> Option<Transfer> {
        let transfer = self.take(id)?;
        let Transfer {
            data,
            from,
            to,
            start,
        } = transfer;
        let end = moves.now;
        moves.outcome.makespan = moves.outcome.makespan.max(end);
        if moves.record {
            moves.outcome.sent.push(Sent {
                data,
                from,
                to,
                start,
                end,
            });
        }
        self.arrive(data, to, moves);
        self.begin_what_may(to, moves);
        Some(transfer)
    }

    /// Takes a transfer that is not under way any more.
    fn take(&mut self, id: u64) -> Option<Transfer> {
        let transfer = self.under_way.remove(&id)?;
        let Transfer { from, to, .. } = transfer;
        if let Some(count) = self.active.get_mut(&to) {
            *count -= 1;
        }
        if let Some(count) = self.active_pairs.get_mut(&(from, to)) {
            *count -= 1;
        }
        Some(transfer)
    }

    /// Whether a transfer is under way, and was not cut.
    pub(super) fn is_under_way(&self, id: u64) -> bool {
        self.under_way.contains_key(&id)
    }

    /// Whether a machine has failed and is not back.
    pub(super) fn is_down(&self, machine: usize) -> bool {
        self.down[machine]
    }

    /// A goal does not wait any more on the machine that it was placed on. What it asked for comes
    /// all the same.
    pub(super) fn withdraw(&mut self, drv: DrvId, machine: usize, workload: &Workload) {
        for &data in workload.inputs(drv) {
            if let Some(waiting) = self.waiting.get_mut(&(data, machine)) {
                waiting.retain(|&other| other != drv);
            }
        }
        self.missing[drv.index()] = 0;
    }

    /// A machine fails: what is on its way from it or to it is cut, and will be sent anew.
    pub(super) fn take_down(&mut self, machine: usize, moves: &mut Moves<'_>) {
        self.down[machine] = true;
        let cut = self.under_way.iter();
        let cut = cut.filter(|(_, transfer)| transfer.from == machine || transfer.to == machine);
        let mut cut: Vec<u64> = cut.map(|(&id, _)| id).collect();
        cut.sort_unstable();
        let mut others = Vec::new();
        for id in cut.into_iter().rev() {
            self.flows.cut(id, moves.now);
            let Some(transfer) = self.take(id) else {
                continue;
            };
            moves.outcome.transfers -= 1;
            moves.outcome.megabytes -= megabytes(moves.workload.size(transfer.data));
            self.queued[transfer.to].push_front(transfer);
            others.push(transfer.to);
        }
        others.sort_unstable();
        others.dedup();
        for to in others {
            self.begin_what_may(to, moves);
        }
    }

    /// A machine comes back.
    pub(super) fn bring_back(&mut self, machine: usize, moves: &mut Moves<'_>) {
        self.down[machine] = false;
        for to in 0..self.queued.len() {
            if !self.queued[to].is_empty() {
                self.begin_what_may(to, moves);
            }
        }
    }
}
