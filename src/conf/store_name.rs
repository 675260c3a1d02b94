//! Names of stores, as `--store`, the setting `store` and `NIX_REMOTE` give them: a directory, or
//! a kind of store, with parameters as in a URL. Looks at no file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use windrow_components::lexical::canonicalise;
use windrow_store::Layout;

use crate::conf::error::StoreNameError;
use crate::conf::locations::Locations;

/// The kind of store that a name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whatever suits: the machine's store, or the user's own.
    Auto,
    /// A store of this machine, opened directly.
    Local,
    /// The one under the user's data directory.
    Own,
}

/// The parameters that move a part of a store, with those that make `auto` mean this machine's.
const PLACES: [&str; 5] = ["root", "store", "real", "state", "log"];

/// Parameters of Nix that mean nothing here: they tell stores apart that are copied from, or tune
/// Nix itself.
const WITHOUT_EFFECT: [&str; 9] = [
    "build-dir",
    "ignore-gc-delete-failure",
    "path-info-cache-size",
    "priority",
    "require-sigs",
    "system-features",
    "trusted",
    "use-roots-daemon",
    "want-mass-query",
];

/// A store's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreName {
    pub(crate) kind: Kind,
    /// Whether the store is not to be written.
    pub(crate) read_only: bool,
    /// What to warn of.
    pub(crate) warnings: Vec<String>,
    name: String,
    /// By name; the first of several wins, as for Nix.
    parameters: Vec<(String, OsString)>,
}

impl StoreName {
    /// Takes a name apart as Nix 2.34 does (`StoreReference::parse`).
    ///
    /// # Errors
    /// When it names no store that can be opened directly, or a parameter is malformed.
    pub(crate) fn parse(name: &str) -> Result<Self, StoreNameError> {
        let (base, query) = match name.split_once('?') {
            Some((base, query)) => (base, Some(query)),
            None => (name, None),
        };
        let (kind, root) = kind_of(name, base)?;
        let mut this = Self {
            kind,
            read_only: false,
            warnings: Vec::new(),
            name: name.to_owned(),
            parameters: Vec::new(),
        };
        this.take_parameters(query.unwrap_or_default())?;
        if let Some(root) = root
            && this.get("root").is_none()
        {
            this.parameters.push(("root".to_owned(), root));
        }
        if let Some(value) = this.get("read-only") {
            this.read_only = match value.to_str() {
                Some("true" | "yes" | "1") => true,
                Some("false" | "no" | "0") => false,
                _ => {
                    return Err(StoreNameError::NotABoolean {
                        store: name.to_owned(),
                        value: value.clone(),
                    });
                }
            };
        }
        if kind == Kind::Auto && PLACES.iter().any(|place| this.get(place).is_some()) {
            this.kind = Kind::Local;
        }
        Ok(this)
    }

    /// A store kept below a directory, whatever that is called.
    pub(crate) fn below(root: PathBuf) -> Self {
        Self {
            kind: Kind::Local,
            read_only: false,
            warnings: Vec::new(),
            name: root.to_string_lossy().into_owned(),
            parameters: vec![("root".to_owned(), root.into_os_string())],
        }
    }

    fn take_parameters(&mut self, query: &str) -> Result<(), StoreNameError> {
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                self.warnings.push(format!(
                    "'{part}' in the store '{}' is missing an equal sign '=', ignoring it",
                    self.name
                ));
                continue;
            };
            let wrong = || StoreNameError::Encoding {
                store: self.name.clone(),
                part: part.to_owned(),
            };
            let key = decode(key).and_then(|key| key.into_string().ok());
            let (key, value) = (key.ok_or_else(wrong)?, decode(value).ok_or_else(wrong)?);
            if self.get(&key).is_some() {
                continue;
            }
            if WITHOUT_EFFECT.contains(&key.as_str()) {
                let warning = format!("'{key}' in the store '{}' has no effect", self.name);
                self.warnings.push(warning);
            } else if key != "read-only" && !PLACES.contains(&key.as_str()) {
                self.warnings.push(format!("unknown setting '{key}'"));
            }
            self.parameters.push((key, value));
        }
        Ok(())
    }

    fn get(&self, parameter: &str) -> Option<&OsString> {
        let found = self.parameters.iter().find(|(key, _)| key == parameter);
        found.map(|(_, value)| value)
    }

    /// The place that a parameter names.
    fn place(&self, parameter: &'static str) -> Result<Option<PathBuf>, StoreNameError> {
        let Some(value) = self.get(parameter) else {
            return Ok(None);
        };
        let store = || self.name.clone();
        if value.is_empty() {
            // An optional path may be empty for Nix; the others may not.
            return match parameter {
                "root" => Ok(None),
                _ => Err(StoreNameError::EmptyPath {
                    store: store(),
                    parameter,
                }),
            };
        }
        match canonicalise(Path::new(value)) {
            Some(path) => Ok(Some(path)),
            None => Err(StoreNameError::NotAbsolute {
                store: store(),
                parameter,
                value: value.clone(),
            }),
        }
    }

    /// Where such a store lies on a machine whose own is at these locations: below a root, the
    /// store's files are in nix/store, whatever directory its paths name.
    ///
    /// # Errors
    /// When a parameter is no path to use.
    pub(crate) fn layout(&self, machine: &Locations) -> Result<Layout, StoreNameError> {
        let store_dir = self.place("store")?;
        if store_dir.as_deref() == Some(Path::new("/")) {
            let store = self.name.clone();
            return Err(StoreNameError::StoreIsRoot { store });
        }
        let store_dir = store_dir.unwrap_or_else(|| machine.store_dir.clone());
        let base = match self.place("root")? {
            Some(root) => [
                root.join("nix/store"),
                root.join("nix/var/nix"),
                root.join("nix/var/log/nix"),
            ],
            None => [
                store_dir.clone(),
                machine.state_dir.clone(),
                machine.log_dir.clone(),
            ],
        };
        let Some(logical) = store_dir.to_str() else {
            return Err(StoreNameError::NotUtf8 { store: store_dir });
        };
        self.moved(Layout {
            store_dir: logical.to_owned(),
            real_store_dir: base[0].clone(),
            state_dir: base[1].clone(),
            log_dir: base[2].clone(),
        })
    }

    /// The same layout with the parts moved that the name's parameters move.
    fn moved(&self, mut layout: Layout) -> Result<Layout, StoreNameError> {
        let places = [
            ("real", &mut layout.real_store_dir),
            ("state", &mut layout.state_dir),
            ("log", &mut layout.log_dir),
        ];
        for (parameter, part) in places {
            if let Some(place) = self.place(parameter)? {
                *part = place;
            }
        }
        Ok(layout)
    }
}

/// The kind of store that the part of a name before its parameters asks for, and the root that it
/// names.
fn kind_of(name: &str, base: &str) -> Result<(Kind, Option<OsString>), StoreNameError> {
    match base {
        "" | "auto" => return Ok((Kind::Auto, None)),
        "local" => return Ok((Kind::Local, None)),
        "own" => return Ok((Kind::Own, None)),
        _ => {}
    }
    let store = name.to_owned();
    if let Some(root) = base.strip_prefix("local:") {
        let root = root.strip_prefix("//").unwrap_or(root);
        let Some(root) = decode(root) else {
            let part = base.to_owned();
            return Err(StoreNameError::Encoding { store, part });
        };
        return Ok((Kind::Local, Some(root)));
    }
    if base == "daemon" || base.starts_with("unix:") {
        return Err(StoreNameError::Daemon { store });
    }
    if let Some((scheme, _)) = base.split_once("://") {
        let scheme = scheme.to_owned();
        return Err(StoreNameError::Scheme { store, scheme });
    }
    // A word may be the name of a kind of store that is yet to come, so a directory has a slash.
    if !base.contains('/') {
        return Err(StoreNameError::Unknown { store });
    }
    let absolute = std::path::absolute(base).map_err(|error| StoreNameError::Relative {
        store,
        reason: error.to_string(),
    })?;
    Ok((Kind::Local, Some(absolute.into_os_string())))
}

/// Text of a URL with its percent signs decoded; `None` if it is not encoded as it must be.
fn decode(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            // It begins a fragment, which no store has.
            b'#' => return None,
            byte => byte,
        });
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn machine() -> Locations {
        Locations {
            store_dir: "/my/store".into(),
            state_dir: "/my/state".into(),
            log_dir: "/my/log".into(),
            conf_dir: "/my/conf".into(),
        }
    }

    fn parts(name: &str) -> [String; 4] {
        let layout = StoreName::parse(name).unwrap().layout(&machine()).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [
            layout.store_dir,
            text(layout.real_store_dir),
            text(layout.state_dir),
            text(layout.log_dir),
        ]
    }

    #[test]
    fn a_root_holds_nix_store_whatever_the_paths_say() {
        let cwd = std::env::current_dir().unwrap();
        let here = cwd.to_str().unwrap();
        for (name, root, store) in [
            ("/mnt//x/", "/mnt/x", "/my/store"),
            ("/a/../b", "/b", "/my/store"),
            ("/x?store=/foo", "/x", "/foo"),
            ("/x?store=/foo/../bar/", "/x", "/bar"),
            ("/a%20b?store=%2Ffoo", "/a%20b", "/foo"),
            ("/x#y", "/x#y", "/my/store"),
            ("/x?", "/x", "/my/store"),
            ("/x?root=/z", "/z", "/my/store"),
            ("local?root=/y", "/y", "/my/store"),
            ("auto?root=/y", "/y", "/my/store"),
            ("?root=/y", "/y", "/my/store"),
            ("local?root=/a%20b", "/a b", "/my/store"),
            ("local?root=/a+b", "/a+b", "/my/store"),
            ("local?root=/a&root=/b", "/a", "/my/store"),
            ("local?&&root=/a%3Fb&", "/a?b", "/my/store"),
            ("local:///y", "/y", "/my/store"),
            ("local:/y", "/y", "/my/store"),
            ("local:///x%20y", "/x y", "/my/store"),
            ("local:///x?root=/y&store=/s", "/y", "/s"),
            ("./x", &format!("{here}/x"), "/my/store"),
            ("a/../x", &format!("{here}/x"), "/my/store"),
        ] {
            let expected = [
                store.to_owned(),
                format!("{root}/nix/store"),
                format!("{root}/nix/var/nix"),
                format!("{root}/nix/var/log/nix"),
            ];
            assert_eq!(parts(name), expected, "{name}");
            assert_eq!(StoreName::parse(name).unwrap().kind, Kind::Local, "{name}");
        }
    }

    #[test]
    fn each_part_can_be_moved() {
        for (name, expected) in [
            ("local", ["/my/store", "/my/store", "/my/state", "/my/log"]),
            (
                "local://",
                ["/my/store", "/my/store", "/my/state", "/my/log"],
            ),
            (
                "local?root=",
                ["/my/store", "/my/store", "/my/state", "/my/log"],
            ),
            ("local?store=/s", ["/s", "/s", "/my/state", "/my/log"]),
            ("auto?state=/v", ["/my/store", "/my/store", "/v", "/my/log"]),
            ("local?real=/r", ["/my/store", "/r", "/my/state", "/my/log"]),
            (
                "/x?log=/l&real=/r/",
                ["/my/store", "/r", "/x/nix/var/nix", "/l"],
            ),
        ] {
            assert_eq!(parts(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_place_is_said() {
        for name in ["", "auto", "auto?read-only=true"] {
            assert_eq!(StoreName::parse(name).unwrap().kind, Kind::Auto, "{name}");
        }
        assert_eq!(StoreName::parse("own").unwrap().kind, Kind::Own);
        for (name, read_only) in [
            ("/x?read-only=true", true),
            ("/x?read-only=1", true),
            ("/x?read-only=no", false),
            ("/x?read-only=false&read-only=true", false),
            ("/x", false),
        ] {
            let found = StoreName::parse(name).unwrap();
            assert_eq!(found.read_only, read_only, "{name}");
            assert!(found.warnings.is_empty(), "{name}");
        }
        for (name, warning) in [
            ("/x?bogus=1", "unknown setting 'bogus'"),
            (
                "/x?a",
                "'a' in the store '/x?a' is missing an equal sign '=', ignoring it",
            ),
            (
                "/x?trusted=1",
                "'trusted' in the store '/x?trusted=1' has no effect",
            ),
        ] {
            assert_eq!(
                StoreName::parse(name).unwrap().warnings,
                [warning],
                "{name}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (name, message) in [
            (
                "daemon",
                "windrow works on a store's files, not through a daemon",
            ),
            ("unix:///run/socket", "not through a daemon"),
            (
                "ssh-ng://host",
                "stores of the kind 'ssh-ng' are not supported",
            ),
            ("https://cache.example", "of the kind 'https' are not"),
            ("foo://bar", "of the kind 'foo' are not"),
            ("Local", "if it is a directory, write './Local'"),
            (".", "if it is a directory, write './.'"),
            ("x?a=b", "if it is a directory, write './x'"),
            (
                "local?root=rel",
                "its root is 'rel', which is not an absolute path",
            ),
            (
                "local://rel",
                "its root is 'rel', which is not an absolute path",
            ),
            (
                "/x?store=rel",
                "its store is 'rel', which is not an absolute path",
            ),
            ("/x?real=", "its real is empty"),
            ("/x?store=/a/..", "'/' can't be a store"),
            ("/x?a%zz=1", "'a%zz=1' is not encoded"),
            ("local?root=/x#y", "'root=/x#y' is not encoded"),
            ("/x?root=%4", "'root=%4' is not encoded"),
            (
                "/x?read-only=wrong",
                "read-only must be 'true' or 'false', not 'wrong'",
            ),
        ] {
            let error = StoreName::parse(name).and_then(|found| found.layout(&machine()));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(message), "{name}: {error}");
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(name in ".{0,40}", query in "[?&=%#a-f0-9/]{0,40}") {
            let name = format!("{name}{query}");
            if let Ok(layout) = StoreName::parse(&name).and_then(|name| name.layout(&machine())) {
                prop_assert!(layout.store_dir.starts_with('/'));
                prop_assert!(layout.real_store_dir.is_absolute());
            }
        }
    }
}
