//! The statistics of a task graph, for people and for programs.

use serde_json::{Value, json};
use windrow_components::task_graph::{Degrees, Details, TaskGraph, TaskId};

use super::time;

/// How many lines a list may have; of a longer one less is shown.
const LINES: usize = 20;

/// The statistics as lines of text.
pub(super) fn lines(graph: &TaskGraph, details: &Details) -> Vec<String> {
    let mut lines = vec![
        degrees("predecessors", &details.predecessors),
        degrees("successors", &details.successors),
        match details.redundant_edges {
            Some(count) => format!("redundant      {count} edges that others imply"),
            None => "redundant      not counted: it would take too long".to_owned(),
        },
    ];
    lines.push("levels".to_owned());
    lines.extend(levels(&details.widths));
    lines.push("work by kind".to_owned());
    for kind in details.kinds.iter().take(LINES) {
        let (name, work) = (&kind.kind, time(kind.work, graph.unit()));
        lines.push(format!("  {name:<24} {work:>20} {:>10} tasks", kind.tasks));
    }
    if let Some(more @ 1..) = details.kinds.len().checked_sub(LINES) {
        lines.push(format!("  … {more} more kinds"));
    }
    lines.push("critical path, from its first task on".to_owned());
    let path = &details.critical_path;
    let task = |&task: &TaskId| {
        let time = time(graph.duration(task), graph.unit());
        format!("  {:<24} {time:>20}", graph.name(task))
    };
    if path.len() <= LINES {
        lines.extend(path.iter().map(task));
    } else {
        let (first, last) = (&path[..LINES / 2], &path[path.len() - LINES / 2..]);
        lines.extend(first.iter().map(task));
        lines.push(format!("  … {} more", path.len() - LINES));
        lines.extend(last.iter().map(task));
    }
    lines
}

fn degrees(what: &str, degrees: &Degrees) -> String {
    let Degrees {
        mean,
        median,
        p90,
        max,
        none,
    } = degrees;
    format!("{what:<14} mean {mean:.2}, median {median}, p90 {p90}, max {max}; none for {none}")
}

/// A line a level; of many levels one for several.
fn levels(widths: &[usize]) -> Vec<String> {
    let size = widths.len().div_ceil(LINES).max(1);
    let line = |(index, some): (usize, &[usize])| {
        let first = index * size;
        let tasks: usize = some.iter().sum();
        let name = match some.len() {
            1 => format!("{first}"),
            more => format!("{first}-{}", first + more - 1),
        };
        match some.iter().max() {
            Some(widest) if some.len() > 1 => {
                format!("  {name:<24} {tasks:>20} tasks, the widest has {widest}")
            }
            _ => format!("  {name:<24} {tasks:>20} tasks"),
        }
    };
    widths.chunks(size).enumerate().map(line).collect()
}

/// The statistics for programs; times are in the graph's unit.
pub(super) fn json(graph: &TaskGraph, details: &Details) -> Value {
    let degrees = |of: &Degrees| {
        json!({
            "mean": of.mean,
            "median": of.median,
            "p90": of.p90,
            "max": of.max,
            "none": of.none,
        })
    };
    let kinds = details
        .kinds
        .iter()
        .map(|of| json!({"kind": of.kind, "tasks": of.tasks, "work": of.work}));
    let path = details
        .critical_path
        .iter()
        .map(|&task| json!({"name": graph.name(task), "duration": graph.duration(task)}));
    json!({
        "predecessors": degrees(&details.predecessors),
        "successors": degrees(&details.successors),
        "widths": details.widths,
        "redundantEdges": details.redundant_edges,
        "kinds": kinds.collect::<Vec<_>>(),
        "criticalPath": path.collect::<Vec<_>>(),
    })
}
