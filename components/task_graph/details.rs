//! What a graph is in more than seven figures: degrees, the width of each level, the tasks of the
//! critical path, edges that others imply, and work by kind of task.

use hashbrown::HashMap;

use super::{Successors, TaskGraph, TaskId};

/// How many edges are looked at before it is given up to count those that others imply: some
/// seconds.
const MOST_STEPS: u64 = 1 << 29;

/// Numbers of edges of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Degrees {
    /// The mean of all tasks.
    pub mean: f64,
    /// Half of the tasks have no more.
    pub median: u32,
    /// Nine in ten tasks have no more.
    pub p90: u32,
    /// No task has more.
    pub max: u32,
    /// How many tasks have none.
    pub none: usize,
}

/// The tasks whose names are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOfKind {
    /// What their names have in common: `*.o`, or what stands before their first digit.
    pub kind: String,
    /// How many there are.
    pub tasks: usize,
    /// The sum of their durations, in the graph's unit.
    pub work: u64,
}

/// The statistics of a graph. A task's level is the longest path to it from a root, counted in
/// tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// Predecessors of tasks.
    pub predecessors: Degrees,
    /// Successors of tasks.
    pub successors: Degrees,
    /// How many tasks there are on each level.
    pub widths: Vec<usize>,
    /// The longest path in durations, from its first task on; of several one, always the same.
    pub critical_path: Vec<TaskId>,
    /// Edges without which the same tasks would wait for the same others; not counted where that
    /// takes too long.
    pub redundant_edges: Option<usize>,
    /// The most work first.
    pub kinds: Vec<WorkOfKind>,
}

impl TaskGraph {
    /// Its statistics. Linear in tasks and edges, except edges that others imply: of those only
    /// edges across several levels cost more, and these no more than some seconds together.
    pub fn details(&self) -> Details {
        let (levels, ends) = self.levels_and_ends();
        let depth = levels.iter().max().map_or(0, |&level| level as usize + 1);
        let mut widths = vec![0; depth];
        for &level in &levels {
            widths[level as usize] += 1;
        }
        let successors = self.successors();
        Details {
            predecessors: degrees(self, |task| self.predecessors(task).len()),
            successors: degrees(self, |task| Successors::of(&successors, task).len()),
            widths,
            critical_path: critical_path(self, &levels, &ends),
            redundant_edges: redundant_edges(self, &levels, MOST_STEPS),
            kinds: kinds(self),
        }
    }
}

fn degrees(graph: &TaskGraph, of: impl Fn(TaskId) -> usize) -> Degrees {
    let mut all: Vec<u32> = graph.tasks().map(|task| of(task) as u32).collect();
    all.sort_unstable();
    let Some(&max) = all.last() else {
        return Degrees::default();
    };
    // The smallest that this share of a hundred does not exceed.
    let percentile = |percent: usize| all[(all.len() * percent).div_ceil(100) - 1];
    Degrees {
        mean: graph.edge_count() as f64 / all.len() as f64,
        median: percentile(50),
        p90: percentile(90),
        max,
        none: all.partition_point(|&degree| degree == 0),
    }
}

fn critical_path(graph: &TaskGraph, levels: &[u32], ends: &[u64]) -> Vec<TaskId> {
    // Without durations each task takes one unit, and ends one after its level.
    let end = |task: TaskId| match ends.is_empty() {
        true => u64::from(levels[task.index()]) + 1,
        false => ends[task.index()],
    };
    let last = graph
        .tasks()
        .max_by_key(|&task| (end(task), std::cmp::Reverse(task)));
    let mut path = Vec::from_iter(last);
    let mut next = last;
    while let Some(task) = next {
        let start = end(task) - graph.duration(task);
        let before = graph.predecessors(task);
        next = before
            .iter()
            .copied()
            .find(|&predecessor| end(predecessor) == start);
        path.extend(next);
    }
    path.reverse();
    path
}

/// How many edges others imply, unless that takes more than `most_steps`. An edge from one level
/// to the next never is; for any other it is looked whether a path leads past it.
fn redundant_edges(graph: &TaskGraph, levels: &[u32], most_steps: u64) -> Option<usize> {
    let level = |task: TaskId| levels[task.index()];
    let (mut count, mut steps) = (0, 0_u64);
    // The task for which each was last come by.
    let mut met = vec![u32::MAX; graph.len()];
    let mut stack = Vec::new();
    for task in graph.tasks() {
        let number = task.index() as u32;
        let predecessors = graph.predecessors(task);
        let far = |&&one: &&TaskId| level(one) + 1 < level(task);
        let Some(lowest) = predecessors.iter().filter(far).map(|&one| level(one)).min() else {
            continue;
        };
        // What lies below the lowest of them leads to none of them.
        stack.extend(predecessors.iter().filter(|&&one| level(one) > lowest));
        while let Some(one) = stack.pop() {
            let before: &[TaskId] = graph.predecessors(one);
            steps += before.len() as u64;
            for &earlier in before {
                if level(earlier) >= lowest && met[earlier.index()] != number {
                    met[earlier.index()] = number;
                    stack.push(earlier);
                }
            }
        }
        if steps > most_steps {
            return None;
        }
        let implied = |one: &&TaskId| met[one.index()] == number;
        count += predecessors.iter().filter(implied).count();
    }
    Some(count)
}

fn kinds(graph: &TaskGraph) -> Vec<WorkOfKind> {
    let mut of: HashMap<String, (usize, u64)> = HashMap::new();
    for task in graph.tasks() {
        let name = graph.name(task);
        let (kind, is_extension) = kind(&name);
        let (tasks, work) = match is_extension {
            true => of.entry(format!("*.{kind}")).or_default(),
            false => of.entry_ref(kind).or_default(),
        };
        *tasks += 1;
        *work += graph.duration(task);
    }
    let each = of.into_iter();
    let mut kinds: Vec<_> = each
        .map(|(kind, (tasks, work))| WorkOfKind { kind, tasks, work })
        .collect();
    kinds.sort_unstable_by(|a, b| (b.work, &a.kind).cmp(&(a.work, &b.kind)));
    kinds
}

/// The extension of a file's name, or what stands before the first digit of a name; and which of
/// them it is.
fn kind(name: &str) -> (&str, bool) {
    let base = name.rsplit('/').next().unwrap_or(name);
    if let Some((stem, extension)) = base.rsplit_once('.')
        && !stem.is_empty()
        && extension.starts_with(|first: char| first.is_alphabetic())
    {
        return (extension, true);
    }
    let digit = base.find(|one: char| one.is_ascii_digit());
    let before = base[..digit.unwrap_or(base.len())].trim_end_matches(['_', '-', '.', ' ', '#']);
    // Workflows number their tasks so: mProject_ID0000017.
    let before = before.strip_suffix("_ID").unwrap_or(before);
    (if before.is_empty() { base } else { before }, false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Builder, Limits, TimeUnit};
    use super::*;

    fn build(tasks: &[(String, Option<u64>)], edges: &[(usize, usize)]) -> TaskGraph {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        for (name, duration) in tasks {
            builder.add_task(Some(name), *duration).unwrap();
        }
        for &(from, to) in edges {
            let ids = [from, to].map(TaskId::from_index);
            builder.add_edge(ids[0], ids[1]).unwrap();
        }
        builder.finish().unwrap()
    }

    fn plain(count: usize, edges: &[(usize, usize)]) -> TaskGraph {
        let tasks: Vec<_> = (0..count)
            .map(|number| (format!("t{number}"), None))
            .collect();
        build(&tasks, edges)
    }

    /// Whether a path leads to `to` from `from` that is not the edge between them.
    fn leads_past(graph: &TaskGraph, from: TaskId, to: TaskId) -> bool {
        let mut reached = vec![false; graph.len()];
        let mut left: Vec<TaskId> = graph.predecessors(to).to_vec();
        left.retain(|&one| one != from);
        while let Some(one) = left.pop() {
            if !std::mem::replace(&mut reached[one.index()], true) {
                left.extend(graph.predecessors(one));
            }
        }
        reached[from.index()]
    }

    proptest! {
        #[test]
        fn figures_are_those_of_their_definitions(
            edges in prop::collection::vec((0usize..14, 0usize..14), 0..60),
            durations in prop::collection::vec(0u64..5, 14),
            timed: bool,
            backwards: bool,
        ) {
            let edges: Vec<_> = edges
                .into_iter()
                .filter(|(from, to)| from < to)
                .map(|(from, to)| if backwards { (13 - from, 13 - to) } else { (from, to) })
                .collect();
            let tasks = durations.iter().enumerate().map(|(number, &duration)| {
                (format!("t{number}"), timed.then_some(duration))
            });
            let graph = build(&tasks.collect::<Vec<_>>(), &edges);
            let (stats, details) = (graph.stats(), graph.details());

            let redundant = graph.tasks().flat_map(|to| {
                let from = graph.predecessors(to).iter();
                from.filter(|&&from| leads_past(&graph, from, to)).collect::<Vec<_>>()
            });
            prop_assert_eq!(details.redundant_edges, Some(redundant.count()));

            let path = &details.critical_path;
            let length: u64 = path.iter().map(|&task| graph.duration(task)).sum();
            prop_assert_eq!(length, stats.critical_path);
            for pair in path.windows(2) {
                prop_assert!(graph.predecessors(pair[1]).contains(&pair[0]));
            }

            prop_assert_eq!(details.widths.len(), stats.depth);
            prop_assert_eq!(details.widths.iter().max(), Some(&stats.width));
            prop_assert_eq!(details.widths.iter().sum::<usize>(), stats.tasks);
            prop_assert_eq!(details.kinds.len(), 1);
            prop_assert_eq!(details.kinds[0].work, stats.work);
        }
    }

    #[test]
    fn an_edge_that_a_chain_implies_is_redundant() {
        let details = plain(4, &[(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)]).details();
        assert_eq!(details.redundant_edges, Some(2));
        assert_eq!(
            (details.predecessors.max, details.predecessors.none),
            (3, 1)
        );
        assert_eq!((details.successors.median, details.successors.p90), (1, 2));
    }

    #[test]
    fn counting_is_given_up_in_time() {
        let graph = plain(4, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        let (levels, _) = graph.levels_and_ends();
        assert_eq!(redundant_edges(&graph, &levels, 1), None);
    }

    #[test]
    fn nothing_at_all() {
        let details = plain(0, &[]).details();
        assert_eq!(details.predecessors, Degrees::default());
        assert!(details.critical_path.is_empty() && details.widths.is_empty());
    }

    #[test]
    fn kinds_are_what_names_have_in_common() {
        for (name, expected) in [
            ("obj/a.c.o", ("o", true)),
            ("mProject_ID0001", ("mProject", false)),
            ("task-17", ("task", false)),
            ("17", ("17", false)),
            ("lib/.hidden", (".hidden", false)),
            ("v1.2", ("v", false)),
            ("all", ("all", false)),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
        let tasks = [("a.o", 1), ("b.o", 2), ("gen1", 9)];
        let tasks = tasks.map(|(name, time)| (name.to_owned(), Some(time)));
        let kinds = build(&tasks, &[]).details().kinds;
        let kinds = kinds.iter().map(|it| (&*it.kind, it.tasks, it.work));
        assert_eq!(kinds.collect::<Vec<_>>(), [("gen", 1, 9), ("*.o", 2, 3)]);
    }
}
