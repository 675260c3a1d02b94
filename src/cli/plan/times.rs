//! How long a plan takes, by what builds took before: the same scheduler runs it in simulated time.

use hashbrown::HashMap;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::task_graph::{Builder, Limits, TaskGraph, TaskId, TimeUnit};
use windrow_store::own::history::History;
use windrow_systems::plan::Plan;
use windrow_systems::simulate::{Simulation, simulate};

use crate::error::Result;
use crate::memory;
use crate::session::Session;
use crate::task_graph::refuse_to_simulate;

/// What to say of the time that a plan takes; nothing if no build was recorded yet, or there is
/// nothing to build.
///
/// # Errors
/// When the history can't be read.
pub(super) fn estimate(
    session: &Session,
    graph: &BuildGraph,
    plan: &Plan,
) -> Result<Option<String>> {
    // SQLite may make files beside a database that it reads.
    if plan.builds.is_empty() || session.settings.max_jobs == 0 || session.read_only {
        return Ok(None);
    }
    let history = History::load(&session.layout)?;
    let system = session.settings.system.as_str();
    let name_of = |drv: DrvId| (graph.drv_name(drv), graph.system(drv).unwrap_or(system));
    let estimates: Option<Vec<u64>> = plan
        .builds
        .iter()
        .map(|&drv| {
            let (name, system) = name_of(drv);
            history.estimate(name, system)
        })
        .collect();
    let Some(estimates) = estimates else {
        return Ok(None);
    };
    let known = plan.builds.iter().filter(|&&drv| {
        let (name, system) = name_of(drv);
        history.of_family(name, system).is_some()
    });
    let known = known.count();
    let tasks = task_graph(graph, plan, &estimates)?;
    let stats = tasks.stats();
    // What does not fit into memory has bounds all the same.
    let jobs = session.settings.max_jobs;
    let makespan = match refuse_to_simulate(&stats, 0) {
        Ok(()) => simulate(&tasks, &Simulation::new(jobs, session.policy.clone()))?.makespan,
        Err(_) => stats.lower_bound(u64::from(jobs)),
    };
    Ok(Some(words(
        (makespan, stats.critical_path, stats.work),
        jobs,
        (known, plan.builds.len()),
    )))
}

/// The plan as tasks that take what they are thought to take.
fn task_graph(graph: &BuildGraph, plan: &Plan, estimates: &[u64]) -> Result<TaskGraph> {
    let limits = Limits {
        memory_bytes: memory::available(),
    };
    let mut tasks = Builder::new("the plan", TimeUnit::Microseconds, limits);
    let mut task_of: HashMap<DrvId, TaskId> = HashMap::with_capacity(plan.builds.len());
    for (&drv, &estimate) in plan.builds.iter().zip(estimates) {
        let task = tasks.add_task(None, Some(estimate))?;
        for input in graph.inputs(drv) {
            // What is not to be built is valid, or fetched.
            if let Some(&input) = task_of.get(&input.drv) {
                tasks.add_edge(input, task)?;
            }
        }
        task_of.insert(drv, task);
    }
    Ok(tasks.finish()?)
}

fn words(
    (makespan, chain, work): (u64, u64, u64),
    jobs: u32,
    (known, builds): (usize, usize),
) -> String {
    let at_a_time = match jobs {
        1 => "one at a time".to_owned(),
        jobs => format!("{jobs} at a time"),
    };
    let mut text = format!("by the history that takes {}, {at_a_time}", time(makespan));
    if builds > 1 {
        let (chain, work) = (time(chain), time(work));
        text.push_str(&format!(
            " (longest chain {chain}, all builds together {work})"
        ));
    }
    if known < builds {
        text.push_str(&format!(
            "; {} of {builds} counted as the median, for nothing like them was built before",
            builds - known
        ));
    }
    text
}

/// A time in microseconds as people write it.
fn time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0..60 => format!("{:.1} s", micros as f64 / 1e6),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_words() {
        assert_eq!(time(1_234_567), "1.2 s");
        assert_eq!(time(80_000_000), "1 min 20 s");
        assert_eq!(time(3_600_000_000), "1 h 00 min");
        assert_eq!(
            words((2_000_000, 1_000_000, 4_000_000), 2, (3, 4)),
            "by the history that takes 2.0 s, 2 at a time (longest chain 1.0 s, all builds together \
             4.0 s); 1 of 4 counted as the median, for nothing like them was built before"
        );
        assert_eq!(
            words((2_000_000, 2_000_000, 2_000_000), 1, (1, 1)),
            "by the history that takes 2.0 s, one at a time"
        );
    }
}
