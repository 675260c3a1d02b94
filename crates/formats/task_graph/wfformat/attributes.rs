//! How much the tasks of a workflow matter, and of which kind they are: their category, else their
//! program, else what several of them have as their name.

use windrow_components::task_graph::Attributes;

use super::schema::{Command, Run, Task};
use crate::task_graph::TaskId;

/// What a workflow says of its tasks beside what they need; `by_name` says that each has a name of
/// its own.
pub(super) fn of(tasks: &[Task<'_>], runs: &[(TaskId, &Run<'_>)], by_name: bool) -> Attributes {
    let programs = tasks.iter().map(|task| program(task.command.as_ref()));
    let mut kinds: Vec<Option<&str>> = programs.collect();
    for (task, run) in runs {
        let kind = &mut kinds[task.index()];
        *kind = program(run.command.as_ref()).or(*kind);
    }
    for (task, kind) in tasks.iter().zip(&mut kinds) {
        let name = task.name.as_ref().filter(|_| !by_name);
        let known = task.category.as_ref().map(|category| &*category.0);
        *kind = known.or(*kind).or(name.map(|name| &*name.0));
    }
    let mut attributes = Attributes::default();
    attributes.set_kinds(kinds);
    let mut priorities: Vec<Option<f64>> = tasks.iter().map(|task| task.priority).collect();
    for (task, run) in runs {
        let priority = &mut priorities[task.index()];
        *priority = run.priority.or(*priority);
    }
    if priorities.iter().any(Option::is_some) {
        let priorities = priorities.into_iter();
        attributes.priorities = priorities.map(|it| it.unwrap_or(0.0)).collect();
    }
    attributes
}

fn program<'a>(command: Option<&'a Command<'_>>) -> Option<&'a str> {
    let program = command?.program.as_ref()?;
    Some(&*program.0)
}
