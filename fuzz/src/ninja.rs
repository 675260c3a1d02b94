//! Ninja manifests, with the files that they include and their dyndep files.

use std::io;
use std::path::Path;

use windrow_components::task_graph::{Limits, TaskGraph, TaskGraphError};
use windrow_formats::task_graph::{Format, load, write_dot, write_ninja, write_wfformat};

use crate::shared::{corpus, seeds as seeds_of};

/// What stands between the files of one input.
const SEPARATOR: &[u8] = b"\n#=\n";

/// Files in one input: the first is `build.ninja`, the others are named `1`, `2`, ….
fn read(bytes: &[u8]) -> Result<TaskGraph, TaskGraphError> {
    let mut files = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|it| it == SEPARATOR) {
        files.push(&rest[..=at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    files.push(rest);
    let mut other = |path: &Path| {
        let number = path.to_str().and_then(|name| name.parse::<usize>().ok());
        let file = number.and_then(|number| files.get(number));
        file.map(|file| file.to_vec())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let limits = Limits {
        memory_bytes: 64 << 20,
    };
    load(Some(Format::Ninja), "build.ninja", files[0], limits, &mut other)
}

/// A graph can be written and is read again as the same tasks and edges; every task comes after
/// those that it waits for.
pub fn check(bytes: &[u8]) {
    match read(bytes) {
        Ok(graph) => check_graph(&graph),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What holds for a graph of any format.
pub(crate) fn check_graph(graph: &TaskGraph) {
    let order = graph.topological_order();
    assert_eq!(order.len(), graph.len());
    let mut place = vec![0; graph.len()];
    for (at, task) in order.iter().enumerate() {
        place[task.index()] = at;
    }
    for task in graph.tasks() {
        for before in graph.predecessors(task) {
            assert!(place[before.index()] < place[task.index()]);
        }
    }
    let mut nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let same = |read: &TaskGraph, durations: bool| {
        assert_eq!(read.len(), graph.len());
        assert_eq!(read.edge_count(), graph.edge_count());
        for task in graph.tasks() {
            assert_eq!(read.predecessors(task), graph.predecessors(task));
            assert_eq!(read.name_bytes(task), graph.name_bytes(task));
            if durations && graph.unit() == read.unit() {
                assert_eq!(read.duration(task), graph.duration(task));
            }
        }
    };
    let mut text = Vec::new();
    if write_ninja(graph, &mut text).is_ok() && !graph.is_empty() {
        let read = load(Some(Format::Ninja), "w", &text, Limits::default(), &mut nothing);
        if has_unique_names(graph) {
            same(&read.expect("what was written is read"), false);
        }
    }
    text.clear();
    if write_wfformat(graph, &mut text).is_ok() && !graph.is_empty() {
        let read = load(Some(Format::WfFormat), "w", &text, Limits::default(), &mut nothing);
        same(&read.expect("what was written is read"), true);
    }
    text.clear();
    write_dot(graph, &mut text).expect("memory takes it");
}

fn has_unique_names(graph: &TaskGraph) -> bool {
    let mut names: Vec<_> = graph.tasks().map(|task| graph.name_bytes(task)).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// All statements of the language, and real manifests of the corpus.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = seeds_of([
        "rule cc\n  command = gcc $in -o $out\n  depfile = $out.d\nbuild a.o: cc a.c | h.h || gen |@ v\n  x = $y\nbuild v: phony\ndefault a.o\n",
        "x = 1\ny = ${x}$x$$ $: $\n  z\npool p\n  depth = $x\nrule r\n  command = c\n  pool = p\nbuild o1 o2 | o3: r i$ 1 ${y}\n",
        "include 1\nbuild b: r\n\n#=\nrule r\n  command = x\nsubninja 2\n\n#=\nv = 1\nbuild c$v: r\n",
        "rule r\n  command = x\n  dyndep = 1\nbuild a: r || 1\nbuild 1: r\nbuild b: r\n\n#=\nninja_dyndep_version = 1\nbuild a | e: dyndep | b\n  restat = 1\n",
        "a = 1234567890\nb = $a$a$a$a\nc = $b$b$b$b\nd = $c$c$c$c\nrule r\n command = $d\nbuild $d: r\n",
        "build a: phony a\nbuild a a: phony\n",
        "ninja_required_version = 1.3\nbuilddir = x\nrule r\r\n  command = c\r\nbuild caf\u{e9}: r ../x/./y//z\r\n",
    ]);
    seeds.extend(corpus("workflows/builds", ".ninja"));
    seeds
}
