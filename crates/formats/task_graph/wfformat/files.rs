//! Edges that only files show: who reads a file waits for who writes it.

use hashbrown::HashMap;

use super::{Task, Text};
use crate::task_graph::{Builder, TaskGraphError, TaskId};

/// The tasks that use a file, each once.
#[derive(Default)]
struct Users {
    readers: Vec<TaskId>,
    writers: Vec<TaskId>,
}

/// Adds the edges that files show. Among tasks that both read and write a file nothing says who
/// comes first; they wait for those that only write it, and those that only read it for all of
/// them.
///
/// # Errors
/// If there are too many edges.
pub(super) fn add_edges(builder: &mut Builder, tasks: &[Task<'_>]) -> Result<(), TaskGraphError> {
    let mut users: HashMap<&str, Users> = HashMap::new();
    for (index, task) in tasks.iter().enumerate() {
        let id = TaskId::from_index(index);
        for (file, writes) in uses(task) {
            let users = users.entry(file).or_default();
            let list = match writes {
                true => &mut users.writers,
                false => &mut users.readers,
            };
            // A task's uses come together, so that a second mention follows the first.
            if list.last() != Some(&id) {
                list.push(id);
            }
        }
    }
    for Users { readers, writers } in users.into_values() {
        for reader in &readers {
            let also_writes = writers.binary_search(reader).is_ok();
            for writer in &writers {
                let updates = readers.binary_search(writer).is_ok();
                if writer != reader && !(also_writes && updates) {
                    builder.add_edge(*writer, *reader)?;
                }
            }
        }
    }
    Ok(())
}

/// The files that a task uses, and whether it writes each.
pub(super) fn uses<'a>(task: &'a Task<'_>) -> impl Iterator<Item = (&'a str, bool)> {
    let texts = |list: &'a Option<Vec<Text<'_>>>, writes: bool| {
        let texts = list.iter().flatten();
        texts.map(move |text| (&*text.0, writes))
    };
    let old = task.files.iter().flatten().filter_map(|file| {
        let name = file.id.as_ref().or(file.name.as_ref())?;
        match file.link.as_ref().map(|link| &*link.0) {
            Some("output") => Some((&*name.0, true)),
            Some("input") => Some((&*name.0, false)),
            _ => None,
        }
    });
    let inputs = texts(&task.input_files, false);
    old.chain(inputs).chain(texts(&task.output_files, true))
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use crate::task_graph::Limits;

    /// A line a task: its name and what it depends on.
    fn read(text: &str) -> String {
        let graph = load("a.json", text.as_bytes(), Limits::default()).unwrap();
        let lines = graph.tasks().map(|task| {
            let before = graph.predecessors(task).iter();
            let before: String = before
                .map(|&task| format!(" {}", graph.name(task)))
                .collect();
            format!("{}:{before}\n", graph.name(task))
        });
        lines.collect()
    }

    #[test]
    fn readers_wait_for_writers() {
        let text = read(
            r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[
            {"id":"c","name":"c","inputFiles":["x","y","src"],"outputFiles":[]},
            {"id":"a","name":"a","inputFiles":["src"],"outputFiles":["x","x"]},
            {"id":"b","name":"b","parents":["a"],"inputFiles":null,"outputFiles":["y"]}]}}}"#,
        );
        assert_eq!(text, "c: a b\na:\nb: a\n");
        for list in ["jobs", "tasks"] {
            let text = read(&format!(
                r#"{{"schemaVersion":"1.3","workflow":{{"{list}":[
                {{"name":"b","files":[{{"name":"x","link":"input","size":1}}]}},
                {{"name":"a","files":[{{"name":"x","link":"output"}},{{"link":"input"}},{{"name":"x"}}]}}]}}}}"#
            ));
            assert_eq!(text, "b: a\na:\n");
        }
    }

    #[test]
    fn files_that_are_changed_in_place_make_no_circle() {
        let task = |name: &str, reads: &str, writes: &str| {
            format!(
                r#"{{"id":"{name}","name":"{name}","inputFiles":[{reads}],"outputFiles":[{writes}]}}"#
            )
        };
        let f = r#""f""#;
        let tasks = [
            task("make", "", f),
            task("one", f, f),
            task("two", f, f),
            task("read", f, ""),
        ];
        let text = format!(
            r#"{{"schemaVersion":"1.5","workflow":{{"specification":{{"tasks":[{}]}}}}}}"#,
            tasks.join(",")
        );
        assert_eq!(
            read(&text),
            "make:\none: make\ntwo: make\nread: make one two\n"
        );
    }
}
