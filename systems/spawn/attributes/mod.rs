//! Puts what attributes promise a builder into its folder: values passed as files, structured attributes, reference
//! graphs. Runs on the thread that makes the process, for a graph may take a while to be found out.

mod graph_export;

use std::io::Write as _;
use std::path::Path;

use serde_json::{Map, Value};
use windrow_components::derivation::attributes::{self, GraphExport};

use crate::process::environment::{ExtraFile, Rewrites};
use crate::store::reader::Reader;
use graph_export::ExportError;

/// Everything to be written into a build folder before its builder starts.
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
}

impl Files {
    /// Writes everything into `folder`.
    ///
    /// # Errors
    /// A message for people: a graph that can't be given, or a file that can't be written.
    pub(super) fn write(mut self, folder: &Path, reader: &Reader) -> Result<(), String> {
        if !self.exports.is_empty() {
            let text = |error: ExportError| error.to_string();
            let inputs = std::mem::take(&mut self.inputs);
            let graph = graph_export::InputGraph::of(&inputs, reader).map_err(text)?;
            for export in &self.exports {
                let members = graph.export(&export.paths, reader).map_err(text)?;
                if let Some(structured) = &mut self.structured {
                    structured.insert(export.name.clone(), members.to_json());
                } else {
                    self.ready.push(ExtraFile {
                        name: export.name.clone(),
                        contents: members.to_registration(),
                    });
                }
            }
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
        for file in &self.ready {
            let path = folder.join(&file.name);
            // The folder is new and nobody else may enter it; what is there twice was asked for twice.
            std::fs::File::create(&path)
                .and_then(|mut open| open.write_all(&file.contents))
                .map_err(|error| format!("cannot write '{}': {error}", path.display()))?;
        }
        Ok(())
    }
}
