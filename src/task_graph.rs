//! Where task graphs come from: files of several formats, folders of derivations, generators.

use std::path::Path;

use hashbrown::HashMap;
use windrow_components::derivation::Derivation;
use windrow_components::task_graph::{
    Builder, Generator, Limits, TaskGraph, TaskGraphError, TaskId, TimeUnit, load as load_text,
};

use crate::error::{Error, Result};

/// Loads the graph that `what` names: an existing file or folder, else a generator.
///
/// # Errors
/// When the file can't be read or is malformed, the generator is none, or the graph would not fit into memory.
pub fn load(what: &str) -> Result<TaskGraph> {
    let limits = Limits {
        memory_bytes: available_memory(),
    };
    let path = Path::new(what);
    if path.is_dir() {
        return load_derivations(path, limits);
    }
    if !path.exists() && what.contains(':') {
        return Ok(what.parse::<Generator>()?.generate(limits)?);
    }
    let text = std::fs::read(path).map_err(Error::io("read the graph", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut include = |file: &str| std::fs::read(folder.join(file));
    Ok(load_text(None, what, &text, limits, &mut include)?)
}

/// A folder of `.drv` files: a task each, in the order of their names, an edge for every input among them.
fn load_derivations(folder: &Path, limits: Limits) -> Result<TaskGraph> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        if let Ok(name) = entry.file_name().into_string()
            && name.ends_with(".drv")
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut builder = Builder::new(
        &folder.display().to_string(),
        TimeUnit::Microseconds,
        limits,
    );
    let mut ids: HashMap<&str, TaskId> = HashMap::with_capacity(names.len());
    for name in &names {
        ids.insert(name, builder.add_task(Some(name), None)?);
    }
    for name in &names {
        let file = folder.join(name);
        let text = std::fs::read(&file).map_err(Error::io("read derivation", &file))?;
        let drv = Derivation::parse(&text).map_err(|source| Error::Derivation {
            path: file.clone(),
            source,
        })?;
        for input in &drv.input_drvs {
            let base = input.path.rsplit('/').next().unwrap_or_default();
            // An input that is not in the folder is one that need not be built.
            if let Some(&input) = ids.get(base) {
                builder.add_edge(input, ids[name.as_str()])?;
            }
        }
    }
    Ok(builder.finish()?)
}

/// How much memory a graph may take: most of what the machine has to spare.
fn available_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024 / 10 * 9)
}

impl From<TaskGraphError> for Error {
    fn from(error: TaskGraphError) -> Self {
        Self::TaskGraph(Box::new(error))
    }
}
