//! Task graphs for simulation: tasks with durations and predecessors as flat arrays, named by dense
//! ids. Knows nothing of derivations or stores, nor of the files that graphs come from.

use std::borrow::Cow;
use std::sync::Arc;

mod attributes;
mod builder;
mod demands;
mod details;
mod durations;
mod error;
mod names;
mod order;
mod stats;

pub use attributes::Attributes;
pub use builder::{Builder, Limits};
pub use demands::{Cores, DataLists, Demands, Kind, Times};
pub use details::{Degrees, Details, WorkOfKind};
pub use durations::MAX_DURATION;
pub use error::{Place, TaskGraphError};
pub use names::{spelt, unspelt};
pub use stats::Stats;

/// A task, by its place in the file it came from, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u32);

impl TaskId {
    /// The id with that index.
    ///
    /// # Panics
    /// If `index` does not fit into 32 bits: a graph of that size is refused long before.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a task id fits into 32 bits"))
    }

    /// The id with that number.
    #[inline]
    pub const fn from_u32(number: u32) -> Self {
        Self(number)
    }

    /// Its place in the graph's arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What durations are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Microseconds.
    Microseconds,
    /// Abstract units, as in the Standard Task Graph Set.
    Units,
}

/// The edges of a graph as flat arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    /// One more than there are tasks: where the predecessors of each begin.
    pub(crate) starts: Vec<u32>,
    pub(crate) predecessors: Vec<TaskId>,
}

impl Rows {
    #[inline]
    pub(crate) fn of(&self, index: usize) -> &[TaskId] {
        &self.predecessors[self.starts[index] as usize..self.starts[index + 1] as usize]
    }
}

/// A directed acyclic graph of tasks. Immutable except for its durations and what tasks need; made
/// by a [`Builder`].
#[derive(Debug, Clone, PartialEq)]
pub struct TaskGraph {
    /// All names back to back; empty if the graph has none.
    names: Vec<u8>,
    name_ends: Vec<u32>,
    /// Empty if the graph has none.
    durations: Vec<u64>,
    unit: TimeUnit,
    /// Shared with who builds the graph, so that it need not be copied.
    rows: Arc<Rows>,
    /// Every task stands behind its predecessors, so the ids themselves are a topological order.
    in_order: bool,
    /// What tasks need and make, if anything is said of that.
    demands: Option<Arc<Demands>>,
    /// What else is said of them, if anything is.
    attributes: Option<Arc<Attributes>>,
}

impl TaskGraph {
    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.rows.starts.len() - 1
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different edges there are.
    pub fn edge_count(&self) -> usize {
        self.rows.predecessors.len()
    }

    /// All tasks in the order of the file.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = TaskId> + use<> {
        (0..self.len() as u32).map(TaskId)
    }

    /// The tasks that must end before `task` starts: ascending, each once.
    pub fn predecessors(&self, task: TaskId) -> &[TaskId] {
        self.rows.of(task.index())
    }

    /// All edges.
    pub(crate) fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }

    /// Whether every task stands behind its predecessors.
    pub fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// The edges the other way round. Costs a pass over all edges and four bytes for each.
    pub fn successors(&self) -> Successors {
        let mut starts = vec![0u32; self.rows.starts.len()];
        for pred in &self.rows.predecessors {
            starts[pred.index() + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        // While filling, a row's start is moved to its end, which is where the next row's start
        // was.
        let mut edges = vec![TaskId(0); self.edge_count()];
        for task in self.tasks() {
            for pred in self.predecessors(task) {
                let slot = &mut starts[pred.index()];
                edges[*slot as usize] = task;
                *slot += 1;
            }
        }
        starts.rotate_right(1);
        starts[0] = 0;
        Successors { starts, edges }
    }

    /// Whether the tasks have names of their own.
    pub fn has_names(&self) -> bool {
        !self.name_ends.is_empty()
    }

    /// What to call a task: its name as text ([`spelt`]), or `n` and its number in the graph from
    /// 0.
    pub fn name(&self, task: TaskId) -> Cow<'_, str> {
        match self.own_name(task) {
            b"" => Cow::Owned(format!("n{}", task.0)),
            name => spelt(name),
        }
    }

    /// The bytes of a task's name; without a name, those of what it is called.
    pub fn name_bytes(&self, task: TaskId) -> Cow<'_, [u8]> {
        match self.own_name(task) {
            b"" => Cow::Owned(format!("n{}", task.0).into_bytes()),
            name => Cow::Borrowed(name),
        }
    }

    fn own_name(&self, task: TaskId) -> &[u8] {
        let index = task.index();
        let Some(&end) = self.name_ends.get(index) else {
            return b"";
        };
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.name_ends[before]);
        &self.names[start as usize..end as usize]
    }

    /// What durations are counted in.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// Whether the tasks have durations of their own.
    pub fn has_durations(&self) -> bool {
        !self.durations.is_empty()
    }

    /// How long a task takes, in the graph's [`unit`](Self::unit); 1 if the graph has no durations.
    pub fn duration(&self, task: TaskId) -> u64 {
        self.durations.get(task.index()).copied().unwrap_or(1)
    }

    /// What tasks need and make, if anything is said of that.
    pub fn demands(&self) -> Option<&Arc<Demands>> {
        self.demands.as_ref()
    }

    /// Says what tasks need and make.
    ///
    /// # Errors
    /// If that is said of another number of tasks, or of data that there is not.
    pub fn set_demands(&mut self, demands: Demands) -> Result<(), TaskGraphError> {
        if let Some(reason) = demands.problem(self.len()) {
            return Err(TaskGraphError::BadDemands { reason });
        }
        self.demands = (!demands.is_empty()).then(|| Arc::new(demands));
        Ok(())
    }

    /// What is said of tasks beside what they need, if anything is.
    pub fn attributes(&self) -> Option<&Arc<Attributes>> {
        self.attributes.as_ref()
    }

    /// Says something of tasks beside what they need.
    ///
    /// # Errors
    /// If that is said of another number of tasks, or of a kind that there is not.
    pub fn set_attributes(&mut self, attributes: Attributes) -> Result<(), TaskGraphError> {
        if let Some(reason) = attributes.problem(self.len()) {
            return Err(TaskGraphError::BadDemands { reason });
        }
        self.attributes = (!attributes.is_empty()).then(|| Arc::new(attributes));
        Ok(())
    }

    /// The work of a task on one core of speed 1: in seconds, or in units for graphs that count in
    /// those.
    pub fn work(&self, task: TaskId) -> f64 {
        let exact = self.demands.as_ref().and_then(|d| d.work.get(task.index()));
        let units = match self.unit {
            TimeUnit::Microseconds => 1e6,
            TimeUnit::Units => 1.0,
        };
        let duration = || self.duration(task) as f64 / units;
        exact.copied().unwrap_or_else(duration)
    }

    /// The same graph in which each task takes another time: durations, work in seconds or units,
    /// and the times on machines that it has times for.
    ///
    /// # Errors
    /// As [`TaskGraph::set_durations`] and [`TaskGraph::set_demands`].
    pub fn retimed(
        &self,
        durations: Vec<u64>,
        work: Vec<f64>,
        seconds: Vec<f64>,
    ) -> Result<Self, TaskGraphError> {
        let mut graph = self.clone();
        let mut demands = self.demands.as_deref().cloned().unwrap_or_default();
        let unit = self.unit;
        graph.set_durations(unit, durations)?;
        demands.work = work;
        demands.times.seconds = seconds;
        graph.set_demands(demands)?;
        graph.attributes.clone_from(&self.attributes);
        Ok(graph)
    }

    /// What is known of the work of tasks beside their durations does not hold any more.
    fn forget_work(&mut self) {
        if let Some(attributes) = &mut self.attributes
            && !attributes.estimates.is_empty()
        {
            Arc::make_mut(attributes).estimates = Vec::new();
        }
        if let Some(demands) = &mut self.demands {
            let demands = Arc::make_mut(demands);
            demands.work = Vec::new();
            demands.times = Times::default();
        }
    }

    /// Gives the tasks other durations, one for each in order; an empty list takes them away.
    ///
    /// # Errors
    /// If their number is wrong, one is above [`MAX_DURATION`], or they add up to more than 64 bits
    /// hold.
    pub fn set_durations(
        &mut self,
        unit: TimeUnit,
        durations: Vec<u64>,
    ) -> Result<(), TaskGraphError> {
        if durations.is_empty() {
            self.durations = durations;
            self.unit = TimeUnit::Units;
            self.forget_work();
            return Ok(());
        }
        if durations.len() != self.len() {
            return Err(TaskGraphError::DurationCount {
                given: durations.len(),
                tasks: self.len(),
            });
        }
        if let Some(index) = durations
            .iter()
            .position(|&duration| duration > MAX_DURATION)
        {
            return Err(TaskGraphError::AbsurdDuration {
                origin: "durations".to_owned(),
                task: self.name(TaskId::from_index(index)).into_owned(),
                duration: durations[index].to_string(),
            });
        }
        durations::total(&durations)?;
        self.durations = durations;
        self.unit = unit;
        self.forget_work();
        Ok(())
    }

    /// Every task behind all its predecessors; always the same order for the same graph.
    pub fn topological_order(&self) -> Vec<TaskId> {
        if self.in_order {
            return self.tasks().collect();
        }
        order::topological_order(&self.rows.starts, &self.rows.predecessors)
            .expect("a graph with a cycle is not built")
    }
}

/// For every task, the tasks that wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successors {
    starts: Vec<u32>,
    edges: Vec<TaskId>,
}

impl Successors {
    /// The tasks that wait for `task`: ascending, each once.
    pub fn of(&self, task: TaskId) -> &[TaskId] {
        let index = task.index();
        &self.edges[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// Where the successors of each task begin, one more than there are tasks, and all of them.
    pub(crate) fn into_rows(self) -> (Vec<u32>, Vec<TaskId>) {
        (self.starts, self.edges)
    }
}
