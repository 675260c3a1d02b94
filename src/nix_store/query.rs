//! `--query`: what the database knows of paths, in the order and form in which nix-store prints it.

use windrow_components::hash::Hash;
use windrow_systems::store::graph_print::{write_dot, write_graphml, write_tree};
use windrow_systems::store::local::LocalStore;
use windrow_systems::store::path_graph::PathGraph;
use windrow_systems::store::{Edges, PathInfo, Seed};

use super::gc::find_roots;
use super::paths::{not_valid, outputs_of, with_derivation};
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
    let mut query = None;
    let mut options = Options::default();
    let mut binding = None;
    for flag in std::mem::take(&mut call.command.flags) {
        let this = match flag.as_str() {
            "--outputs" => Query::Outputs,
            "--requisites" | "-R" => Query::Requisites,
            "--references" => Query::References,
            "--referrers" | "--referers" => Query::Referrers,
            "--referrers-closure" | "--referers-closure" => Query::ReferrersClosure,
            "--deriver" | "-d" => Query::Deriver,
            "--valid-derivers" => Query::ValidDerivers,
            "--binding" | "-b" => {
                let name = call.command.args.pop_front();
                binding =
                    Some(name.ok_or_else(|| Error::Usage("expected binding name".to_owned()))?);
                Query::Binding
            }
            "--hash" => Query::Hash,
            "--size" => Query::Size,
            "--tree" => Query::Tree,
            "--graph" => Query::Graph,
            "--graphml" => Query::GraphMl,
            "--resolve" => Query::Resolve,
            "--roots" => Query::Roots,
            "--use-output" | "-u" => {
                options.use_output = true;
                continue;
            }
            "--include-outputs" => {
                options.include_outputs = true;
                continue;
            }
            "--force-realise" | "--force-realize" | "-f" => {
                options.realise = true;
                continue;
            }
            _ => return Err(unknown_flag(&flag)),
        };
        if query.is_some_and(|earlier| earlier != this) {
            return Err(Error::Usage(format!(
                "query type '{flag}' conflicts with earlier flag"
            )));
        }
        query = Some(this);
    }
    if options.realise {
        force(call)?;
    }
    let query = query.unwrap_or(Query::Outputs);
    let store = call.look()?;
    match query {
        Query::Outputs => {
            options.use_output = true;
            for arg in std::mem::take(&mut call.command.args) {
                let path = call.store_path(&arg)?;
                for output in meant(&store, path, options)? {
                    call.print(output)?;
                }
            }
            Ok(())
        }
        Query::Requisites | Query::References | Query::Referrers | Query::ReferrersClosure => {
            sets(call, &store, query, options)
        }
        Query::Deriver => each(call, |call, path| {
            let deriver = info(&store, path)?.deriver;
            call.print(deriver.as_deref().unwrap_or("unknown-deriver"))
        }),
        Query::ValidDerivers => each(call, |call, path| {
            info(&store, path)?;
            let derivers = store.database.valid_derivers(path)?;
            derivers.iter().try_for_each(|deriver| call.print(deriver))
        }),
        Query::Binding => {
            let name = binding.unwrap_or_default();
            each(call, |call, path| {
                let drv = deriver_of(&store, path)?;
                let value = with_derivation(&store, &drv, |contents| {
                    contents
                        .env_value(&name.to_string_lossy())
                        .map(<[u8]>::to_vec)
                })?;
                let Some(mut value) = value else {
                    let name = name.to_string_lossy().into_owned();
                    return Err(Error::NoBinding { drv, name });
                };
                value.push(b'\n');
                std::io::Write::write_all(&mut call.out, &value).map_err(print_failed)
            })
        }
        Query::Hash | Query::Size => {
            for arg in std::mem::take(&mut call.command.args) {
                let path = call.store_path(&arg)?;
                for path in meant(&store, path, options)? {
                    let info = info(&store, &path)?;
                    if query == Query::Hash {
                        call.print(Hash::sha256(&info.nar_hash).prefixed_base32())?;
                    } else {
                        call.print(info.nar_size)?;
                    }
                }
            }
            Ok(())
        }
        Query::Tree => {
            let roots = call.store_paths()?;
            let (graph, places) = below(&store, &roots)?;
            write_tree(&graph, &places, &mut call.out)?.map_err(print_failed)
        }
        Query::Graph | Query::GraphMl => {
            let mut roots = Vec::new();
            for path in call.store_paths()? {
                roots.extend(meant(&store, path, options)?);
            }
            let (graph, places) = below(&store, &roots)?;
            if query == Query::Graph {
                return write_dot(&graph, &places, &mut call.out).map_err(print_failed);
            }
            let sizes: Result<Vec<u64>> = (0..graph.len() as u32)
                .map(|at| Ok(info(&store, graph.path(at))?.nar_size))
                .collect();
            write_graphml(&graph, &places, &sizes?, &mut call.out).map_err(print_failed)
        }
        Query::Roots => roots(call, &store, options),
        Query::Resolve => each(call, |call, path| call.print(path)),
    }
}

/// Does something for each argument, until it fails.
fn each(call: &mut Call, mut what: impl FnMut(&mut Call, &str) -> Result<()>) -> Result<()> {
    for arg in std::mem::take(&mut call.command.args) {
        let path = call.store_path(&arg)?;
        what(call, &path)?;
    }
    Ok(())
}

fn sets(call: &mut Call, store: &LocalStore, query: Query, options: Options) -> Result<()> {
    let mut paths = Vec::new();
    for path in call.store_paths()? {
        paths.extend(meant(store, path, options)?);
    }
    let edges = Edges {
        referrers: query == Query::ReferrersClosure,
        outputs: options.include_outputs && query == Query::Requisites,
        derivers: false,
    };
    let seeds: Vec<Seed<'_>> = paths
        .iter()
        .map(|path| match query {
            Query::References => Seed::References(path),
            Query::Referrers => Seed::Referrers(path),
            _ => Seed::Closure(path),
        })
        .collect();
    let graph = store.database.walk(&seeds, edges)?;
    for at in graph.sorted()? {
        call.print(graph.path(at))?;
    }
    Ok(())
}

fn roots(call: &mut Call, store: &LocalStore, options: Options) -> Result<()> {
    let mut paths = Vec::new();
    for path in call.store_paths()? {
        paths.extend(meant(store, path, options)?);
    }
    let edges = Edges {
        referrers: true,
        outputs: call.session.settings.keep_outputs,
        derivers: call.session.settings.keep_derivations,
    };
    let seeds: Vec<Seed<'_>> = paths.iter().map(|path| Seed::Closure(path)).collect();
    let graph = store.database.walk(&seeds, edges)?;
    let mut found = find_roots(store)?;
    found.retain(|(_, target)| graph.find(target).is_some());
    found.sort_unstable_by(|(a, b), (c, d)| (b, a).cmp(&(d, c)));
    for (link, target) in found {
        call.print(format!("{link} -> {target}"))?;
    }
    Ok(())
}

/// The path itself, or with `--use-output` the outputs of a derivation, by path (Nix's `maybeUseOutputs`).
fn meant(store: &LocalStore, path: String, options: Options) -> Result<Vec<String>> {
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

fn below(store: &LocalStore, roots: &[String]) -> Result<(PathGraph, Vec<u32>)> {
    let seeds: Vec<Seed<'_>> = roots.iter().map(|path| Seed::Closure(path)).collect();
    let graph = store.database.walk(&seeds, Edges::default())?;
    let places = roots.iter().filter_map(|path| graph.find(path)).collect();
    Ok((graph, places))
}

fn info(store: &LocalStore, path: &str) -> Result<PathInfo> {
    store
        .database
        .path_info(path)?
        .ok_or_else(|| not_valid(path))
}

/// The derivation itself, or the one that a path was built from (Nix's `useDeriver`).
fn deriver_of(store: &LocalStore, path: &str) -> Result<String> {
    if path.ends_with(".drv") {
        return Ok(path.to_owned());
    }
    info(store, path)?.deriver.ok_or_else(|| Error::NoDeriver {
        path: path.to_owned(),
    })
}
