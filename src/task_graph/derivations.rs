//! Derivations as a task graph: a directory of `.drv` files, or one of them with all it needs. No
//! database is asked.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use windrow_components::derivation::{Derivation, name_from_base};
use windrow_components::task_graph::{Builder, Limits, TaskGraphError, TaskId, TimeUnit};
use windrow_store::Layout;
use windrow_sys::bounded;

use super::{Loaded, NamedDerivation};
use crate::error::{Error, Result};

/// A directory of `.drv` files: a task each, in the order of their names, an edge for every input
/// among them.
pub(super) fn load_directory(directory: &Path, limits: Limits) -> Result<Loaded> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Error::io("read the directory", directory))? {
        let entry = entry.map_err(Error::io("read the directory", directory))?;
        if let Ok(name) = entry.file_name().into_string()
            && name.ends_with(".drv")
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    let origin = directory.display().to_string();
    if names.is_empty() {
        return Err(TaskGraphError::Unsuitable {
            file: origin,
            reason: "there is no .drv file in this directory".to_owned(),
        }
        .into());
    }
    let mut builder = Builder::new(&origin, TimeUnit::Microseconds, limits);
    let mut ids: HashMap<&str, TaskId> = HashMap::with_capacity(names.len());
    for name in &names {
        ids.insert(name, builder.add_task(Some(name), None)?);
    }
    let mut derivations = Vec::with_capacity(names.len());
    for name in &names {
        read(&directory.join(name), |drv| {
            for input in &drv.input_drvs {
                // An input that is not in the directory is one that need not be built.
                if let Some(&input) = ids.get(base_name(&input.path)) {
                    builder.add_edge(input, ids[name.as_str()])?;
                }
            }
            derivations.push(named(name, drv));
            Ok(())
        })?;
    }
    Ok(Loaded {
        graph: builder.finish()?,
        derivations,
    })
}

/// The derivation at `path` and all it needs, in the order in which the engine meets them: breadth
/// first. `path` is a file, or a store path of `store`; what it needs lies beside it, or in the
/// store.
pub(super) fn load_closure(path: &Path, store: &Layout, limits: Limits) -> Result<Loaded> {
    let file = if path.exists() {
        path.to_owned()
    } else {
        store.real_path(&path.to_string_lossy())
    };
    let directory = file.parent().unwrap_or(Path::new(".")).to_owned();
    let origin = path.display().to_string();
    let mut builder = Builder::new(&origin, TimeUnit::Microseconds, limits);
    let first = base_name(&origin).to_owned();
    let mut ids: HashMap<String, TaskId> = HashMap::new();
    ids.insert(first.clone(), builder.add_task(Some(&first), None)?);
    let mut pending = VecDeque::from([(first, file)]);
    let mut derivations = Vec::new();
    while let Some((name, file)) = pending.pop_front() {
        read(&file, |drv| {
            let task = ids[&name];
            for input in &drv.input_drvs {
                let base = base_name(&input.path);
                let input = match ids.get(base) {
                    Some(&known) => known,
                    None => {
                        let found = find(base, &directory, store).ok_or_else(|| {
                            TaskGraphError::DanglingEdge {
                                origin: origin.clone(),
                                task: name.clone(),
                                missing: input.path.to_string(),
                            }
                        })?;
                        let id = builder.add_task(Some(base), None)?;
                        ids.insert(base.to_owned(), id);
                        pending.push_back((base.to_owned(), found));
                        id
                    }
                };
                builder.add_edge(input, task)?;
            }
            derivations.push(named(&name, drv));
            Ok(())
        })?;
    }
    Ok(Loaded {
        graph: builder.finish()?,
        derivations,
    })
}

fn find(base: &str, directory: &Path, store: &Layout) -> Option<PathBuf> {
    let candidates = [directory.join(base), store.real_store_dir.join(base)];
    candidates.into_iter().find(|file| file.exists())
}

fn read(file: &Path, use_it: impl FnOnce(&Derivation<'_>) -> Result<()>) -> Result<()> {
    let text = bounded::read_derivation(file);
    let text = text.map_err(Error::io("read derivation", file))?;
    let drv = Derivation::parse(&text).map_err(|source| Error::Derivation {
        path: file.to_owned(),
        source,
    })?;
    use_it(&drv)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Name and platform, as the history knows them. A file may have any name here.
fn named(file: &str, drv: &Derivation<'_>) -> NamedDerivation {
    let name = name_from_base(file).unwrap_or(file);
    NamedDerivation {
        name: name.strip_suffix(".drv").unwrap_or(name).to_owned(),
        system: drv.system.to_string(),
    }
}
