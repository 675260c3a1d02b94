//! Stores that are not opened by their directory, binary caches above all: what can be told of them
//! by what they say of single paths, and what is realised of them, which is what they have.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use windrow_components::derivation::Derivation;
use windrow_components::goal::BuildMode;
use windrow_components::store_path::StorePath;
use windrow_net::NetError;
use windrow_net::inquiry::Inquiry;
use windrow_net::store_url::StoreUrl;
use windrow_store::db::path_graph::PathGraph;
use windrow_store::{Edges, PathInfo, WalkRoot};

use super::Call;
use super::args::{Level, Operation};
use super::paths::{not_valid, outputs_of, path_of};
use super::queryable::Queryable;
use crate::caches::inquiry_config;
use crate::error::{Error, Result};
use crate::realise::Wanted;
use crate::terminal::complain;

/// Such a store, by its URL.
pub(super) struct Elsewhere {
    url: StoreUrl,
    inquiry: RefCell<Inquiry>,
    /// Whether warnings are shown.
    warns: bool,
}

impl Elsewhere {
    /// Nothing is asked of it yet.
    pub(super) fn open(call: &Call, url: &StoreUrl) -> Result<Self> {
        let warns = call.command.level >= Level::Warn;
        if warns && !url.params.unknown.is_empty() {
            let names = url.params.unknown.join("', '");
            complain(&format!(
                "warning: '{url}' has parameters without effect: '{names}'"
            ));
        }
        let notice = Arc::new(move |error: &NetError, pause: std::time::Duration| {
            if warns {
                let seconds = pause.as_secs_f64();
                complain(&format!("warning: {error}; trying again in {seconds:.1} s"));
            }
        });
        let config = inquiry_config(&call.session.settings, &call.session.layout, notice);
        Ok(Self {
            inquiry: RefCell::new(Inquiry::new(url.clone(), config)?),
            url: url.clone(),
            warns,
        })
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Inquiry) -> Result<T>) -> Result<T> {
        let mut inquiry = self.inquiry.borrow_mut();
        let answer = ask(&mut inquiry);
        let warnings = inquiry.take_warnings().into_iter();
        warnings
            .filter(|_| self.warns)
            .for_each(|text| complain(&format!("warning: {text}")));
        answer
    }

    fn parse(&self, path: &str) -> Result<StorePath> {
        Ok(self.inquiry.borrow().store_dir().parse(path)?)
    }

    fn parse_all(&self, paths: &[String]) -> Result<Vec<StorePath>> {
        paths.iter().map(|path| self.parse(path)).collect()
    }

    fn display(&self, path: &StorePath) -> String {
        self.inquiry.borrow().store_dir().display(path)
    }

    fn cannot_tell<T>(&self, what: &str) -> Result<T> {
        Err(Error::Unsupported(format!(
            "the store '{}' can't tell {what}, for it can only be asked for single paths",
            self.url
        )))
    }

    /// All that can be reached from these paths, each of which is there.
    fn closure(&self, mut roots: Vec<StorePath>, outputs: bool) -> Result<HashSet<StorePath>> {
        let mut known = HashSet::new();
        loop {
            let members = self.with(|inquiry| Ok(inquiry.closure(roots.clone())?))?;
            for member in &members {
                let path = self.display(member);
                if self.info(&path)?.is_none() {
                    return Err(not_valid(&path));
                }
            }
            let is_new =
                |path: &&StorePath| outputs && path.is_derivation() && !known.contains(*path);
            let new: Vec<StorePath> = members.iter().filter(is_new).cloned().collect();
            if new.is_empty() {
                return Ok(members);
            }
            let made = self.outputs(&new)?;
            self.with(|inquiry| Ok(inquiry.look_up(&made)?))?;
            for output in made {
                if self.info(&self.display(&output))?.is_some() {
                    roots.push(output);
                }
            }
            known.extend(new);
        }
    }

    /// The outputs that these derivations state.
    fn outputs(&self, drvs: &[StorePath]) -> Result<Vec<StorePath>> {
        let mut outputs = Vec::new();
        self.with(|inquiry| {
            let store_dir = inquiry.store_dir().clone();
            inquiry.derivations(drvs, |path, text| -> Result<()> {
                let contents = Derivation::parse(&text).map_err(|source| {
                    let path = store_dir.display(path);
                    windrow_store::Error::Derivation { path, source }
                })?;
                for output in &contents.outputs {
                    outputs.push(store_dir.parse(&output.path)?);
                }
                Ok(())
            })
        })?;
        Ok(outputs)
    }

    /// These paths with the references among them.
    fn graph(&self, members: BTreeSet<String>) -> Result<PathGraph> {
        let paths: Vec<String> = members.into_iter().collect();
        self.expect(&paths)?;
        let mut graph = PathGraph::default();
        for path in &paths {
            let references = self.info(path)?.map(|info| info.references);
            let references = references.unwrap_or_default();
            let places = references
                .iter()
                .filter_map(|it| paths.binary_search(it).ok());
            graph.push(path.as_str().into(), places.map(|at| at as u32));
        }
        Ok(graph)
    }
}

impl Queryable for Elsewhere {
    fn expect(&self, paths: &[String]) -> Result<()> {
        let paths = self.parse_all(paths)?;
        self.with(|inquiry| Ok(inquiry.look_up(&paths)?))
    }

    fn info(&self, path: &str) -> Result<Option<PathInfo>> {
        let path = self.parse(path)?;
        self.with(|inquiry| {
            let info = inquiry.info(&path)?;
            Ok(info.map(|info| info.to_path_info(inquiry.store_dir())))
        })
    }

    fn derivation(&self, path: &str) -> Result<Vec<u8>> {
        let mut contents = Vec::new();
        let path = self.parse(path)?;
        self.with(|inquiry| {
            inquiry.derivations(&[path], |_, text| -> Result<()> {
                contents = text;
                Ok(())
            })
        })?;
        Ok(contents)
    }

    fn walk(&self, seeds: &[WalkRoot<'_>], edges: Edges) -> Result<PathGraph> {
        let is_backwards = |seed: &WalkRoot<'_>| matches!(seed, WalkRoot::Referrers(_));
        if edges.referrers || seeds.iter().any(is_backwards) {
            return self.cannot_tell("what refers to a path");
        }
        let mut members = BTreeSet::new();
        let mut roots = Vec::new();
        for seed in seeds {
            match seed {
                WalkRoot::Path(path) => drop(members.insert((*path).to_owned())),
                WalkRoot::References(path) => {
                    let info = self.info(path)?.ok_or_else(|| not_valid(path))?;
                    members.extend(info.references);
                }
                WalkRoot::Closure(path) => roots.push(self.parse(path)?),
                WalkRoot::Referrers(_) => {}
            }
        }
        let closure = self.closure(roots, edges.outputs)?;
        members.extend(closure.iter().map(|path| self.display(path)));
        self.graph(members)
    }

    fn valid_derivers(&self, _path: &str) -> Result<Vec<String>> {
        self.cannot_tell("which derivations have a path as an output")
    }
}

impl Call {
    /// The store that is looked at: the session's, or the one that was named instead.
    pub(super) fn queryable(&self) -> Result<Box<dyn Queryable>> {
        Ok(match &self.other {
            Some(url) => Box::new(Elsewhere::open(self, url)?),
            None => Box::new(self.look()?),
        })
    }
}

/// Refuses what can't be done in such a store.
pub(super) fn may_do(operation: Operation, url: &StoreUrl) -> Result<()> {
    match operation {
        Operation::Query
        | Operation::PrintEnv
        | Operation::CheckValidity
        | Operation::Realise
        // These need no store.
        | Operation::Help
        | Operation::Version
        | Operation::Dump
        | Operation::Restore
        | Operation::PrintFixedPath
        | Operation::GenerateBinaryCacheKey => Ok(()),
        _ => Err(Error::Unsupported(format!(
            "that can't be done in the store '{url}', but only in one that is opened by its directory; there \
             are --query, --check-validity, --print-env, and --realise of what it has"
        ))),
    }
}

/// `--realise` in such a store: says what it has of what is wanted, which must be all of it.
pub(super) fn realise(
    call: &mut Call,
    (url, wanted): (&StoreUrl, &[Wanted]),
    (dry_run, ignore_unknown): (bool, bool),
) -> Result<()> {
    if call.session.mode != BuildMode::Normal {
        return Err(Error::Unsupported(format!(
            "nothing is built or repaired in the store '{url}', but only in one that is opened by its directory"
        )));
    }
    if call.command.add_root.is_some() {
        return Err(Error::Unsupported(format!(
            "--add-root keeps what lies in a directory of this machine, and '{url}' is not opened by one"
        )));
    }
    let store = call.queryable()?;
    let (found, missing) = there(&*store, wanted)?;
    if !missing.is_empty() && !ignore_unknown {
        if dry_run {
            call.say(Level::Info, &format!("these are not in '{url}':"));
            missing
                .iter()
                .for_each(|path| call.say(Level::Info, &format!("  {path}")));
            return Ok(());
        }
        return Err(not_there(&missing, url));
    }
    if dry_run || ignore_unknown || call.command.no_output {
        return Ok(());
    }
    for mut paths in found {
        paths.sort_unstable();
        paths.dedup();
        paths.iter().try_for_each(|path| call.print(path))?;
    }
    Ok(())
}

/// What `--force-realise` asks for before a query.
pub(super) fn must_be_there(call: &Call, (url, wanted): (&StoreUrl, &[Wanted])) -> Result<()> {
    let (_, missing) = there(&*call.queryable()?, wanted)?;
    match missing.is_empty() {
        true => Ok(()),
        false => Err(not_there(&missing, url)),
    }
}

fn not_there(missing: &[String], url: &StoreUrl) -> Error {
    let what = match missing {
        [one] => format!("'{one}' is"),
        [one, other] => format!("'{one}' and '{other}' are"),
        _ => format!("'{}' and {} more paths are", missing[0], missing.len() - 1),
    };
    Error::Unsupported(format!(
        "{what} not in the store '{url}', and nothing is made there; make it in a store on this machine, and \
         copy it there"
    ))
}

/// What a store has of each thing that is wanted, and what it lacks.
fn there(store: &dyn Queryable, wanted: &[Wanted]) -> Result<(Vec<Vec<String>>, Vec<String>)> {
    let named: Vec<String> = wanted.iter().map(|it| path_of(it).clone()).collect();
    store.expect(&named)?;
    let mut found = Vec::with_capacity(wanted.len());
    let mut missing = Vec::new();
    for wanted in wanted {
        let path = path_of(wanted);
        let paths = match wanted {
            Wanted::Derivation { outputs, .. } if store.is_valid(path)? => {
                outputs_wanted(store, path, outputs)?
            }
            _ => vec![path.clone()],
        };
        store.expect(&paths)?;
        for path in &paths {
            if !store.is_valid(path)? {
                missing.push(path.clone());
            }
        }
        found.push(paths);
    }
    Ok((found, missing))
}

/// The paths of these outputs of a derivation, or of all if none are named.
fn outputs_wanted(store: &dyn Queryable, drv: &str, names: &[String]) -> Result<Vec<String>> {
    let all = outputs_of(store, drv)?;
    if names.is_empty() {
        return Ok(all.into_iter().map(|(_, path)| path).collect());
    }
    let of = |name: &String| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map(|(_, path)| path.clone()).ok_or_else(|| {
            let (drv, name) = (drv.to_owned(), name.clone());
            Error::NoOutput { drv, name }
        })
    };
    names.iter().map(of).collect()
}
