//! Reads WfCommons WfFormat, schemas 1.0 to 1.6: tasks, their run times, the union of parents,
//! children, and what files show, and what tasks need. What else a workflow records is skipped.

mod attributes;
mod demands;
mod edges;
mod files;
mod lists;
mod texts;

use std::borrow::Cow;

use serde::Deserialize;

use super::distribution::microseconds;
use super::{Builder, Limits, Place, TaskGraph, TaskGraphError, TaskId, TimeUnit, unspelt};
use lists::{Files, Runs, Tasks};
use texts::Texts;

/// A text that borrows from the file where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

#[derive(Deserialize)]
struct Document<'t> {
    #[serde(borrow, rename = "schemaVersion")]
    schema_version: Option<Text<'t>>,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    /// Up to schema 1.2.
    jobs: Option<Tasks<false>>,
    /// Schemas 1.3 and 1.4.
    tasks: Option<Tasks<false>>,
    /// From schema 1.5 on.
    specification: Option<Specification>,
    execution: Option<Execution>,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Tasks<true>,
    #[serde(default)]
    files: Option<Files>,
}

#[derive(Deserialize)]
struct Execution {
    #[serde(default)]
    tasks: Runs,
}

const SCHEMAS: [&str; 7] = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"];

/// Reads a graph. Tasks are called by their names, or, should two share one, all by their ids. If
/// some tasks have a run time and others none, the others take 0.
///
/// # Errors
/// If the file is malformed or cut, of another schema, or holds no valid graph.
pub(super) fn load(file: &str, text: &[u8], limits: Limits) -> Result<TaskGraph, TaskGraphError> {
    // The JSON reader takes a list for an object whose members stand in order.
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(TaskGraphError::Malformed {
            place: Place::of_offset(file, text, text.len() - text.trim_ascii_start().len()),
            reason: "a JSON object should stand here, not a list".to_owned(),
        });
    }
    limits.admit_file(file, memory_needed(text))?;
    let document: Document<'_> =
        serde_json::from_slice(text).map_err(|error| malformed(file, &error))?;
    let version = document
        .schema_version
        .as_ref()
        .map_or("1.5", |version| &version.0);
    if !SCHEMAS.contains(&version) {
        return Err(unsuitable(
            file,
            format!("the WfFormat schema `{version}` is not known; 1.0 to 1.6 are"),
        ));
    }
    let workflow = document.workflow;
    let runs = workflow.execution.map(|execution| execution.tasks);
    let runs = runs.unwrap_or_default();
    if let Some(specification) = workflow.specification {
        let files = specification.files.unwrap_or_default();
        return graph(file, specification.tasks, &files, runs, limits);
    }
    let tasks = workflow.tasks.or(workflow.jobs).ok_or_else(|| {
        let reason = "`workflow` has neither `specification.tasks` nor `tasks` nor `jobs`";
        unsuitable(file, reason.to_owned())
    })?;
    graph(file, tasks, &Files::default(), runs, limits)
}

/// The graph of a list of tasks.
fn graph<const BY_ID: bool>(
    file: &str,
    mut tasks: Tasks<BY_ID>,
    files: &Files,
    runs: Runs,
    limits: Limits,
) -> Result<TaskGraph, TaskGraphError> {
    limits.admit(tasks.len() as u64, 0)?;
    if let Some(problem) = tasks.problem.take() {
        return Err(problem.of(file, &tasks));
    }
    let ran = runs_of(file, &mut tasks, &runs)?;
    let by_key = BY_ID && !tasks.names.are_unique();
    let mut builder = Builder::new(file, TimeUnit::Microseconds, limits);
    for index in 0..tasks.len() {
        let name = match by_key {
            true => tasks.key(index),
            false => tasks.names.get(index),
        };
        let runtime = tasks.runtimes.get(index);
        let duration = runtime
            .map(|seconds| duration(file, name, seconds))
            .transpose()?;
        builder.add_task_bytes(Some(&unspelt(name)), duration)?;
    }
    let attributes = attributes::of(&tasks, (&runs, &ran), !by_key);
    tasks.names = Texts::default();
    edges::add(&mut builder, file, &mut tasks)?;
    files::add_edges(&mut builder, &tasks)?;
    let mut graph = builder.finish()?;
    let demands = demands::of(&graph, &tasks, files, &runs, &ran);
    graph.set_demands(demands)?;
    graph.set_attributes(attributes)?;
    Ok(graph)
}

/// The task of each run. Tasks take as long as an execution measured, where one did.
fn runs_of<const BY_ID: bool>(
    file: &str,
    tasks: &mut Tasks<BY_ID>,
    runs: &Runs,
) -> Result<Vec<TaskId>, TaskGraphError> {
    let mut ran = vec![false; tasks.len()];
    let mut of = Vec::with_capacity(runs.len());
    for run in 0..runs.len() {
        let id = runs.ids.get(run);
        let Some(task) = tasks.find(id) else {
            let reason = format!("`execution` has a task `{id}` that `specification` lacks");
            return Err(unsuitable(file, reason));
        };
        if std::mem::replace(&mut ran[task.index()], true) {
            let reason = format!("`execution` has the task `{id}` twice; leave one of them out");
            return Err(unsuitable(file, reason));
        }
        if let Some(seconds) = runs.runtimes.get(run) {
            tasks.runtimes.set(task.index(), Some(seconds));
        }
        of.push(task);
    }
    Ok(of)
}

/// Says in our words and places what the JSON reader says.
pub(super) fn malformed(file: &str, error: &serde_json::Error) -> TaskGraphError {
    let place = Place {
        file: file.to_owned(),
        line: error.line(),
        column: error.column(),
    };
    let reason = error.to_string();
    // The message of the JSON reader ends with the place, which stands in front already.
    let reason = reason.split(" at line ").next().unwrap_or_default();
    TaskGraphError::Malformed {
        place,
        reason: reason.to_owned(),
    }
}

fn unsuitable(file: &str, reason: String) -> TaskGraphError {
    TaskGraphError::Unsuitable {
        file: file.to_owned(),
        reason,
    }
}

/// An estimate of the bytes that a file takes once it is taken apart: a number for every text that
/// is no key, in lists that grow by doubling, the text itself and its place in a table if it is a
/// new one, as one an object is.
fn memory_needed(text: &[u8]) -> u64 {
    let texts = memchr::memchr_iter(b'"', text).count() / 2;
    let keys = memchr::memmem::find_iter(text, b"\":").count();
    let objects = memchr::memchr_iter(b'{', text).count();
    (texts.saturating_sub(keys) * 16 + objects * 64) as u64
}

pub(super) fn duration(file: &str, task: &str, seconds: f64) -> Result<u64, TaskGraphError> {
    let (origin, task) = (file.to_owned(), task.to_owned());
    // Without exponent the largest numbers have 300 digits.
    let duration = if seconds.abs() < 1e16 {
        format!("{seconds} s")
    } else {
        format!("{seconds:e} s")
    };
    if seconds < 0.0 {
        return Err(TaskGraphError::NegativeDuration {
            origin,
            task,
            duration,
        });
    }
    microseconds(seconds).ok_or(TaskGraphError::AbsurdDuration {
        origin,
        task,
        duration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TaskGraph, TaskGraphError> {
        load("a.json", text.as_bytes(), Limits::default())
    }

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    const NEW: &str = r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[
        {"id":"a1","name":"a","parents":[],"children":["b1"]},
        {"id":"b1","name":"b","parents":["a1"],"children":[]},
        {"id":"c1","name":"c","parents":["a1","b1"],"children":[]}]},
        "execution":{"makespanInSeconds":3,"tasks":[{"id":"a1","runtimeInSeconds":1.5},
        {"id":"c1","runtimeInSeconds":2,"coreCount":4},
        {"id":"b1","runtimeInSeconds":0.0000014}]}}}"#;

    #[test]
    fn parents_and_children_are_united_and_times_joined_by_id() {
        let graph = read(NEW).unwrap();
        let stats = graph.stats();
        assert_eq!((stats.tasks, stats.edges, stats.work), (3, 3, 3_500_001));
        let names: Vec<_> = graph.tasks().map(|task| graph.name(task)).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_task_is_executed_once() {
        let twice = NEW.replace(
            r#"{"id":"b1","runtimeInSeconds""#,
            r#"{"id":"a1","runtimeInSeconds""#,
        );
        let refused = refusal(&twice);
        assert!(
            refused.contains("`execution` has the task `a1` twice"),
            "{refused}"
        );
    }

    #[test]
    fn shared_names_give_way_to_ids() {
        let graph = read(&NEW.replace(r#""name":"b""#, r#""name":"a""#)).unwrap();
        let names: Vec<_> = graph.tasks().map(|task| graph.name(task)).collect();
        assert_eq!(names, ["a1", "b1", "c1"]);
    }

    #[test]
    fn older_schemas_are_keyed_by_name() {
        for (list, time) in [
            ("jobs", "runtime"),
            ("tasks", "runtime"),
            ("tasks", "runtimeInSeconds"),
        ] {
            let graph = read(&format!(
                r#"{{"schemaVersion":"1.2","workflow":{{"{list}":[
                    {{"name":"a","id":"7","{time}":2,"children":["b"]}},
                    {{"name":"b","id":"7","{time}":0.25}}]}}}}"#
            ))
            .unwrap();
            let stats = graph.stats();
            assert_eq!(
                (stats.edges, stats.work, stats.critical_path),
                (1, 2_250_000, 2_250_000)
            );
        }
    }

    #[test]
    fn the_newer_key_wins_and_missing_times_make_a_graph_without() {
        let old = r#"{"schemaVersion":"1.4","workflow":{"tasks":[{"name":"a",TIME}]}}"#;
        let both = old.replace("TIME", r#""runtime":9,"runtimeInSeconds":1"#);
        assert_eq!(read(&both).unwrap().stats().work, 1_000_000);
        let none = old.replace("TIME", r#""runtime":null"#);
        assert!(!read(&none).unwrap().has_durations());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_with_its_place() {
        for cut in 0..NEW.len() {
            let message = refusal(&NEW[..cut]);
            assert!(message.starts_with("a.json:"), "{message}");
        }
        assert!(refusal(&NEW[..60]).starts_with("a.json:1:"));
    }

    #[test]
    fn a_list_is_no_graph() {
        let listed = format!("\n [\"1.5\", {}]", r#"{"tasks":[{"name":"a"}]}"#);
        assert_eq!(
            refusal(&listed),
            "a.json:2:2: a JSON object should stand here, not a list"
        );
    }

    #[test]
    fn what_would_not_fit_once_it_is_taken_apart_is_refused() {
        let many = (0..1_000).map(|id| format!(r#"{{"name":"{id}","parents":["0","1","2"]}}"#));
        let many = many.collect::<Vec<_>>().join(",");
        let text = format!(r#"{{"schemaVersion":"1.3","workflow":{{"tasks":[{many}]}}}}"#);
        let limits = Limits {
            memory_bytes: 2 * text.len() as u64,
        };
        let refused = load("a.json", text.as_bytes(), limits).unwrap_err();
        assert!(
            matches!(refused, TaskGraphError::FileOverMemory { .. }),
            "{refused}"
        );
        assert!(
            refused
                .to_string()
                .contains("the graph in a.json is too large")
        );
    }

    #[test]
    fn every_mistake_is_told() {
        for (from, to, wanted) in [
            (
                r#""parents":["a1"]"#,
                r#""parents":["x"]"#,
                "task `b1` names `x`",
            ),
            (
                r#""id":"b1","name""#,
                r#""id":"a1","name""#,
                "two tasks called `a1`",
            ),
            (
                r#""id":"c1","runtime"#,
                r#""id":"d1","runtime"#,
                "`execution` has a task `d1`",
            ),
            ("\"1.5\"", "\"2.0\"", "schema `2.0` is not known"),
            ("1.5}", "-1.5}", "task `a` has the negative duration -1.5 s"),
            ("1.5}", "1e12}", "task `a` has the duration 1000000000000 s"),
            ("1.5}", "1e300}", "task `a` has the duration 1e300 s"),
            ("1.5}", "NaN}", "a.json:5:"),
            ("1.5}", "1e999}", "number out of range"),
            (
                r#""children":["b1"]"#,
                r#""children":["a1"]"#,
                "needs the next: a -> a",
            ),
            (r#""specification""#, r#""specs""#, "`workflow` has neither"),
        ] {
            let message = refusal(&NEW.replace(from, to));
            assert!(message.contains(wanted), "{message}");
        }
    }
}
