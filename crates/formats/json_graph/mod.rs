//! Build graphs written as JSON: the types of a graph that has been read, and its entry point.
//! Text in, plain data out: asks others for what lies in files, and leaves the form of store paths
//! to be checked later.

mod derivation;
mod environment;
mod error;
mod family;
mod files;
mod forest;
mod names;
mod order;
mod outputs;
mod own;
mod place;
mod read;
mod resolve;
mod select;
mod selection_error;
mod sources;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod value;
mod wording;

pub use error::GraphError;
pub use files::{Files, Found, NoFiles};
pub use place::Position;
pub use read::parse;
pub use select::{Pick, PickError, PickedOutputs, Picker};
pub use selection_error::SelectionError;
pub(crate) use sources::store_name;

/// A graph with every reference resolved to a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GraphFile {
    /// The sources in the order of the file, and single files out of them; [`Piece::Source`]
    /// counts in it.
    pub sources: Vec<Source>,
    /// Trees of such files; [`Piece::Tree`] counts in it.
    pub trees: Vec<Tree>,
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
    /// What of the path is meant.
    pub contents: Contents,
    /// Where the entry stands.
    pub place: Position,
    /// Where the store name stands, or the path it was taken from.
    pub store_name_place: Position,
}

/// What of its path a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// What lies there, a link as a link.
    Whole,
    /// Of the directory there these files, sorted; relative to it, with `/` between their parts.
    Chosen(Vec<String>),
    /// The file there; a link is what it leads to.
    File,
    /// Nothing: only single files out of it are referred to.
    Unused,
}

/// A directory of links to single sources.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tree {
    /// Where each file lies, with `/` between parts that are neither empty nor `.` nor `..`, and
    /// its index in [`GraphFile::sources`]. Sorted by place; no file lies below another one.
    pub files: Vec<(String, u32)>,
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
    /// The store path of [`GraphFile::trees`]`[i]`.
    Tree(u32),
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
    StorePath(Box<str>),
    /// An output of a derivation said to be in the store already. Few there are, and all pieces
    /// are as large as the largest.
    DerivationOutput(Box<StoreOutput>),
}

/// An output of a derivation said to be in the store already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOutput {
    /// The derivation's store path. Starts with `/` and ends in `.drv`, otherwise unchecked.
    pub drv: String,
    /// The output's name. Not empty.
    pub output: String,
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
