//! Turns JSON into derivations in the store: windrow's graphs, and the derivations that Nix prints.
//!
//! What Nix's `derivation` would put into the environment is put there, so that the same content
//! gives the same `.drv` files (Nix's `derivationStrictInternal`).

mod behind;
mod files;
mod nix_json;
mod sources;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hashbrown::HashMap;
use windrow_components::derivation::{Derivation, InputDrv, Modulo, Output, output_paths};
use windrow_components::hash::{Hash, HashAlgo, sha256};
use windrow_components::progress;
use windrow_components::store_path::{StoreDir, StorePath, check_name, placeholder};
use windrow_formats::json_graph::{
    self, FixedOutput, GraphFile, Node, Piece, Position, StorePathReference, Text,
};
use windrow_store::local::LocalStore;
use windrow_store::ops::add_derivations::NewDerivation;
use windrow_sys::interrupt;

use crate::error::{Error, Result};
use files::SourceFiles;

pub use files::files_below;
pub use nix_json::add_nix_json;

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
    instantiate_graph(store, file, graph)
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
    graph: GraphFile,
) -> Result<InstantiatedGraph> {
    Instantiation::new(store, file, &graph)?.run(store, graph)
}

struct Instantiation<'a> {
    store_dir: StoreDir,
    file: &'a Path,
    /// The store paths of sources, by their indices; empty for those that are not needed.
    sources: Vec<String>,
    /// The store paths of trees.
    trees: Vec<String>,
    done: Vec<Instantiated>,
    modulo: Vec<Modulo>,
    /// Derivations that were in the store before.
    existing: HashMap<String, Existing>,
}

/// A derivation that was in the store before.
struct Existing {
    /// By name and full path.
    outputs: Vec<(String, String)>,
    modulo: Option<Modulo>,
}

/// What a derivation needs.
#[derive(Default)]
struct Inputs<'a> {
    /// Derivations by path, with their hashes and the outputs that are needed.
    drvs: BTreeMap<&'a str, (Option<Modulo>, BTreeSet<&'a str>)>,
    sources: BTreeSet<&'a str>,
}

impl<'a> Instantiation<'a> {
    /// Checks names before anything is copied, so that a mistake leaves nothing behind.
    fn new(store: &LocalStore, file: &'a Path, graph: &GraphFile) -> Result<Self> {
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
            store_dir: store.store_dir().clone(),
            file,
            sources: Vec::new(),
            trees: Vec::new(),
            done: Vec::with_capacity(graph.derivations.len()),
            modulo: Vec::with_capacity(graph.derivations.len()),
            existing: HashMap::new(),
        })
    }

    fn run(mut self, store: &mut LocalStore, graph: GraphFile) -> Result<InstantiatedGraph> {
        for reference in &graph.store_paths {
            self.look_up(store, reference)?;
        }
        self.add_sources(store, &graph)?;
        let count = graph.derivations.len();
        // Each is dropped once it is written out: what is known of it then takes less.
        let mut nodes = graph.derivations.into_iter();
        let _writing = progress::begin("writing derivations", "derivations", Some(count as u64));
        behind::write_behind(store, count, || {
            nodes.next().map(|node| self.instantiate(&node)).transpose()
        })?;
        let name = |node: usize, output: u32| self.done[node].outputs[output as usize].0.clone();
        let targets = graph.targets.iter().map(|target| {
            let node = target.node as usize;
            let outputs = target.outputs.iter().map(|&output| name(node, output));
            (node, outputs.collect())
        });
        Ok(InstantiatedGraph {
            targets: targets.collect(),
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

    /// What a derivation needs.
    fn inputs<'s>(&'s self, node: &'s Node) -> Inputs<'s> {
        let mut inputs = Inputs::default();
        let mut need = |path, modulo, output| {
            let (_, outputs) = inputs.drvs.entry(path).or_insert((modulo, BTreeSet::new()));
            outputs.insert(output);
        };
        for piece in node.pieces() {
            let source = match piece {
                Piece::Literal(_) | Piece::Placeholder(_) => continue,
                Piece::Source(source) => &*self.sources[*source as usize],
                Piece::Tree(tree) => &*self.trees[*tree as usize],
                Piece::StorePath(path) => &**path,
                Piece::Output { node, output } => {
                    let (drv, modulo) = (&self.done[*node as usize], self.modulo[*node as usize]);
                    let (output, _) = &drv.outputs[*output as usize];
                    need(&*drv.drv_path, Some(modulo), &**output);
                    continue;
                }
                Piece::DerivationOutput(of) => {
                    let (drv, output) = (&of.drv, &of.output);
                    let modulo = self.existing.get(drv).and_then(|known| known.modulo);
                    need(&**drv, modulo, &**output);
                    continue;
                }
            };
            inputs.sources.insert(source);
        }
        inputs
    }

    fn instantiate(&mut self, node: &Node) -> Result<NewDerivation> {
        let inputs = self.inputs(node);
        let mut drv = self.derivation(node)?;
        let outputs = |names: &BTreeSet<&str>| {
            let names = names.iter().map(|&name| Cow::Owned(name.to_owned()));
            names.collect()
        };
        drv.input_drvs = inputs
            .drvs
            .iter()
            .map(|(&path, (_, names))| InputDrv {
                path: Cow::Borrowed(path),
                outputs: outputs(names),
            })
            .collect();
        drv.input_srcs = inputs.sources.iter().map(|&it| it.into()).collect();
        let modulo_of = |path: &str| inputs.drvs.get(path).and_then(|(modulo, _)| *modulo);
        let paths = output_paths(&drv, &self.store_dir, &node.name, modulo_of)
            .map_err(|error| place_error(self.file, node.name_place, &error))?;
        fill_in_paths(
            &mut drv,
            paths.iter().map(|path| self.store_dir.display(path)),
        );
        let modulo = drv.modulo(modulo_of)?;
        let new = new_derivation(&self.store_dir, &node.name, &drv)?;
        let path_of = |name: String| {
            let output = new.outputs.iter().find(|(known, _)| *known == name);
            let path = output.map(|(_, path)| path.clone()).unwrap_or_default();
            (name, path)
        };
        drop(drv);
        self.modulo.push(modulo);
        // Copies: what would be left of the node would keep the memory around it from other uses.
        self.done.push(Instantiated {
            key: node.key.clone(),
            drv_path: self.store_dir.display(&new.path),
            outputs: node.outputs.iter().cloned().map(path_of).collect(),
        });
        Ok(new)
    }

    /// The derivation without inputs and output paths.
    fn derivation<'s>(&self, node: &'s Node) -> Result<Derivation<'s>> {
        let mut env: BTreeMap<&[u8], Cow<'s, [u8]>> = BTreeMap::new();
        for variable in &node.env {
            let value = self.text(node, &variable.value);
            env.insert(variable.name.as_bytes(), Cow::Owned(value));
        }
        let builder = self.text(node, &node.builder);
        env.insert(b"name", Cow::Borrowed(node.name.as_bytes()));
        env.insert(b"system", Cow::Borrowed(node.system.as_bytes()));
        env.insert(b"builder", Cow::Owned(builder.clone()));
        if node.explicit_outputs {
            env.insert(b"outputs", Cow::Owned(node.outputs.join(" ").into_bytes()));
        }
        let (mut hash_algo, mut hash) = (String::new(), String::new());
        if let Some(fixed) = &node.fixed {
            env.insert(b"outputHash", Cow::Borrowed(fixed.hash.as_bytes()));
            if let Some(algo) = &fixed.algo {
                env.insert(b"outputHashAlgo", Cow::Borrowed(algo.as_bytes()));
            }
            if let Some(mode) = fixed.mode {
                let mode = mode.as_str().as_bytes();
                env.insert(b"outputHashMode", Cow::Borrowed(mode));
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
            name: name.as_str().into(),
            path: "".into(),
            hash_algo: hash_algo.clone().into(),
            hash: hash.clone().into(),
        });
        for name in &node.outputs {
            env.insert(name.as_bytes(), Cow::Borrowed(&[]));
        }
        Ok(Derivation {
            outputs: outputs.collect(),
            system: node.system.as_str().into(),
            builder: builder.into(),
            args: node
                .args
                .iter()
                .map(|arg| Cow::Owned(self.text(node, arg)))
                .collect(),
            env: env
                .into_iter()
                .map(|(name, value)| (Cow::Borrowed(name), value))
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
                Piece::DerivationOutput(of) => {
                    let (known, output) = (self.existing.get(&of.drv), &of.output);
                    let outputs = known.into_iter().flat_map(|known| &known.outputs);
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
    fn look_up(&mut self, store: &mut LocalStore, reference: &StorePathReference) -> Result<()> {
        let StorePathReference {
            place,
            path,
            output,
        } = reference;
        self.store_dir
            .parse(path)
            .map_err(|error| place_error(self.file, *place, &error))?;
        store.keep(&[path])?;
        if !store.has(path)? {
            let reason = format!("'{path}' is not valid in this store; add it first");
            return Err(self.mistake(*place, reason));
        }
        let Some(output) = output else { return Ok(()) };
        if !self.existing.contains_key(path) {
            let outputs = store.with_derivation(path, |contents| {
                let pair = |o: &Output<'_>| (o.name.to_string(), o.path.to_string());
                Ok(contents.outputs.iter().map(pair).collect::<Vec<_>>())
            })?;
            store.complete_modulo(&[path])?;
            let modulo = store.modulo(path);
            self.existing
                .insert(path.clone(), Existing { outputs, modulo });
        }
        let outputs = &self.existing[path].outputs;
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
fn fill_in_paths(drv: &mut Derivation<'_>, paths: impl Iterator<Item = String>) {
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

fn new_derivation(store_dir: &StoreDir, name: &str, drv: &Derivation<'_>) -> Result<NewDerivation> {
    let text = drv.print();
    let inputs = drv.input_drvs.iter().map(|input| input.path.to_string());
    let references: Vec<String> = inputs
        .chain(drv.input_srcs.iter().map(|source| source.to_string()))
        .collect();
    let path: StorePath = store_dir.text_path(
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
