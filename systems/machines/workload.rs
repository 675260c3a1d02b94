//! How long goals take on which machine, and what they need and make.

use std::sync::Arc;

use bevy_ecs::prelude::Resource;
use windrow_components::ids::DrvId;
use windrow_components::machine::{Cluster, Machine};
use windrow_components::task_graph::{Cores, Demands, Successors, TaskGraph, TaskId, TimeUnit};

/// What all goals need, by the derivation's number, which is the task's.
#[derive(Debug, Resource)]
pub struct Workload {
    demands: Arc<Demands>,
    amounts: Amounts,
    /// What really is, if policies believe something else.
    truth: Option<Amounts>,
    /// For each machine its place among the names of times, if it has one.
    columns: Vec<Option<usize>>,
    successors: Successors,
    /// Every task behind all its predecessors.
    order: Vec<TaskId>,
    /// Where the consumers of each piece of data begin, and all of them.
    consumers: (Vec<u32>, Vec<TaskId>),
}

/// How much there is to do.
#[derive(Debug)]
struct Amounts {
    /// For each goal, in seconds of a core of speed 1.
    work: Vec<f64>,
    /// For each goal and each machine that has times, its time there, if it has one.
    seconds: Vec<f64>,
}

impl Amounts {
    fn of(tasks: &TaskGraph) -> Self {
        let seconds = tasks.demands().map(|demands| &demands.times.seconds);
        Self {
            work: tasks.tasks().map(|task| tasks.work(task)).collect(),
            seconds: seconds.cloned().unwrap_or_default(),
        }
    }
}

fn task(drv: DrvId) -> TaskId {
    TaskId::from_u32(drv.index() as u32)
}

impl Workload {
    /// That of a graph on a cluster. Without demands of their own, tasks take their durations on
    /// one core of speed 1.
    pub fn new(tasks: &TaskGraph, cluster: &Cluster) -> Self {
        let demands = tasks.demands().cloned().unwrap_or_default();
        let names = &demands.times.machines;
        let column = |machine: &Machine| names.iter().position(|name| *name == machine.name);
        Self {
            columns: cluster.machines.iter().map(column).collect(),
            successors: tasks.successors(),
            order: tasks.topological_order(),
            consumers: consumers(tasks, &demands),
            amounts: Amounts::of(tasks),
            truth: None,
            demands,
        }
    }

    /// The same, where policies believe goals to take what tasks take in `believed`.
    pub(crate) fn believed(self, believed: &TaskGraph) -> Self {
        Self {
            truth: Some(self.amounts),
            amounts: Amounts::of(believed),
            ..self
        }
    }

    /// How many goals there are.
    pub fn len(&self) -> usize {
        self.amounts.work.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.amounts.work.is_empty()
    }

    /// Every goal behind all that it needs.
    pub fn in_order(&self) -> impl DoubleEndedIterator<Item = DrvId> + '_ {
        self.order
            .iter()
            .map(|task| DrvId::from_index(task.index()))
    }

    /// The goals that need this one.
    pub fn successors(&self, drv: DrvId) -> impl Iterator<Item = DrvId> + '_ {
        let all = self.successors.of(task(drv)).iter();
        all.map(|task| DrvId::from_index(task.index()))
    }

    /// The work of a goal in seconds of a core of speed 1, as far as is known.
    pub fn work(&self, drv: DrvId) -> f64 {
        self.amounts.work[drv.index()]
    }

    /// The work that a goal really is.
    pub(crate) fn true_work(&self, drv: DrvId) -> f64 {
        self.truth.as_ref().unwrap_or(&self.amounts).work[drv.index()]
    }

    /// How many cores it takes.
    pub fn cores(&self, drv: DrvId) -> Cores {
        self.demands.cores(task(drv))
    }

    /// How many bytes of memory it needs.
    pub fn memory(&self, drv: DrvId) -> u64 {
        self.demands.memory(task(drv))
    }

    /// How many bytes of a disk it needs for what it makes.
    pub fn disk(&self, drv: DrvId) -> u64 {
        self.outputs(drv).iter().map(|&data| self.size(data)).sum()
    }

    /// The data that it needs.
    pub fn inputs(&self, drv: DrvId) -> &[u32] {
        self.demands.inputs(task(drv))
    }

    /// The data that it makes.
    pub fn outputs(&self, drv: DrvId) -> &[u32] {
        self.demands.outputs(task(drv))
    }

    /// How many pieces of data there are.
    pub fn data_count(&self) -> usize {
        self.demands.sizes.len()
    }

    /// The size of a piece of data in bytes.
    pub fn size(&self, data: u32) -> u64 {
        self.demands.sizes[data as usize]
    }

    /// The goal that makes a piece of data.
    pub fn maker(&self, data: u32) -> Option<DrvId> {
        let maker = self.demands.makers[data as usize];
        maker.map(|maker| DrvId::from_index(maker.index()))
    }

    /// The goals that need a piece of data.
    pub fn consumers(&self, data: u32) -> impl Iterator<Item = DrvId> + '_ {
        let (starts, all) = &self.consumers;
        let range = starts[data as usize] as usize..starts[data as usize + 1] as usize;
        all[range]
            .iter()
            .map(|task| DrvId::from_index(task.index()))
    }

    /// Whether a machine is of the kind that a goal asks for, and large enough.
    pub fn fits(&self, drv: DrvId, machine: &Machine) -> bool {
        self.cores(drv).least <= machine.cores
            && machine
                .memory
                .is_none_or(|memory| self.memory(drv) <= memory)
            && machine.disk.is_none_or(|disk| self.disk(drv) <= disk)
            && self.is_kind(drv, machine)
    }

    /// Whether a machine is of the kind that a goal asks for.
    pub fn is_kind(&self, drv: DrvId, machine: &Machine) -> bool {
        let kind = self.demands.kind(task(drv));
        kind.is_none_or(|kind| kind.fits(machine))
    }

    /// How long a goal takes on that many cores of a machine, in seconds, once its inputs are
    /// there, as far as is known.
    pub fn span(&self, drv: DrvId, machine: (usize, &Machine), cores: u32) -> f64 {
        self.span_of(&self.amounts, drv, machine, cores)
    }

    /// How long it really takes.
    pub(crate) fn true_span(&self, drv: DrvId, machine: (usize, &Machine), cores: u32) -> f64 {
        let amounts = self.truth.as_ref().unwrap_or(&self.amounts);
        self.span_of(amounts, drv, machine, cores)
    }

    fn span_of(
        &self,
        amounts: &Amounts,
        drv: DrvId,
        (number, machine): (usize, &Machine),
        cores: u32,
    ) -> f64 {
        let own = self.cores(drv);
        if let Some(column) = self.columns[number] {
            let width = self.demands.times.machines.len();
            let seconds = amounts.seconds[drv.index() * width + column];
            if !seconds.is_nan() {
                return seconds * own.speed_up(own.least) / own.speed_up(cores);
            }
        }
        amounts.work[drv.index()] / machine.speed / own.speed_up(cores)
    }

    /// Whether times are given for some machines.
    pub fn has_times(&self) -> bool {
        !self.demands.times.machines.is_empty()
    }
}

/// How many units a second, or unit, has.
pub(crate) fn seconds(unit: TimeUnit) -> f64 {
    match unit {
        TimeUnit::Microseconds => 1e6,
        TimeUnit::Units => 1.0,
    }
}

/// The consumers of each piece of data, in the order of the file.
fn consumers(tasks: &TaskGraph, demands: &Demands) -> (Vec<u32>, Vec<TaskId>) {
    let mut starts = vec![0_u32; demands.sizes.len() + 1];
    for task in tasks.tasks() {
        for &input in demands.inputs(task) {
            starts[input as usize + 1] += 1;
        }
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut next = starts.clone();
    let mut all = vec![TaskId::from_u32(0); starts.last().copied().unwrap_or(0) as usize];
    for task in tasks.tasks() {
        for &input in demands.inputs(task) {
            let place = &mut next[input as usize];
            all[*place as usize] = task;
            *place += 1;
        }
    }
    (starts, all)
}
