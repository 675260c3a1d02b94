//! Which of the three kinds of store a command uses: the one that is named, or whatever suits.

use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};
use windrow_components::settings::Settings;
use windrow_net::store_url::{self, StoreUrl, UrlError};
use windrow_store::Layout;

use super::env;
use crate::conf::error::StoreNameError;
use crate::conf::locations::Locations;
use crate::conf::store_name::{Kind, StoreName};
use crate::conf::user_dirs;
use crate::error::{Error, Result};

/// Which store is meant where none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usual {
    /// The machine's, if it has one, else the user's own.
    OfMachine,
    /// The machine's, if it has one and an ordinary user may write it, else the user's own.
    Writable,
}

/// A store that was settled on.
pub(super) struct Chosen {
    pub(super) layout: Layout,
    /// Whether it is the user's own, with other defaults of settings.
    pub(super) own: bool,
    pub(super) read_only: bool,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The store of that name, if it is a binary cache or on another machine.
///
/// # Errors
/// When the name is of the wrong form for that.
pub(super) fn store_elsewhere(name: &str) -> Result<Option<StoreUrl>> {
    match StoreUrl::parse(name) {
        Ok(url) => Ok(match url.kind {
            store_url::Kind::Local(_) | store_url::Kind::Daemon { .. } => None,
            _ => Some(url),
        }),
        // Names of stores on this machine have errors of their own.
        Err(UrlError::UnknownKind { .. }) => Ok(None),
        Err(_) if !name.contains("://") || name.starts_with("local") => Ok(None),
        Err(error) => Err(Error::Unsupported(error.to_string())),
    }
}

/// The name of a store: what was typed, else what the settings say.
///
/// # Errors
/// When it is malformed; if it was not typed, the error tells who gave it.
pub(super) fn named(typed: Option<&str>, settings: &Settings) -> Result<StoreName> {
    let name = StoreName::parse(typed.unwrap_or(&settings.store));
    name.map_err(|error| match typed {
        Some(_) => error.into(),
        None => named_by(error, settings),
    })
}

/// The error of a store's name that nobody typed: who gave it.
fn named_by(source: StoreNameError, settings: &Settings) -> Error {
    let gave = |name: &&str| env(name).is_some_and(|value| value == settings.store.as_str());
    let origin = match ["WINDROW_STORE", "NIX_REMOTE"].iter().find(|it| gave(it)) {
        Some(variable) => format!("the environment variable {variable}"),
        None => "the setting 'store'".to_owned(),
    };
    Error::StoreNamedBy { source, origin }
}

/// Whether this is an ordinary user who may not write there.
fn is_forbidden(directory: &Path) -> bool {
    !geteuid().is_root() && access(directory, AccessFlags::W_OK).is_err()
}

/// Settles on the store of that name.
pub(super) fn choose(locations: &Locations, name: StoreName, usual: Usual) -> Result<Chosen> {
    let said = || {
        let said = ["NIX_STORE_DIR", "NIX_STORE", "NIX_STATE_DIR"];
        said.iter()
            .any(|name| env(name).is_some_and(|value| !value.is_empty()))
    };
    let store_dir = &locations.store_dir;
    let is_auto = name.kind == Kind::Auto && !said();
    let instead =
        is_auto && usual == Usual::Writable && store_dir.is_dir() && is_forbidden(store_dir);
    let own = instead || name.kind == Kind::Own || (is_auto && !store_dir.is_dir());
    let layout = match own {
        true => own_layout()?,
        false => name.layout(locations)?,
    };
    let note = instead.then(|| {
        format!(
            "you may not write '{}', so this is about your own store, '{}'; '--store local' names the other \
             one, and WINDROW_STORE=own yours without this note",
            store_dir.display(),
            layout.store_dir
        )
    });
    Ok(Chosen {
        layout,
        own,
        read_only: name.read_only,
        warnings: name.warnings,
        notes: note.into_iter().collect(),
    })
}

/// A store under the user's data directory, whose paths are real paths.
fn own_layout() -> Result<Layout> {
    let data = user_dirs::data().ok_or(Error::NoHome)?;
    // A path into a store must be the same however it is reached.
    let data = std::fs::canonicalize(&data).unwrap_or(data);
    layout_in(&data.join("windrow"))
}

/// A store in a directory, whose paths are real paths.
///
/// # Errors
/// When the directory's name can't stand in store paths.
pub(super) fn layout_in(dir: &Path) -> Result<Layout> {
    let store = dir.join("store");
    let Some(text) = store.to_str() else {
        return Err(StoreNameError::NotUtf8 { store }.into());
    };
    Ok(Layout {
        store_dir: text.to_owned(),
        real_store_dir: store,
        state_dir: dir.join("state"),
        log_dir: dir.join("log"),
    })
}
