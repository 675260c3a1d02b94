//! Simulated children: each is a duration on a heap. When nothing is left to do at an instant, time jumps to the next
//! end, and all that end then are handled before anything starts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bevy_ecs::prelude::{Entity, Query, Res, ResMut, Resource};
use hashbrown::HashSet;
use windrow_components::goal::Stage;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use super::Simulation;
use super::measure::{Utilisation, WaitTimes, Waits};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::policy::{Estimates, draw};
use crate::poll_io::PendingGoals;
use crate::world::{
    BuiltOutput, Completed, Failures, NewlyReady, Now, Options, ReadyGoal, RunState, Slots,
    Starting,
};

/// Which tasks fail, after their whole duration.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// These.
    pub tasks: HashSet<u32>,
    /// Of a million others, so many, drawn by the seed.
    pub per_million: u32,
}

/// When and where a task ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The task, by its place in the graph.
    pub task: u32,
    /// In which slot, from 0.
    pub slot: u32,
    /// When it began, in the graph's unit.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Whether it failed.
    pub failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Child {
    end: u64,
    drv: DrvId,
    goal: Entity,
    slot: u32,
    start: u64,
}

/// The children, and sums over those that have ended.
#[derive(Debug, Resource)]
pub struct SimulatedChildren {
    running: BinaryHeap<Reverse<Child>>,
    free_slots: BinaryHeap<Reverse<u32>>,
    slots_made: u32,
    seed: u64,
    faults: Faults,
    record: bool,
    waits: WaitTimes,
    pub(super) last_end: u64,
    pub(super) busy: u64,
    utilisation: Utilisation,
    pub(super) runs: Vec<Run>,
}

impl SimulatedChildren {
    pub(super) fn new(simulation: &Simulation) -> Self {
        Self {
            running: BinaryHeap::new(),
            free_slots: BinaryHeap::new(),
            slots_made: 0,
            seed: simulation.seed,
            faults: simulation.faults.clone(),
            record: simulation.record_runs,
            waits: WaitTimes::default(),
            last_end: 0,
            busy: 0,
            utilisation: Utilisation::default(),
            runs: Vec::new(),
        }
    }

    /// What was measured, once the run is over.
    pub(super) fn measured(&mut self) -> (Waits, Utilisation) {
        let waits = std::mem::take(&mut self.waits);
        (waits.finish(), std::mem::take(&mut self.utilisation))
    }

    fn fails(&self, drv: DrvId) -> bool {
        let index = drv.index() as u32;
        // Another stream than the random policy draws from.
        let drawn = draw(!self.seed, drv) % 1_000_000;
        self.faults.tasks.contains(&index) || drawn < u64::from(self.faults.per_million)
    }
}

/// Notes when goals come to be ready, for the time they wait.
pub(super) fn note_ready(
    mut children: ResMut<SimulatedChildren>,
    newly: Res<NewlyReady>,
    graph: Res<BuildGraph>,
    now: Res<Now>,
) {
    if newly.0.is_empty() {
        return;
    }
    let instant = units(now.0);
    children.waits.resize(graph.drv_count());
    for ready in &newly.0 {
        children.waits.ready(ready.drv.index(), instant);
    }
}

/// Starts a simulated child for every goal that has a slot.
pub(super) fn start(
    mut starting: ResMut<Starting>,
    mut children: ResMut<SimulatedChildren>,
    mut stages: Query<&mut Stage>,
    estimates: Res<Estimates>,
    now: Res<Now>,
) {
    if starting.0.is_empty() {
        return;
    }
    let children = &mut *children;
    let start = units(now.0);
    for ReadyGoal { goal, drv } in starting.0.drain(..) {
        if let Ok(mut stage) = stages.get_mut(goal) {
            *stage = Stage::Running;
        }
        let slot = match children.free_slots.pop() {
            Some(Reverse(slot)) => slot,
            None => {
                children.slots_made += 1;
                children.slots_made - 1
            }
        };
        let end = start + estimates.of(drv);
        children.waits.start(drv.index(), start);
        children.running.push(Reverse(Child {
            end,
            drv,
            goal,
            slot,
            start,
        }));
    }
}

/// Whether nothing is left to be done at this instant.
pub(super) fn idle(pending: PendingGoals<'_>, run: Res<RunState>) -> bool {
    !pending.any() && !run.is_over()
}

/// Lets time jump to the next end.
#[expect(clippy::too_many_arguments, reason = "one system, many queues")]
pub(super) fn advance(
    mut children: ResMut<SimulatedChildren>,
    mut now: ResMut<Now>,
    mut completed: ResMut<Completed>,
    mut failures: ResMut<Failures>,
    mut slots: ResMut<Slots>,
    mut run: ResMut<RunState>,
    graph: Res<BuildGraph>,
    options: Res<Options>,
) {
    let Some(&Reverse(Child { end, .. })) = children.running.peek() else {
        run.fatal = Some(if options.max_jobs == 0 {
            Error::NoSlots
        } else {
            Error::Stuck
        });
        return;
    };
    now.0 = Duration::from_micros(end);
    while let Some(&Reverse(child)) = children.running.peek()
        && child.end == end
    {
        children.running.pop();
        children.free_slots.push(Reverse(child.slot));
        slots.used -= 1;
        children.last_end = end;
        children.busy += end - child.start;
        children.utilisation.add(child.start, end);
        let failed = children.fails(child.drv);
        if children.record {
            let Child { start, slot, .. } = child;
            let task = child.drv.index() as u32;
            children.runs.push(Run {
                task,
                slot,
                start,
                end,
                failed,
            });
        }
        if failed {
            let failure = Failure::new(FailureKind::Permanent, "the simulated builder failed");
            failures.0.push((child.goal, failure));
            continue;
        }
        let deriver = graph.drv_path(child.drv);
        let output = |path| BuiltOutput {
            path,
            deriver: Some(deriver),
            nar_hash: [0; 32],
            nar_size: 0,
            references: Vec::new(),
            ultimate: true,
            content_address: None,
            drv_outputs: Vec::new(),
        };
        // In this world nothing is valid before it is built.
        let outputs = graph.outputs(child.drv).iter();
        completed.push(child.goal, outputs.map(|row| output(row.path)));
    }
}

fn units(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
