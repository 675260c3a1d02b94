//! Where the durations of a task graph come from, if not from the graph: a file, a distribution, or
//! the history.

use std::path::Path;

use windrow_components::task_graph::{TaskGraph, TimeUnit};
use windrow_formats::task_graph::{Distribution, read_durations};
use windrow_store::own::history::History;

use super::Loaded;
use crate::error::{Error, Result};
use crate::session::Session;

/// The word for the history of a store.
pub const HISTORY: &str = "history";

/// Gives the tasks other durations: `history`, a file, or a distribution drawn from `seed`. Returns
/// what the user should be told.
///
/// # Errors
/// When the file can't be read or has a mistake, the distribution is unknown, or the history knows
/// nothing.
pub fn set(
    loaded: &mut Loaded,
    from: &str,
    seed: u64,
    session: impl FnOnce() -> Result<Session>,
) -> Result<Option<String>> {
    if from == HISTORY {
        return from_history(loaded, &session()?);
    }
    let path = Path::new(from);
    if !path.exists()
        && let Some(distribution) = distribution(from)
    {
        let distribution = distribution?;
        let drawn = distribution.sample(loaded.graph.len(), seed);
        loaded.graph.set_durations(TimeUnit::Microseconds, drawn)?;
        return Ok(None);
    }
    let limits = super::limits();
    let text = super::read("read the durations", path, limits)?;
    let unnamed = read_durations(&mut loaded.graph, from, &text)?;
    Ok((unnamed > 0).then(|| {
        let all = loaded.graph.len();
        format!("{unnamed} of {all} tasks are not in '{from}' and keep the durations they have, or take no time")
    }))
}

/// A file that is not there is no distribution, and should be reported as what it is.
fn distribution(text: &str) -> Option<Result<Distribution>> {
    (text == "unit" || text.contains(':')).then(|| Ok(text.parse()?))
}

/// What the history says of each task: by name and platform for derivations, by name and this
/// machine's platform for others.
fn from_history(loaded: &mut Loaded, session: &Session) -> Result<Option<String>> {
    let history = History::load(&session.layout)?;
    let graph = &mut loaded.graph;
    let mut durations = Vec::with_capacity(graph.len());
    let mut unknown = 0;
    for task in graph.tasks() {
        let name = graph.name(task);
        let estimate = match loaded.derivations.get(task.index()) {
            Some(drv) => history.estimate(&drv.name, &drv.system),
            None => history.estimate(&name, &session.settings.system),
        };
        unknown += usize::from(estimate.is_none());
        durations.push(estimate.unwrap_or(0));
    }
    if unknown == graph.len() && unknown > 0 {
        let state = session.layout.state_dir.display().to_string();
        return Err(Error::EmptyHistory { state });
    }
    set_all(graph, durations)?;
    Ok((unknown > 0).then(|| {
        let all = graph.len();
        format!("{unknown} of {all} tasks are for platforms that nothing was built for yet, and take no time")
    }))
}

fn set_all(graph: &mut TaskGraph, durations: Vec<u64>) -> Result<()> {
    Ok(graph.set_durations(TimeUnit::Microseconds, durations)?)
}
