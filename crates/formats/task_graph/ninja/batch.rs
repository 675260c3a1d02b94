//! Build statements that have been read and wait for their paths to be looked up, many at once.
//! Look-ups of one path after the other would each wait for memory; those of a batch wait together.

use super::paths::{BATCH_PATHS, PathHash, Paths};
use super::scanner::{Raw, Scanner};

/// A build statement; its paths end at these places of the batch, or of a list of its own.
pub(super) struct Statement {
    /// Where it stands in its file.
    pub(super) start: usize,
    pub(super) phony: bool,
    pub(super) outputs_end: usize,
    pub(super) inputs_end: usize,
}

/// Statements of one file without escapes or variables, in its order.
#[derive(Default)]
pub(super) struct Batch {
    /// The paths of all statements, and behind them those of the one that is being read.
    pub(super) raws: Vec<Raw>,
    pub(super) statements: Vec<Statement>,
    /// For each path; `None` for one that ninja would give another shape.
    pub(super) hashes: Vec<Option<PathHash>>,
    places: Vec<usize>,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.raws.len() >= BATCH_PATHS
    }

    pub(super) fn clear(&mut self) {
        self.raws.clear();
        self.statements.clear();
    }

    /// Hashes all paths and has their places in the table fetched.
    pub(super) fn look_ahead(&mut self, scanner: &Scanner<'_>, paths: &Paths) {
        let end = self.statements.last().map_or(0, |last| last.inputs_end);
        let raws = &self.raws[..end];
        self.hashes.clear();
        let hash = |raw: &Raw| paths.hash(scanner.bytes(&raw.range), !raw.dots_or_slashes);
        self.hashes.extend(raws.iter().map(hash));
        paths.fetch(&self.hashes, &mut self.places);
    }
}
