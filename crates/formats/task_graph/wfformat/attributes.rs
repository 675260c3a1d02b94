//! How much the tasks of a workflow matter, and of which kind they are: their category, else their
//! program, else what several of them have as their name.

use windrow_components::task_graph::Attributes;

use super::lists::{Runs, Tasks};
use crate::task_graph::TaskId;

/// What a workflow says of its tasks beside what they need; `ran` is the task of each run, and
/// `by_name` says that each task has a name of its own.
pub(super) fn of<const BY_ID: bool>(
    tasks: &Tasks<BY_ID>,
    (runs, ran): (&Runs, &[TaskId]),
    by_name: bool,
) -> Attributes {
    let all = || 0..tasks.len();
    let mut kinds: Vec<Option<&str>> = all().map(|task| tasks.programs.get(task)).collect();
    let mut priorities: Vec<Option<f64>> = all().map(|task| tasks.priorities.get(task)).collect();
    for (run, task) in ran.iter().enumerate() {
        let (kind, priority) = (&mut kinds[task.index()], &mut priorities[task.index()]);
        *kind = runs.programs.get(run).or(*kind);
        *priority = runs.priorities.get(run).or(*priority);
    }
    for (task, kind) in kinds.iter_mut().enumerate() {
        let name = || {
            let name = tasks.names.get(task);
            (!by_name && !name.is_empty()).then_some(name)
        };
        *kind = tasks.categories.get(task).or(*kind).or_else(name);
    }
    let mut attributes = Attributes::default();
    attributes.set_kinds(kinds);
    if priorities.iter().any(Option::is_some) {
        let priorities = priorities.into_iter();
        attributes.priorities = priorities.map(|it| it.unwrap_or(0.0)).collect();
    }
    attributes
}
