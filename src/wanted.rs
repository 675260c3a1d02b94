//! From what was typed to what is to be built: names of graphs become derivations, in the store or,
//! if that is only looked at, as drafts.

use std::path::Path;

use hashbrown::HashMap;
use windrow_formats::json_graph::{GraphFile, Picker, Target};
use windrow_store::local::LocalStore;
use windrow_systems::instantiate::{InstantiatedGraph, instantiate_graph, parse_graph, read_graph};

use crate::error::{Error, Result};
use crate::installable::{self, GraphSource, GraphTarget, Installable};
use crate::realise::Wanted;
use crate::session::Session;

/// What is to be built for what was typed, in the same order. Graphs are added to the store; each
/// is read once, whatever of it is asked for.
///
/// # Errors
/// When a graph has a mistake, or not what is asked of it; when the store can't be written.
pub(crate) fn understand(
    what: &[Installable],
    session: &Session,
    store: &mut LocalStore,
) -> Result<Vec<Wanted>> {
    let mut graphs: HashMap<&GraphSource, Vec<(usize, &GraphTarget)>> = HashMap::new();
    for (index, installable) in what.iter().enumerate() {
        if let Installable::Graph(target) = installable {
            graphs
                .entry(&target.source)
                .or_default()
                .push((index, target));
        }
    }
    let mut found: Vec<Vec<Wanted>> = vec![Vec::new(); what.len()];
    for (index, installable) in what.iter().enumerate() {
        match installable {
            Installable::Derivation { path, outputs } => found[index].push(Wanted::Derivation {
                path: path.clone(),
                outputs: outputs.clone(),
            }),
            Installable::Path(path) => found[index].push(Wanted::Path(path.clone())),
            Installable::Graph(target) => {
                let Some(same) = graphs.remove(&target.source) else {
                    continue;
                };
                for (index, wanted) in add(&target.source, &same, session, store)? {
                    found[index] = wanted;
                }
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// The same, with nothing written: the store, opened for looking, has graphs as drafts. With a
/// graph it need not exist.
///
/// # Errors
/// When a graph has a mistake, or not what is asked of it; when the store can't be read.
pub(crate) fn look_up(
    what: &[Installable],
    session: &Session,
) -> Result<(LocalStore, Vec<Wanted>)> {
    let mut store = match installable::have_graphs(what) {
        true => session.open_for_drafts()?,
        false => session.open_read_only()?,
    };
    let wanted = understand(what, session, &mut store)?;
    Ok((store, wanted))
}

/// The one derivation that is wanted, or that the one path that is wanted was built from; none if
/// that is not known. `what` is what was typed.
///
/// # Errors
/// [`Error::BadArgument`] if it is not one; when the database can't be read.
pub(crate) fn one_derivation(
    what: &str,
    store: &LocalStore,
    wanted: &[Wanted],
) -> Result<Option<String>> {
    match wanted {
        [Wanted::Derivation { path, .. }] => Ok(Some(path.clone())),
        [Wanted::Path(path) | Wanted::Repair(path)] => {
            let info = store.database.path_info(path)?;
            Ok(info.and_then(|info| info.deriver))
        }
        several => Err(Error::BadArgument {
            what: what.to_owned(),
            reason: format!(
                "it names {} derivations, and only one can be meant; name it, as in 'x.json#name'",
                several.len()
            ),
        }),
    }
}

/// Adds a graph in JSON that is in no file to the store; its targets. Messages call it
/// `graph.json`.
///
/// # Errors
/// When it has a mistake, or the store can't be written.
pub(crate) fn add_graph_text(
    session: &Session,
    store: &mut LocalStore,
    text: &str,
) -> Result<Vec<Wanted>> {
    let named = Path::new("graph.json");
    let graph = parse_graph(text, named, &session.settings.system)?;
    let graph = instantiate_graph(store, named, graph)?;
    Ok(wanted(&graph, &graph.targets))
}

/// Adds to the store what of a graph is asked for; what is to be built for each, by the numbers
/// that came with them.
fn add(
    source: &GraphSource,
    asked: &[(usize, &GraphTarget)],
    session: &Session,
    store: &mut LocalStore,
) -> Result<Vec<(usize, Vec<Wanted>)>> {
    let read;
    let (text, file) = match source {
        GraphSource::File(file) => {
            read = read_graph(file)?;
            (&*read, file.as_path())
        }
        GraphSource::StandardInput(text) => (&**text, Path::new("standard input")),
    };
    let mut graph = parse_graph(text, file, &session.settings.system)?;
    let (picked, ends) = pick(&graph, asked)?;
    if asked.iter().all(|(_, target)| target.pick.is_some()) {
        graph.keep_only(picked);
    } else {
        graph.targets = picked;
    }
    let graph = instantiate_graph(store, file, graph)?;
    let mut start = 0;
    let each = asked.iter().zip(ends).map(|((index, _), end)| {
        let wanted = wanted(&graph, &graph.targets[start..end]);
        start = end;
        (*index, wanted)
    });
    Ok(each.collect())
}

/// The targets of a graph that are asked for, and where those of each end.
fn pick(graph: &GraphFile, asked: &[(usize, &GraphTarget)]) -> Result<(Vec<Target>, Vec<usize>)> {
    let mut ends = Vec::with_capacity(asked.len());
    let mut picked = Vec::new();
    let picker = Picker::new(graph);
    for (_, target) in asked {
        match &target.pick {
            None => picked.extend_from_slice(&graph.targets),
            Some(pick) => picked.push(picker.pick(pick).map_err(|reason| Error::BadTarget {
                what: target.what.clone(),
                reason: reason.to_string(),
            })?),
        }
        ends.push(picked.len());
    }
    Ok((picked, ends))
}

fn wanted(graph: &InstantiatedGraph, targets: &[(usize, Vec<String>)]) -> Vec<Wanted> {
    let wanted = targets.iter().map(|(index, outputs)| Wanted::Derivation {
        path: graph.derivations[*index].drv_path.clone(),
        outputs: outputs.clone(),
    });
    wanted.collect()
}
