//! Turns statements in path ids into a graph of tasks: looks up who makes each input, and sees
//! through phony rules.

use super::Result;
use super::manifest::{Manifest, NO_PRODUCER, PHONY, Statements};
use crate::task_graph::{Builder, Limits, TaskGraph, TaskGraphError, TaskId, TimeUnit};

impl Manifest {
    /// The graph; `file` is what messages call it.
    pub(super) fn into_graph(mut self, file: &str, limits: Limits) -> Result<TaskGraph> {
        let producers = std::mem::take(&mut self.producers);
        self.tasks.name_producers(&producers);
        self.phonies.name_producers(&producers);
        drop(producers);
        let behind = Behind::new(&self, limits)?;
        let mut builder = Builder::new(file, TimeUnit::Units, limits);
        builder.reserve(self.tasks.outputs.len(), 0)?;
        let (bytes, starts) = self.paths.into_bytes();
        for &output in &self.tasks.outputs {
            let index = output as usize;
            let range = starts[index] as usize..starts[index + 1] as usize;
            builder.add_task_bytes(Some(&bytes[range]), None)?;
        }
        drop((bytes, starts));
        if self.phonies.outputs.is_empty() {
            let rows = self
                .tasks
                .inputs
                .into_iter()
                .map(TaskId::from_u32)
                .collect();
            builder.set_rows(&self.tasks.ends, rows)?;
            return builder.finish();
        }
        builder.reserve(0, self.tasks.inputs.len())?;
        for number in 0..self.tasks.outputs.len() {
            let task = TaskId::from_index(number);
            for &producer in self.tasks.row(number) {
                if producer & PHONY == 0 {
                    builder.add_edge(TaskId::from_u32(producer), task)?;
                    continue;
                }
                for &predecessor in behind.tasks(producer & !PHONY) {
                    builder.add_edge(TaskId::from_u32(predecessor), task)?;
                }
            }
        }
        drop(self.tasks);
        builder.finish()
    }
}

impl Statements {
    /// Puts who makes an input in its place, and takes inputs away that nobody makes.
    fn name_producers(&mut self, producers: &[u32]) {
        let (mut start, mut kept) = (0, 0);
        for end in &mut self.ends {
            for at in start..*end as usize {
                let producer = producers[self.inputs[at] as usize];
                self.inputs[kept] = producer;
                kept += usize::from(producer != NO_PRODUCER);
            }
            start = *end as usize;
            *end = kept as u32;
        }
        self.inputs.truncate(kept);
    }
}

/// For every phony statement, the tasks that stand behind it, directly or through others.
struct Behind {
    ranges: Vec<(usize, usize)>,
    tasks: Vec<u32>,
}

impl Behind {
    fn tasks(&self, phony: u32) -> &[u32] {
        let (start, end) = self.ranges[phony as usize];
        &self.tasks[start..end]
    }

    fn new(manifest: &Manifest, limits: Limits) -> Result<Self> {
        let phonies = &manifest.phonies;
        let mut behind = Self {
            ranges: vec![(0, 0); phonies.outputs.len()],
            tasks: Vec::new(),
        };
        let order = inner_first(phonies).map_err(|cycle| {
            let name = |&phony: &u32| manifest.path_text(phonies.outputs[phony as usize]);
            TaskGraphError::Cycle {
                path: cycle.iter().map(name).collect(),
            }
        })?;
        let mut found = Vec::new();
        for phony in order {
            found.clear();
            for &producer in phonies.row(phony as usize) {
                if producer & PHONY == 0 {
                    found.push(producer);
                } else {
                    found.extend_from_slice(behind.tasks(producer & !PHONY));
                }
            }
            found.sort_unstable();
            found.dedup();
            let start = behind.tasks.len();
            limits.admit(0, (start + found.len()) as u64)?;
            behind.tasks.extend_from_slice(&found);
            behind.ranges[phony as usize] = (start, behind.tasks.len());
        }
        Ok(behind)
    }
}

/// All phony statements, each behind those it names; or those of a cycle, each needing the next.
fn inner_first(phonies: &Statements) -> std::result::Result<Vec<u32>, Vec<u32>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Unseen,
        Open,
        Done,
    }
    let count = phonies.outputs.len();
    let mut state = vec![State::Unseen; count];
    let mut order = Vec::with_capacity(count);
    let mut stack: Vec<(u32, usize)> = Vec::new();
    for root in 0..count as u32 {
        if state[root as usize] != State::Unseen {
            continue;
        }
        state[root as usize] = State::Open;
        stack.push((root, 0));
        while let Some((phony, next)) = stack.last_mut() {
            let Some(&producer) = phonies.row(*phony as usize).get(*next) else {
                state[*phony as usize] = State::Done;
                order.push(*phony);
                stack.pop();
                continue;
            };
            *next += 1;
            if producer & PHONY == 0 {
                continue;
            }
            let inner = producer & !PHONY;
            match state[inner as usize] {
                State::Unseen => {
                    state[inner as usize] = State::Open;
                    stack.push((inner, 0));
                }
                State::Open => {
                    let from = stack.iter().position(|&(phony, _)| phony == inner);
                    let from = from.expect("an open statement is on the stack");
                    return Err(stack[from..].iter().map(|&(phony, _)| phony).collect());
                }
                State::Done => {}
            }
        }
    }
    Ok(order)
}
