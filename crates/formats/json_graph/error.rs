//! What can be wrong with a graph file: each mistake with its place and what to do about it.
//! Knows nothing of files; who prints an error puts file name and [`GraphError::place`] in front.

use windrow_components::hash::HashAlgo;

use super::wording::{DEFINE, arrows, has_outputs, one_of, suggest};
use super::{Position, SelectionError};

/// Why a graph file was refused. The message leaves out the place: see [`GraphError::place`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The text is not JSON.
    #[error("this is not valid JSON: {message}")]
    Syntax {
        /// Where serde_json stopped.
        place: Position,
        /// serde_json's words for it.
        message: String,
    },

    /// The file exceeds what 32-bit offsets reach.
    #[error("the graph has {bytes} bytes and the limit is 4 GiB; split it into several graphs")]
    TooLarge {
        /// The file's start.
        place: Position,
        /// Its size.
        bytes: usize,
    },

    /// A value of another type than its key demands.
    #[error("{what} must be {expected}, but this is {found}")]
    WrongType {
        /// The value.
        place: Position,
        /// What the value is for.
        what: String,
        /// The type it must have.
        expected: &'static str,
        /// The type it has.
        found: &'static str,
    },

    /// A key that the format does not know.
    #[error("{parent} has no key {key:?}; {}", suggest(nearest, || one_of(known)))]
    UnknownKey {
        /// The key.
        place: Position,
        /// The key.
        key: String,
        /// The object it stands in.
        parent: String,
        /// The known key most like it.
        nearest: Option<String>,
        /// All keys that are known there.
        known: Vec<&'static str>,
    },

    /// The same key twice in one object.
    #[error("the key {key:?} stands here a second time, first at {first}; remove one of the two")]
    DuplicateKey {
        /// The second one.
        place: Position,
        /// The key.
        key: String,
        /// The first one.
        first: Position,
    },

    /// A source and a derivation of the same name.
    #[error(
        "{name:?} is both a source and a derivation, first at {first}; \
         they share one name space, so rename one of the two"
    )]
    DuplicateName {
        /// The second one.
        place: Position,
        /// The name.
        name: String,
        /// The first one.
        first: Position,
    },

    /// A key that must be there is not.
    #[error("{parent} lacks the key {key:?}, which it needs; add it")]
    MissingKey {
        /// The object.
        place: Position,
        /// What it is.
        parent: String,
        /// The key.
        key: &'static str,
    },

    /// The name of a source, derivation or output that references could not spell.
    #[error("{name:?} cannot name {what}: it {problem}; choose another name")]
    InvalidName {
        /// The name.
        place: Position,
        /// The name.
        name: String,
        /// What it should name.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// Something about globs, templates or trees of files.
    #[error("{problem}")]
    Selection {
        /// What asks for it.
        place: Position,
        /// What is wrong.
        problem: SelectionError,
    },

    /// An empty string where something must be said.
    #[error("{what} is empty; give it a value or leave the key out if it is optional")]
    Empty {
        /// The string.
        place: Position,
        /// What it is for.
        what: String,
    },

    /// A NUL in a string that a system call will have to take.
    #[error("a NUL cannot be passed to a program nor stand in a path; remove it")]
    Nul {
        /// The NUL.
        place: Position,
    },

    /// A path without a last component, such as `..`, gives no store name.
    #[error("the path {path:?} does not end in a name; write {{\"path\": {path:?}, \"name\": …}}")]
    NoStoreName {
        /// The path.
        place: Position,
        /// The path.
        path: String,
    },

    /// `"outputs": []`.
    #[error("a derivation must have an output; list one or leave \"outputs\" out to get \"out\"")]
    NoOutputs {
        /// The list.
        place: Position,
    },

    /// The same output twice.
    #[error("the output {output:?} is listed twice, first at {first}; remove one of the two")]
    DuplicateOutput {
        /// The second one.
        place: Position,
        /// Its name.
        output: String,
        /// The first one.
        first: Position,
    },

    /// A key that cannot be an environment variable's name.
    #[error("{key:?} cannot be an environment variable's name: it {problem}; rename it")]
    InvalidEnvKey {
        /// The key.
        place: Position,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A key in `env` that has a field of its own.
    #[error("{key:?} is a field of the derivation itself; move it out of \"env\"")]
    ReservedEnvKey {
        /// The key.
        place: Position,
        /// The key.
        key: String,
    },

    /// A key in `env` that is one of the outputs' names.
    #[error(
        "the variable {key:?} is set to the path of the output of that name; \
         remove it or rename one of the two"
    )]
    EnvKeyIsOutput {
        /// The key.
        place: Position,
        /// The key.
        key: String,
    },

    /// A number with a fraction or an exponent.
    #[error(
        "{number} is not an integer, and how Nix would spell it depends on Nix's version; \
         write it as a string"
    )]
    NotAnInteger {
        /// The number.
        place: Position,
        /// The number.
        number: String,
    },

    /// `@{` without `}`.
    #[error("this \"@{{\" has no \"}}\"; close it, or write \"@@{{\" to mean the two characters")]
    UnclosedReference {
        /// Its `@`.
        place: Position,
    },

    /// A reference that names nothing, such as `@{}` or `@{lib^}`.
    #[error(
        "the reference {reference:?} is incomplete; write NAME, NAME^OUTPUT or, \
         for an output of the derivation itself, ^OUTPUT"
    )]
    IncompleteReference {
        /// The reference.
        place: Position,
        /// What stands between the braces.
        reference: String,
    },

    /// A reference to a name that nothing has.
    #[error("there is no source or derivation {name:?}; {}", suggest(nearest, || DEFINE.into()))]
    UnknownName {
        /// The reference.
        place: Position,
        /// The name.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },

    /// A reference to an output that the derivation does not have.
    #[error(
        "the derivation {name:?} has no output {output:?}; {}",
        has_outputs(outputs)
    )]
    UnknownOutput {
        /// The reference.
        place: Position,
        /// The derivation.
        name: String,
        /// The output.
        output: String,
        /// The outputs it has.
        outputs: Vec<String>,
    },

    /// `@{NAME^OUTPUT}` where NAME is a source.
    #[error("{name:?} is a source and has no output {output:?}; refer to it by its name alone")]
    SourceOutput {
        /// The reference.
        place: Position,
        /// The source.
        name: String,
        /// The output.
        output: String,
    },

    /// `@{/nix/store/…^OUTPUT}` where the path is not a derivation's.
    #[error(
        "{path:?} is no derivation, for it does not end in \".drv\", and has no output {output:?}; \
         refer to it by its path alone"
    )]
    PathOutput {
        /// The reference.
        place: Position,
        /// The store path.
        path: String,
        /// The output.
        output: String,
    },

    /// A text of a derivation that refers to the derivation by name.
    #[error(
        "{name:?} refers to itself by name; write \"@{{^{output}}}\" for the path of its own output"
    )]
    SelfReference {
        /// The reference.
        place: Position,
        /// The derivation.
        name: String,
        /// The output to write.
        output: String,
    },

    /// A derivation that lists itself or an output of its own under `inputs`.
    #[error("{name:?} cannot be an input of itself; remove it from \"inputs\"")]
    SelfInput {
        /// The reference.
        place: Position,
        /// The derivation.
        name: String,
    },

    /// Derivations that need each other.
    #[error(
        "these derivations need each other: {}; break the cycle",
        arrows(chain)
    )]
    Cycle {
        /// The reference that closes the cycle.
        place: Position,
        /// The derivations on it; the first one stands at the end again.
        chain: Vec<String>,
    },

    /// An `outputHashMode` that does not exist.
    #[error(
        "there is no outputHashMode {mode:?}; {}",
        suggest(nearest, || one_of(&["flat", "recursive", "nar"]))
    )]
    UnknownHashMode {
        /// The mode.
        place: Position,
        /// The mode.
        mode: String,
        /// The known mode most like it.
        nearest: Option<String>,
    },

    /// `outputHashAlgo` names no algorithm.
    #[error("{algo:?} is no hash algorithm; use {}", HashAlgo::NAMES)]
    UnknownHashAlgo {
        /// The algorithm.
        place: Position,
        /// The algorithm.
        algo: String,
    },

    /// An output's name can't stand in a store path.
    #[error("{reason}")]
    OutputName {
        /// The name.
        place: Position,
        /// What is wrong with it.
        reason: String,
    },

    /// `outputHashAlgo` or `outputHashMode` without `outputHash`.
    #[error(
        "{key:?} says something about \"outputHash\", which is missing; add it or remove {key:?}"
    )]
    NoOutputHash {
        /// The value.
        place: Position,
        /// Its key.
        key: &'static str,
    },

    /// A fixed output beside others or under another name than `out`.
    #[error("a derivation with an \"outputHash\" has one output, \"out\"; remove \"outputs\"")]
    FixedOutputs {
        /// The list of outputs.
        place: Position,
    },

    /// A target that cannot be built.
    #[error(
        "{target:?} is not a derivation of this graph, and only such can be targets; remove it"
    )]
    NotATarget {
        /// The target.
        place: Position,
        /// The target.
        target: String,
    },
}

impl GraphError {
    /// Where the mistake is.
    pub fn place(&self) -> Position {
        match self {
            GraphError::Syntax { place, .. }
            | GraphError::TooLarge { place, .. }
            | GraphError::WrongType { place, .. }
            | GraphError::UnknownKey { place, .. }
            | GraphError::DuplicateKey { place, .. }
            | GraphError::DuplicateName { place, .. }
            | GraphError::MissingKey { place, .. }
            | GraphError::InvalidName { place, .. }
            | GraphError::Empty { place, .. }
            | GraphError::Nul { place }
            | GraphError::NoStoreName { place, .. }
            | GraphError::NoOutputs { place }
            | GraphError::DuplicateOutput { place, .. }
            | GraphError::InvalidEnvKey { place, .. }
            | GraphError::ReservedEnvKey { place, .. }
            | GraphError::EnvKeyIsOutput { place, .. }
            | GraphError::NotAnInteger { place, .. }
            | GraphError::UnclosedReference { place }
            | GraphError::IncompleteReference { place, .. }
            | GraphError::UnknownName { place, .. }
            | GraphError::UnknownOutput { place, .. }
            | GraphError::SourceOutput { place, .. }
            | GraphError::PathOutput { place, .. }
            | GraphError::SelfReference { place, .. }
            | GraphError::SelfInput { place, .. }
            | GraphError::Cycle { place, .. }
            | GraphError::UnknownHashMode { place, .. }
            | GraphError::UnknownHashAlgo { place, .. }
            | GraphError::OutputName { place, .. }
            | GraphError::NoOutputHash { place, .. }
            | GraphError::Selection { place, .. }
            | GraphError::FixedOutputs { place }
            | GraphError::NotATarget { place, .. } => *place,
        }
    }
}
