//! The graphs that policies are compared on: published workflows, random graphs with known optima,
//! nixpkgs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use windrow::components::task_graph::TaskGraph;
use windrow::session::Session;

/// All of them.
pub(crate) struct Corpus {
    /// Workflows and task graphs by file, each graph once.
    pub(crate) workflows: Vec<(String, TaskGraph)>,
    /// 3,529 derivations of nixpkgs; nothing if tar or xz is missing.
    pub(crate) nixpkgs: Option<TaskGraph>,
    /// What each of those that no other one needs takes.
    pub(crate) closures: Vec<TaskGraph>,
    /// The published optimal makespan by file and number of processors, where it is known.
    pub(crate) optima: BTreeMap<(String, u32), u64>,
}

/// A file of the shared directory beside the checkout, if there is one.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared")
        .join(path);
    path.exists().then_some(path)
}

fn load(path: &Path) -> TaskGraph {
    let name = path.to_str().expect("a name in UTF-8");
    let loaded = windrow::task_graph::load(name, || Session::new(&[], None));
    loaded
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .graph
}

impl Corpus {
    /// Loads everything below that directory; single closures only if asked to, for there are 700.
    pub(crate) fn load(directory: &Path, closures: bool) -> Self {
        let mut corpus = Self {
            workflows: Vec::new(),
            nixpkgs: None,
            closures: Vec::new(),
            optima: BTreeMap::new(),
        };
        // wfformat-older has one of these again, four times.
        for part in ["wfinstances", "builds", "stg"] {
            let entries = std::fs::read_dir(directory.join("workflows").join(part)).expect(part);
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect(part).path()).collect();
            files.retain(|file| {
                file.extension()
                    .is_some_and(|end| end == "json" || end == "stg")
            });
            files.sort();
            for file in files {
                let name = file
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                corpus.workflows.push((name, load(&file)));
            }
        }
        let optima = directory.join("workflows/stg/optima.csv");
        let optima = std::fs::read_to_string(optima).expect("optima.csv");
        for line in optima.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [file, jobs, lower, upper] = fields[..] else {
                panic!("{line}")
            };
            if lower == upper {
                let key = (file.to_owned(), jobs.parse().expect("a number"));
                corpus.optima.insert(key, lower.parse().expect("a number"));
            }
        }
        corpus.load_nixpkgs(&directory.join("nixpkgs-drvs.tar.xz"), closures);
        corpus
    }

    fn load_nixpkgs(&mut self, archive: &Path, closures: bool) {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(archive).arg("-C").arg(scratch.path());
        if !tar.status().is_ok_and(|status| status.success()) {
            println!("skipped nixpkgs: tar and xz are needed");
            return;
        }
        let directory = scratch.path().join("nixpkgs-drvs");
        let graph = load(&directory);
        if closures {
            let successors = graph.successors();
            let roots = graph.tasks().filter(|&task| successors.of(task).is_empty());
            let roots = roots.map(|task| directory.join(&*graph.name(task)));
            self.closures = roots.map(|root| load(&root)).collect();
        }
        self.nixpkgs = Some(graph);
    }
}
