//! Turns JSON into derivations in the store: windrow's graphs, and the derivations that Nix prints.
//!
//! What Nix's `derivation` would put into the environment is put there, so that the same content
//! gives the same `.drv` files (Nix's `derivationStrictInternal`).

mod files;
mod nix_json;
mod sources;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hashbrown::HashMap;
use windrow_components::derivation::{Derivation, InputDrv, Modulo, Output, output_paths};
use windrow_components::hash::{Hash, HashAlgo, sha256};
use windrow_components::store_path::{StorePath, check_name, placeholder};
use windrow_formats::json_graph::{
    self, FixedOutput, GraphFile, Node, Piece, Position, StorePathReference, Text,
};
use windrow_store::local::LocalStore;
use windrow_store::ops::add::NewDerivation;
use windrow_sys::interrupt;

use crate::error::{Error, Result};
use files::SourceFiles;

pub use files::files_below;
pub use nix_json::add_nix_json;

/// How many derivations are gathered before they are written to the store.
const BATCH: usize = 500;

/// A derivation that is in the store now.
#[derive(Debug, Clone)]
pub struct Instantiated {
    /// Its key in the graph.
    pub key: String,
    /// Its full path.
    pub drv_path: String,
    /// Its outputs by name and full path, in the file's order.
    pub outputs: Vec<(String, String)>,
}

/// A graph whose derivations are in the store.
#[derive(Debug, Default)]
pub struct InstantiatedGraph {
    /// All derivations, each after those it needs.
    pub derivations: Vec<Instantiated>,
    /// What the graph wants: indices into `derivations`, with the names of the wanted outputs.
    pub targets: Vec<(usize, Vec<String>)>,
}

/// Reads the graph in `file`, copies its sources into the store and writes its derivations.
///
/// # Errors
/// [`Error::GraphFile`] with the place of a mistake in the file; else what adding to the store
/// fails with.
pub fn instantiate_file(
    store: &mut LocalStore,
    file: &Path,
    default_system: &str,
) -> Result<InstantiatedGraph> {
    let graph = parse_graph(&read_graph(file)?, file, default_system)?;
    instantiate_graph(store, file, &graph)
}

/// The text of the graph in `file`.
///
/// # Errors
/// When it can't be read, or is not UTF-8.
pub fn read_graph(file: &Path) -> Result<String> {
    let text = interrupt::read(file).map_err(Error::io("read the graph", file))?;
    String::from_utf8(text).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        Error::GraphNotUtf8 {
            file: file.to_owned(),
            line,
        }
    })
}

/// Understands a graph, which messages call `file`.
///
/// # Errors
/// [`Error::GraphFile`] with the place of a mistake.
pub fn parse_graph(text: &str, file: &Path, default_system: &str) -> Result<GraphFile> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let parsed = json_graph::parse(text, default_system, &mut SourceFiles::new(dir));
    parsed.map_err(|error| Error::GraphFile {
        file: file.to_owned(),
        place: error.place(),
        reason: error.to_string(),
    })
}

/// Copies the sources of a graph into the store and writes its derivations. Messages call it
/// `file`, and sources are looked for beside that. A store that is only looked at remembers both as
/// drafts.
///
/// # Errors
/// As [`instantiate_file`].
pub fn instantiate_graph(
    store: &mut LocalStore,
    file: &Path,
    graph: &GraphFile,
) -> Result<InstantiatedGraph> {
    Instantiation::new(store, file, graph)?.run()
}

struct Instantiation<'a> {
    store: &'a mut LocalStore,
    file: &'a Path,
    graph: &'a GraphFile,
    /// The store paths of sources, by their indices; empty for those that are not needed.
    sources: Vec<String>,
    /// The store paths of trees.
    trees: Vec<String>,
    done: Vec<Instantiated>,
    modulo: Vec<Modulo>,
    by_path: HashMap<String, usize>,
    /// Outputs of derivations that were in the store before.
    existing: HashMap<String, Vec<(String, String)>>,
    batch: Vec<NewDerivation>,
}

impl<'a> Instantiation<'a> {
    fn new(store: &'a mut LocalStore, file: &'a Path, graph: &'a GraphFile) -> Result<Self> {
        // Names are checked before anything is copied, so that a mistake leaves nothing behind.
        for source in &graph.sources {
            check_name(&source.store_name)
                .map_err(|error| place_error(file, source.store_name_place, &error))?;
        }
        for node in &graph.derivations {
            let check = if node.name.ends_with(".drv") {
                Err(Error::GraphFile {
                    file: file.to_owned(),
                    place: node.name_place,
                    reason: "a derivation's name must not end in '.drv'".to_owned(),
                })
            } else {
                check_name(&format!("{}.drv", node.name))
                    .map_err(|error| place_error(file, node.name_place, &error))
            };
            check?;
            if let Some(fixed) = &node.fixed {
                fixed_hash(fixed).map_err(|reason| Error::GraphFile {
                    file: file.to_owned(),
                    place: fixed.place,
                    reason,
                })?;
            }
        }
        Ok(Self {
            store,
            file,
            graph,
            sources: Vec::new(),
            trees: Vec::new(),
            done: Vec::with_capacity(graph.derivations.len()),
            modulo: Vec::with_capacity(graph.derivations.len()),
            by_path: HashMap::new(),
            existing: HashMap::new(),
            batch: Vec::new(),
        })
    }

    fn run(mut self) -> Result<InstantiatedGraph> {
        let graph = self.graph;
        for reference in &graph.store_paths {
            self.look_up(reference)?;
        }
        self.add_sources()?;
        for node in &graph.derivations {
            self.instantiate(node)?;
            if self.batch.len() >= BATCH {
                self.store
                    .add_derivations(&std::mem::take(&mut self.batch))?;
            }
        }
        self.store
            .add_derivations(&std::mem::take(&mut self.batch))?;
        let name = |node: usize, output: u32| self.done[node].outputs[output as usize].0.clone();
        let targets = graph
            .targets
            .iter()
            .map(|target| {
                let node = target.node as usize;
                (
                    node,
                    target
                        .outputs
                        .iter()
                        .map(|&output| name(node, output))
                        .collect(),
                )
            })
            .collect();
        Ok(InstantiatedGraph {
            targets,
            derivations: self.done,
        })
    }

    fn mistake(&self, place: Position, reason: String) -> Error {
        Error::GraphFile {
            file: self.file.to_owned(),
            place,
            reason,
        }
    }

    /// The derivations that a derivation needs, with the outputs of each, and what else it needs.
    fn inputs(&self, node: &Node) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
        let mut input_drvs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut input_srcs: BTreeSet<String> = BTreeSet::new();
        for piece in node.pieces() {
            match piece {
                Piece::Literal(_) | Piece::Placeholder(_) => {}
                Piece::Source(source) => {
                    input_srcs.insert(self.sources[*source as usize].clone());
                }
                Piece::Tree(tree) => {
                    input_srcs.insert(self.trees[*tree as usize].clone());
                }
                Piece::StorePath(path) => {
                    input_srcs.insert(path.clone());
                }
                Piece::Output { node, output } => {
                    let drv = &self.done[*node as usize];
                    let name = drv.outputs[*output as usize].0.clone();
                    input_drvs
                        .entry(drv.drv_path.clone())
                        .or_default()
                        .insert(name);
                }
                Piece::DerivationOutput { drv, output } => {
                    input_drvs
                        .entry(drv.clone())
                        .or_default()
                        .insert(output.clone());
                }
            }
        }
        (input_drvs, input_srcs)
    }

    fn instantiate(&mut self, node: &Node) -> Result<()> {
        let (input_drvs, input_srcs) = self.inputs(node);
        let mut drv = self.derivation(node)?;
        drv.input_drvs = input_drvs
            .into_iter()
            .map(|(path, outputs)| InputDrv {
                path: path.into(),
                outputs: outputs.into_iter().map(Cow::Owned).collect(),
            })
            .collect();
        drv.input_srcs = input_srcs.into_iter().map(Cow::Owned).collect();
        let modulo_of = |path: &str| match self.by_path.get(path) {
            Some(&index) => Some(self.modulo[index]),
            None => self.store.modulo(path),
        };
        let paths = output_paths(&drv, self.store.store_dir(), &node.name, modulo_of)
            .map_err(|error| place_error(self.file, node.name_place, &error))?;
        fill_in_paths(
            &mut drv,
            paths
                .iter()
                .map(|path| self.store.store_dir().display(path)),
        );
        let modulo = drv.modulo(modulo_of)?;
        let new = new_derivation(self.store, &node.name, &drv)?;
        let drv_path = self.store.store_dir().display(&new.path);
        let path_of = |name: &String| {
            let output = new.outputs.iter().find(|(known, _)| known == name);
            (
                name.clone(),
                output.map(|(_, path)| path.clone()).unwrap_or_default(),
            )
        };
        let outputs = node.outputs.iter().map(path_of).collect();
        self.by_path.insert(drv_path.clone(), self.done.len());
        self.modulo.push(modulo);
        self.done.push(Instantiated {
            key: node.key.clone(),
            drv_path,
            outputs,
        });
        self.batch.push(new);
        Ok(())
    }

    /// The derivation without inputs and output paths.
    fn derivation(&self, node: &Node) -> Result<Derivation<'static>> {
        let mut env: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for variable in &node.env {
            env.insert(
                variable.name.clone().into_bytes(),
                self.text(node, &variable.value),
            );
        }
        let builder = self.text(node, &node.builder);
        env.insert(b"name".to_vec(), node.name.clone().into_bytes());
        env.insert(b"system".to_vec(), node.system.clone().into_bytes());
        env.insert(b"builder".to_vec(), builder.clone());
        if node.explicit_outputs {
            env.insert(b"outputs".to_vec(), node.outputs.join(" ").into_bytes());
        }
        let (mut hash_algo, mut hash) = (String::new(), String::new());
        if let Some(fixed) = &node.fixed {
            env.insert(b"outputHash".to_vec(), fixed.hash.clone().into_bytes());
            if let Some(algo) = &fixed.algo {
                env.insert(b"outputHashAlgo".to_vec(), algo.clone().into_bytes());
            }
            if let Some(mode) = fixed.mode {
                env.insert(
                    b"outputHashMode".to_vec(),
                    mode.as_str().as_bytes().to_vec(),
                );
            }
            let parsed = fixed_hash(fixed).map_err(|reason| self.mistake(fixed.place, reason))?;
            let recursive = fixed
                .mode
                .is_some_and(|mode| mode != json_graph::HashMode::Flat);
            hash_algo = format!(
                "{}{}",
                if recursive { "r:" } else { "" },
                parsed.algo().name()
            );
            hash = parsed.base16();
        }
        let mut names: Vec<&String> = node.outputs.iter().collect();
        names.sort();
        let outputs = names.into_iter().map(|name| Output {
            name: name.clone().into(),
            path: "".into(),
            hash_algo: hash_algo.clone().into(),
            hash: hash.clone().into(),
        });
        let outputs: Vec<Output<'static>> = outputs.collect();
        for output in &outputs {
            env.insert(output.name.as_bytes().to_vec(), Vec::new());
        }
        Ok(Derivation {
            outputs,
            system: node.system.clone().into(),
            builder: builder.into(),
            args: node
                .args
                .iter()
                .map(|arg| Cow::Owned(self.text(node, arg)))
                .collect(),
            env: env
                .into_iter()
                .map(|(k, v)| (Cow::Owned(k), Cow::Owned(v)))
                .collect(),
            ..Derivation::default()
        })
    }

    fn text(&self, node: &Node, text: &Text) -> Vec<u8> {
        let mut result = String::new();
        for piece in text {
            match piece {
                Piece::Literal(literal) => result.push_str(literal),
                Piece::Source(source) => result.push_str(&self.sources[*source as usize]),
                Piece::Tree(tree) => result.push_str(&self.trees[*tree as usize]),
                Piece::StorePath(path) => result.push_str(path),
                Piece::Placeholder(output) => {
                    result.push_str(&placeholder(&node.outputs[*output as usize]));
                }
                Piece::Output { node, output } => {
                    result.push_str(&self.done[*node as usize].outputs[*output as usize].1);
                }
                Piece::DerivationOutput { drv, output } => {
                    let outputs = self.existing.get(drv).into_iter().flatten();
                    let path = outputs
                        .filter(|(name, _)| name == output)
                        .map(|(_, path)| path);
                    path.for_each(|path| result.push_str(path));
                }
            }
        }
        result.into_bytes()
    }

    /// Makes sure that what is said to be in the store is; of a derivation, makes known its outputs
    /// and hash.
    fn look_up(&mut self, reference: &StorePathReference) -> Result<()> {
        let StorePathReference {
            place,
            path,
            output,
        } = reference;
        self.store
            .store_dir()
            .parse(path)
            .map_err(|error| place_error(self.file, *place, &error))?;
        self.store.keep(&[path])?;
        if !self.store.has(path)? {
            let reason = format!("'{path}' is not valid in this store; add it first");
            return Err(self.mistake(*place, reason));
        }
        let Some(output) = output else { return Ok(()) };
        if !self.existing.contains_key(path) {
            let outputs = self.store.with_derivation(path, |contents| {
                let pair = |o: &Output<'_>| (o.name.to_string(), o.path.to_string());
                Ok(contents.outputs.iter().map(pair).collect::<Vec<_>>())
            })?;
            self.existing.insert(path.clone(), outputs);
            self.store.complete_modulo(&[path])?;
        }
        let outputs = &self.existing[path];
        if outputs.iter().any(|(name, _)| name == output) {
            return Ok(());
        }
        let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        let reason = format!(
            "'{path}' has no output '{output}'; it has {}",
            names.join(", ")
        );
        Err(self.mistake(*place, reason))
    }
}

fn place_error(file: &Path, place: Position, error: &dyn std::fmt::Display) -> Error {
    Error::GraphFile {
        file: file.to_owned(),
        place,
        reason: error.to_string(),
    }
}

/// The expected hash; an empty one stands for one of all zeros, as in Nix, so that the first build
/// tells the real one.
fn fixed_hash(fixed: &FixedOutput) -> Result<Hash, String> {
    let algo = match fixed.algo.as_deref() {
        None | Some("") => None,
        Some(name) => HashAlgo::from_name(name),
    };
    if fixed.hash.is_empty() {
        let algo = algo.ok_or("an empty outputHash needs outputHashAlgo")?;
        return Ok(Hash::new(algo, &vec![0; algo.size()]));
    }
    Hash::parse(&fixed.hash, algo).map_err(|error| error.to_string())
}

/// Puts output paths where they belong: into the outputs and the variables named like them.
fn fill_in_paths(drv: &mut Derivation<'static>, paths: impl Iterator<Item = String>) {
    for (output, path) in drv.outputs.iter_mut().zip(paths) {
        if let Ok(index) = drv
            .env
            .binary_search_by(|(key, _)| key.as_ref().cmp(output.name.as_bytes()))
        {
            drv.env[index].1 = Cow::Owned(path.clone().into_bytes());
        }
        output.path = path.into();
    }
}

fn new_derivation(store: &LocalStore, name: &str, drv: &Derivation<'_>) -> Result<NewDerivation> {
    let text = drv.print();
    let inputs = drv.input_drvs.iter().map(|input| input.path.to_string());
    let references: Vec<String> = inputs
        .chain(drv.input_srcs.iter().map(|source| source.to_string()))
        .collect();
    let path: StorePath = store.store_dir().text_path(
        &format!("{name}.drv"),
        &sha256(&text),
        references.iter().map(String::as_str),
    )?;
    let outputs = drv
        .outputs
        .iter()
        .map(|output| (output.name.to_string(), output.path.to_string()))
        .collect();
    Ok(NewDerivation {
        path,
        text,
        references,
        outputs,
    })
}
