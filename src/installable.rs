//! What the user asks to be built, as typed: derivations with outputs, store paths, graphs, or a
//! list of these.

use std::path::{Path, PathBuf};

use windrow_components::store_path::StoreDir;

use crate::error::{Error, Result};

/// One thing to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Installable {
    /// Outputs of a derivation; none named means all.
    Derivation {
        /// The derivation's full path.
        path: String,
        /// The names of the outputs.
        outputs: Vec<String>,
    },
    /// A store path as it is.
    Path(String),
    /// A graph in JSON.
    Graph(PathBuf),
}

impl Installable {
    /// Understands one argument.
    ///
    /// # Errors
    /// [`Error::BadTarget`] says why it can't be built.
    pub(crate) fn parse(what: &str, store: &StoreDir, real_store: &Path) -> Result<Self> {
        let bad = |reason: String| Error::BadTarget {
            what: what.to_owned(),
            reason,
        };
        if what.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        // The outputs are what follows the last of the two marks, if a derivation stands before it.
        if let Some((path, outputs)) = split_outputs(what) {
            let path = store_path(path, store, real_store).map_err(bad)?;
            let outputs = match outputs {
                "*" => Vec::new(),
                names => names.split(',').map(str::to_owned).collect::<Vec<_>>(),
            };
            if outputs.iter().any(String::is_empty) {
                return Err(bad(
                    "an output's name is missing; write 'x.drv^out,dev'".to_owned()
                ));
            }
            return Ok(Self::Derivation { path, outputs });
        }
        let file = Path::new(what);
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            return Ok(Self::Graph(file.to_owned()));
        }
        let path = store_path(what, store, real_store).map_err(bad)?;
        Ok(if path.ends_with(".drv") {
            Self::Derivation {
                path,
                outputs: Vec::new(),
            }
        } else {
            Self::Path(path)
        })
    }
}

fn split_outputs(what: &str) -> Option<(&str, &str)> {
    let (path, outputs) = what.rsplit_once(['!', '^'])?;
    path.ends_with(".drv").then_some((path, outputs))
}

/// The store path that `what` is, lies in, or leads to through symbolic links.
fn store_path(what: &str, store: &StoreDir, real_store: &Path) -> Result<String, String> {
    if what.starts_with(&format!("{store}/")) {
        let path = store.enclosing(what).map_err(|error| error.to_string())?;
        return Ok(store.display(&path));
    }
    let real = std::fs::canonicalize(what);
    match real {
        Ok(real) => {
            let inside = real.strip_prefix(real_store).map_err(|_| {
                format!("it is neither a path in the store '{store}' nor a graph ('….json')")
            })?;
            let full = format!("{store}/{}", inside.display());
            let path = store.enclosing(&full).map_err(|error| error.to_string())?;
            Ok(store.display(&path))
        }
        Err(_) => match std::fs::read_link(what) {
            // A link into a store that lies elsewhere leads nowhere by itself.
            Ok(link) if link.to_string_lossy().starts_with(&format!("{store}/")) => {
                let full = link.to_string_lossy().into_owned();
                let path = store.enclosing(&full).map_err(|error| error.to_string())?;
                Ok(store.display(&path))
            }
            _ => Err(format!(
                "there is no such file, and it is no path in the store '{store}'; give a derivation \
                 ('x.drv', 'x.drv^out'), a store path, or a graph ('x.json')"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "8rhh74q2l84v5z1fa0n941xhbpgw3ncf-x";

    fn parse(what: &str) -> Result<Installable> {
        Installable::parse(what, &StoreDir::new("/nix/store"), Path::new("/nix/store"))
    }

    #[test]
    fn every_form_is_understood() {
        let drv = |outputs: &[&str]| Installable::Derivation {
            path: format!("/nix/store/{BASE}.drv"),
            outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
        };
        let full = format!("/nix/store/{BASE}.drv");
        assert_eq!(parse(&full).unwrap(), drv(&[]));
        assert_eq!(parse(&format!("{full}!out")).unwrap(), drv(&["out"]));
        assert_eq!(
            parse(&format!("{full}^out,dev")).unwrap(),
            drv(&["out", "dev"])
        );
        assert_eq!(parse(&format!("{full}^*")).unwrap(), drv(&[]));
        let path = format!("/nix/store/{BASE}");
        assert_eq!(
            parse(&format!("{path}/bin/y")).unwrap(),
            Installable::Path(path)
        );
        assert_eq!(
            parse("a/b.json").unwrap(),
            Installable::Graph("a/b.json".into())
        );
    }

    #[test]
    fn nonsense_is_named() {
        for what in ["", "nonsense", "/nix/store/x", "/etc/passwd", "/nix/store"] {
            let message = parse(what).unwrap_err().to_string();
            assert!(message.contains(&format!("'{what}'")), "{message}");
        }
        assert!(parse(&format!("/nix/store/{BASE}.drv^")).is_err());
        assert!(parse(&format!("/nix/store/{BASE}.drv!out,,dev")).is_err());
    }

    #[test]
    fn links_into_the_store_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        let store = root.join("store");
        std::fs::create_dir_all(store.join(BASE)).unwrap();
        std::os::unix::fs::symlink(store.join(BASE), root.join("result")).unwrap();
        let dir = StoreDir::new(store.to_str().unwrap());
        let what = root.join("result");
        let target = Installable::parse(what.to_str().unwrap(), &dir, &store).unwrap();
        assert_eq!(target, Installable::Path(dir.join(BASE)));
    }
}
