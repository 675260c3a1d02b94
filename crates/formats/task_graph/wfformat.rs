//! Reads WfCommons WfFormat, schemas 1.0 to 1.6: tasks, their run times, the union of parents,
//! children, and what files show, and what tasks need. What else a workflow records is skipped.

mod attributes;
mod demands;
mod files;
mod schema;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use self::schema::{Document, File, Run, Task, Text};
use super::distribution::microseconds;
use super::{Builder, Limits, Place, TaskGraph, TaskGraphError, TaskId, TimeUnit, unspelt};

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
    let split = workflow.specification.is_some();
    let (tasks, sizes) = match workflow.specification {
        Some(specification) => (Some(specification.tasks), specification.files),
        None => (None, None),
    };
    let tasks = tasks.or(workflow.tasks).or(workflow.jobs).ok_or_else(|| {
        let reason = "`workflow` has neither `specification.tasks` nor `tasks` nor `jobs`";
        unsuitable(file, reason.to_owned())
    })?;
    limits.admit(tasks.len() as u64, 0)?;
    let keys = index_by_key(file, &tasks, split)?;
    let runs = workflow
        .execution
        .iter()
        .flat_map(|execution| &execution.tasks);
    let runtimes = runtimes(file, &tasks, &keys, runs)?;

    let by_name = !split || names_are_unique(&tasks);
    let mut builder = Builder::new(file, TimeUnit::Microseconds, limits);
    for (task, runtime) in tasks.iter().zip(runtimes) {
        let key = if by_name { &task.name } else { &task.id };
        let name = key.as_ref().map_or("", |key| &key.0);
        let duration = runtime
            .map(|seconds| duration(file, name, seconds))
            .transpose()?;
        builder.add_task_bytes(Some(&unspelt(name)), duration)?;
    }
    add_edges(
        &mut builder,
        file,
        &tasks,
        |key| keys.get(key).copied(),
        split,
    )?;
    files::add_edges(&mut builder, &tasks)?;
    let mut graph = builder.finish()?;
    let runs = workflow.execution.iter().flat_map(|run| &run.tasks);
    let runs = runs.filter_map(|run| Some((*keys.get(&*run.id.0)?, run)));
    let runs: Vec<(TaskId, &Run<'_>)> = runs.collect();
    let attributes = attributes::of(&tasks, &runs, by_name);
    let demands = demands::of(&graph, &tasks, sizes.iter().flatten(), runs.into_iter());
    graph.set_demands(demands)?;
    graph.set_attributes(attributes)?;
    Ok(graph)
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

/// The run time of each task in seconds: as an execution measured it, else as the task says.
fn runtimes<'r>(
    file: &str,
    tasks: &[Task<'_>],
    keys: &HashMap<&str, TaskId>,
    runs: impl Iterator<Item = &'r Run<'r>>,
) -> Result<Vec<Option<f64>>, TaskGraphError> {
    let stated = |task: &Task<'_>| task.runtime_in_seconds.or(task.runtime);
    let mut runtimes: Vec<Option<f64>> = tasks.iter().map(stated).collect();
    let mut ran = vec![false; tasks.len()];
    for run in runs {
        let Some(task) = keys.get(&*run.id.0) else {
            let id = &run.id.0;
            let reason = format!("`execution` has a task `{id}` that `specification` lacks");
            return Err(unsuitable(file, reason));
        };
        if std::mem::replace(&mut ran[task.index()], true) {
            let id = &run.id.0;
            let reason = format!("`execution` has the task `{id}` twice; leave one of them out");
            return Err(unsuitable(file, reason));
        }
        let runtime = run.runtime_in_seconds.or(run.runtime);
        runtimes[task.index()] = runtime.or(runtimes[task.index()]);
    }
    Ok(runtimes)
}

fn add_edges(
    builder: &mut Builder,
    file: &str,
    tasks: &[Task<'_>],
    by_key: impl Fn(&str) -> Option<TaskId>,
    split: bool,
) -> Result<(), TaskGraphError> {
    let find = |other: &Text<'_>, task: &Task<'_>| {
        by_key(&other.0).ok_or_else(|| TaskGraphError::DanglingEdge {
            origin: file.to_owned(),
            task: key_of(task, split).unwrap_or_default().to_owned(),
            missing: other.0.to_string(),
        })
    };
    for (index, task) in tasks.iter().enumerate() {
        let id = TaskId::from_index(index);
        for parent in task.parents.iter().flatten() {
            builder.add_edge(find(parent, task)?, id)?;
        }
    }
    for (index, task) in tasks.iter().enumerate() {
        let id = TaskId::from_index(index);
        for child in task.children.iter().flatten() {
            builder.add_edge(id, find(child, task)?)?;
        }
    }
    Ok(())
}

/// An estimate of the bytes that a file takes once it is taken apart: a place for every text that
/// is no key, in lists that grow by doubling, and one for every object.
fn memory_needed(text: &[u8]) -> u64 {
    let texts = memchr::memchr_iter(b'"', text).count() / 2;
    let keys = memchr::memmem::find_iter(text, b"\":").count();
    let objects = memchr::memchr_iter(b'{', text).count();
    let bytes = texts.saturating_sub(keys) * size_of::<Text<'_>>() * 2
        + objects * size_of::<Task<'_>>() * 3 / 2;
    bytes as u64
}

/// What `parents` and `children` refer to a task by: its id from schema 1.5 on, its name before.
fn key_of<'a>(task: &'a Task<'_>, split: bool) -> Option<&'a str> {
    let key = if split { &task.id } else { &task.name };
    key.as_ref().map(|key| &*key.0)
}

fn index_by_key<'a>(
    file: &str,
    tasks: &'a [Task<'_>],
    split: bool,
) -> Result<HashMap<&'a str, TaskId>, TaskGraphError> {
    let mut keys = HashMap::with_capacity(tasks.len());
    for (index, task) in tasks.iter().enumerate() {
        let key = key_of(task, split)
            .filter(|key| !key.is_empty())
            .ok_or_else(|| {
                let what = if split { "id" } else { "name" };
                TaskGraphError::Unsuitable {
                    file: file.to_owned(),
                    reason: format!("task number {} of the file has no `{what}`", index + 1),
                }
            })?;
        match keys.entry(key) {
            Entry::Vacant(free) => free.insert(TaskId::from_index(index)),
            Entry::Occupied(_) => {
                return Err(TaskGraphError::DuplicateTask {
                    origin: file.to_owned(),
                    name: key.to_owned(),
                });
            }
        };
    }
    Ok(keys)
}

fn names_are_unique(tasks: &[Task<'_>]) -> bool {
    let mut seen = hashbrown::HashSet::with_capacity(tasks.len());
    tasks
        .iter()
        .all(|task| task.name.as_ref().is_some_and(|name| seen.insert(&*name.0)))
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
    fn kinds_are_categories_programs_or_names_that_several_have() {
        let kinds = |text: &str| {
            let graph = read(text).unwrap();
            let attributes = graph.attributes().cloned().unwrap_or_default();
            let kinds = attributes.kind_of.iter();
            kinds
                .map(|&kind| attributes.kinds[kind as usize].clone())
                .collect::<Vec<String>>()
        };
        assert!(kinds(NEW).is_empty());
        let same_names = NEW.replace(r#""name":"c""#, r#""name":"a""#);
        assert_eq!(kinds(&same_names), ["a", "b", "a"]);
        let programs = same_names.replace(
            r#""coreCount":4"#,
            r#""coreCount":4,"command":{"program":"p","arguments":[]}"#,
        );
        assert_eq!(kinds(&programs), ["a", "b", "p"]);
        let categories =
            programs.replace(r#""id":"c1","name""#, r#""id":"c1","category":"q","name""#);
        assert_eq!(kinds(&categories), ["a", "b", "q"]);
        let urgent = NEW.replace(r#""coreCount":4"#, r#""priority":7.5"#);
        let graph = read(&urgent).unwrap();
        assert_eq!(graph.attributes().unwrap().priorities, [0.0, 0.0, 7.5]);
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
