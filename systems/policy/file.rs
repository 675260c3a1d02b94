//! `file:ranks.csv`: a policy that is a file, which has a priority and perhaps a machine for each
//! task, or derivation.

use std::sync::Arc;

use bevy_ecs::prelude::{Query, Res, ResMut, Resource, World};
use hashbrown::{HashMap, HashSet};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::machine::{Machine, Role};
use windrow_formats::ranks::{Ranked, read_ranks};

use super::names::{TaskNames, name_of, rank_of};
use super::placing::greedy::place_where;
use super::{PolicyPlugin, PolicySystems};
use crate::error::Error;
use crate::machines::{Board, Fleet, Load, Placements, Workload};
use crate::world::Scheduler;

pub(super) const NAME: &str = "file";

#[derive(Debug)]
struct FilePolicy {
    name: String,
    ranks: Arc<HashMap<String, Ranked>>,
}

/// What the file says.
#[derive(Debug, Resource)]
struct FileRanks {
    by_name: Arc<HashMap<String, Ranked>>,
    /// By goal the number of its machine, if it has one. Empty where no goal has.
    machines: Vec<Option<usize>>,
}

/// The policy of a file.
pub(super) fn parse(path: &str) -> Result<Arc<dyn PolicyPlugin>, String> {
    if path.is_empty() {
        return Err("say which file has the priorities, as in file:ranks.csv".to_owned());
    }
    let text = std::fs::read(path).map_err(|error| format!("cannot read '{path}': {error}"))?;
    let ranks = read_ranks(path, &text).map_err(|error| error.to_string())?;
    Ok(Arc::new(FilePolicy {
        name: format!("{NAME}:{path}"),
        ranks: Arc::new(ranks),
    }))
}

impl PolicyPlugin for FilePolicy {
    fn name(&self) -> &str {
        &self.name
    }

    fn places(&self) -> bool {
        self.ranks.values().any(|ranked| ranked.machine.is_some())
    }

    fn wants_names(&self) -> bool {
        true
    }

    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems) {
        let machines = self.machines(world).unwrap_or_else(|reason| {
            let what = self.name.clone();
            let error = Error::Policy { what, reason };
            world.resource_mut::<Scheduler>().abort(error);
            Vec::new()
        });
        world.insert_resource(FileRanks {
            by_name: Arc::clone(&self.ranks),
            machines,
        });
        systems.add_to_rank(rank);
        systems.add_to_place(place);
    }
}

impl FilePolicy {
    /// The machine of each goal, in a world that has machines and knows all goals beforehand.
    fn machines(&self, world: &World) -> Result<Vec<Option<usize>>, String> {
        let Some(tasks) = world.get_resource::<TaskNames>() else {
            return Ok(Vec::new());
        };
        let known: HashSet<&str> = tasks.all().iter().map(String::as_str).collect();
        if let Some(unknown) = self
            .ranks
            .keys()
            .filter(|name| !known.contains(name.as_str()))
            .min()
        {
            return Err(format!("the graph has no task `{unknown}`"));
        }
        let Some(fleet) = world.get_resource::<Fleet>() else {
            return Ok(Vec::new());
        };
        let computing = fleet
            .entities
            .iter()
            .enumerate()
            .filter_map(|(number, entity)| {
                let machine = world.get::<Machine>(*entity)?;
                (machine.role == Role::Compute).then_some((machine.name.as_str(), number))
            });
        let numbers: HashMap<&str, usize> = computing.collect();
        let machine = |name: &String| {
            let machine = self
                .ranks
                .get(name)
                .and_then(|ranked| ranked.machine.as_ref());
            let number = |machine: &String| {
                let number = numbers.get(machine.as_str()).copied();
                number.ok_or_else(|| format!("there is no machine `{machine}` that computes"))
            };
            machine.map(number).transpose()
        };
        let machines: Vec<Option<usize>> =
            tasks.all().iter().map(machine).collect::<Result<_, _>>()?;
        self.refuse_unfit(world, fleet, tasks, &machines)?;
        Ok(machines)
    }

    /// Refuses machines that are too small for what is to go to them, which would wait for ever.
    fn refuse_unfit(
        &self,
        world: &World,
        fleet: &Fleet,
        tasks: &TaskNames,
        machines: &[Option<usize>],
    ) -> Result<(), String> {
        let Some(workload) = world.get_resource::<Workload>() else {
            return Ok(());
        };
        for (task, &number) in machines.iter().enumerate() {
            if let Some(number) = number
                && let Some(machine) = world.get::<Machine>(fleet.entities[number])
                && !workload.fits(DrvId::from_index(task), machine)
            {
                let (task, machine) = (&tasks.all()[task], &machine.name);
                return Err(format!("`{task}` does not fit the machine `{machine}`"));
            }
        }
        Ok(())
    }
}

/// The largest priority first; what the file does not name comes last.
fn rank(
    mut scheduler: ResMut<Scheduler>,
    ranks: Res<FileRanks>,
    graph: Res<BuildGraph>,
    tasks: Option<Res<TaskNames>>,
) {
    let tasks = tasks.as_deref();
    scheduler.rank(|drv| {
        let ranked = ranks.by_name.get(name_of(tasks, &graph, drv));
        ranked.map_or(u64::MAX, |ranked| rank_of(-ranked.priority))
    });
}

/// Each on its machine; on that where it ends first, if it has none.
fn place(
    scheduler: ResMut<Scheduler>,
    placements: ResMut<Placements>,
    ranks: Res<FileRanks>,
    board: Res<Board>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    machines: Query<(&Machine, &Load)>,
) {
    let own = |drv: DrvId| ranks.machines.get(drv.index()).copied().flatten();
    place_where(
        |drv, number| own(drv).is_none_or(|own| own == number),
        (scheduler, placements),
        (&board, &workload, &fleet),
        &machines,
    );
}
