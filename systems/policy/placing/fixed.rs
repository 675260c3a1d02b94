//! Policies that plan everything beforehand: at the beginning of the run each goal is given its
//! machine, its cores and its turn on them. What takes longer than was thought moves what comes
//! after it, and changes no place; nor does a machine that fails.

use std::sync::Arc;

use bevy_ecs::prelude::{Local, Query, Res, ResMut, Resource, World};
use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use super::Parameters;
use super::batch::{self, Rule};
use super::planner::{Before, Planner};
use super::plans;
use crate::machines::{Fleet, Order, Placement, Placements, Workload};
use crate::policy::{PolicyPlugin, PolicySystems};
use crate::world::Scheduler;

/// How a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heuristic {
    Heft,
    Cpop,
    Peft,
    Lookahead { only_successors: bool },
    Dls,
    Batch(Rule),
    Etf,
}

#[derive(Debug, Clone, Resource)]
struct Fixed {
    name: String,
    heuristic: Heuristic,
    has_gaps: bool,
}

pub(super) const NAMES: [&str; 9] = [
    "heft",
    "cpop",
    "peft",
    "lookahead",
    "dls",
    "min-min",
    "max-min",
    "sufferage",
    "etf",
];

pub(super) fn parse(
    name: &str,
    mut parameters: Parameters<'_>,
) -> Result<Arc<dyn PolicyPlugin>, String> {
    let on_off = [("on", true), ("off", false)];
    let has_gaps = parameters.take("insertion", true, &on_off)?;
    let heuristic = match name {
        "heft" => Heuristic::Heft,
        "cpop" => Heuristic::Cpop,
        "peft" => Heuristic::Peft,
        "dls" => Heuristic::Dls,
        "min-min" => Heuristic::Batch(Rule::MinMin),
        "max-min" => Heuristic::Batch(Rule::MaxMin),
        "sufferage" => Heuristic::Batch(Rule::Sufferage),
        "etf" => Heuristic::Etf,
        _ => {
            let depths = [("all", false), ("1", true)];
            let only_successors = parameters.take("depth", false, &depths)?;
            Heuristic::Lookahead { only_successors }
        }
    };
    parameters.finish(name)?;
    let mut shown = name.to_owned();
    let mut add = |text: &str| {
        shown += if shown.contains(':') { "," } else { ":" };
        shown += text;
    };
    if !has_gaps {
        add("insertion=off");
    }
    if heuristic
        == (Heuristic::Lookahead {
            only_successors: true,
        })
    {
        add("depth=1");
    }
    Ok(Arc::new(Fixed {
        name: shown,
        heuristic,
        has_gaps,
    }))
}

impl PolicyPlugin for Fixed {
    fn name(&self) -> &str {
        &self.name
    }

    fn places(&self) -> bool {
        true
    }

    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems) {
        world.insert_resource(self.clone());
        systems.add_to_rank(rank);
        systems.add_to_place(place);
    }
}

/// The order in the queue means nothing: goals are placed already.
fn rank(mut scheduler: ResMut<Scheduler>) {
    scheduler.rank(|_| 0);
}

impl Fixed {
    fn plan(&self, planner: &mut Planner<'_>) -> Vec<DrvId> {
        let before = Before::new(planner.workload);
        match self.heuristic {
            Heuristic::Heft => plans::heft(planner, &before),
            Heuristic::Cpop => plans::cpop(planner, &before),
            Heuristic::Peft => plans::peft(planner, &before),
            Heuristic::Lookahead { only_successors } => {
                plans::lookahead(planner, &before, only_successors)
            }
            Heuristic::Dls => plans::dls(planner, &before),
            Heuristic::Batch(rule) => batch::batch(planner, &before, rule),
            Heuristic::Etf => batch::etf(planner, &before),
        }
    }
}

/// What has been planned.
#[derive(Default)]
struct Plan {
    is_made: bool,
    /// By goal: where it goes.
    placements: Vec<Option<Placement>>,
    /// By goal: whether it has been ready before.
    was_ready: Vec<bool>,
}

/// Places all goals at the beginning, and then only passes on which have become ready. One that is
/// ready a second time was lost, and goes where it was.
fn place(
    mut scheduler: ResMut<Scheduler>,
    mut placements: ResMut<Placements>,
    fixed: Res<Fixed>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    machines: Query<&Machine>,
    mut plan: Local<Plan>,
) {
    if !std::mem::replace(&mut plan.is_made, true) {
        plan.placements.resize(workload.len(), None);
        plan.was_ready.resize(workload.len(), false);
        let computing = fleet.computing.iter();
        let computing = computing
            .filter_map(|&number| Some((number, machines.get(fleet.entities[number]).ok()?)));
        let mut planner = Planner::new(&workload, &fleet, computing.collect(), fixed.has_gaps);
        let order = fixed.plan(&mut planner);
        let numbers: Vec<usize> = planner.machines.iter().map(|(number, _)| *number).collect();
        for (drv, spot) in planner.into_spots(&order) {
            let placement = Placement {
                drv,
                machine: numbers[spot.place],
                cores: spot.cores.len() as u32,
                order: Order::OnCores(spot.cores),
            };
            plan.placements[drv.index()] = Some(placement.clone());
            placements.place(placement);
        }
    }
    while let Some((drv, _)) = scheduler.pop_to_place() {
        placements.note_ready(drv);
        if std::mem::replace(&mut plan.was_ready[drv.index()], true) {
            let placement = plan.placements[drv.index()].clone();
            placement
                .into_iter()
                .for_each(|placement| placements.place(placement));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn names_have_their_parameters() {
        for (name, parameters, wanted) in [
            ("heft", "", "heft"),
            ("heft", "insertion=on", "heft"),
            ("heft", "insertion=off", "heft:insertion=off"),
            (
                "lookahead",
                "depth=1,insertion=off",
                "lookahead:insertion=off,depth=1",
            ),
            ("sufferage", "", "sufferage"),
        ] {
            assert_eq!(parse(name, parameters).unwrap().unwrap().name(), wanted);
        }
        for (name, parameters) in [
            ("heft", "insertion=maybe"),
            ("heft", "depth=1"),
            ("dls", "x"),
        ] {
            assert!(
                parse(name, parameters).unwrap().is_err(),
                "{name} {parameters}"
            );
        }
    }
}
