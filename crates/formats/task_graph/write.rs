//! Writes graphs: ninja, WfFormat 1.5, dot. To a sink the caller gives, task by task, so nothing is
//! held twice.

use std::io::{self, Write};

use windrow_components::progress::{self, UnderWay};
use windrow_components::task_graph::Attributes;

use super::{MAX_DURATION, TaskGraph, TaskGraphError, TaskId, TimeUnit, ninja, spelt};

/// How many tasks are written between two reports of it.
const BETWEEN_REPORTS: u64 = 4096;

/// The tasks, counted as progress in as many rounds.
fn counted(graph: &TaskGraph, rounds: u64) -> impl Iterator<Item = TaskId> {
    graph.tasks().inspect(move |task| {
        if (task.index() as u64 + 1).is_multiple_of(BETWEEN_REPORTS) {
            progress::add(BETWEEN_REPORTS / rounds);
        }
    })
}

fn begin(graph: &TaskGraph) -> UnderWay {
    progress::begin("writing", "tasks", Some(graph.len() as u64))
}

/// A duration in seconds with all its digits; an abstract unit counts as a second.
fn seconds(graph: &TaskGraph, task: TaskId) -> String {
    let duration = graph.duration(task);
    match graph.unit() {
        TimeUnit::Units => duration.to_string(),
        TimeUnit::Microseconds => {
            format!("{}.{:06}", duration / 1_000_000, duration % 1_000_000)
        }
    }
}

/// Writes a ninja file with a statement a task, which a real ninja can run: each sleeps for its
/// duration, if the graph has durations, and touches its output. Reading it back gives the same
/// tasks and edges, without durations.
///
/// # Errors
/// If a name cannot stand in a ninja file as it is, or the sink fails.
pub fn write_ninja(graph: &TaskGraph, sink: &mut impl Write) -> Result<(), TaskGraphError> {
    let sleep = if graph.has_durations() {
        "sleep $seconds && "
    } else {
        ""
    };
    write!(sink, "rule task\n  command = {sleep}touch $out\n")?;
    let mut line = Vec::new();
    let _writing = begin(graph);
    for task in counted(graph, 1) {
        line.clear();
        line.extend_from_slice(b"build ");
        escape_path(&graph.name_bytes(task), &mut line)?;
        line.extend_from_slice(b": task");
        for &predecessor in graph.predecessors(task) {
            line.push(b' ');
            escape_path(&graph.name_bytes(predecessor), &mut line)?;
        }
        line.push(b'\n');
        sink.write_all(&line)?;
        if graph.has_durations() {
            writeln!(sink, "  seconds = {}", seconds(graph, task))?;
        }
    }
    Ok(())
}

fn escape_path(name: &[u8], line: &mut Vec<u8>) -> Result<(), TaskGraphError> {
    let refused = |byte: &u8| matches!(byte, b'|' | b'\n' | b'\r' | 0);
    if name.iter().any(refused) || !ninja::is_canonical(name) {
        return Err(TaskGraphError::Unwritable {
            name: spelt(name).into_owned(),
            format: "ninja",
        });
    }
    for &byte in name {
        if matches!(byte, b'$' | b' ' | b':') {
            line.push(b'$');
        }
        line.push(byte);
    }
    Ok(())
}

/// Writes WfFormat 1.5. Ids are `t` and the task's number; names stay as they are, but bytes of
/// them that are no text are spelt out ([`spelt`]). Without durations there is no `execution`;
/// abstract units are written as seconds. Of what tasks need, data is written as files called `f`
/// and their number, and with durations the fewest cores, memory, kinds (as programs) and
/// priorities; nothing else of it is.
///
/// # Errors
/// If units are more than durations in seconds may be, or the sink fails.
pub fn write_wfformat(graph: &TaskGraph, sink: &mut impl Write) -> Result<(), TaskGraphError> {
    check_units_as_seconds(graph)?;
    let successors = graph.successors();
    let _writing = begin(graph);
    let rounds = 1 + u64::from(graph.has_durations());
    write!(
        sink,
        "{{\"name\":\"windrow\",\"schemaVersion\":\"1.5\",\"workflow\":{{\n\
         \"specification\":{{\"tasks\":["
    )?;
    for task in counted(graph, rounds) {
        sink.write_all(if task.index() == 0 { b"\n" } else { b",\n" })?;
        sink.write_all(b"{\"name\":")?;
        serde_json::to_writer(&mut *sink, &graph.name(task)).map_err(io::Error::from)?;
        write!(sink, ",\"id\":\"t{}\",\"parents\":[", task.index())?;
        write_ids(graph.predecessors(task), sink)?;
        sink.write_all(b"],\"children\":[")?;
        write_ids(successors.of(task), sink)?;
        sink.write_all(b"]")?;
        if let Some(demands) = graph.demands() {
            for (key, data) in [
                ("inputFiles", demands.inputs(task)),
                ("outputFiles", demands.outputs(task)),
            ] {
                let ids: Vec<String> = data.iter().map(|number| format!("\"f{number}\"")).collect();
                write!(sink, ",\"{key}\":[{}]", ids.join(","))?;
            }
        }
        sink.write_all(b"}")?;
    }
    sink.write_all(b"\n]")?;
    if let Some(demands) = graph.demands() {
        sink.write_all(b",\n\"files\":[")?;
        for (number, size) in demands.sizes.iter().enumerate() {
            let comma = if number == 0 { "\n" } else { ",\n" };
            write!(
                sink,
                "{comma}{{\"id\":\"f{number}\",\"sizeInBytes\":{size}}}"
            )?;
        }
        sink.write_all(b"\n]")?;
    }
    sink.write_all(b"}")?;
    if graph.has_durations() {
        sink.write_all(b",\n\"execution\":{\"tasks\":[")?;
        for task in counted(graph, rounds) {
            sink.write_all(if task.index() == 0 { b"\n" } else { b",\n" })?;
            let seconds = seconds(graph, task);
            write!(
                sink,
                "{{\"id\":\"t{}\",\"runtimeInSeconds\":{seconds}",
                task.index()
            )?;
            if let Some(demands) = graph.demands() {
                let (cores, memory) = (demands.cores(task).least, demands.memory(task));
                write!(sink, ",\"coreCount\":{cores},\"memoryInBytes\":{memory}")?;
            }
            if let Some(attributes) = graph.attributes() {
                write_attributes(attributes, task, sink)?;
            }
            sink.write_all(b"}")?;
        }
        sink.write_all(b"\n]}")?;
    }
    sink.write_all(b"}}\n")?;
    Ok(())
}

/// The kind of a task, as its program, and its priority.
fn write_attributes(
    attributes: &Attributes,
    task: TaskId,
    sink: &mut impl Write,
) -> Result<(), TaskGraphError> {
    let kind = attributes.kind_of.get(task.index());
    let kind = kind.map(|&kind| &attributes.kinds[kind as usize]);
    if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
        sink.write_all(b",\"command\":{\"program\":")?;
        serde_json::to_writer(&mut *sink, kind).map_err(io::Error::from)?;
        sink.write_all(b"}")?;
    }
    if let Some(priority) = attributes.priorities.get(task.index()) {
        write!(sink, ",\"priority\":{priority}")?;
    }
    Ok(())
}

/// Refuses durations in units that nobody could read again as seconds.
fn check_units_as_seconds(graph: &TaskGraph) -> Result<(), TaskGraphError> {
    if graph.unit() != TimeUnit::Units || !graph.has_durations() {
        return Ok(());
    }
    let mut total = 0_u64;
    for task in graph.tasks() {
        let duration = graph.duration(task);
        let in_microseconds = duration.checked_mul(1_000_000);
        let Some(read) = in_microseconds.filter(|&read| read <= MAX_DURATION) else {
            return Err(TaskGraphError::AbsurdDuration {
                origin: "written as WfFormat".to_owned(),
                task: graph.name(task).into_owned(),
                duration: format!("{duration} s"),
            });
        };
        let tasks = graph.len();
        total = total
            .checked_add(read)
            .ok_or(TaskGraphError::WorkOverflow { tasks })?;
    }
    Ok(())
}

fn write_ids(tasks: &[TaskId], sink: &mut impl Write) -> io::Result<()> {
    for (place, task) in tasks.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(sink, "{comma}\"t{}\"", task.index())?;
    }
    Ok(())
}

/// Writes a graph for Graphviz, an arrow from each task to those that wait for it.
///
/// # Errors
/// If the sink fails.
pub fn write_dot(graph: &TaskGraph, sink: &mut impl Write) -> Result<(), TaskGraphError> {
    writeln!(sink, "digraph tasks {{")?;
    let _writing = begin(graph);
    for task in counted(graph, 1) {
        let name = graph.name(task).replace('\\', "\\\\").replace('"', "\\\"");
        write!(sink, "  n{} [label=\"{name}", task.index())?;
        if graph.has_durations() {
            let unit = match graph.unit() {
                TimeUnit::Microseconds => " s",
                TimeUnit::Units => "",
            };
            write!(sink, "\\n{}{unit}", seconds(graph, task))?;
        }
        writeln!(sink, "\"];")?;
        for predecessor in graph.predecessors(task) {
            writeln!(sink, "  n{} -> n{};", predecessor.index(), task.index())?;
        }
    }
    writeln!(sink, "}}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Format, Limits, load};
    use super::*;

    fn graph(names: [&str; 3], durations: bool) -> TaskGraph {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        let ids = names.map(|name| builder.add_task(Some(name), durations.then_some(1_500_000)));
        let [a, b, c] = ids.map(Result::unwrap);
        for (predecessor, task) in [(c, a), (c, b), (b, a)] {
            builder.add_edge(predecessor, task).unwrap();
        }
        builder.finish().unwrap()
    }

    fn read(format: Format, text: &[u8]) -> TaskGraph {
        load(Some(format), "test", text, Limits::default(), &mut |path| {
            panic!("nothing includes {}", path.display())
        })
        .unwrap()
    }

    #[test]
    fn ninja_and_back() {
        let mut wanted = graph(["a b", "$x:", "c"], true);
        let mut text = Vec::new();
        write_ninja(&wanted, &mut text).unwrap();
        wanted.set_durations(TimeUnit::Units, Vec::new()).unwrap();
        assert_eq!(read(Format::Ninja, &text), wanted);
    }

    #[test]
    fn wfformat_and_back() {
        for durations in [true, false] {
            let wanted = graph(["a\n\"b", "é", "c/../d"], durations);
            let mut text = Vec::new();
            write_wfformat(&wanted, &mut text).unwrap();
            assert_eq!(read(Format::WfFormat, &text), wanted);
        }
    }

    #[test]
    fn units_that_are_too_many_for_seconds_are_not_written_as_such() {
        let mut graph = graph(["a", "b", "c"], false);
        let mut write = |durations: [u64; 3]| {
            let set = graph.set_durations(TimeUnit::Units, durations.to_vec());
            set.unwrap();
            let mut text = Vec::new();
            write_wfformat(&graph, &mut text).map(|()| read(Format::WfFormat, &text))
        };
        assert!(write([0, 1, 1_000_000_000]).is_ok());
        let error = write([0, 1, 50_000_000_000]).unwrap_err().to_string();
        let wanted = "written as WfFormat: task `c` has the duration 50000000000 s, which is";
        assert!(error.starts_with(wanted), "{error}");
    }

    #[test]
    fn names_that_are_no_text_stay_apart_and_come_back() {
        let text = b"rule r\n  command = x\nbuild caf\xe9.o: r\nbuild caf\xe8.o: r caf\xe9.o\n\
            build caf\\xe9.o: r caf\xe8.o\n";
        let graph = read(Format::Ninja, text);
        let names: Vec<_> = graph.tasks().map(|task| graph.name_bytes(task)).collect();
        assert_eq!(names, [&b"caf\xe9.o"[..], b"caf\xe8.o", b"caf\\xe9.o"]);
        assert_eq!(graph.edge_count(), 2);
        let (mut ninja, mut wfformat, mut dot) = (Vec::new(), Vec::new(), Vec::new());
        write_ninja(&graph, &mut ninja).unwrap();
        assert_eq!(read(Format::Ninja, &ninja), graph);
        assert!(memchr::memmem::find(&ninja, b"build caf\xe8.o: task caf\xe9.o").is_some());
        write_wfformat(&graph, &mut wfformat).unwrap();
        assert_eq!(read(Format::WfFormat, &wfformat), graph);
        write_dot(&graph, &mut dot).unwrap();
        let dot = String::from_utf8(dot).unwrap();
        for label in [r"caf\\xe9.o", r"caf\\xe8.o", r"caf\\x5cxe9.o"] {
            assert!(
                dot.contains(&format!("label=\"{label}\"")),
                "{label}: {dot}"
            );
        }
    }

    #[test]
    fn names_that_ninja_would_change_are_refused() {
        for name in ["a|b", "a\nb", "./a", "a/../b", "a//b", "a/"] {
            let refused = write_ninja(&graph([name, "b", "c"], false), &mut Vec::new());
            assert!(
                matches!(refused, Err(TaskGraphError::Unwritable { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn dot() {
        let mut text = Vec::new();
        write_dot(&graph(["a\"", "b", "c"], true), &mut text).unwrap();
        let wanted = "digraph tasks {\n  n0 [label=\"a\\\"\\n1.500000 s\"];\n  n1 -> n0;\n  \
                      n2 -> n0;\n  n1 [label=\"b\\n1.500000 s\"];\n  n2 -> n1;\n  \
                      n2 [label=\"c\\n1.500000 s\"];\n}\n";
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }
}
