//! What is copied out of a store: found or made there, and sent to a binary cache or to a store
//! that a Nix serves.

use std::collections::HashSet;

use windrow_net::copy::{BinaryCache, Config, CopyError, Destination, ServedStore, copy};
use windrow_net::peer::Signatures;
use windrow_net::store_url::{Kind, StoreUrl};
use windrow_store::PathInfo;
use windrow_store::roots::temporary::TempRoots;
use windrow_sys::interrupt::Owing;

use super::{Copy, shown};
use crate::caches::copy_config;
use crate::error::{Error, Result};
use crate::installable;
use crate::outcome::{failure, not_copied};
use crate::progress::{self, Copies};
use crate::realise::{Outputs, Wanted, already_valid, hold, realise};
use crate::session::Session;
use crate::wanted::{look_up, understand};

/// Paths that are valid, and kept from collection as long as this lives.
pub(super) struct Found {
    pub(super) paths: Vec<String>,
    _roots: Option<TempRoots>,
}

/// The paths that are to be copied out of the store of a session. What is not valid is built or
/// fetched first, as by Nix.
///
/// # Errors
/// When something can't be understood, or not be made.
pub(super) fn found(session: &Session, what: &Copy) -> Result<Found> {
    let named = installable::parse(&what.what, session).map_err(Error::not_to_build)?;
    let (store, found) = look_up(&named, session).map_err(Error::not_to_build)?;
    if let Some(outputs) = already_valid(session, &store, &paths_of(found, what))? {
        let paths = paths(outputs);
        let mut roots = roots(session)?;
        if let Some(roots) = &mut roots {
            roots.add(&paths.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        return Ok(Found {
            paths,
            _roots: roots,
        });
    }
    drop(store);
    let mut store = session.open()?;
    let wanted = understand(&named, session, &mut store).map_err(Error::not_to_build)?;
    let wanted = paths_of(wanted, what);
    let held = hold(session, &store, &wanted)?;
    let reporter = progress::reporter(what.style.clone());
    let (summary, outputs) = realise(session, store, &wanted, reporter)?;
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    if summary.lacks_something() {
        return Err(failure(&summary, session.mode));
    }
    let paths = paths(outputs);
    held.remind(&paths.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Found {
        paths,
        _roots: Some(held),
    })
}

/// Temporary roots, but for whoever may not write the store, and so can't keep anything in it.
fn roots(session: &Session) -> Result<Option<TempRoots>> {
    let opened = TempRoots::open(&session.layout);
    match opened.map_err(|error| session.why_unwritable(error)) {
        Err(error) if error.is_read_only() => Ok(None),
        opened => opened.map(Some),
    }
}

/// What is wanted, with derivations as paths if they are to be copied themselves.
fn paths_of(wanted: Vec<Wanted>, what: &Copy) -> Vec<Wanted> {
    let plain = |wanted| match wanted {
        Wanted::Derivation { path, .. } if what.derivation => Wanted::Path(path),
        other => other,
    };
    wanted.into_iter().map(plain).collect()
}

fn paths(outputs: Outputs) -> Vec<String> {
    let paths = outputs.into_iter().flatten().map(|(_, path)| path);
    let mut paths: Vec<String> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The store of that URL.
fn open(to: &StoreUrl, config: &Config, what: &Copy) -> Result<Box<dyn Destination>, CopyError> {
    let signatures = match what.check_sigs {
        true => Signatures::Checked,
        false => Signatures::Ignored,
    };
    Ok(match to.kind {
        Kind::Ssh(_) | Kind::SshNg(_) | Kind::Daemon { .. } => {
            Box::new(ServedStore::open(to, config, signatures)?)
        }
        Kind::Http(_) | Kind::File(_) | Kind::S3 { .. } | Kind::Local(_) => {
            Box::new(BinaryCache::open(to, config)?)
        }
    })
}

/// Sends to a binary cache, or to a store that a Nix serves, what is asked for.
///
/// # Errors
/// When something is not sent.
pub(super) fn send(session: &Session, to: &StoreUrl, what: &Copy) -> Result<()> {
    let found = found(session, what)?;
    let infos = infos(session, &found.paths, what.recursive)?;
    // What lies on a server in part is given up, and there may be much.
    let _owing = Owing::new();
    let shown = shown(to);
    let mut copies = Copies::new(what.style.clone(), &shown);
    let config = copy_config(&session.settings, &session.layout, copies.notice());
    let mut store = open(to, &config, what)?;
    let tell = &mut |event: windrow_net::copy::Event<'_>| copies.report(&event);
    let outcome = copy(&mut *store, infos, &session.layout, tell)?;
    copies.end(&outcome);
    match outcome.left.is_empty() && outcome.ended_by.is_none() {
        true => Ok(()),
        false => Err(not_copied(outcome, &shown)),
    }
}

/// What is recorded of the paths, and of all that they refer to if that is copied, too.
fn infos(session: &Session, paths: &[String], recursive: bool) -> Result<Vec<PathInfo>> {
    let store = session.open_read_only()?;
    let infos = match recursive {
        true => store.database.closure(paths.iter().map(String::as_str))?,
        false => {
            let info = |path: &String| store.database.path_info(path);
            let infos: windrow_store::Result<Vec<_>> = paths.iter().map(info).collect();
            infos?.into_iter().flatten().collect()
        }
    };
    // A collector may have been quicker.
    let there: HashSet<&str> = infos.iter().map(|info| &*info.path).collect();
    match paths.iter().find(|path| !there.contains(&***path)) {
        Some(path) => Err(windrow_store::Error::PathNotValid { path: path.clone() }.into()),
        None => Ok(infos),
    }
}
