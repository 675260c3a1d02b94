//! Machines that fail and come back. What runs on one that fails is lost, and ready again; what its
//! disk has is there again with it. What was being sent from it or to it is sent anew.

use windrow_components::graph::BuildGraph;

use super::state::SimulatedMachines;
use crate::error::Error;
use crate::machines::{Board, Load, Workload};
use crate::world::{ReadyGoal, Scheduler};

impl SimulatedMachines {
    /// A machine that is up fails, or one that is down comes back.
    pub(super) fn come_or_go(
        &mut self,
        (machine, load): (usize, Option<&mut Load>),
        engine: (&mut Scheduler, &BuildGraph),
        shared: (&mut Board, &Workload),
    ) {
        match load {
            Some(load) if !load.is_down => self.fail((machine, load), engine, shared),
            load => self.come_back(machine, load, shared),
        }
    }

    /// A machine fails.
    fn fail(
        &mut self,
        (machine, load): (usize, &mut Load),
        (scheduler, graph): (&mut Scheduler, &BuildGraph),
        (board, workload): (&mut Board, &Workload),
    ) {
        self.outcome.outages += 1;
        if let Some(failures) = self.outages.are_in_vain() {
            scheduler.abort(Error::FailsTooOften { failures });
            return;
        }
        load.is_down = true;
        let [running, waiting] = self.take_down(machine);
        for (drv, cores) in running {
            load.free += cores;
            load.free_memory += workload.memory(drv);
            load.unreserved += i64::from(cores);
            load.unreserved_memory += workload.memory(drv) as i64;
            load.give_disk_back(workload.disk(drv));
            board.place(drv, None);
            if let Some(goal) = scheduler.index.goal(drv) {
                scheduler.lose(graph, ReadyGoal { goal, drv });
            }
        }
        for (drv, cores) in waiting {
            load.unreserved += i64::from(cores);
            load.unreserved_memory += workload.memory(drv) as i64;
            load.unreserved_disk += workload.disk(drv) as i64;
            board.place(drv, None);
            self.data.withdraw(drv, machine, workload);
            scheduler.place_again(drv);
        }
        self.with_data((&mut *board, workload), |data, moves| {
            data.take_down(machine, moves)
        });
        self.tell(board);
    }

    /// A machine comes back.
    pub(super) fn come_back(
        &mut self,
        machine: usize,
        load: Option<&mut Load>,
        (board, workload): (&mut Board, &Workload),
    ) {
        if let Some(load) = load {
            load.is_down = false;
        }
        self.outages.foresee(machine, self.now);
        self.with_data((&mut *board, workload), |data, moves| {
            data.bring_back(machine, moves)
        });
        self.stir(machine);
        self.tell(board);
    }
}
