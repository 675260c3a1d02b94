//! Files with durations of tasks, and ninja's log.

use std::io;
use std::path::Path;

use windrow_components::task_graph::{Limits, MAX_DURATION, TimeUnit};
use windrow_formats::task_graph::{Format, load, read_durations};

use crate::shared::{corpus, seeds as seeds_of};

const GRAPH: &[u8] = b"rule r\n  command = c\nbuild a: r\nbuild b: r a\nbuild obj/c\xe9.o: r b\n";

/// Every task has a duration within bounds, or the file is refused.
pub fn check(bytes: &[u8]) {
    let mut nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let graph = load(Some(Format::Ninja), "g", GRAPH, Limits::default(), &mut nothing);
    let mut graph = graph.expect("it is a graph");
    match read_durations(&mut graph, "file", bytes) {
        Ok(unnamed) => {
            assert!(unnamed <= graph.len());
            assert_eq!(graph.unit(), TimeUnit::Microseconds);
            assert!(graph.tasks().all(|task| graph.duration(task) <= MAX_DURATION));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Lines of both kinds, right and wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = seeds_of([
        "# ninja log v5\n0\t12\t0\ta\tabc\n12\t30\t1\tb\tdef\n0\t9\t1\ta\tabc\n",
        "# ninja log v7\n1\t2\t3\tobj/c\\xe9.o\t0\n",
        "1.5s a\n3ms b\n# x\n2 *\n",
        "1h a\n1us b\n.5m obj/c\\xe9.o\n",
        "-1 a\n",
        "1e99s *\n",
    ]);
    seeds.extend(corpus("workflows/builds", ".ninja_log"));
    seeds
}
