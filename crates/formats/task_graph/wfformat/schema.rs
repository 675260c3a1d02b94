//! What windrow reads of the files of WfFormat, of all schemas together.

use std::borrow::Cow;

use serde::Deserialize;

/// A text that borrows from the file where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'t>(#[serde(borrow)] pub(super) Cow<'t, str>);

#[derive(Deserialize)]
pub(super) struct Document<'t> {
    #[serde(borrow, rename = "schemaVersion")]
    pub(super) schema_version: Option<Text<'t>>,
    pub(super) workflow: Workflow<'t>,
}

#[derive(Deserialize)]
pub(super) struct Workflow<'t> {
    /// Up to schema 1.2.
    #[serde(borrow)]
    pub(super) jobs: Option<Vec<Task<'t>>>,
    /// Schemas 1.3 and 1.4.
    pub(super) tasks: Option<Vec<Task<'t>>>,
    /// From schema 1.5 on.
    pub(super) specification: Option<Specification<'t>>,
    pub(super) execution: Option<Execution<'t>>,
}

#[derive(Deserialize)]
pub(super) struct Specification<'t> {
    #[serde(borrow)]
    pub(super) tasks: Vec<Task<'t>>,
    #[serde(default)]
    pub(super) files: Option<Vec<File<'t>>>,
}

/// From schema 1.5 on: a file that tasks name by its id.
#[derive(Deserialize)]
pub(super) struct File<'t> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'t>>,
    #[serde(rename = "sizeInBytes")]
    pub(super) size_in_bytes: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Execution<'t> {
    #[serde(borrow, default)]
    pub(super) tasks: Vec<Run<'t>>,
}

#[derive(Deserialize)]
pub(super) struct Task<'t> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'t>>,
    pub(super) id: Option<Text<'t>>,
    /// Up to schema 1.3; migrated files may keep it beside the newer key.
    pub(super) runtime: Option<f64>,
    #[serde(rename = "runtimeInSeconds")]
    pub(super) runtime_in_seconds: Option<f64>,
    #[serde(default)]
    pub(super) parents: Option<Vec<Text<'t>>>,
    #[serde(default)]
    pub(super) children: Option<Vec<Text<'t>>>,
    /// Up to schema 1.4.
    pub(super) priority: Option<f64>,
    /// What kind of task it is.
    pub(super) category: Option<Text<'t>>,
    /// Up to schema 1.4.
    pub(super) command: Option<Command<'t>>,
    /// Up to schema 1.4.
    pub(super) cores: Option<f64>,
    /// Up to schema 1.3, in kB.
    pub(super) memory: Option<f64>,
    #[serde(rename = "memoryInBytes")]
    pub(super) memory_in_bytes: Option<f64>,
    /// Up to schema 1.4: what it reads and writes.
    #[serde(default)]
    pub(super) files: Option<Vec<FileUse<'t>>>,
    /// From schema 1.5 on: ids of files.
    #[serde(rename = "inputFiles", default)]
    pub(super) input_files: Option<Vec<Text<'t>>>,
    #[serde(rename = "outputFiles", default)]
    pub(super) output_files: Option<Vec<Text<'t>>>,
}

#[derive(Deserialize)]
pub(super) struct Command<'t> {
    #[serde(borrow)]
    pub(super) program: Option<Text<'t>>,
}

#[derive(Deserialize)]
pub(super) struct FileUse<'t> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'t>>,
    pub(super) name: Option<Text<'t>>,
    /// `input` or `output`.
    pub(super) link: Option<Text<'t>>,
    /// Up to schema 1.3.
    pub(super) size: Option<f64>,
    #[serde(rename = "sizeInBytes")]
    pub(super) size_in_bytes: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Run<'t> {
    #[serde(borrow)]
    pub(super) id: Text<'t>,
    pub(super) runtime: Option<f64>,
    #[serde(rename = "runtimeInSeconds")]
    pub(super) runtime_in_seconds: Option<f64>,
    pub(super) command: Option<Command<'t>>,
    pub(super) priority: Option<f64>,
    #[serde(rename = "coreCount")]
    pub(super) core_count: Option<f64>,
    #[serde(rename = "memoryInBytes")]
    pub(super) memory_in_bytes: Option<f64>,
}
