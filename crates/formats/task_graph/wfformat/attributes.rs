//! Of which kind the tasks of a workflow are: their category, else their program, else what several
//! of them have as their name.

use windrow_components::task_graph::Attributes;

use super::schema::{Run, Task};
use crate::task_graph::TaskId;

/// What a workflow says of its tasks beside what they need; `by_name` says that each has a name of
/// its own.
pub(super) fn of(tasks: &[Task<'_>], runs: &[(TaskId, &Run<'_>)], by_name: bool) -> Attributes {
    let program_of = |task: &Task<'_>| task.command.as_ref().and_then(|it| it.program.as_ref());
    let mut kinds: Vec<Option<&str>> = tasks
        .iter()
        .map(|task| program_of(task).map(|program| &*program.0))
        .collect();
    for (task, run) in runs {
        let program = run.command.as_ref().and_then(|it| it.program.as_ref());
        if let Some(program) = program {
            kinds[task.index()] = Some(&*program.0);
        }
    }
    for (task, kind) in tasks.iter().zip(&mut kinds) {
        let name = task.name.as_ref().filter(|_| !by_name);
        let known = task.category.as_ref().map(|category| &*category.0);
        *kind = known.or(*kind).or(name.map(|name| &*name.0));
    }
    let mut attributes = Attributes::default();
    attributes.set_kinds(kinds);
    attributes
}
