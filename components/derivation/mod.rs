//! A derivation: the recipe of one build, as its `.drv` file holds it. Borrowed from the file's
//! bytes where possible.

mod aterm;
pub mod attributes;
mod check;
mod json;
mod modulo;

use std::borrow::Cow;

pub use aterm::Inputs;
pub use check::{FixedOutput, output_paths};
pub use json::{JsonVersion, from_json, to_json};
pub use modulo::{Modulo, ModuloMemo};

/// Text that is UTF-8 by its nature: names, paths, hashes.
pub type Text<'a> = Cow<'a, str>;
/// Bytes that a builder gets as they are: arguments and environment.
pub type Bytes<'a> = Cow<'a, [u8]>;

/// One output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output<'a> {
    /// Its name; `out` unless there are several.
    pub name: Text<'a>,
    /// Its store path in full.
    pub path: Text<'a>,
    /// For a fixed output the algorithm, with `r:` in front if the NAR is hashed; else empty.
    pub hash_algo: Text<'a>,
    /// For a fixed output the expected hash in base 16; else empty.
    pub hash: Text<'a>,
}

/// The outputs of another derivation that this one needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputDrv<'a> {
    /// The other derivation's store path in full.
    pub path: Text<'a>,
    /// The names of the outputs, sorted.
    pub outputs: Vec<Text<'a>>,
}

/// A whole derivation. Outputs, inputs and environment are sorted bytewise, as in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Derivation<'a> {
    /// What it makes.
    pub outputs: Vec<Output<'a>>,
    /// The derivations whose outputs it needs.
    pub input_drvs: Vec<InputDrv<'a>>,
    /// The sources it needs, as full store paths.
    pub input_srcs: Vec<Text<'a>>,
    /// The platform it must be built on.
    pub system: Text<'a>,
    /// The program that builds it.
    pub builder: Bytes<'a>,
    /// The builder's arguments.
    pub args: Vec<Bytes<'a>>,
    /// The builder's environment.
    pub env: Vec<(Bytes<'a>, Bytes<'a>)>,
}

impl Derivation<'_> {
    /// The same, borrowing nothing.
    pub fn into_owned(self) -> Derivation<'static> {
        fn text(text: Text<'_>) -> Text<'static> {
            Cow::Owned(text.into_owned())
        }
        fn bytes(bytes: Bytes<'_>) -> Bytes<'static> {
            Cow::Owned(bytes.into_owned())
        }
        let outputs = self.outputs.into_iter().map(|output| Output {
            name: text(output.name),
            path: text(output.path),
            hash_algo: text(output.hash_algo),
            hash: text(output.hash),
        });
        let input_drvs = self.input_drvs.into_iter().map(|input| InputDrv {
            path: text(input.path),
            outputs: input.outputs.into_iter().map(text).collect(),
        });
        Derivation {
            outputs: outputs.collect(),
            input_drvs: input_drvs.collect(),
            input_srcs: self.input_srcs.into_iter().map(text).collect(),
            system: text(self.system),
            builder: bytes(self.builder),
            args: self.args.into_iter().map(bytes).collect(),
            env: self
                .env
                .into_iter()
                .map(|(key, value)| (bytes(key), bytes(value)))
                .collect(),
        }
    }

    /// The value of the variable `name`, if it is set.
    ///
    /// Nix 1.8: `get`.
    pub fn env_value(&self, name: &str) -> Option<&[u8]> {
        let index = self
            .env
            .binary_search_by(|(key, _)| key.as_ref().cmp(name.as_bytes()))
            .ok()?;
        Some(&self.env[index].1)
    }

    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<&Output<'_>> {
        self.outputs.iter().find(|output| output.name == name)
    }
}

/// What can be wrong with a derivation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DerivationError {
    /// The text ends or goes on otherwise than the format says.
    #[error("it is not a derivation: expected {expected} at byte {offset}{}", found_text(.found))]
    Syntax {
        /// Where in the text, in bytes.
        offset: usize,
        /// What should stand there.
        expected: &'static str,
        /// What does stand there; `None` at the end of the text.
        found: Option<u8>,
    },
    /// It uses an experimental form that is not supported.
    #[error("it uses {feature}, which windrow does not support")]
    Unsupported {
        /// The name of the feature in Nix's words.
        feature: &'static str,
    },
    /// It has no output at all.
    #[error("it has no outputs")]
    NoOutputs,
    /// Its file name does not end in `.drv`, or nothing stands before that.
    #[error("its name '{name}' should be a name followed by '.drv'")]
    BadName {
        /// The name as found.
        name: String,
    },
    /// An output's path is not the one that the contents give.
    #[error("its output '{output}' has the path '{found}', but its contents give '{expected}'")]
    WrongOutputPath {
        /// The name of the output.
        output: String,
        /// The path the derivation states.
        found: String,
        /// The path that its contents give.
        expected: String,
    },
    /// The variable named like an output does not hold its path.
    #[error("its variable '{output}' should hold the output's path '{expected}'")]
    WrongOutputVariable {
        /// The name of the output and of the variable.
        output: String,
        /// The path it should hold.
        expected: String,
    },
    /// A fixed output's hash or algorithm can't be read.
    #[error("its output '{output}' has a hash that can't be read: {reason}")]
    BadOutputHash {
        /// The name of the output.
        output: String,
        /// What is wrong with the hash.
        reason: String,
    },
    /// An input derivation's own hash is not known.
    #[error("its input '{path}' can't be read, so its output paths can't be computed")]
    MissingInput {
        /// The input's store path.
        path: String,
    },
    /// Input derivations form a circle.
    #[error("its inputs lead back to '{path}'")]
    Cycle {
        /// A derivation on the circle.
        path: String,
    },
    /// A JSON value has not the form of a derivation.
    #[error("the JSON is not a derivation: {reason}")]
    Json {
        /// What is wrong, and where.
        reason: String,
    },
    /// A store path in it is malformed.
    #[error("{reason}")]
    Path {
        /// What is wrong with which path.
        reason: String,
    },
}

fn found_text(found: &Option<u8>) -> String {
    match found {
        None => ", where the text ends".to_owned(),
        Some(byte) => format!(", found '{}'", byte.escape_ascii()),
    }
}

/// The name of the derivation stored under `base_name`, `HASH-NAME.drv`, without hash and
/// extension.
///
/// # Errors
/// [`DerivationError::BadName`] when it has not that form.
pub fn name_from_base(base_name: &str) -> Result<&str, DerivationError> {
    base_name
        .get(crate::store_path::HASH_LEN + 1..)
        .and_then(|name| name.strip_suffix(crate::store_path::DERIVATION_EXTENSION))
        .filter(|name| !name.is_empty())
        .ok_or_else(|| DerivationError::BadName {
            name: base_name.to_owned(),
        })
}
