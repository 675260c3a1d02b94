//! The systems by which simulated machines take part in a tick.

use std::time::Duration;

use bevy_ecs::prelude::{Query, Res, ResMut};
use windrow_components::goal::Outcome;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use super::agenda::What;
use super::data::Moves;
use super::state::SimulatedMachines;
use crate::failure::{Failure, FailureKind};
use crate::machines::{Board, Fleet, Load, Placement, Placements, Workload};
use crate::simulate::children::SimulatedChildren;
use crate::world::{NewOutput, ReadyGoal, Scheduler};

impl SimulatedMachines {
    /// Whether something more is known to happen at this instant.
    fn has_more_now(&mut self) -> bool {
        self.forget_what_was_cut();
        let next = [
            self.agenda.next(),
            self.data.next_end(),
            self.outages.next(),
        ];
        next.into_iter().flatten().any(|time| time <= self.now)
    }

    /// Runs `act` on the data of all machines.
    pub(super) fn with_data<T>(
        &mut self,
        (board, workload): (&mut Board, &Workload),
        act: impl FnOnce(&mut super::data::Data, &mut Moves<'_>) -> T,
    ) -> T {
        let mut moves = Moves {
            now: self.now,
            agenda: &mut self.agenda,
            board,
            workload,
            outcome: &mut self.outcome,
            record: self.record,
        };
        act(&mut self.data, &mut moves)
    }
}

impl SimulatedMachines {
    /// Takes what the policy has just decided, and gives what is in effect now of what it has, and
    /// what can't be any more, for the goal has ended or the machine is down.
    fn take_in_effect(
        &mut self,
        new: Vec<Placement>,
        scheduler: &Scheduler,
    ) -> [Vec<Placement>; 2] {
        let now = self.now;
        let mut all = self.decisions.take_in_effect(new, now, &mut self.agenda);
        let has_ended = |placement: &mut Placement| scheduler.has_ended_goal(placement.drv);
        let mut void: Vec<Placement> = all.extract_if(.., has_ended).collect();
        void.extend(self.refuse_what_is_down(&mut all));
        [all, void]
    }
}

/// Keeps a place for a goal on a machine, as a policy sees it; or, with 1, gives it back.
fn reserve(
    placement: &Placement,
    sign: i64,
    workload: &Workload,
    (loads, fleet): (&mut Query<&mut Load>, &Fleet),
) {
    if let Ok(mut load) = loads.get_mut(fleet.entities[placement.machine]) {
        let drv = placement.drv;
        load.unreserved += sign * i64::from(placement.cores);
        load.unreserved_memory += sign * workload.memory(drv) as i64;
        load.unreserved_disk += sign * workload.disk(drv) as i64;
    }
}

/// Takes up where the policy has placed goals, has their inputs sent there, and lets those start
/// that can.
pub(crate) fn accept(
    mut scheduler: ResMut<Scheduler>,
    mut machines: ResMut<SimulatedMachines>,
    mut placements: ResMut<Placements>,
    mut board: ResMut<Board>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    mut loads: Query<&mut Load>,
) {
    let (new, ready) = placements.take();
    for drv in ready {
        machines.note_ready(drv);
        if let Some(machine) = board.machine_of(drv) {
            machines.stir(machine);
        }
    }
    // The policy has to see at once what it has decided, whenever that comes into effect.
    for placement in &new {
        reserve(placement, -1, &workload, (&mut loads, &fleet));
    }
    let [new, void] = machines.take_in_effect(new, &scheduler);
    for placement in void {
        reserve(&placement, 1, &workload, (&mut loads, &fleet));
        if !scheduler.has_ended_goal(placement.drv) {
            scheduler.place_again(placement.drv);
            machines.tell(&mut board);
        }
    }
    let mut start = |machines: &mut SimulatedMachines, machine: usize| {
        if let Ok(mut load) = loads.get_mut(fleet.entities[machine]) {
            machines.start_what_can(machine, &mut load, &workload, &mut scheduler);
        }
    };
    for machine in machines.take_stirred() {
        start(&mut machines, machine);
    }
    for placement in new {
        let (drv, machine) = (placement.drv, placement.machine);
        board.place(drv, Some(machine));
        machines.enqueue(placement);
        let shared = (&mut *board, &*workload);
        machines.with_data(shared, |data, moves| data.request(drv, machine, moves));
        start(&mut machines, machine);
    }
}

/// Starts a simulated child for every goal that has been let start.
pub(crate) fn start(
    mut scheduler: ResMut<Scheduler>,
    mut machines: ResMut<SimulatedMachines>,
    mut children: ResMut<SimulatedChildren>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    specs: Query<&Machine>,
) {
    let mut starting = scheduler.take_starting();
    for ReadyGoal { goal, drv } in starting.drain(..) {
        scheduler.start(goal);
        children.note_start(drv, scheduler.now);
        let span = machines.seat(drv).and_then(|(number, cores)| {
            let machine = specs.get(fleet.entities[number]).ok()?;
            Some(workload.true_span(drv, (number, machine), cores))
        });
        let end = machines.now + span.unwrap_or(0.0);
        let nth = machines.times_again(drv);
        machines.agenda.add(end, What::TaskEnds(goal, drv, nth));
    }
    scheduler.keep_starting(starting);
}

/// Lets time jump to what happens next: a task ends, a transfer begins or ends.
pub(crate) fn advance(
    mut scheduler: ResMut<Scheduler>,
    mut machines: ResMut<SimulatedMachines>,
    mut children: ResMut<SimulatedChildren>,
    mut board: ResMut<Board>,
    (workload, fleet): (Res<Workload>, Res<Fleet>),
    graph: Res<BuildGraph>,
    mut loads: Query<&mut Load>,
) {
    board.has_news = false;
    let Some(what) = next(&mut machines, &mut board) else {
        scheduler.run.is_stuck = true;
        return;
    };
    let micros = machines.now * machines.units;
    scheduler.now = Duration::from_secs_f64(micros / 1e6);
    let What::TaskEnds(goal, drv, _) = what else {
        let entity = machine_of(what).map(|number| fleet.entities[number]);
        let mut load = entity.and_then(|entity| loads.get_mut(entity).ok());
        let engine = (&mut *scheduler, &*graph);
        let shared = (&mut *board, &*workload);
        pass(&mut machines, (what, load.as_deref_mut()), engine, shared);
        if machines.give_back_disk(|number, bytes| free(&mut loads, &fleet, number, bytes)) {
            machines.tell(&mut board);
        }
        board.is_settled = !machines.has_more_now();
        return;
    };
    machines.outages.note_end();
    let failed = children.fails(drv);
    if let Some((machine, start, cores)) = machines.leave(drv, failed) {
        if let Ok(mut load) = loads.get_mut(fleet.entities[machine]) {
            give_back(&mut load, cores, workload.memory(drv));
            if failed {
                load.give_disk_back(workload.disk(drv));
            }
        }
        let from = (start * machines.units).round() as u64;
        children.note_busy(from, micros.round() as u64, u64::from(cores));
        if !failed {
            let shared = (&mut *board, &*workload);
            machines.with_data(shared, |data, moves| data.made(drv, machine, moves));
            machines.let_go_of_what_only(drv, Some(machine), &workload);
        }
    }
    machines.give_back_disk(|number, bytes| free(&mut loads, &fleet, number, bytes));
    machines.tell(&mut board);
    board.is_settled = !machines.has_more_now();
    if failed && children.try_again(drv) {
        machines.try_again(drv);
        board.place(drv, None);
        scheduler.lose(&graph, ReadyGoal { goal, drv });
        return;
    }
    scheduler.exited(goal);
    if failed {
        let failure = Failure::new(FailureKind::Permanent, "the simulated builder failed");
        scheduler.fail(goal, failure);
        return;
    }
    let outputs = graph.outputs(drv).iter().map(|row| NewOutput {
        path: row.path,
        built: None,
    });
    scheduler.complete(goal, Some(drv), outputs);
}

/// What a task had of a machine is free, and nobody's.
fn give_back(load: &mut Load, cores: u32, memory: u64) {
    load.free += cores;
    load.unreserved += i64::from(cores);
    load.free_memory += memory;
    load.unreserved_memory += memory as i64;
}

/// The machine that something happens to as a whole.
fn machine_of(what: What) -> Option<usize> {
    match what {
        What::MachineFails(number) | What::MachineIsBack(number) => Some(number),
        _ => None,
    }
}

/// Lets something happen that is not the end of a task, to a machine whose load that is.
fn pass(
    machines: &mut SimulatedMachines,
    (what, load): (What, Option<&mut Load>),
    (scheduler, graph): (&mut Scheduler, &BuildGraph),
    (board, workload): (&mut Board, &Workload),
) {
    match what {
        What::MachineFails(number) | What::MachineIsBack(number) => {
            machines.come_or_go((number, load), (scheduler, graph), (board, workload));
        }
        What::TaskArrives(drv) => {
            scheduler.place_again(drv);
            machines.tell(board);
        }
        _ => happen(machines, (board, workload), what),
    }
}

/// Lets time pass until something happens.
fn next(machines: &mut SimulatedMachines, board: &mut Board) -> Option<What> {
    machines.forget_what_was_cut();
    let (planned, shared) = (machines.agenda.next(), machines.data.next_end());
    let first = [planned, shared].into_iter().flatten().reduce(f64::min);
    // A machine that fails while nothing else is to happen changes nothing.
    let is_first = |time: f64| first.map_or(time <= machines.now, |first| time < first);
    if let Some(time) = machines.outages.next().filter(|&time| is_first(time))
        && let Some((machine, until)) = machines.outages.pop()
    {
        machines.agenda.add(until, What::MachineIsBack(machine));
        move_on(machines, board, time);
        return Some(What::MachineFails(machine));
    }
    let first = first?;
    let is_planned = match (planned, shared) {
        (Some(planned), Some(shared)) => planned <= shared,
        (planned, _) => planned.is_some(),
    };
    move_on(machines, board, first);
    match is_planned {
        true => machines.agenda.pop(),
        false => machines.data.pop().map(What::TransferEnds),
    }
}

/// Lets time pass until then.
fn move_on(machines: &mut SimulatedMachines, board: &mut Board, time: f64) {
    board.has_news_now &= time <= machines.now;
    machines.now = machines.now.max(time);
    board.now = machines.now;
}

/// Lets something happen that concerns no task.
fn happen(machines: &mut SimulatedMachines, shared: (&mut Board, &Workload), what: What) {
    match what {
        What::TransferBegins(id) => machines.with_data(shared, |data, moves| data.begin(id, moves)),
        What::TransferEnds(id) => {
            let workload = shared.1;
            let arrived = machines.with_data(shared, |data, moves| data.end(id, moves));
            if let Some(transfer) = arrived {
                machines.stir(transfer.to);
                machines.note_arrival(transfer.data, transfer.from, workload);
            }
        }
        What::PolicyIsAsked => {
            machines.decisions.ask(machines.now);
            (shared.0.has_news, shared.0.has_news_now) = (true, true);
        }
        What::DecisionIsDue(number) => machines.decisions.come_into_effect(number),
        What::MachineIsBack(machine) => machines.come_back(machine, None, shared),
        What::TaskEnds(..) | What::TaskArrives(_) | What::MachineFails(_) => {}
    }
}

/// What is still being sent when the last goal has ended comes to its end. No machine fails then.
pub(super) fn let_transfers_end(
    machines: &mut SimulatedMachines,
    board: &mut Board,
    workload: &Workload,
) {
    machines.outages.stop();
    while let Some(what) = next(machines, board) {
        happen(machines, (&mut *board, workload), what);
    }
}

/// Takes goals from their machines that have ended without having run.
pub(crate) fn forget(
    scheduler: Res<Scheduler>,
    mut machines: ResMut<SimulatedMachines>,
    mut board: ResMut<Board>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    mut loads: Query<&mut Load>,
) {
    let ended = scheduler.ended().iter();
    let badly = ended.filter(|end| end.outcome != Outcome::Success);
    for drv in badly.filter_map(|end| end.drv()).collect::<Vec<DrvId>>() {
        machines.let_go_of_what_only(drv, None, &workload);
        let Some(machine) = board.machine_of(drv) else {
            continue;
        };
        if let Some(cores) = machines.withdraw(drv, machine) {
            board.place(drv, None);
            machines.tell(&mut board);
            if let Ok(mut load) = loads.get_mut(fleet.entities[machine]) {
                load.unreserved += i64::from(cores);
                load.unreserved_memory += workload.memory(drv) as i64;
                load.unreserved_disk += workload.disk(drv) as i64;
            }
        }
    }
    machines.give_back_disk(|number, bytes| free(&mut loads, &fleet, number, bytes));
}

/// That many bytes of a machine's disk are free again.
fn free(loads: &mut Query<&mut Load>, fleet: &Fleet, number: usize, bytes: u64) {
    if let Ok(mut load) = loads.get_mut(fleet.entities[number]) {
        load.give_disk_back(bytes);
    }
}
