//! How close each policy comes to the lower bound, on published workflows and on real derivations:
//! the tables of docs/SCHEDULING.md.
//!
//!     cargo bench --bench policies                prints them
//!     cargo test --bench policies                 checks the rows that are quick to work out
//!
//! Everything is simulated by the engine's own systems, so that the figures are the same on every
//! machine.

mod corpus;
mod tables;

use windrow::systems::policy::Policy;

use corpus::{Corpus, shared};

fn main() {
    let Some(directory) = shared("corpus") else {
        println!("skipped: ../shared/corpus is not there");
        return;
    };
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let corpus = Corpus::load(&directory, measuring);
    // Rows of all tables, except those that take minutes without optimisation.
    let policies = if measuring {
        &Policy::ALL[..]
    } else {
        &[
            Policy::Fifo,
            Policy::CriticalPath,
            Policy::DepthFirstByMemory,
        ]
    };
    let tables = tables::all(&corpus, policies);
    if measuring {
        for table in &tables {
            println!("{}\n", table.print());
        }
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SCHEDULING.md");
    let text = std::fs::read_to_string(file).expect("docs/SCHEDULING.md");
    let mut rows = 0;
    for row in tables.iter().flat_map(|table| &table.rows) {
        assert!(
            text.lines().any(|line| line == row),
            "docs/SCHEDULING.md has another row, or none, for\n{row}"
        );
        rows += 1;
    }
    println!("{rows} rows of docs/SCHEDULING.md are as they should be");
}
