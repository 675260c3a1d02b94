//! What a graph is, in seven figures. Linear in tasks and edges.

use super::{TaskGraph, TimeUnit};

/// The figures of a graph. A task's level is the longest path to it from a root, counted in tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// How many tasks there are.
    pub tasks: usize,
    /// How many different edges there are.
    pub edges: usize,
    /// The longest path, counted in tasks.
    pub depth: usize,
    /// The tasks on the largest level.
    pub width: usize,
    /// The sum of all durations; a task of a graph without durations counts 1.
    pub work: u64,
    /// The longest path, counted in durations.
    pub critical_path: u64,
    /// What the two above are counted in.
    pub unit: TimeUnit,
}

impl Stats {
    /// What no schedule on `machines` identical machines can beat: the critical path, or the work
    /// shared evenly and rounded up.
    ///
    /// # Panics
    /// If `machines` is 0.
    pub fn lower_bound(&self, machines: u64) -> u64 {
        self.critical_path.max(self.work.div_ceil(machines))
    }
}

impl TaskGraph {
    /// Its figures.
    pub fn stats(&self) -> Stats {
        let (levels, ends) = self.levels_and_ends();
        let depth = levels.iter().max().map_or(0, |&level| level as usize + 1);
        let mut widths = vec![0usize; depth];
        for level in levels {
            widths[level as usize] += 1;
        }
        let has_durations = self.has_durations();
        Stats {
            tasks: self.len(),
            edges: self.edge_count(),
            depth,
            width: widths.into_iter().max().unwrap_or(0),
            work: match has_durations {
                true => self.tasks().map(|task| self.duration(task)).sum(),
                false => self.len() as u64,
            },
            critical_path: match has_durations {
                true => ends.into_iter().max().unwrap_or(0),
                false => depth as u64,
            },
            unit: self.unit(),
        }
    }

    /// The level of each task, and, if the graph has durations, when each ends at the earliest.
    pub(super) fn levels_and_ends(&self) -> (Vec<u32>, Vec<u64>) {
        let mut levels = vec![0u32; self.len()];
        let mut ends = vec![0u64; if self.has_durations() { self.len() } else { 0 }];
        let mut visit = |task: super::TaskId| {
            let predecessors = self.predecessors(task).iter();
            let level = predecessors.map(|p| levels[p.index()] + 1).max();
            levels[task.index()] = level.unwrap_or(0);
            if !ends.is_empty() {
                let predecessors = self.predecessors(task).iter();
                let start = predecessors.map(|p| ends[p.index()]).max();
                ends[task.index()] = start.unwrap_or(0) + self.duration(task);
            }
        };
        if self.in_order {
            self.tasks().for_each(&mut visit);
        } else {
            self.topological_order().into_iter().for_each(&mut visit);
        }
        (levels, ends)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Limits};
    use super::*;

    fn diamond(durations: [Option<u64>; 4]) -> Stats {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        let ids = durations.map(|duration| builder.add_task(None, duration).unwrap());
        // The last task of the file is the root.
        for (predecessor, task) in [(3, 1), (3, 2), (1, 0), (2, 0)] {
            builder.add_edge(ids[predecessor], ids[task]).unwrap();
        }
        builder.finish().unwrap().stats()
    }

    #[test]
    fn a_diamond_that_stands_backwards_in_its_file() {
        let stats = diamond([Some(1), Some(10), Some(20), Some(5)]);
        assert_eq!(
            (stats.tasks, stats.edges, stats.depth, stats.width),
            (4, 4, 3, 2)
        );
        assert_eq!((stats.work, stats.critical_path), (36, 26));
        assert_eq!((stats.lower_bound(1), stats.lower_bound(2)), (36, 26));
    }

    #[test]
    fn without_durations_a_task_counts_one() {
        let stats = diamond([None; 4]);
        assert_eq!(
            (stats.work, stats.critical_path, stats.unit),
            (4, 3, TimeUnit::Units)
        );
        assert_eq!(stats.lower_bound(3), 3);
    }

    #[test]
    fn nothing_at_all() {
        let builder = Builder::new("test", TimeUnit::Units, Limits::default());
        let stats = builder.finish().unwrap().stats();
        assert_eq!(
            (stats.tasks, stats.depth, stats.width, stats.critical_path),
            (0, 0, 0, 0)
        );
    }
}
