//! What the user asks for, as typed: derivations with outputs, store paths, graphs and the names in
//! them, or a list of these.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windrow_components::store_path::StoreDir;
use windrow_formats::json_graph::{Pick, PickedOutputs};

use crate::error::{Error, Result};
use crate::session::{Session, Usual};
use crate::standard_input::{self, Given};

/// The graph that is meant where none is named.
const USUAL_GRAPH: &str = "windrow.json";

/// One thing that was asked for.
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
    /// A graph in JSON, or one of its derivations.
    Graph(GraphTarget),
}

/// What of a graph was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GraphTarget {
    /// As typed.
    pub(crate) what: String,
    /// Where the graph is.
    pub(crate) source: GraphSource,
    /// The derivation that is named; none means the graph's targets.
    pub(crate) pick: Option<Pick>,
}

/// Where a graph is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum GraphSource {
    /// In a file.
    File(PathBuf),
    /// On standard input, which had this text.
    StandardInput(Arc<str>),
}

/// An argument of a command, or a line of a list, before it is known in which store to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// As typed.
    Typed(OsString),
    /// Of a graph that standard input gave.
    Given(GraphTarget),
}

/// The arguments of a command. A `-` is a list or a graph on standard input; without any argument
/// the graph of this directory is meant.
///
/// # Errors
/// [`Error::NothingNamed`] if there is nothing, [`Error::BadTarget`] if there is nothing on
/// standard input; else when that can't be read.
pub(crate) fn gather<T: AsRef<OsStr>>(what: &[T]) -> Result<Vec<Word>> {
    gather_from(what, EmptyList::Refused)
}

/// What becomes of a list on standard input that names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmptyList {
    Refused,
    Allowed,
}

/// The same, where a list may be empty.
///
/// # Errors
/// As [`gather`].
pub(crate) fn gather_from<T: AsRef<OsStr>>(what: &[T], empty: EmptyList) -> Result<Vec<Word>> {
    if what.is_empty() {
        return match Path::new(USUAL_GRAPH).exists() {
            true => Ok(vec![Word::Typed(USUAL_GRAPH.into())]),
            false => Err(Error::NothingNamed),
        };
    }
    let mut words = Vec::with_capacity(what.len());
    for what in what {
        let what = what.as_ref();
        if what != "-" {
            words.push(Word::Typed(what.to_owned()));
            continue;
        }
        match standard_input::read()? {
            Given::Graph(text) => {
                let source = GraphSource::StandardInput(text);
                words.push(Word::Given(graph_target(what, source, None)?));
            }
            Given::List(lines) if lines.is_empty() && empty == EmptyList::Refused => {
                return Err(bad(what, "the list on standard input is empty"));
            }
            Given::List(lines) => {
                words.extend(lines.into_iter().map(|line| Word::Typed(line.into())));
            }
        }
    }
    Ok(words)
}

/// Understands arguments.
///
/// # Errors
/// [`Error::BadTarget`] says what can't be used and why.
pub(crate) fn parse(words: &[Word], session: &Session) -> Result<Vec<Installable>> {
    let parse = |word: &Word| match word {
        Word::Typed(what) => Installable::parse(what, session),
        Word::Given(target) => Ok(Installable::Graph(target.clone())),
    };
    words.iter().map(parse).collect()
}

/// Arguments as they were typed, in one text.
pub(crate) fn shown(words: &[Word]) -> String {
    let each = words.iter().map(|word| match word {
        Word::Typed(what) => what.to_string_lossy(),
        Word::Given(target) => target.what.as_str().into(),
    });
    each.collect::<Vec<_>>().join(" ")
}

/// Which store arguments are about where none is named: what lies in the machine's store, or leads
/// there, is about that one, whether it may be written or not.
pub(crate) fn usual_store(words: &[Word], machine: &Path) -> Usual {
    let leads = |what: &OsStr| {
        Path::new(what).starts_with(machine)
            || std::fs::canonicalize(what).is_ok_and(|path| path.starts_with(machine))
    };
    let is_there = words.iter().any(|word| match word {
        Word::Typed(what) => split_graph(what).is_none() && leads(what),
        Word::Given(_) => false,
    });
    match is_there {
        true => Usual::OfMachine,
        false => Usual::Writable,
    }
}

/// Whether there is a graph among them.
pub(crate) fn have_graphs(what: &[Installable]) -> bool {
    what.iter().any(|it| matches!(it, Installable::Graph(_)))
}

fn bad(what: impl AsRef<OsStr>, reason: impl Into<String>) -> Error {
    Error::BadTarget {
        what: what.as_ref().to_string_lossy().into_owned(),
        reason: reason.into(),
    }
}

impl Installable {
    /// Understands one argument that is not on standard input.
    ///
    /// # Errors
    /// [`Error::BadTarget`] says why it can't be used.
    pub(crate) fn parse(what: &OsStr, session: &Session) -> Result<Self> {
        Self::of(what, &session.store_dir(), &session.layout.real_store_dir)
    }

    fn of(what: &OsStr, store: &StoreDir, real_store: &Path) -> Result<Self> {
        if what.is_empty() {
            return Err(bad(what, "it is empty"));
        }
        if let Some(target) = in_graph(what)? {
            return Ok(Self::Graph(target));
        }
        let Some(text) = what.to_str() else {
            return Err(bad(what, "it is not UTF-8 text, which all store paths are"));
        };
        // The outputs are what follows the last of the two marks, if a derivation stands before it.
        if let Some((path, outputs)) = split_outputs(text) {
            let path = store_path(path, store, real_store).map_err(|why| bad(what, why))?;
            let outputs = match outputs {
                "*" => Vec::new(),
                names => output_names(names).ok_or_else(|| nameless_output(what, "x.drv"))?,
            };
            return Ok(Self::Derivation { path, outputs });
        }
        let path = store_path(text, store, real_store).map_err(|why| bad(what, why))?;
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

/// The graph's file and the name in it, if an argument is of that form.
fn split_graph(what: &OsStr) -> Option<(PathBuf, Option<&[u8]>)> {
    const MARK: &[u8] = b".json#";
    let bytes = what.as_bytes();
    if let Some(name) = bytes.strip_prefix(b"#") {
        return Some((USUAL_GRAPH.into(), Some(name)));
    }
    let path = Path::new(what);
    let is_json = path.extension().is_some_and(|it| it == "json");
    let mark = bytes.windows(MARK.len()).position(|it| it == MARK);
    match mark {
        // A file may have any name.
        Some(mark) if !(is_json && path.exists()) => {
            let (file, name) = bytes.split_at(mark + MARK.len() - 1);
            Some((OsStr::from_bytes(file).into(), Some(&name[1..])))
        }
        _ => is_json.then(|| (path.to_owned(), None)),
    }
}

/// What is asked of a graph in a file, if an argument is of that form.
///
/// # Errors
/// [`Error::BadTarget`] says why it can't be used.
pub(crate) fn in_graph(what: &OsStr) -> Result<Option<GraphTarget>> {
    let split = split_graph(what);
    let target = split.map(|(file, name)| graph_target(what, GraphSource::File(file), name));
    target.transpose()
}

/// What is asked of a graph by `NAME`, `NAME^OUTPUT,…` or `NAME^*`.
fn graph_target(what: &OsStr, source: GraphSource, name: Option<&[u8]>) -> Result<GraphTarget> {
    let pick = match name {
        None => None,
        Some(name) => {
            let name = std::str::from_utf8(name);
            let name = name.map_err(|_| bad(what, "the name is not UTF-8 text"))?;
            let (name, outputs) = match name.split_once('^') {
                None => (name, PickedOutputs::Main),
                Some((name, "*")) => (name, PickedOutputs::All),
                Some((name, outputs)) => {
                    let outputs = output_names(outputs);
                    let outputs = outputs.ok_or_else(|| nameless_output(what, "x.json#name"))?;
                    (name, PickedOutputs::Named(outputs))
                }
            };
            if name.is_empty() {
                let reason = "the name of a derivation is missing after the '#'";
                return Err(bad(what, reason));
            }
            let name = name.to_owned();
            Some(Pick { name, outputs })
        }
    };
    Ok(GraphTarget {
        what: what.to_string_lossy().into_owned(),
        source,
        pick,
    })
}

/// Names separated by commas; none if one is missing.
fn output_names(names: &str) -> Option<Vec<String>> {
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    (!names.iter().any(String::is_empty)).then_some(names)
}

fn nameless_output(what: &OsStr, example: &str) -> Error {
    let reason = format!("an output's name is missing; write '{example}^out,dev'");
    bad(what, reason)
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
                 ('x.drv', 'x.drv^out'), a store path, a graph ('x.json') or a name in it ('{}')",
                match Path::new(USUAL_GRAPH).exists() && !what.contains('/') {
                    true => format!("#{what}"),
                    false => "x.json#name".to_owned(),
                }
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "8rhh74q2l84v5z1fa0n941xhbpgw3ncf-x";

    fn parse(what: &str) -> Result<Installable> {
        let store = StoreDir::new("/nix/store");
        Installable::of(OsStr::new(what), &store, Path::new("/nix/store"))
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
        let whole = Installable::Graph(GraphTarget {
            what: "a/b.json".to_owned(),
            source: GraphSource::File("a/b.json".into()),
            pick: None,
        });
        assert_eq!(parse("a/b.json").unwrap(), whole);
    }

    #[test]
    fn names_in_graphs_are_understood() {
        let graph = |what: &str| match parse(what) {
            Ok(Installable::Graph(GraphTarget { source, pick, .. })) => {
                let GraphSource::File(file) = source else {
                    panic!("a file")
                };
                let pick = pick.expect("a name");
                (file.display().to_string(), pick.name, pick.outputs)
            }
            other => panic!("{other:?}"),
        };
        let [file, here, main] = ["a/b.json", USUAL_GRAPH, "main"].map(str::to_owned);
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            PickedOutputs::Named(names.collect())
        };
        for (what, expected) in [
            ("a/b.json#main", (&file, &main, PickedOutputs::Main)),
            ("a/b.json#main^*", (&file, &main, PickedOutputs::All)),
            ("a/b.json#main^x,y", (&file, &main, named(&["x", "y"]))),
            ("#main^dev", (&here, &main, named(&["dev"]))),
            (
                "a/b.json#x.drv^out",
                (&file, &"x.drv".to_owned(), named(&["out"])),
            ),
            (
                "a/b.json#src/c.json#d",
                (&file, &"src/c.json#d".to_owned(), PickedOutputs::Main),
            ),
        ] {
            let (file, name, outputs) = expected;
            assert_eq!(graph(what), (file.clone(), name.clone(), outputs), "{what}");
        }
        for what in ["#", "a.json#", "#^out", "#main^", "a.json#main^x,,y"] {
            let message = parse(what).unwrap_err().to_string();
            assert!(message.contains("is missing"), "{message}");
        }
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
        let target = Installable::of(what.as_os_str(), &dir, &store).unwrap();
        assert_eq!(target, Installable::Path(dir.join(BASE)));
    }
}
