//! Another store on this machine, asked like a cache: its database says what it has, and its trees
//! are archived as they are read.

use std::path::{Path, PathBuf};

use windrow_components::store_path::{StoreDir, StorePath};
use windrow_store::local::LocalStore;
use windrow_store::{Layout, PathInfo};

use crate::compression::Compression;
use crate::narinfo::NarInfo;
use crate::store_url::Places;

/// The store directory of a store that says none.
const STORE_DIR: &str = "/nix/store";

/// A store that is only read.
pub(super) struct Local {
    store: LocalStore,
    store_dir: StoreDir,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Local").field(self.store.layout()).finish()
    }
}

impl Local {
    /// Opens the store at these places, for one whose paths begin with `store_dir`.
    ///
    /// # Errors
    /// One line that says why it is of no use.
    pub(super) fn open(places: &Places, store_dir: &StoreDir) -> Result<Self, String> {
        let layout = layout(places)?;
        if layout.store_dir != store_dir.as_str() {
            return Err(format!(
                "it has paths of the store '{}', and this one is '{store_dir}'",
                layout.store_dir
            ));
        }
        let store = LocalStore::open_read_only(layout).map_err(|error| error.to_string())?;
        Ok(Self {
            store,
            store_dir: store_dir.clone(),
        })
    }

    /// What the store knows of a path, if that is valid.
    ///
    /// # Errors
    /// When the database can't be read, or says what can't be.
    pub(super) fn info(&self, path: &StorePath) -> Result<Option<NarInfo>, String> {
        let full = self.store_dir.display(path);
        let info: Option<PathInfo> = (self.store.database)
            .path_info(&full)
            .map_err(|error| error.to_string())?;
        let Some(info) = info else { return Ok(None) };
        let place = self.place(path).display().to_string();
        NarInfo::of_path_info(&info, &self.store_dir, place, Compression::None)
            .map(Some)
            .map_err(|error| error.to_string())
    }

    /// Where a path lies.
    pub(super) fn place(&self, path: &StorePath) -> PathBuf {
        self.store.layout().real_store_dir.join(path.base_name())
    }
}

/// Where the parts of a store lie that a URL names.
///
/// # Errors
/// When its store directory can't stand in store paths.
fn layout(places: &Places) -> Result<Layout, String> {
    let below = |path: &str| match &places.root {
        Some(root) => root.join(path.trim_start_matches('/')),
        None => PathBuf::from(path),
    };
    let or = |given: &Option<PathBuf>, otherwise: PathBuf| given.clone().unwrap_or(otherwise);
    let store_dir = or(&places.store, STORE_DIR.into());
    let Some(text) = store_dir.to_str() else {
        return Err(format!("'{}' is not UTF-8 text", store_dir.display()));
    };
    let real = match &places.root {
        Some(_) => below(STORE_DIR),
        None => Path::new(text).to_owned(),
    };
    Ok(Layout {
        store_dir: text.to_owned(),
        real_store_dir: or(&places.real, real),
        state_dir: or(&places.state, below("/nix/var/nix")),
        log_dir: or(&places.log, below("/nix/var/log/nix")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_url::{Kind, StoreUrl};

    #[test]
    fn parts_lie_where_the_url_says() {
        let of = |url: &str| {
            let Kind::Local(places) = StoreUrl::parse(url).unwrap().kind else {
                panic!("{url} is another kind");
            };
            let found = layout(&places).unwrap();
            let parts = [&found.real_store_dir, &found.state_dir, &found.log_dir];
            let parts = parts.map(|part| part.display().to_string());
            format!("{} {}", found.store_dir, parts.join(" "))
        };
        let usual = "/nix/store /nix/store /nix/var/nix /nix/var/log/nix";
        assert_eq!(of("local"), usual);
        let below = "/nix/store /r/nix/store /r/nix/var/nix /r/nix/var/log/nix";
        assert_eq!(of("local?root=/r"), below);
        assert_eq!(of("/r"), below);
        assert_eq!(
            of("local?store=/s&state=/state&log=/log"),
            "/s /s /state /log"
        );
        assert_eq!(
            of("local?root=/r&store=/s&real=/real"),
            "/s /real /r/nix/var/nix /r/nix/var/log/nix"
        );
    }
}
