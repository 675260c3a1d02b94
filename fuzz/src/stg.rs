//! Graphs of the Standard Task Graph Set.

use windrow_formats::task_graph::Format;

use crate::shared::{corpus, seeds as seeds_of};

/// What holds for every graph holds for these.
pub fn check(bytes: &[u8]) {
    crate::wfformat::check_as(Format::Stg, bytes);
}

/// With costs of communication and without, and the corpus.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = seeds_of([
        "2\n0 0 0\n1 5 1 0\n2 3 1 1\n3 0 1 2\n# end\n",
        " 2\n 0 0 0\n 1 5 1\n 0 7\n 2 3 1\n 1 2\n 3 0 1\n 2 0\n",
        "1\n0 0 0\n1 5.5 1 0\n2 0 1 1\n",
    ]);
    seeds.extend(corpus("workflows/stg", ".stg"));
    seeds
}
