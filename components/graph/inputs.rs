//! Walking through the inputs of a derivation, or the predecessors of a task.

use std::ops::Range;
use std::slice;

use super::InputRow;
use crate::ids::DrvId;
use crate::outputs::OutputSet;
use crate::task_graph::TaskId;

/// The inputs of a derivation.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    drvs: slice::Iter<'a, DrvId>,
    wanted: slice::Iter<'a, OutputSet>,
    tasks: slice::Iter<'a, TaskId>,
}

impl<'a> Inputs<'a> {
    /// A part of all inputs, and of the sets beside them, which may end before.
    #[inline]
    pub(super) fn new(inputs: &'a [DrvId], sets: &'a [OutputSet], part: Range<usize>) -> Self {
        let end = sets.len();
        Self {
            wanted: sets[part.start.min(end)..part.end.min(end)].iter(),
            drvs: inputs[part].iter(),
            tasks: [].iter(),
        }
    }

    /// The predecessors of a task.
    #[inline]
    pub(super) fn of_task(tasks: &'a [TaskId]) -> Self {
        Self {
            drvs: [].iter(),
            wanted: [].iter(),
            tasks: tasks.iter(),
        }
    }
}

impl Iterator for Inputs<'_> {
    type Item = InputRow;

    #[inline]
    fn next(&mut self) -> Option<InputRow> {
        let Some(&drv) = self.drvs.next() else {
            let task = self.tasks.next()?;
            return Some(InputRow {
                drv: DrvId::from_index(task.index()),
                wanted: OutputSet::ALL,
            });
        };
        let wanted = self.wanted.next().copied().unwrap_or(OutputSet::ALL);
        Some(InputRow { drv, wanted })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.drvs.len() + self.tasks.len();
        (count, Some(count))
    }
}

impl ExactSizeIterator for Inputs<'_> {}
