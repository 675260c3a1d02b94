//! What a build is, as plain data: store paths, hashes, derivations, graphs, goals. No I/O, no
//! clock, no threads, no globals.

pub mod bit_set;
pub mod building;
pub mod content_address;
pub mod count;
pub mod derivation;
mod error;
pub mod goal;
pub mod graph;
pub mod hash;
pub mod ids;
pub mod lexical;
pub mod log_line;
pub mod machine;
pub mod nix32;
pub mod outputs;
pub mod paths;
pub mod progress;
pub mod request;
pub mod run_record;
pub mod settings;
pub mod shell_word;
pub mod signing_key;
pub mod store_path;
pub mod substitution;
pub mod task_graph;

pub use error::{Error, Result};
