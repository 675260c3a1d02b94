//! What is copied into a store on this machine: fetched by the engine, as what substituters have.

use std::collections::HashSet;
use std::time::Instant;

use windrow_components::settings::Sandbox;
use windrow_store::local::LocalStore;
use windrow_systems::report::Level;

use super::{Copy, Source};
use crate::error::{Error, Result};
use crate::installable;
use crate::outcome::not_fetched;
use crate::progress::{self, NOTHING_NAMED, Style, say, seconds};
use crate::realise::{Planned, Wanted, hold, known_outputs, make_plan, realise};
use crate::session::Session;
use crate::wanted::understand;

/// Copies what is asked for by its name into the store of a session.
///
/// # Errors
/// When something can't be understood or fetched.
pub(super) fn by_name(session: Session, from: &Source, what: &Copy) -> Result<()> {
    let mut store = session.open()?;
    let named = installable::parse(&what.what, &session).map_err(Error::not_to_build)?;
    let wanted = understand(&named, &session, &mut store).map_err(Error::not_to_build)?;
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
    if unknown.is_empty() {
        drop(store);
        return fetch(session, from, paths, what);
    }
    // What the outputs of a derivation are it says itself.
    let derivations = unknown.iter().filter_map(|wanted| match wanted {
        Wanted::Derivation { path, .. } => Some(path.clone()),
        Wanted::Path(_) | Wanted::Repair(_) => None,
    });
    let derivations: Vec<String> = derivations.collect();
    let wanted: Vec<Wanted> = derivations.iter().cloned().map(Wanted::Path).collect();
    let _held = hold(&session, &store, &wanted)?;
    drop(store);
    let fetched = fetch_all(session.clone(), from, derivations, what)?;
    let store = session.open_read_only()?;
    for wanted in unknown {
        let outputs = known_outputs(&store, wanted)?;
        let outputs = outputs.ok_or_else(|| not_valid(wanted))?;
        paths.extend(outputs.into_iter().map(|(_, path)| path));
    }
    drop(store);
    let fetched = fetched + fetch_all(session.clone(), from, paths, what)?;
    say_if_idle(&session, fetched, what);
    Ok(())
}

/// The error of something that is not there although it was fetched.
fn not_valid(wanted: &Wanted) -> Error {
    let (Wanted::Derivation { path, .. } | Wanted::Path(path) | Wanted::Repair(path)) = wanted;
    windrow_store::Error::PathNotValid { path: path.clone() }.into()
}

/// Copies paths from the store of that URL into the store of a session, and says so if there is
/// nothing to do.
///
/// # Errors
/// When something is not fetched.
pub(super) fn fetch(
    session: Session,
    from: &Source,
    paths: Vec<String>,
    what: &Copy,
) -> Result<()> {
    if paths.is_empty() {
        say(&what.style, Level::Info, NOTHING_NAMED);
        return Ok(());
    }
    let fetched = fetch_all(session.clone(), from, paths, what)?;
    say_if_idle(&session, fetched, what);
    Ok(())
}

fn say_if_idle(session: &Session, fetched: u32, what: &Copy) {
    if fetched == 0 {
        let store = session.layout.real_store_dir.display();
        let text = format!("nothing to copy: all of it is in '{store}'");
        say(&what.style, Level::Info, &text);
    }
}

/// Copies paths, and says how many were fetched.
///
/// # Errors
/// When something is not fetched.
fn fetch_all(mut session: Session, from: &Source, paths: Vec<String>, what: &Copy) -> Result<u32> {
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
        only_these(&session, &wanted, what)?;
    }
    let reporter = progress::reporter(Style {
        copying: true,
        ..what.style.clone()
    });
    let began = Instant::now();
    let (summary, _) = realise(&session, store, &wanted, reporter)?;
    let paths = match summary.fetched {
        0 => None,
        1 => Some("1 path".to_owned()),
        count => Some(format!("{count} paths")),
    };
    if let Some(paths) = paths {
        let (from, time) = (&from.shown, seconds(began.elapsed()));
        let text = format!("copied {paths} from '{from}' in {time}");
        say(&what.style, Level::Info, &text);
    }
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    if summary.lacks_something() {
        return Err(not_fetched(&summary, &from.shown, require_sigs));
    }
    Ok(summary.fetched)
}

/// Makes sure that nothing else has to be fetched.
fn only_these(session: &Session, wanted: &[Wanted], what: &Copy) -> Result<()> {
    let store: LocalStore = session.open_read_only()?;
    let Planned {
        graph,
        plan,
        complaints,
        ..
    } = make_plan(session, store, wanted)?;
    let complain = |text: &String| say(&what.style, Level::Warn, text);
    complaints.iter().for_each(complain);
    let fetched = plan.fetches.iter().map(|&path| graph.full_path(path));
    let paths = wanted.iter().filter_map(|wanted| match wanted {
        Wanted::Path(path) => Some(&**path),
        Wanted::Derivation { .. } | Wanted::Repair(_) => None,
    });
    let paths: HashSet<&str> = paths.collect();
    let other = fetched.into_iter().find(|path| !paths.contains(&**path));
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
