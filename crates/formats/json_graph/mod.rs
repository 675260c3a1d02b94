//! Build graphs written as JSON: the types of a graph that has been read, and its entry point.
//! Text in, plain data out: opens no file, and leaves the form of store paths to be checked later.

mod derivation;
mod error;
mod names;
mod order;
mod outputs;
mod place;
mod resolve;
#[cfg(test)]
mod tests;
mod text;
mod value;

pub use error::GraphError;
pub use place::Position;

use hashbrown::HashSet;

use derivation::Draft;
use order::Edges;
use outputs::Outputs;
use place::Places;
use resolve::{Edge, Named, Names, Resolver, Where};
use value::{Member, Value};

/// A graph with every reference resolved to a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GraphFile {
    /// The sources in the order of the file; [`Piece::Source`] counts in it.
    pub sources: Vec<Source>,
    /// The derivations, each after those it needs and otherwise in the order of the file;
    /// [`Piece::Output`] counts in it.
    pub derivations: Vec<Node>,
    /// What to build, in the order in which results are to be told. No derivation twice.
    pub targets: Vec<Target>,
    /// Every reference to something that is said to be in the store already.
    pub store_paths: Vec<StorePathReference>,
}

/// A reference to a path that is said to be in the store already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePathReference {
    /// Where it stands.
    pub place: Position,
    /// The path, unchecked.
    pub path: String,
    /// The output of the derivation at that path, if one is named.
    pub output: Option<String>,
}

/// A file or directory that is copied into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name that references use.
    pub name: String,
    /// The path as written: absolute, or relative to the graph file's directory. Not empty.
    pub path: String,
    /// The name part of its store path. Not empty, otherwise unchecked.
    pub store_name: String,
    /// Where the entry stands.
    pub place: Position,
    /// Where the store name stands, or the path it was taken from.
    pub store_name_place: Position,
}

/// A derivation, with everything but store paths known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name that references use.
    pub key: String,
    /// The derivation's name, which its output paths carry. Not empty, otherwise unchecked.
    pub name: String,
    /// The system it must be built on. Empty only if the default given to [`parse`] is.
    pub system: String,
    /// The program to run. Not an empty text.
    pub builder: Text,
    /// The program's arguments.
    pub args: Vec<Text>,
    /// The environment, sorted bytewise by name; without the variables that Nix derives from
    /// other fields (`name`, `builder`, `system`, `outputs`, `outputHash…`, the outputs).
    pub env: Vec<EnvVar>,
    /// The outputs' names in the order of the file. At least one, all different.
    pub outputs: Vec<String>,
    /// Whether the file lists the outputs, as Nix then sets the variable `outputs`.
    pub explicit_outputs: bool,
    /// What a fixed output must hash to; its only output is then `out`.
    pub fixed: Option<FixedOutput>,
    /// What it needs beyond what its texts name. Neither literals nor placeholders.
    pub inputs: Vec<Piece>,
    /// Where the entry stands.
    pub place: Position,
    /// Where the derivation's name stands: the field `name`, or the entry.
    pub name_place: Position,
}

impl Node {
    /// All pieces of its texts and inputs; one thing may come up any number of times.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let texts = self
            .args
            .iter()
            .chain(self.env.iter().map(|variable| &variable.value));
        self.builder
            .iter()
            .chain(texts.flatten())
            .chain(&self.inputs)
    }

    fn pieces_mut(&mut self) -> impl Iterator<Item = &mut Piece> {
        let values = self.env.iter_mut().map(|variable| &mut variable.value);
        let texts = self.args.iter_mut().chain(values);
        self.builder
            .iter_mut()
            .chain(texts.flatten())
            .chain(&mut self.inputs)
    }
}

/// A variable of a derivation's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name: not empty, without `=` and NUL.
    pub name: String,
    /// Its value.
    pub value: Text,
}

/// A string whose parts become known at different times. Literals are not empty and never adjacent.
pub type Text = Vec<Piece>;

/// A part of a text, or one extra input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These very characters.
    Literal(String),
    /// The store path of [`GraphFile::sources`]`[i]`.
    Source(u32),
    /// The path of an output of another derivation of the graph.
    Output {
        /// Index in [`GraphFile::derivations`].
        node: u32,
        /// Index in that derivation's [`Node::outputs`].
        output: u32,
    },
    /// The path of the derivation's own output of this index, which Nix writes as a placeholder.
    Placeholder(u32),
    /// A path said to be in the store already. Starts with `/`, otherwise unchecked.
    StorePath(String),
    /// An output of a derivation said to be in the store already.
    DerivationOutput {
        /// The derivation's store path. Starts with `/` and ends in `.drv`, otherwise unchecked.
        drv: String,
        /// The output's name. Not empty.
        output: String,
    },
}

/// The hash that a fixed output must have, as the file spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedOutput {
    /// `outputHash`, in any spelling that Nix knows; unchecked.
    pub hash: String,
    /// `outputHashAlgo`, if given; unchecked.
    pub algo: Option<String>,
    /// `outputHashMode`, if given; Nix takes [`HashMode::Flat`] otherwise.
    pub mode: Option<HashMode>,
    /// Where the hash stands.
    pub place: Position,
}

/// What of a fixed output is hashed. The two spellings of one mode differ in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashMode {
    /// A file's contents.
    Flat,
    /// The NAR of the output.
    Recursive,
    /// The same as [`HashMode::Recursive`], in its newer spelling.
    Nar,
}

impl HashMode {
    const ALL: [HashMode; 3] = [HashMode::Flat, HashMode::Recursive, HashMode::Nar];

    /// As `outputHashMode` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            HashMode::Flat => "flat",
            HashMode::Recursive => "recursive",
            HashMode::Nar => "nar",
        }
    }
}

/// A derivation to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Index in [`GraphFile::derivations`].
    pub node: u32,
    /// The outputs that are wanted: indices in its [`Node::outputs`], each once, as first asked
    /// for.
    pub outputs: Vec<u32>,
}

/// Reads a graph. `default_system` is the system of derivations where the file names none.
///
/// # Errors
///
/// The first mistake that is found: syntax before all else, then the graph's keys, the sources, the
/// derivations' keys and outputs, their texts, the targets, and cycles at the end.
pub fn parse(source: &str, default_system: &str) -> Result<GraphFile, GraphError> {
    let places = Places::new(source)?;
    let keys = &["system", "sources", "derivations", "targets"];
    let [system, sources, derivations, targets] =
        Value::document(&places)?.fields(keys, &places, format_args!("the graph"))?;

    let system = match system {
        Some(value) => Some(
            value
                .filled_string(&places, format_args!("\"system\""))?
                .text,
        ),
        None => None,
    };
    let system = system.as_deref().unwrap_or(default_system);
    let sources = members(sources, "sources", &places)?;
    let derivations = members(derivations, "derivations", &places)?;

    let mut names = Names::with_capacity(sources.len() + derivations.len());
    let mut read_sources = Vec::with_capacity(sources.len());
    for (index, member) in sources.iter().enumerate() {
        names.insert(&member.key, Named::Source(index as u32), &places)?;
        read_sources.push(derivation::source(member, &places)?);
    }
    let mut drafts = Vec::with_capacity(derivations.len());
    let mut outputs = Vec::with_capacity(derivations.len());
    for (index, member) in derivations.into_iter().enumerate() {
        names.insert(&member.key, Named::Derivation(index as u32), &places)?;
        let (draft, its_outputs) = Draft::read(member, &places)?;
        drafts.push(draft);
        outputs.push(its_outputs);
    }

    let mut resolver = Resolver::new(&places, names, outputs);
    let mut nodes = Vec::with_capacity(drafts.len());
    let mut starts = Vec::with_capacity(drafts.len() + 1);
    for (index, draft) in drafts.into_iter().enumerate() {
        starts.push(resolver.edge_count());
        nodes.push(draft.resolve(index as u32, system, &mut resolver)?);
    }
    starts.push(resolver.edge_count());
    let wanted = match targets {
        Some(list) => Some(wanted_targets(list, nodes.len(), &mut resolver)?),
        None => None,
    };
    let (outputs, mut edges, store_paths) = resolver.finish();
    let mut targets = wanted.unwrap_or_else(|| unneeded(&outputs, &edges));
    for (node, outputs) in nodes.iter_mut().zip(outputs) {
        node.outputs = outputs.into_names();
    }

    let order = build_order(&nodes, &starts, &mut edges, &places)?;
    reorder(&mut nodes, &mut targets, &order);
    Ok(GraphFile {
        sources: read_sources,
        derivations: nodes,
        targets,
        store_paths,
    })
}

/// The members of an object that may be missing.
fn members<'a>(
    object: Option<Value<'a>>,
    what: &str,
    places: &Places<'a>,
) -> Result<Vec<Member<'a>>, GraphError> {
    match object {
        Some(object) => object.object(places, format_args!("\"{what}\"")),
        None => Ok(Vec::new()),
    }
}

/// The derivations in an order in which inputs come first. Puts the edges of each, which begin at
/// `starts`, in the order of the file, wherever its inputs are named.
fn build_order(
    nodes: &[Node],
    starts: &[u32],
    edges: &mut [Edge],
    places: &Places<'_>,
) -> Result<Vec<u32>, GraphError> {
    for bounds in starts.windows(2) {
        edges[bounds[0] as usize..bounds[1] as usize].sort_by_key(|edge| edge.to);
    }
    let edges = &*edges;
    order::topological(&Edges { starts, edges }).map_err(|cycle| {
        let round = cycle.chain.iter().chain(cycle.chain.first());
        GraphError::Cycle {
            place: places.inside(edges[cycle.closing_edge as usize].spot),
            chain: round
                .map(|&node| nodes[node as usize].key.clone())
                .collect(),
        }
    })
}

/// Reads the list of targets; a derivation that stands in it several times becomes one target.
fn wanted_targets<'a>(
    list: Value<'a>,
    derivations: usize,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<Target>, GraphError> {
    let places = resolver.places();
    let mut targets: Vec<Target> = Vec::new();
    let mut target_of = vec![None; derivations];
    let mut seen = HashSet::new();
    for element in list.list(places, format_args!("\"targets\""))? {
        let string = element.string(places, format_args!("a target"))?;
        let piece = resolver.reference(&string.text, string.spot(), Where::Targets)?;
        let Piece::Output { node, output } = piece else {
            let target = string.text.into_owned();
            return Err(GraphError::NotATarget {
                place: element.place(places),
                target,
            });
        };
        let target = *target_of[node as usize].get_or_insert(targets.len());
        if target == targets.len() {
            targets.push(Target {
                node,
                outputs: Vec::new(),
            });
        }
        if seen.insert((node, output)) {
            targets[target].outputs.push(output);
        }
    }
    Ok(targets)
}

/// The derivations that no other one needs, by their main outputs.
fn unneeded(outputs: &[Outputs], edges: &[Edge]) -> Vec<Target> {
    let mut needed = vec![false; outputs.len()];
    for edge in edges {
        needed[edge.to as usize] = true;
    }
    let unneeded = needed
        .iter()
        .zip(outputs)
        .enumerate()
        .filter(|(_, (needed, _))| !**needed);
    unneeded
        .map(|(node, (_, outputs))| Target {
            node: node as u32,
            outputs: vec![outputs.main()],
        })
        .collect()
}

/// Brings the nodes into `order` and renames all that refers to them.
fn reorder(nodes: &mut Vec<Node>, targets: &mut [Target], order: &[u32]) {
    if order.is_sorted() {
        return;
    }
    let mut position = vec![0; order.len()];
    for (index, &node) in order.iter().enumerate() {
        position[node as usize] = index as u32;
    }
    let mut waiting: Vec<Option<Node>> = std::mem::take(nodes).into_iter().map(Some).collect();
    nodes.extend(
        order
            .iter()
            .filter_map(|&node| waiting[node as usize].take()),
    );
    for piece in nodes.iter_mut().flat_map(Node::pieces_mut) {
        if let Piece::Output { node, .. } = piece {
            *node = position[*node as usize];
        }
    }
    for target in targets {
        target.node = position[target.node as usize];
    }
}
