//! What is copied into a store on this machine: fetched by the engine, as what substituters have.

use windrow_components::settings::Sandbox;
use windrow_store::local::LocalStore;

use super::{Copy, Source};
use crate::error::{Error, Result};
use crate::outcome::not_fetched;
use crate::progress;
use crate::realise::{Planned, Wanted, known_outputs, make_plan, realise, understand};
use crate::session::Session;
use crate::terminal::complain;

/// Copies what is asked for by its name into the store of a session.
///
/// # Errors
/// When something can't be understood or fetched.
pub(super) fn by_name(session: Session, from: &Source, what: &Copy) -> Result<()> {
    let mut store = session.open()?;
    let wanted = understand(&what.what, &session, &mut store).map_err(Error::not_to_build)?;
    let mut unknown = Vec::new();
    let mut paths = Vec::new();
    for wanted in &wanted {
        match wanted {
            Wanted::Derivation { path, .. } if what.derivation => paths.push(path.clone()),
            wanted => match known_outputs(&store, wanted)? {
                Some(outputs) => paths.extend(outputs.into_iter().map(|(_, path)| path)),
                None => unknown.push(wanted),
            },
        }
    }
    drop(store);
    if unknown.is_empty() {
        return fetch(session, from, paths, what);
    }
    // What the outputs of a derivation are it says itself.
    let derivations = unknown.iter().filter_map(|wanted| match wanted {
        Wanted::Derivation { path, .. } => Some(path.clone()),
        Wanted::Path(_) | Wanted::Repair(_) => None,
    });
    let derivations: Vec<String> = derivations.collect();
    fetch(session.clone(), from, derivations, what)?;
    let store = session.open_read_only()?;
    for wanted in unknown {
        let outputs = known_outputs(&store, wanted)?.unwrap_or_default();
        paths.extend(outputs.into_iter().map(|(_, path)| path));
    }
    drop(store);
    fetch(session, from, paths, what)
}

/// Copies paths from the store of that URL into the store of a session.
///
/// # Errors
/// When something is not fetched.
pub(super) fn fetch(
    mut session: Session,
    from: &Source,
    paths: Vec<String>,
    what: &Copy,
) -> Result<()> {
    let settings = &mut session.settings;
    settings.substituters = vec![from.url.clone()];
    settings.substitute = true;
    settings.use_binary_caches = true;
    settings.require_sigs &= what.check_sigs;
    // Nothing is built.
    settings.sandbox = Sandbox::Off;
    session.substituter_programs = false;
    session.build_hook = false;
    let require_sigs = session.settings.require_sigs;
    let wanted: Vec<Wanted> = paths.into_iter().map(Wanted::Path).collect();
    let store = session.open()?;
    if !what.recursive {
        only_these(&session, &wanted)?;
    }
    let reporter = progress::reporter(what.style);
    let (summary, _) = realise(&session, store, &wanted, reporter)?;
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    if summary.lacks_something() {
        return Err(not_fetched(&summary, &from.shown, require_sigs));
    }
    if summary.fetched == 0 && what.style.verbosity >= 0 {
        let store = session.layout.real_store_dir.display();
        complain(&format!("nothing to copy: all of it is in '{store}'"));
    }
    Ok(())
}

/// Makes sure that nothing else has to be fetched.
fn only_these(session: &Session, wanted: &[Wanted]) -> Result<()> {
    let store: LocalStore = session.open_read_only()?;
    let Planned {
        graph,
        plan,
        complaints,
        ..
    } = make_plan(session, store, wanted)?;
    complaints.iter().for_each(|text| complain(text));
    let fetched = plan.fetches.iter().map(|&path| graph.full_path(path));
    let is_wanted = |path: &String| {
        let mut wanted = wanted.iter();
        wanted.any(|wanted| matches!(wanted, Wanted::Path(it) if it == path))
    };
    let other = fetched.into_iter().find(|path| !is_wanted(path));
    match other {
        None => Ok(()),
        Some(path) => Err(Error::NotCopied {
            message: format!(
                "'{path}' is not in the store, and what is to be copied refers to it; copy that first, or \
                 leave out --no-recursive"
            ),
            cause: None,
        }),
    }
}
