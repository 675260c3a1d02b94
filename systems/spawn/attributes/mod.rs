//! Puts what attributes promise a builder into its directory: values passed as files, structured
//! attributes, reference graphs. Graphs are looked up by the pool, files are written by the thread
//! that makes the process.

mod graph_export;

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use graph_export::ExportError;
use serde_json::{Map, Value};
use windrow_components::derivation::attributes::{self, GraphExport};
use windrow_store::db::reader::Reader;

use crate::process::environment::{ExtraFile, Rewrites};

/// Everything to be written into a build directory before its builder starts.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Files whose contents are known.
    pub(super) ready: Vec<ExtraFile>,
    /// Structured attributes, with their outputs filled in.
    pub(super) structured: Option<Map<String, Value>>,
    /// Reference graphs: a file each, or a member of the structured attributes.
    pub(super) exports: Vec<GraphExport>,
    /// What the builder may refer to directly, if there are such graphs.
    pub(super) inputs: Vec<String>,
    /// What is to be replaced in texts for the builder.
    pub(super) rewrites: Rewrites,
    /// Why a graph can't be given.
    pub(super) problem: Option<String>,
}

impl Files {
    /// Finds out the reference graphs. A problem is told by [`Files::write`].
    pub(super) fn look_up(&mut self, reader: &Reader) {
        if let Err(error) = self.add_graphs(reader) {
            self.problem = Some(error.to_string());
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn are_none(&self) -> bool {
        self.ready.is_empty() && self.structured.is_none() && self.exports.is_empty()
    }

    fn add_graphs(&mut self, reader: &Reader) -> Result<(), ExportError> {
        let graph = graph_export::InputGraph::of(&self.inputs, reader)?;
        for export in &self.exports {
            let members = graph.export(&export.paths, reader)?;
            if let Some(structured) = &mut self.structured {
                structured.insert(export.name.clone(), members.to_json());
            } else {
                self.ready.push(ExtraFile {
                    name: export.name.clone(),
                    contents: members.to_registration(),
                });
            }
        }
        Ok(())
    }

    /// Writes everything into `dir`, in place of what has the same names there. Tells which files
    /// it has written.
    ///
    /// # Errors
    /// A message for people: a graph that can't be given, or a file that can't be written.
    ///
    /// Nix 1.8: `DerivationGoal::startBuilder`.
    pub(super) fn write(mut self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        if let Some(members) = &self.structured {
            for (name, text) in [
                (".attrs.sh", attributes::to_shell_text(members)),
                (".attrs.json", attributes::to_json_text(members)),
            ] {
                self.ready.push(ExtraFile {
                    name: name.to_owned(),
                    contents: self.rewrites.apply(&text).into_owned(),
                });
            }
        }
        let mut written = Vec::new();
        for file in &self.ready {
            let path = dir.join(&file.name);
            create(&path)
                .and_then(|mut open| open.write_all(&file.contents))
                .map_err(|error| format!("cannot write '{}': {error}", path.display()))?;
            written.push(path);
        }
        Ok(written)
    }
}

/// Makes a file in the place of another one, if there is one: in a new directory what was asked for
/// twice, in an old one what its builder may have made a link to anything.
fn create(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            File::create_new(path)
        }
        made => made,
    }
}
