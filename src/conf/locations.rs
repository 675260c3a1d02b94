//! The directories of a store, its state, logs and configuration, as the environment names them.
//! Looks at no file: whether they exist, and whose they are, shows when the store is opened.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::conf::error::LocationError;
use windrow_components::lexical::canonicalise;

/// Where everything is, canonical and absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locations {
    /// The store: `NIX_STORE_DIR`, else `NIX_STORE`, else /nix/store.
    pub store_dir: PathBuf,
    /// Database, temporary roots, locks: `NIX_STATE_DIR`, else /nix/var/nix.
    pub state_dir: PathBuf,
    /// Build logs: `NIX_LOG_DIR`, else /nix/var/log/nix, wherever the state is.
    pub log_dir: PathBuf,
    /// nix.conf and the machines file: `NIX_CONF_DIR`, else /etc/nix.
    pub conf_dir: PathBuf,
}

impl Locations {
    /// Reads the variables through `env`; an empty one counts as unset, as for Nix.
    pub(crate) fn from_env(
        env: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<Locations, LocationError> {
        let store_dir = match dir(env, "NIX_STORE_DIR")? {
            Some(found) => Some(("NIX_STORE_DIR", found)),
            None => dir(env, "NIX_STORE")?.map(|found| ("NIX_STORE", found)),
        };
        if let Some((variable, path)) = &store_dir
            && path == Path::new("/")
        {
            let value = env(variable).unwrap_or_default();
            return Err(LocationError::StoreIsRoot { variable, value });
        }
        let or = |found: Option<PathBuf>, default: &str| found.unwrap_or_else(|| default.into());
        Ok(Locations {
            store_dir: or(store_dir.map(|(_, path)| path), "/nix/store"),
            state_dir: or(dir(env, "NIX_STATE_DIR")?, "/nix/var/nix"),
            log_dir: or(dir(env, "NIX_LOG_DIR")?, "/nix/var/log/nix"),
            conf_dir: or(dir(env, "NIX_CONF_DIR")?, "/etc/nix"),
        })
    }
}

fn dir(
    env: &impl Fn(&str) -> Option<OsString>,
    variable: &'static str,
) -> Result<Option<PathBuf>, LocationError> {
    match env(variable) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => match canonicalise(Path::new(&value)) {
            Some(path) => Ok(Some(path)),
            None => Err(LocationError::NotAbsolute { variable, value }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn locations(pairs: &[(&str, &str)]) -> Result<Locations, LocationError> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        Locations::from_env(&|name| find(name).map(|(_, value)| value.into()))
    }

    #[test]
    fn defaults_are_those_of_nix() {
        let empty = [
            "NIX_STORE_DIR",
            "NIX_STORE",
            "NIX_STATE_DIR",
            "NIX_LOG_DIR",
            "NIX_CONF_DIR",
        ]
        .map(|name| (name, ""));
        for pairs in [&[][..], &empty[..]] {
            let found = locations(pairs).unwrap();
            assert_eq!(found.store_dir, Path::new("/nix/store"));
            assert_eq!(found.state_dir, Path::new("/nix/var/nix"));
            assert_eq!(found.log_dir, Path::new("/nix/var/log/nix"));
            assert_eq!(found.conf_dir, Path::new("/etc/nix"));
        }
    }

    #[test]
    fn each_variable_moves_its_own_directory() {
        let found = locations(&[
            ("NIX_STORE_DIR", "/a/../s//"),
            ("NIX_STATE_DIR", "/v/./n"),
            ("NIX_LOG_DIR", "/l/"),
            ("NIX_CONF_DIR", "/../c"),
        ])
        .unwrap();
        assert_eq!(found.store_dir, Path::new("/s"));
        assert_eq!(found.state_dir, Path::new("/v/n"));
        assert_eq!(found.log_dir, Path::new("/l"));
        assert_eq!(found.conf_dir, Path::new("/c"));
    }

    #[test]
    fn nix_store_dir_wins_over_nix_store() {
        let both = [("NIX_STORE", "/old"), ("NIX_STORE_DIR", "/new")];
        assert_eq!(locations(&both).unwrap().store_dir, Path::new("/new"));
        assert_eq!(locations(&both[..1]).unwrap().store_dir, Path::new("/old"));
        let empty = [("NIX_STORE", "/old"), ("NIX_STORE_DIR", "")];
        assert_eq!(locations(&empty).unwrap().store_dir, Path::new("/old"));
    }

    #[test]
    fn unusable_directories_are_refused_by_variable() {
        for (variable, value, message) in [
            (
                "NIX_STATE_DIR",
                "rel",
                "NIX_STATE_DIR is 'rel', which is not an absolute path; \
                 set it to a path that starts with '/'",
            ),
            (
                "NIX_STORE",
                "./x",
                "NIX_STORE is './x', which is not an absolute path; \
                 set it to a path that starts with '/'",
            ),
            (
                "NIX_STORE_DIR",
                "/a/..",
                "NIX_STORE_DIR is '/a/..', but '/' can't be a store; \
                 name a directory of its own",
            ),
        ] {
            assert_eq!(
                locations(&[(variable, value)]).unwrap_err().to_string(),
                message
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(value in any::<Vec<u8>>()) {
            use std::os::unix::ffi::OsStringExt;
            let result = Locations::from_env(&|_| Some(OsString::from_vec(value.clone())));
            if let Ok(found) = result {
                prop_assert!(found.store_dir.is_absolute());
            }
        }
    }
}
