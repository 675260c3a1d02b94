//! What can be wrong with the parts of a graph that stand for more than they say: globs, templates,
//! families of derivations, trees of files.

use super::wording::{arrows, meant};
use super::{GraphError, Position};

/// Why files can't be chosen, or a template not be used. Names its place nowhere: see
/// [`GraphError::place`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The file system says no.
    #[error("{0}")]
    Files(String),

    /// A glob that can't be read.
    #[error("{glob:?} is no glob: {reason}")]
    BadGlob {
        /// The glob.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A glob that chooses nothing.
    #[error("no file of the source {name:?} is like {glob:?}; correct it or remove it")]
    NothingChosen {
        /// The glob.
        glob: String,
        /// The source.
        name: String,
    },

    /// Files are chosen from a source that is one.
    #[error("the source {name:?} is a file, in which there is nothing to choose; write {remedy}")]
    NotADirectory {
        /// The source.
        name: String,
        /// What to write.
        remedy: String,
    },

    /// Files of no source.
    #[error(
        "{glob:?} is in no source; write SOURCE or SOURCE/GLOB{}",
        meant(nearest)
    )]
    NoSuchSource {
        /// The glob.
        glob: String,
        /// The source most like it.
        nearest: Option<String>,
    },

    /// A reference to a file that a source does not have.
    #[error("the source {name:?} has no file {file:?}{}", meant(nearest))]
    UnknownFile {
        /// The source.
        name: String,
        /// The file.
        file: String,
        /// The file most like it.
        nearest: Option<String>,
    },

    /// A template that nobody wrote.
    #[error(
        "there is no template {name:?}{}; add it to \"templates\"",
        meant(nearest)
    )]
    UnknownTemplate {
        /// Its name.
        name: String,
        /// The template most like it.
        nearest: Option<String>,
    },

    /// Templates that use each other.
    #[error("these templates use each other: {}; break the cycle", arrows(chain))]
    TemplateCycle {
        /// The templates on it; the first one stands at the end again.
        chain: Vec<String>,
    },

    /// A family whose derivations would all have one key.
    #[error(
        "{key:?} names a derivation for each file and must say where the file's name goes; \
         write one \"*\" into it"
    )]
    NoStar {
        /// The key.
        key: String,
    },

    /// Two files that give derivations of one name.
    #[error("{first:?} and {second:?} would both become {key:?}; put them into two families")]
    FamilyClash {
        /// What both would be called.
        key: String,
        /// A file.
        first: String,
        /// Another one.
        second: String,
    },

    /// A word that has a meaning of its own where it stands.
    #[error(
        "in a derivation that has \"each\" or \"tree\", \"@{{{word}}}\" is not the source or derivation \
         of that name; rename that"
    )]
    OwnWord {
        /// The word.
        word: &'static str,
    },

    /// `@{tree}` or `@{each}` where there is none.
    #[error("\"@{{{word}}}\" means something only in a derivation that has {needs}; add that")]
    NoOwnWord {
        /// The word.
        word: &'static str,
        /// The keys that give it a meaning.
        needs: &'static str,
    },

    /// A key without effect.
    #[error("{key:?} has no effect here: {reason}; remove it")]
    NoEffect {
        /// The key.
        key: &'static str,
        /// Why.
        reason: &'static str,
    },

    /// A source whose files can't lie in a tree.
    #[error(
        "the files of source {name:?} can't be laid out under its name, which is no plain path; \
         rename it"
    )]
    NoTreeName {
        /// The source.
        name: String,
    },

    /// Two files that would lie at one place.
    #[error("{first:?} and {second:?} can't both lie in one tree; rename one of their sources")]
    TreeClash {
        /// A file.
        first: String,
        /// Another one, at the same place or below it.
        second: String,
    },
}

impl SelectionError {
    /// The error with its place.
    pub(super) fn at(self, place: Position) -> GraphError {
        GraphError::Selection {
            place,
            problem: self,
        }
    }
}
