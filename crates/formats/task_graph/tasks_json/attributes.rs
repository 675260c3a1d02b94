//! What our own JSON says of tasks beside what they need.

use windrow_components::task_graph::Attributes;

use super::Task;

/// That of all tasks; the number of a task of which something is said that can't be, and why not.
pub(super) fn of(tasks: &[Task]) -> Result<Attributes, (usize, String)> {
    let mut attributes = Attributes::default();
    attributes.set_kinds(tasks.iter().map(|task| task.kind.as_deref()));
    attributes.estimates = times(tasks, "estimate", f64::NAN, |task| task.estimate)?;
    attributes.arrivals = times(tasks, "arrival", 0.0, |task| task.arrival)?;
    let absurd = |task: &Task| task.priority.is_some_and(|it| it.abs() > 1e15);
    if let Some(number) = tasks.iter().position(absurd) {
        return Err((
            number,
            "`priority` should be from -10^15 to 10^15".to_owned(),
        ));
    }
    let is_said = tasks.iter().any(|task| task.priority.is_some());
    let priorities = tasks.iter().map(|task| task.priority.unwrap_or(0.0));
    attributes.priorities = priorities.filter(|_| is_said).collect();
    let is_said = tasks.iter().any(|task| task.retries.is_some());
    let retries = tasks.iter().map(|task| task.retries.unwrap_or(0));
    attributes.retries = retries.filter(|_| is_said).collect();
    Ok(attributes)
}

/// Numbers of seconds, one for each task, if any has one.
fn times(
    tasks: &[Task],
    what: &str,
    default: f64,
    time: impl Fn(&Task) -> Option<f64>,
) -> Result<Vec<f64>, (usize, String)> {
    let is_wrong = |task: &Task| time(task).is_some_and(|time| !(0.0..=1e9).contains(&time));
    if let Some(number) = tasks.iter().position(is_wrong) {
        return Err((number, format!("`{what}` should be from 0 to 10^9 seconds")));
    }
    let all = tasks.iter().map(|task| time(task).unwrap_or(default));
    let is_said = tasks.iter().any(|task| time(task).is_some());
    Ok(all.filter(|_| is_said).collect())
}
