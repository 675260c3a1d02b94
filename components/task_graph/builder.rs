//! Collects tasks and edges in any order and turns them into a checked [`TaskGraph`]: no cycles, no
//! doubles. Edges that come task by task go straight into the final array, so building such a graph
//! needs no second copy.

use std::sync::Arc;

use super::durations::{self, MAX_DURATION};
use super::{Rows, TaskGraph, TaskGraphError, TaskId, TimeUnit, order, spelt};

/// How much a graph may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, by the estimate of [`Limits::needed`].
    pub memory_bytes: u64,
}

impl Default for Limits {
    /// No limit but that of 32-bit ids.
    fn default() -> Self {
        Self {
            memory_bytes: u64::MAX,
        }
    }
}

const BYTES_PER_TASK: u64 = 64;
const BYTES_PER_EDGE: u64 = 16;

impl Limits {
    /// An estimate of the bytes that building a graph of that size takes, and then walking it both
    /// ways.
    pub fn needed(tasks: u64, edges: u64) -> u64 {
        tasks
            .saturating_mul(BYTES_PER_TASK)
            .saturating_add(edges.saturating_mul(BYTES_PER_EDGE))
    }

    /// Refuses a file that takes that much memory to read, besides what it takes already.
    ///
    /// # Errors
    /// If there is less.
    pub fn admit_file(&self, file: &str, needed: u64) -> Result<(), TaskGraphError> {
        if needed > self.memory_bytes {
            return Err(TaskGraphError::FileOverMemory {
                file: file.to_owned(),
                needed,
                limit: self.memory_bytes,
            });
        }
        Ok(())
    }

    /// Refuses a graph of that size if it would not fit, before anything is made of it.
    ///
    /// # Errors
    /// If it needs more memory than there may be, or more than 32-bit ids.
    pub fn admit(&self, tasks: u64, edges: u64) -> Result<(), TaskGraphError> {
        let limit = u64::from(u32::MAX);
        if tasks >= limit {
            return Err(TaskGraphError::TooLarge {
                what: "tasks",
                limit: limit - 1,
            });
        }
        let needed = Self::needed(tasks, edges);
        if needed > self.memory_bytes {
            return Err(TaskGraphError::OverMemory {
                tasks,
                edges,
                needed,
                limit: self.memory_bytes,
            });
        }
        if edges > limit {
            return Err(TaskGraphError::TooLarge {
                what: "edges",
                limit,
            });
        }
        Ok(())
    }
}

/// Collects a graph. Tasks get their ids in the order they are added; edges may name tasks still to
/// come.
#[derive(Debug)]
pub struct Builder {
    limits: Limits,
    unit: TimeUnit,
    origin: String,
    tasks: usize,
    names: Vec<u8>,
    name_ends: Vec<u32>,
    durations: Vec<u64>,
    /// Where the rows begin that have been opened; edges of the last of them go to the end of
    /// `rows`.
    row_starts: Vec<u32>,
    rows: Vec<TaskId>,
    /// Edges of rows that were closed already: predecessor, task.
    late: Vec<(TaskId, TaskId)>,
}

/// Between two checks of the limits.
const EDGES_BETWEEN_CHECKS: usize = 1 << 16;

impl Builder {
    /// An empty graph. `origin` says in messages where it comes from: a file, or a generator.
    pub fn new(origin: &str, unit: TimeUnit, limits: Limits) -> Self {
        Self {
            limits,
            unit,
            origin: origin.to_owned(),
            tasks: 0,
            names: Vec::new(),
            name_ends: Vec::new(),
            durations: Vec::new(),
            row_starts: vec![0],
            rows: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Makes room for a graph of a size known beforehand.
    ///
    /// # Errors
    /// If it would not fit into the limits.
    pub fn reserve(&mut self, tasks: usize, edges: usize) -> Result<(), TaskGraphError> {
        self.limits.admit(tasks as u64, edges as u64)?;
        self.row_starts.reserve_exact(tasks + 1);
        self.rows.reserve_exact(edges);
        Ok(())
    }

    /// Adds a task as [`Builder::add_task_bytes`] does, by a name that is text.
    ///
    /// # Errors
    /// The same.
    pub fn add_task(
        &mut self,
        name: Option<&str>,
        duration: Option<u64>,
    ) -> Result<TaskId, TaskGraphError> {
        self.add_task_bytes(name.map(str::as_bytes), duration)
    }

    /// Adds a task. Without names for all, those that have none are called by their number; without
    /// durations for all, those that have none take 0.
    ///
    /// # Errors
    /// If the duration is above [`MAX_DURATION`], or there are too many tasks or too long names.
    pub fn add_task_bytes(
        &mut self,
        name: Option<&[u8]>,
        duration: Option<u64>,
    ) -> Result<TaskId, TaskGraphError> {
        if self.tasks.is_multiple_of(EDGES_BETWEEN_CHECKS) {
            self.limits
                .admit(self.tasks as u64 + 1, self.edges_so_far())?;
        }
        let task = TaskId::from_index(self.tasks);
        if let Some(name) = name {
            let limit = u64::from(u32::MAX);
            if (self.names.len() + name.len()) as u64 > limit {
                return Err(TaskGraphError::TooLarge {
                    what: "bytes of task names",
                    limit,
                });
            }
            self.name_ends.resize(self.tasks, self.names.len() as u32);
            self.names.extend_from_slice(name);
            self.name_ends.push(self.names.len() as u32);
        }
        if let Some(duration) = duration {
            if duration > MAX_DURATION {
                return Err(TaskGraphError::AbsurdDuration {
                    origin: self.origin.clone(),
                    task: name.map_or_else(
                        || format!("n{}", self.tasks),
                        |name| spelt(name).into_owned(),
                    ),
                    duration: duration.to_string(),
                });
            }
            self.durations.resize(self.tasks, 0);
            self.durations.push(duration);
        }
        self.tasks += 1;
        Ok(task)
    }

    fn edges_so_far(&self) -> u64 {
        (self.rows.len() + self.late.len()) as u64
    }

    /// Adds an edge: `predecessor` must end before `task` starts. The same edge may come again.
    ///
    /// # Errors
    /// If there are too many edges.
    pub fn add_edge(&mut self, predecessor: TaskId, task: TaskId) -> Result<(), TaskGraphError> {
        let edges = self.rows.len() + self.late.len();
        if edges.is_multiple_of(EDGES_BETWEEN_CHECKS) || edges >= u32::MAX as usize {
            self.limits.admit(self.tasks as u64, edges as u64 + 1)?;
        }
        let opened = self.row_starts.len() - 1;
        if task.index() < opened || task.index() >= self.tasks {
            self.late.push((predecessor, task));
            return Ok(());
        }
        self.row_starts
            .resize(task.index() + 1, self.rows.len() as u32);
        self.rows.push(predecessor);
        Ok(())
    }

    /// Gives all tasks their edges at once: the predecessors of all, task by task, and where those
    /// of each end. The same edge may come again.
    ///
    /// # Errors
    /// If there are too many edges.
    pub fn set_rows(&mut self, ends: &[u32], rows: Vec<TaskId>) -> Result<(), TaskGraphError> {
        self.limits.admit(self.tasks as u64, rows.len() as u64)?;
        self.row_starts.truncate(1);
        self.row_starts.extend_from_slice(ends);
        self.rows = rows;
        Ok(())
    }

    /// Checks the graph and hands it out.
    ///
    /// # Errors
    /// If an edge names a task that was never added, tasks wait for each other, or the durations
    /// add up to more than 64 bits hold.
    pub fn finish(mut self) -> Result<TaskGraph, TaskGraphError> {
        self.row_starts
            .resize(self.tasks + 1, self.rows.len() as u32);
        self.refuse_dangling()?;
        self.sort_in_late_edges();
        self.drop_doubles();
        if !self.name_ends.is_empty() {
            self.name_ends.resize(self.tasks, self.names.len() as u32);
        }
        let mut unit = self.unit;
        if self.durations.is_empty() {
            unit = TimeUnit::Units;
        } else {
            self.durations.resize(self.tasks, 0);
            durations::total(&self.durations)?;
        }
        let in_order = order::is_in_order(&self.row_starts, &self.rows);
        let graph = TaskGraph {
            names: self.names,
            name_ends: self.name_ends,
            durations: self.durations,
            unit,
            rows: Arc::new(Rows {
                starts: self.row_starts,
                predecessors: self.rows,
            }),
            in_order,
            demands: None,
            attributes: None,
        };
        if !in_order
            && let Err(cycle) =
                order::topological_order(&graph.rows.starts, &graph.rows.predecessors)
        {
            let path = cycle
                .iter()
                .map(|&task| graph.name(task).into_owned())
                .collect();
            return Err(TaskGraphError::Cycle { path });
        }
        Ok(graph)
    }

    fn refuse_dangling(&self) -> Result<(), TaskGraphError> {
        let unknown = |task: &TaskId| task.index() >= self.tasks;
        let mut dangling = self
            .late
            .iter()
            .find(|(predecessor, task)| unknown(predecessor) || unknown(task))
            .copied();
        if dangling.is_none()
            && let Some(edge) = self.rows.iter().position(unknown)
        {
            let row = self
                .row_starts
                .partition_point(|&start| start as usize <= edge)
                - 1;
            dangling = Some((self.rows[edge], TaskId::from_index(row)));
        }
        match dangling {
            None => Ok(()),
            Some((predecessor, task)) => Err(TaskGraphError::DanglingEdge {
                origin: self.origin.clone(),
                task: format!("n{}", task.index()),
                missing: format!("n{}", predecessor.index()),
            }),
        }
    }

    fn sort_in_late_edges(&mut self) {
        let late = std::mem::take(&mut self.late);
        if late.is_empty() {
            return;
        }
        let mut starts = vec![0u32; self.tasks + 1];
        for (index, row) in self.row_starts.windows(2).enumerate() {
            starts[index + 1] = row[1] - row[0];
        }
        for (_, task) in &late {
            starts[task.index() + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut edges = vec![TaskId(0); self.rows.len() + late.len()];
        let mut ends = starts[..self.tasks].to_vec();
        for (index, row) in self.row_starts.windows(2).enumerate() {
            let row = &self.rows[row[0] as usize..row[1] as usize];
            let at = ends[index] as usize;
            edges[at..at + row.len()].copy_from_slice(row);
            ends[index] += row.len() as u32;
        }
        for (predecessor, task) in late {
            let end = &mut ends[task.index()];
            edges[*end as usize] = predecessor;
            *end += 1;
        }
        self.row_starts = starts;
        self.rows = edges;
    }

    fn drop_doubles(&mut self) {
        let mut kept = 0;
        for task in 0..self.tasks {
            let (start, end) = (
                self.row_starts[task] as usize,
                self.row_starts[task + 1] as usize,
            );
            self.row_starts[task] = kept as u32;
            let row = &mut self.rows[start..end];
            if !row.is_sorted() {
                row.sort_unstable();
            }
            let row_start = kept;
            for edge in start..end {
                let predecessor = self.rows[edge];
                if kept == row_start || self.rows[kept - 1] != predecessor {
                    self.rows[kept] = predecessor;
                    kept += 1;
                }
            }
        }
        self.row_starts[self.tasks] = kept as u32;
        self.rows.truncate(kept);
        self.rows.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn build(tasks: usize, edges: &[(u32, u32)]) -> Result<TaskGraph, TaskGraphError> {
        let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
        for _ in 0..tasks {
            builder.add_task(None, None)?;
        }
        for &(predecessor, task) in edges {
            builder.add_edge(TaskId(predecessor), TaskId(task))?;
        }
        builder.finish()
    }

    proptest! {
        #[test]
        fn edges_come_out_as_they_went_in(
            edges in proptest::collection::vec((0u32..20, 0u32..20), 0..80),
        ) {
            let edges: Vec<_> =
                edges.into_iter().filter(|(predecessor, task)| predecessor < task).collect();
            let graph = build(20, &edges).unwrap();
            let wanted: BTreeSet<(u32, u32)> = edges.into_iter().collect();
            let mut found = BTreeSet::new();
            for task in graph.tasks() {
                found.extend(graph.predecessors(task).iter().map(|&TaskId(p)| (p, task.0)));
            }
            prop_assert_eq!(graph.edge_count(), wanted.len());
            prop_assert_eq!(&found, &wanted);
            let successors = graph.successors();
            let mut back = BTreeSet::new();
            for task in graph.tasks() {
                back.extend(successors.of(task).iter().map(|&TaskId(s)| (task.0, s)));
            }
            prop_assert_eq!(back, wanted);
        }
    }

    #[test]
    fn cycles_are_named() {
        let Err(TaskGraphError::Cycle { path }) = build(4, &[(0, 1), (1, 2), (3, 1), (2, 3)])
        else {
            panic!("1, 3 and 2 wait for each other");
        };
        assert_eq!(path, ["n1", "n3", "n2"]);
    }

    #[test]
    fn edges_to_nowhere_are_refused() {
        for edges in [&[(5, 1)], &[(0, 7)]] {
            let refused = build(2, edges).unwrap_err();
            assert!(
                matches!(refused, TaskGraphError::DanglingEdge { .. }),
                "{refused}"
            );
        }
        let refused = build(3, &[(0, 1), (9, 1)]).unwrap_err().to_string();
        assert!(refused.contains("`n1` names `n9`"), "{refused}");
    }

    #[test]
    fn names_and_durations_may_begin_late() {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        builder.add_task(None, None).unwrap();
        builder.add_task(Some("b"), Some(7)).unwrap();
        builder.add_task(None, None).unwrap();
        let graph = builder.finish().unwrap();
        let names: Vec<_> = graph.tasks().map(|task| graph.name(task)).collect();
        assert_eq!(names, ["n0", "b", "n2"]);
        let durations: Vec<_> = graph.tasks().map(|task| graph.duration(task)).collect();
        assert_eq!(durations, [0, 7, 0]);
    }

    #[test]
    fn what_would_not_fit_is_refused_beforehand() {
        let limits = Limits {
            memory_bytes: 1_000_000,
        };
        let mut builder = Builder::new("test", TimeUnit::Units, limits);
        let refused = builder
            .reserve(10_000_000, 40_000_000)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("about 1.19 GiB"), "{refused}");
        assert!(matches!(
            Limits::default().admit(1 << 32, 0),
            Err(TaskGraphError::TooLarge { what: "tasks", .. })
        ));
    }

    #[test]
    fn more_work_than_can_be_counted_is_refused() {
        let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
        for _ in 0..20_000 {
            builder.add_task(None, Some(MAX_DURATION)).unwrap();
        }
        assert!(matches!(
            builder.finish(),
            Err(TaskGraphError::WorkOverflow { .. })
        ));
    }
}
