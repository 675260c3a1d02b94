//! `--query`: what the database knows of paths, in the order and form in which nix-store prints it.

use std::ffi::OsString;

use windrow_components::hash::Hash;
use windrow_store::db::path_graph::PathGraph;
use windrow_store::text::graph_print::{write_dot, write_graphml, write_tree};
use windrow_store::{Edges, PathInfo, WalkRoot};

use super::gc::find_roots;
use super::paths::{not_valid, outputs_of, with_derivation};
use super::queryable::Queryable;
use super::realise::force;
use super::{Call, print_failed, unknown_flag};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Outputs,
    Requisites,
    References,
    Referrers,
    ReferrersClosure,
    Deriver,
    ValidDerivers,
    Binding,
    Hash,
    Size,
    Tree,
    Graph,
    GraphMl,
    Resolve,
    Roots,
}

/// Which outputs are meant by a derivation.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    use_output: bool,
    include_outputs: bool,
    realise: bool,
}

pub(super) fn query(call: &mut Call) -> Result<()> {
    let (query, mut options, binding) = understand(call)?;
    if options.realise {
        force(call)?;
    }
    let store = &*call.queryable()?;
    if matches!(query, Query::Deriver | Query::Hash | Query::Size) {
        let args = call.command.args.iter();
        let paths: Vec<String> = args.filter_map(|arg| call.store_path(arg).ok()).collect();
        store.expect(&paths)?;
    }
    match query {
        Query::Outputs => {
            options.use_output = true;
            meant_each(call, store, options, |call, path| call.print(path))
        }
        Query::Requisites | Query::References | Query::Referrers | Query::ReferrersClosure => {
            sets(call, store, query, options)
        }
        Query::Deriver => each(call, |call, path| {
            let deriver = info(store, path)?.deriver;
            call.print(deriver.as_deref().unwrap_or("unknown-deriver"))
        }),
        Query::ValidDerivers => valid_derivers(call, store),
        Query::Binding => bindings(call, store, &binding.to_string_lossy()),
        Query::Hash => meant_each(call, store, options, |call, path| {
            call.print(Hash::sha256(&info(store, path)?.nar_hash).prefixed_base32())
        }),
        Query::Size => meant_each(call, store, options, |call, path| {
            call.print(info(store, path)?.nar_size)
        }),
        Query::Tree => {
            let roots = call.store_paths()?;
            let (graph, places) = below(store, &roots)?;
            write_tree(&graph, &places, &mut call.out)?.map_err(print_failed)
        }
        Query::Graph | Query::GraphMl => graph(call, store, query, options),
        Query::Roots => roots(call, store, options),
        Query::Resolve => each(call, |call, path| call.print(path)),
    }
}

/// The query that the flags name, with its options and the name of the binding it asks for.
fn understand(call: &mut Call) -> Result<(Query, Options, OsString)> {
    let mut query = None;
    let mut options = Options::default();
    let mut binding = OsString::new();
    for flag in std::mem::take(&mut call.command.flags) {
        match flag.as_str() {
            "--use-output" | "-u" => options.use_output = true,
            "--include-outputs" => options.include_outputs = true,
            "--force-realise" | "--force-realize" | "-f" => options.realise = true,
            _ => {
                let this = Query::from_flag(&flag).ok_or_else(|| unknown_flag(&flag))?;
                if this == Query::Binding {
                    let name = call.command.args.pop_front();
                    let missing = || Error::Usage("expected binding name".to_owned());
                    binding = name.ok_or_else(missing)?;
                }
                if query.is_some_and(|earlier| earlier != this) {
                    return Err(Error::Usage(format!(
                        "query type '{flag}' conflicts with earlier flag"
                    )));
                }
                query = Some(this);
            }
        }
    }
    Ok((query.unwrap_or(Query::Outputs), options, binding))
}

impl Query {
    fn from_flag(flag: &str) -> Option<Self> {
        Some(match flag {
            "--outputs" => Self::Outputs,
            "--requisites" | "-R" => Self::Requisites,
            "--references" => Self::References,
            "--referrers" | "--referers" => Self::Referrers,
            "--referrers-closure" | "--referers-closure" => Self::ReferrersClosure,
            "--deriver" | "-d" => Self::Deriver,
            "--valid-derivers" => Self::ValidDerivers,
            "--binding" | "-b" => Self::Binding,
            "--hash" => Self::Hash,
            "--size" => Self::Size,
            "--tree" => Self::Tree,
            "--graph" => Self::Graph,
            "--graphml" => Self::GraphMl,
            "--resolve" => Self::Resolve,
            "--roots" => Self::Roots,
            _ => return None,
        })
    }
}

/// Prints the value that each argument's derivation gives the variable `name`.
fn bindings(call: &mut Call, store: &dyn Queryable, name: &str) -> Result<()> {
    each(call, |call, path| {
        let drv = deriver_of(store, path)?;
        let value = with_derivation(store, &drv, |contents| {
            contents.env_value(name).map(<[u8]>::to_vec)
        })?;
        let Some(mut value) = value else {
            let name = name.to_owned();
            return Err(Error::NoBinding { drv, name });
        };
        value.push(b'\n');
        std::io::Write::write_all(&mut call.out, &value).map_err(print_failed)
    })
}

/// Prints what is below the arguments as a graph, for dot or in GraphML.
fn graph(call: &mut Call, store: &dyn Queryable, query: Query, options: Options) -> Result<()> {
    let mut roots = Vec::new();
    for path in call.store_paths()? {
        roots.extend(meant(store, path, options)?);
    }
    let (graph, places) = below(store, &roots)?;
    if query == Query::Graph {
        return write_dot(&graph, &places, &mut call.out).map_err(print_failed);
    }
    let sizes: Result<Vec<u64>> = (0..graph.len() as u32)
        .map(|at| Ok(info(store, graph.path(at))?.nar_size))
        .collect();
    write_graphml(&graph, &places, &sizes?, &mut call.out).map_err(print_failed)
}

/// Does something for each path that the arguments mean, until it fails.
fn meant_each(
    call: &mut Call,
    store: &dyn Queryable,
    options: Options,
    mut what: impl FnMut(&mut Call, &str) -> Result<()>,
) -> Result<()> {
    each(call, |call, path| {
        let paths = meant(store, path.to_owned(), options)?;
        paths.iter().try_for_each(|path| what(call, path))
    })
}

/// Does something for each argument, until it fails.
fn each(call: &mut Call, mut what: impl FnMut(&mut Call, &str) -> Result<()>) -> Result<()> {
    for arg in std::mem::take(&mut call.command.args) {
        let path = call.store_path(&arg)?;
        what(call, &path)?;
    }
    Ok(())
}

fn sets(call: &mut Call, store: &dyn Queryable, query: Query, options: Options) -> Result<()> {
    let mut paths = Vec::new();
    for path in call.store_paths()? {
        paths.extend(meant(store, path, options)?);
    }
    let edges = Edges {
        referrers: query == Query::ReferrersClosure,
        outputs: options.include_outputs && query == Query::Requisites,
        derivers: false,
    };
    let seeds: Vec<WalkRoot<'_>> = paths
        .iter()
        .map(|path| match query {
            Query::References => WalkRoot::References(path),
            Query::Referrers => WalkRoot::Referrers(path),
            _ => WalkRoot::Closure(path),
        })
        .collect();
    print_walk(call, store, &seeds, edges)
}

/// Prints what a walk comes to, what is referred to first.
fn print_walk(
    call: &mut Call,
    store: &dyn Queryable,
    seeds: &[WalkRoot<'_>],
    edges: Edges,
) -> Result<()> {
    let graph = store.walk(seeds, edges)?;
    for at in graph.sorted()? {
        call.print(graph.path(at))?;
    }
    Ok(())
}

/// Prints the derivations in the store of which an argument, valid or not, is an output.
fn valid_derivers(call: &mut Call, store: &dyn Queryable) -> Result<()> {
    let mut derivers = Vec::new();
    for path in call.store_paths()? {
        derivers.extend(store.valid_derivers(&path)?);
    }
    let seeds: Vec<WalkRoot<'_>> = derivers.iter().map(|path| WalkRoot::Path(path)).collect();
    print_walk(call, store, &seeds, Edges::default())
}

fn roots(call: &mut Call, store: &dyn Queryable, options: Options) -> Result<()> {
    let mut paths = Vec::new();
    for path in call.store_paths()? {
        paths.extend(meant(store, path, options)?);
    }
    let edges = Edges {
        referrers: true,
        outputs: call.session.settings.keep_outputs,
        derivers: call.session.settings.keep_derivations,
    };
    let seeds: Vec<WalkRoot<'_>> = paths.iter().map(|path| WalkRoot::Closure(path)).collect();
    let graph = store.walk(&seeds, edges)?;
    // Where it is known what refers to a path, that is the session's store.
    let mut found = find_roots(&call.look()?)?;
    found.retain(|(_, target)| graph.find(target).is_some());
    found.sort_unstable_by(|(a, b), (c, d)| (b, a).cmp(&(d, c)));
    for (link, target) in found {
        call.print(format!("{link} -> {target}"))?;
    }
    Ok(())
}

/// The path itself, or with `--use-output` the outputs of a derivation, by path (Nix's
/// `maybeUseOutputs`).
fn meant(store: &dyn Queryable, path: String, options: Options) -> Result<Vec<String>> {
    if !options.use_output || !path.ends_with(".drv") {
        return Ok(vec![path]);
    }
    let mut outputs: Vec<String> = outputs_of(store, &path)?
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    outputs.sort_unstable();
    outputs.dedup();
    Ok(outputs)
}

fn below(store: &dyn Queryable, roots: &[String]) -> Result<(PathGraph, Vec<u32>)> {
    let seeds: Vec<WalkRoot<'_>> = roots.iter().map(|path| WalkRoot::Closure(path)).collect();
    let graph = store.walk(&seeds, Edges::default())?;
    let places = roots.iter().filter_map(|path| graph.find(path)).collect();
    Ok((graph, places))
}

fn info(store: &dyn Queryable, path: &str) -> Result<PathInfo> {
    store.info(path)?.ok_or_else(|| not_valid(path))
}

/// The derivation itself, or the one that a path was built from (Nix's `useDeriver`).
fn deriver_of(store: &dyn Queryable, path: &str) -> Result<String> {
    if path.ends_with(".drv") {
        return Ok(path.to_owned());
    }
    info(store, path)?.deriver.ok_or_else(|| Error::NoDeriver {
        path: path.to_owned(),
    })
}
