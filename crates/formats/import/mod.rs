//! Build descriptions of other tools as JSON graphs: a derivation for each command, which runs in a
//! directory of its own that looks to it like the one it was written for.

mod compile_commands;
mod graph;
mod layout;
mod names;
mod paths;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

pub use compile_commands::read_compile_commands;
pub use graph::{ImportError, Imported, Roots, import};
pub(crate) use paths::{normal, shell_word};

use windrow_components::task_graph::TaskGraphError;

/// All that a file says is to be run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In the order of the file.
    pub steps: Vec<Step>,
    /// What is made if nobody asks for something else; all that nothing needs, if empty.
    pub defaults: Vec<String>,
}

/// A command, or a name for other things if there is none. Paths are relative to where it runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it runs; where the file lies, if empty.
    pub directory: String,
    /// What it makes.
    pub outputs: Vec<String>,
    /// What it reads.
    pub inputs: Vec<String>,
    /// What has to be there before it runs.
    pub order_only: Vec<String>,
    /// The command, for a shell.
    pub command: Option<String>,
    /// A file that is written before, and its contents.
    pub response: Option<(String, String)>,
    /// Whether it makes the file that it stands in.
    pub generator: bool,
    /// Whether a file that another command makes says more about what it reads.
    pub dyndep: bool,
}

/// Reads a ninja file. `read` gives the contents of other files that it includes.
///
/// # Errors
/// If a file is malformed or can't be read.
pub fn read_ninja(
    file: &str,
    text: &[u8],
    read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<Manifest, TaskGraphError> {
    crate::task_graph::read_steps(file, text, read)
}
