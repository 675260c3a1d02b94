//! A naive list scheduler after the rules of the corpus: slow, plain, and only there to check other
//! code against.

use std::collections::BTreeSet;

use super::{TaskGraph, TaskId};

/// What an idle machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// What became ready first.
    Fifo,
    /// What has the longest path to the end, its own duration included.
    CriticalPathFirst,
}

/// The makespan on identical machines; ties go to the task that stands first in the file.
pub(super) fn makespan(graph: &TaskGraph, machines: usize, rule: Rule) -> u64 {
    let successors = graph.successors();
    let mut to_the_end = vec![0u64; graph.len()];
    for task in graph.topological_order().into_iter().rev() {
        let after = successors
            .of(task)
            .iter()
            .map(|next| to_the_end[next.index()])
            .max();
        to_the_end[task.index()] = graph.duration(task) + after.unwrap_or(0);
    }
    // Smallest key first: the instant of readiness, or the path from the far end.
    let key = |task: TaskId, now: u64| match rule {
        Rule::Fifo => now,
        Rule::CriticalPathFirst => u64::MAX - to_the_end[task.index()],
    };
    let mut waiting_for: Vec<usize> = graph
        .tasks()
        .map(|task| graph.predecessors(task).len())
        .collect();
    let mut ready: BTreeSet<(u64, TaskId)> = graph
        .tasks()
        .filter(|&task| graph.predecessors(task).is_empty())
        .map(|task| (key(task, 0), task))
        .collect();
    let mut running: Vec<(u64, TaskId)> = Vec::new();
    let mut now = 0;
    loop {
        while running.len() < machines
            && let Some((_, task)) = ready.pop_first()
        {
            running.push((now + graph.duration(task), task));
        }
        // What runs and is ready at one instant is one round: a task without duration ends only
        // after it.
        let Some(next) = running.iter().map(|&(end, _)| end).min() else {
            assert!(ready.is_empty() && waiting_for.iter().all(|&left| left == 0));
            return now;
        };
        now = next;
        let ended: Vec<TaskId> = running
            .extract_if(.., |&mut (end, _)| end == now)
            .map(|(_, task)| task)
            .collect();
        for task in ended {
            for &next in successors.of(task) {
                waiting_for[next.index()] -= 1;
                if waiting_for[next.index()] == 0 {
                    ready.insert((key(next, now), next));
                }
            }
        }
    }
}
