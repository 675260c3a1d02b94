//! Every graph of the corpus against its reference figures, and damaged copies of all formats,
//! which must never panic.

use std::path::{Path, PathBuf};

use super::list_schedule::{Rule, makespan};
use super::*;
use proptest::prelude::*;
use windrow_components::task_graph::{Attributes, Demands};

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/corpus/workflows"
);

/// Where the corpus is, if it is there; windrow is built without it too.
fn corpus() -> Option<PathBuf> {
    let directory = Path::new(CORPUS);
    if directory.exists() {
        return Some(directory.to_owned());
    }
    eprintln!("skipped: {} is not there", directory.display());
    None
}

fn read(file: &str, text: &[u8]) -> Result<TaskGraph, TaskGraphError> {
    load(None, file, text, Limits::default(), &mut |path| {
        Err(std::io::Error::other(format!(
            "{} should not be asked for",
            path.display()
        )))
    })
}

fn again(graph: &TaskGraph, format: Format) -> TaskGraph {
    let mut text = Vec::new();
    match format {
        Format::Ninja => write_ninja(graph, &mut text).unwrap(),
        _ => write_wfformat(graph, &mut text).unwrap(),
    }
    load(
        Some(format),
        "again",
        &text,
        Limits::default(),
        &mut |_| unreachable!(),
    )
    .unwrap()
}

/// file, unit, tasks, edges, work, critical_path, m, lower_bound, fifo, critical_path_first
fn reference(directory: &Path) -> Vec<(String, String, [u64; 8])> {
    let table = std::fs::read_to_string(directory.join("reference.csv")).unwrap();
    let row = |line: &str| {
        let mut fields = line.split(',');
        let file = fields.next().unwrap().to_owned();
        let unit = fields.next().unwrap().to_owned();
        (
            file,
            unit,
            std::array::from_fn(|_| fields.next().unwrap().parse().unwrap()),
        )
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn every_row_of_the_reference_is_reproduced() {
    let Some(directory) = corpus() else { return };
    let rows = reference(&directory);
    let mut graphs = std::collections::BTreeMap::new();
    for (
        file,
        unit,
        [
            tasks,
            edges,
            work,
            critical_path,
            machines,
            bound,
            fifo,
            cpf,
        ],
    ) in &rows
    {
        let graph = graphs
            .entry(file)
            .or_insert_with(|| read(file, &std::fs::read(directory.join(file)).unwrap()).unwrap());
        let stats = graph.stats();
        let figures = [
            stats.tasks as u64,
            stats.edges as u64,
            stats.work,
            stats.critical_path,
        ];
        assert_eq!(figures, [*tasks, *edges, *work, *critical_path], "{file}");
        let units = if stats.unit == TimeUnit::Units {
            "ut"
        } else {
            "us"
        };
        assert_eq!(units, unit, "{file}");
        assert_eq!(stats.lower_bound(*machines), *bound, "{file}");
        let machines = *machines as usize;
        assert_eq!(
            makespan(graph, machines, Rule::Fifo),
            *fifo,
            "{file} {machines} fifo"
        );
        let found = makespan(graph, machines, Rule::CriticalPathFirst);
        assert_eq!(found, *cpf, "{file} {machines} critical path first");
    }
    assert_eq!((graphs.len(), rows.len()), (34, 22 * 3 + 12 * 4));
}

#[test]
fn depth_and_width_are_those_of_the_corpus() {
    let Some(directory) = corpus() else { return };
    let table = std::fs::read_to_string(directory.join("README.md")).unwrap();
    let mut seen = 0;
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<String> = line
            .split('|')
            .map(|cell| cell.trim().replace([',', '`'], ""))
            .collect();
        if cells.len() != 14 || !cells[1].ends_with(".json") || cells[4].len() != 3 {
            continue;
        }
        let stats = read(
            &cells[1],
            &std::fs::read(directory.join(&cells[1])).unwrap(),
        )
        .unwrap()
        .stats();
        let figures = [stats.tasks, stats.edges, stats.depth, stats.width].map(|n| n.to_string());
        assert_eq!(figures, cells[5..9], "{}", cells[1]);
        seen += 1;
    }
    assert_eq!(seen, 22);
}

#[test]
fn the_corpus_survives_being_written_and_read() {
    let Some(directory) = corpus() else { return };
    let files: std::collections::BTreeSet<String> = reference(&directory)
        .into_iter()
        .map(|(file, ..)| file)
        .collect();
    for file in files {
        let mut graph = read(&file, &std::fs::read(directory.join(&file)).unwrap()).unwrap();
        if graph.unit() == TimeUnit::Microseconds {
            assert_eq!(again(&graph, Format::WfFormat), graph, "{file}");
        }
        // What a ninja file has no place for.
        graph.set_durations(TimeUnit::Units, Vec::new()).unwrap();
        graph.set_demands(Demands::default()).unwrap();
        graph.set_attributes(Attributes::default()).unwrap();
        assert_eq!(again(&graph, Format::Ninja), graph, "{file}");
    }
}

const SAMPLES: [(&str, &str); 2] = [
    (
        "a.json",
        r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[{"id":"a","name":"x",
           "parents":[],"children":["b"]},{"id":"b","name":"y","parents":["a"],"children":[]}]},
           "execution":{"tasks":[{"id":"a","runtimeInSeconds":1.5}]}}}"#,
    ),
    ("a.stg", "2\n0 0 0\n1 5 1 0\n2 7 2 0 1\n3 0 1 2\n# end\n"),
];

proptest! {
    #[test]
    fn damaged_files_never_panic(
        sample in 0..SAMPLES.len(),
        edits in proptest::collection::vec((0usize..400, any::<u8>(), 0u8..3), 1..6),
    ) {
        let (file, text) = SAMPLES[sample];
        let mut text = text.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let at = at % text.len();
            match kind {
                0 => text[at] = byte,
                1 => text.insert(at, b"0123456789-.eE\"[]{},:a #"[byte as usize % 23]),
                _ => {
                    text.remove(at);
                }
            }
        }
        let _ = read(file, &text);
    }

    #[test]
    fn random_graphs_survive_being_written_and_read(seed: u64, tasks in 1u32..60) {
        let text = format!("random:n={tasks},degree=3,time=exponential:1s,seed={seed}");
        let graph = text.parse::<Generator>().unwrap().generate(Limits::default()).unwrap();
        let mut back = again(&graph, Format::WfFormat);
        let same = |back: &TaskGraph| {
            back.tasks().all(|task| {
                back.name(task) == graph.name(task)
                    && back.predecessors(task) == graph.predecessors(task)
            })
        };
        prop_assert!(same(&back) && back.stats() == graph.stats());
        back = again(&graph, Format::Ninja);
        prop_assert!(same(&back) && back.edge_count() == graph.edge_count());
    }
}
