//! Edges that only files show: who reads a file waits for who writes it.

use super::lists::Tasks;
use crate::task_graph::{Builder, TaskGraphError, TaskId};

/// Adds the edges that files show. Among tasks that both read and write a file nothing says who
/// comes first; they wait for those that only write it, and those that only read it for all of
/// them.
///
/// # Errors
/// If there are too many edges.
pub(super) fn add_edges<const BY_ID: bool>(
    builder: &mut Builder,
    tasks: &Tasks<BY_ID>,
) -> Result<(), TaskGraphError> {
    let uses = |index| {
        tasks
            .uses(index)
            .map(move |(file, writes)| (file, writes, index as u32))
    };
    let mut uses: Vec<(u32, bool, u32)> = (0..tasks.len()).flat_map(uses).collect();
    uses.sort_unstable();
    uses.dedup();
    for of_file in uses.chunk_by(|(a, ..), (b, ..)| a == b) {
        let (readers, writers) =
            of_file.split_at(of_file.partition_point(|&(_, writes, _)| !writes));
        let is_among = |list: &[(u32, bool, u32)], wanted: u32| {
            list.binary_search_by_key(&wanted, |&(.., task)| task)
                .is_ok()
        };
        for &(.., reader) in readers {
            let also_writes = is_among(writers, reader);
            for &(.., writer) in writers {
                let updates = is_among(readers, writer);
                if writer != reader && !(also_writes && updates) {
                    builder.add_edge(TaskId::from_u32(writer), TaskId::from_u32(reader))?;
                }
            }
        }
    }
    Ok(())
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
