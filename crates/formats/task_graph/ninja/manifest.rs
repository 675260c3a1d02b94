//! All statements that were read, as flat arrays of path ids.

use super::paths::Paths;
use super::{Result, TaskGraphError};
use crate::task_graph::spelt;

/// Which statement makes a path: none.
pub(super) const NO_PRODUCER: u32 = u32::MAX;
/// The rest of the number is that of a phony statement.
pub(super) const PHONY: u32 = 1 << 31;

/// Statements as flat arrays: the first output of each, and its inputs as a row.
#[derive(Default)]
pub(super) struct Statements {
    pub(super) outputs: Vec<u32>,
    pub(super) ends: Vec<u32>,
    pub(super) inputs: Vec<u32>,
}

impl Statements {
    /// Adds inputs to statements that have been read already: the number of a statement and a
    /// path.
    pub(super) fn add_inputs(&mut self, mut added: Vec<(u32, u32)>) {
        if added.is_empty() {
            return;
        }
        added.sort_unstable();
        let mut inputs = Vec::with_capacity(self.inputs.len() + added.len());
        let mut added = added.into_iter().peekable();
        let mut start = 0;
        for (number, end) in self.ends.iter_mut().enumerate() {
            inputs.extend_from_slice(&self.inputs[start..*end as usize]);
            start = *end as usize;
            while let Some((_, path)) = added.next_if(|(of, _)| *of as usize == number) {
                inputs.push(path);
            }
            *end = inputs.len() as u32;
        }
        self.inputs = inputs;
    }

    fn memory(&self) -> usize {
        let places = [&self.outputs, &self.ends, &self.inputs].map(Vec::capacity);
        places.iter().sum::<usize>() * size_of::<u32>()
    }

    pub(super) fn row(&self, statement: usize) -> &[u32] {
        let start = statement
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        &self.inputs[start as usize..self.ends[statement] as usize]
    }
}

/// All that was read, in path ids.
pub(super) struct Manifest {
    pub(super) paths: Paths,
    /// By path.
    pub(super) producers: Vec<u32>,
    pub(super) tasks: Statements,
    pub(super) phonies: Statements,
}

impl Manifest {
    pub(super) fn with_capacity(statements: usize) -> Self {
        let mut tasks = Statements::default();
        tasks.outputs.reserve(statements);
        tasks.ends.reserve(statements);
        Self {
            paths: Paths::with_capacity(statements),
            producers: Vec::with_capacity(statements),
            tasks,
            phonies: Statements::default(),
        }
    }

    /// The bytes that all of this takes, or will take once the arrays that are full have grown.
    pub(super) fn memory_ahead(&self) -> u64 {
        let producers = self.producers.capacity() * size_of::<u32>();
        let lists = producers + self.tasks.memory() + self.phonies.memory();
        (self.paths.memory_ahead() + lists) as u64
    }

    pub(super) fn statements(&mut self, phony: bool) -> &mut Statements {
        if phony {
            &mut self.phonies
        } else {
            &mut self.tasks
        }
    }

    /// Makes sure that there is a place for the producer of a path, new or not.
    #[inline]
    pub(super) fn known(&mut self, id: Option<u32>) -> Result<u32> {
        let Some(path) = id else {
            let limit = u64::from(u32::MAX);
            return Err(TaskGraphError::TooLarge {
                what: "paths, or bytes of paths",
                limit,
            });
        };
        if path as usize == self.producers.len() {
            self.producers.push(NO_PRODUCER);
        }
        Ok(path)
    }

    /// The first output of the statement read last.
    pub(super) fn last_output(&self, phony: bool) -> &[u8] {
        let statements = if phony { &self.phonies } else { &self.tasks };
        let output = statements.outputs.last();
        output.map_or(b"", |&path| self.paths.get(path))
    }

    pub(super) fn path_text(&self, path: u32) -> String {
        spelt(self.paths.get(path)).into_owned()
    }
}
