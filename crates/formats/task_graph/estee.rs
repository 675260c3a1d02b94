//! Reads the graphs of Estee: a list of tasks, or a table of such lists by columns, of which one is
//! chosen by its name.

use std::collections::BTreeMap;

use serde::Deserialize;
use windrow_components::task_graph::{Attributes, Cores, Demands};

use super::wfformat::{duration, malformed};
use super::{Builder, Limits, TaskGraph, TaskGraphError, TaskId, TimeUnit};

#[derive(Deserialize)]
struct Table {
    graph_name: BTreeMap<String, String>,
    graph: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Task {
    /// Seconds.
    d: f64,
    /// What its user thought, in seconds.
    #[serde(default)]
    e_d: Option<f64>,
    #[serde(default)]
    cpus: Option<u32>,
    #[serde(default)]
    outputs: Vec<Object>,
    /// A task and which of its outputs.
    #[serde(default)]
    inputs: Vec<(u32, u32)>,
}

#[derive(Deserialize)]
struct Object {
    /// MiB.
    s: f64,
}

/// The largest size of an object in MiB.
const MEBIBYTES_MAX: f64 = 1e9;

/// Reads a graph; of a table the one of that name, which need not be said if there is only one.
///
/// # Errors
/// If the file is malformed, holds no valid graph, or none of that name.
pub(super) fn load(
    file: &str,
    text: &[u8],
    name: Option<&str>,
    limits: Limits,
) -> Result<TaskGraph, TaskGraphError> {
    limits.admit_file(file, 4 * text.len() as u64)?;
    if text.trim_ascii_start().starts_with(b"[") {
        return graph(file, text, limits);
    }
    let table: Table = serde_json::from_slice(text).map_err(|error| malformed(file, &error))?;
    let mut names: Vec<(&str, &str)> = table
        .graph_name
        .iter()
        .map(|(key, name)| (name.as_str(), key.as_str()))
        .collect();
    names.sort_unstable();
    let found = match (name, &names[..]) {
        (None, [only]) => Some(only),
        _ => names.iter().find(|(known, _)| Some(*known) == name),
    };
    let chosen = found.and_then(|(_, key)| table.graph.get(*key));
    let chosen = chosen.ok_or_else(|| {
        let all: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        unsuitable(
            file,
            format!(
                "say which of its graphs is meant, as in {file}:{}; there are {}",
                all.first().unwrap_or(&"NAME"),
                all.join(", ")
            ),
        )
    })?;
    graph(file, chosen.as_bytes(), limits)
}

fn unsuitable(file: &str, reason: String) -> TaskGraphError {
    TaskGraphError::Unsuitable {
        file: file.to_owned(),
        reason,
    }
}

fn graph(file: &str, text: &[u8], limits: Limits) -> Result<TaskGraph, TaskGraphError> {
    let tasks: Vec<Task> = serde_json::from_slice(text).map_err(|error| malformed(file, &error))?;
    limits.admit(tasks.len() as u64, 0)?;
    let mut builder = Builder::new(file, TimeUnit::Microseconds, limits);
    let mut demands = Demands::default();
    let mut firsts = Vec::with_capacity(tasks.len());
    for (number, task) in tasks.iter().enumerate() {
        let time = duration(file, &format!("n{number}"), task.d)?;
        let id = builder.add_task(None, Some(time))?;
        demands.work.push(task.d);
        let cores = task.cpus.unwrap_or(1);
        if cores == 0 {
            return Err(unsuitable(file, format!("task {number} takes no core")));
        }
        demands.cores.push(Cores::rigid(cores));
        let first = demands.sizes.len() as u32;
        firsts.push(first);
        for object in &task.outputs {
            if !(0.0..=MEBIBYTES_MAX).contains(&object.s) {
                return Err(unsuitable(
                    file,
                    format!("an output of task {number} has an absurd size"),
                ));
            }
            demands
                .sizes
                .push((object.s * f64::from(1 << 20)).round() as u64);
            demands.makers.push(Some(id));
        }
        demands.outputs.push(first..demands.sizes.len() as u32);
    }
    for (number, task) in tasks.iter().enumerate() {
        let mut inputs = Vec::with_capacity(task.inputs.len());
        for &(maker, nth) in &task.inputs {
            let made = tasks
                .get(maker as usize)
                .map_or(0, |maker| maker.outputs.len());
            if nth as usize >= made {
                let reason =
                    format!("task {number} needs an output that task {maker} does not have");
                return Err(unsuitable(file, reason));
            }
            builder.add_edge(TaskId::from_u32(maker), TaskId::from_index(number))?;
            inputs.push(firsts[maker as usize] + nth);
        }
        demands.inputs.push(inputs);
    }
    let mut graph = builder.finish()?;
    graph.set_demands(demands)?;
    graph.set_attributes(attributes(file, &tasks)?)?;
    Ok(graph)
}

/// What users thought of tasks.
fn attributes(file: &str, tasks: &[Task]) -> Result<Attributes, TaskGraphError> {
    let is_wrong = |task: &Task| task.e_d.is_some_and(|time| !(0.0..=1e9).contains(&time));
    if let Some(number) = tasks.iter().position(is_wrong) {
        let reason = format!("task {number} has an absurd estimate");
        return Err(unsuitable(file, reason));
    }
    let is_said = tasks.iter().any(|task| task.e_d.is_some());
    let estimates = tasks.iter().map(|task| task.e_d.unwrap_or(f64::NAN));
    Ok(Attributes {
        estimates: estimates.filter(|_| is_said).collect(),
        ..Attributes::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[{"d":1.5,"e_d":null,"cpus":2,"outputs":[{"s":1,"e_s":1},{"s":0.5}],
        "inputs":[]},{"d":2,"cpus":1,"outputs":[],"inputs":[[0,1]]}]"#;

    fn read(text: &str, name: Option<&str>) -> Result<TaskGraph, TaskGraphError> {
        load("a.json", text.as_bytes(), name, Limits::default())
    }

    #[test]
    fn a_list_is_read() {
        let graph = read(LIST, None).unwrap();
        let [a, b] = [0, 1].map(TaskId::from_index);
        assert_eq!(graph.predecessors(b), [a]);
        let demands = graph.demands().unwrap();
        assert_eq!((demands.inputs(b), demands.sizes[1]), (&[1][..], 1 << 19));
        assert_eq!(demands.cores(a), Cores::rigid(2));
        assert_eq!(graph.attributes(), None);
        let estimated = read(&LIST.replacen("null", "2.5", 1), None).unwrap();
        let attributes = estimated.attributes().unwrap();
        assert_eq!(
            (attributes.estimate(a), attributes.estimate(b)),
            (Some(2.5), None)
        );
    }

    #[test]
    fn one_of_a_table_is_chosen() {
        let list = serde_json::to_string(LIST).unwrap();
        let one = format!(
            r#"{{"graph_name":{{"0":"x"}},"graph_id":{{"0":"i"}},"graph":{{"0":{list}}}}}"#
        );
        assert_eq!(read(&one, None).unwrap().len(), 2);
        let two =
            format!(r#"{{"graph_name":{{"0":"x","1":"y"}},"graph":{{"0":{list},"1":"[]"}}}}"#);
        assert_eq!(read(&two, Some("x")).unwrap().len(), 2);
        let message = read(&two, None).unwrap_err().to_string();
        assert!(
            message.contains("as in a.json:x; there are x, y"),
            "{message}"
        );
    }

    #[test]
    fn mistakes_are_told() {
        for (text, wanted) in [
            (r#"[{"d":-1}]"#, "negative duration"),
            (r#"[{"d":1,"cpus":0}]"#, "takes no core"),
            (r#"[{"d":1,"e_d":-1}]"#, "absurd estimate"),
            (r#"[{"d":1,"outputs":[{"s":-1}]}]"#, "absurd size"),
            (r#"[{"d":1,"inputs":[[0,0]]}]"#, "does not have"),
            (r#"[{"d":1"#, "a.json:1:"),
        ] {
            let message = read(text, None).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
