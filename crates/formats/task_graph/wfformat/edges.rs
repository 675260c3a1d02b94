//! Edges as parents and children say them: mostly both say the same.

use super::lists::Tasks;
use crate::task_graph::{Builder, TaskGraphError, TaskId};

/// Adds the edges that tasks name, and forgets their names.
///
/// # Errors
/// If one names a task that there is not, or there are too many edges.
pub(super) fn add<const BY_ID: bool>(
    builder: &mut Builder,
    file: &str,
    tasks: &mut Tasks<BY_ID>,
) -> Result<(), TaskGraphError> {
    let mut lists = [
        std::mem::take(&mut tasks.parents),
        std::mem::take(&mut tasks.children),
    ];
    for list in &mut lists {
        for index in 0..tasks.len() {
            let range = list.range(index);
            for key in &mut list.all[range] {
                let task = tasks.task_of(*key).map_err(|missing| {
                    let (origin, missing) = (file.to_owned(), missing.to_owned());
                    TaskGraphError::DanglingEdge {
                        origin,
                        task: tasks.key(index).to_owned(),
                        missing,
                    }
                })?;
                *key = task.index() as u32;
            }
        }
    }
    let [mut parents, children] = lists;
    for index in 0..tasks.len() {
        let range = parents.range(index);
        parents.all[range].sort_unstable();
    }
    // What parents say goes into rows as it is; of what children say only the rest does later.
    let mut rest = Vec::new();
    for index in 0..tasks.len() {
        for &child in children.of(index) {
            let known = parents.of(child as usize);
            if known.binary_search(&(index as u32)).is_err() {
                rest.push((index, child));
            }
        }
    }
    drop(children);
    let rows = parents.all.into_iter().map(TaskId::from_u32).collect();
    builder.set_rows(&parents.ends, rows)?;
    for (parent, child) in rest {
        builder.add_edge(TaskId::from_index(parent), TaskId::from_u32(child))?;
    }
    Ok(())
}
