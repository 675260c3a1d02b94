//! Workflows in WfFormat of all versions.

use std::io;
use std::path::Path;

use windrow_components::task_graph::Limits;
use windrow_formats::task_graph::{Format, load};

use crate::ninja::check_graph;
use crate::shared::{corpus, seeds as seeds_of};

pub(crate) fn check_as(format: Format, bytes: &[u8]) {
    let limits = Limits {
        memory_bytes: 64 << 20,
    };
    let mut nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    match load(Some(format), "file", bytes, limits, &mut nothing) {
        Ok(graph) => check_graph(&graph),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What holds for every graph holds for these.
pub fn check(bytes: &[u8]) {
    check_as(Format::WfFormat, bytes);
}

/// Old and new versions, edges by parents, children and files, and the corpus.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = seeds_of([
        r#"{"name":"w","schemaVersion":"1.5","workflow":{"specification":{"tasks":[{"name":"a","id":"t0","parents":[],"children":["t1"]},{"name":"b","id":"t1","parents":["t0"],"children":[],"inputFiles":["f"]}],"files":[{"id":"f","sizeInBytes":3}]},"execution":{"tasks":[{"id":"t0","runtimeInSeconds":1.5},{"id":"t1","runtimeInSeconds":0}]}}}"#,
        r#"{"name":"w","schemaVersion":"1.3","workflow":{"makespan":1,"tasks":[{"name":"a","type":"compute","runtime":2.5,"parents":[],"children":["b"],"files":[{"link":"output","name":"f"}]},{"name":"b","type":"compute","runtime":1e-3,"parents":["a"],"files":[{"link":"input","name":"f"}]}]}}"#,
        r#"{"schemaVersion":"1.0","workflow":{"jobs":[{"name":"a","runtime":3,"parents":[]}]}}"#,
    ]);
    seeds.extend(corpus("workflows", ".json"));
    seeds
}
