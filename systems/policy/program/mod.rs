//! `program:./policy.py`: a policy that is a program of any language, which is asked by lines of
//! JSON over pipes. In worlds with machines it says where tasks go, in others which comes first.
//!
//! A simulation ends with an error when the program fails. A real build warns of it, and goes on
//! with what was ready first.

mod messages;
mod place;
mod rank;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::{NonSendMut, Query, Res, World};
use bevy_ecs::system::SystemParam;
use serde::de::DeserializeOwned;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;
use windrow_formats::task_graph::time;

use self::messages::{MachineInfo, Message, Needs, Task, VERSION};
use self::talk::{Silence, Talk};
use super::names::{TaskNames, name_of};
use super::{Estimates, PolicyPlugin, PolicySystems, Seed};
use crate::error::Error;
use crate::machines::{Fleet, Workload};
use crate::report::{Event, Level};
use crate::world::{Scheduler, Services};

pub(super) const NAME: &str = "program";

/// How long a program is given for an answer, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct ProgramPolicy {
    name: String,
    command: Vec<String>,
    timeout: Duration,
}

/// The program, and what it has been told.
#[derive(Debug)]
struct Asked {
    /// As it was named.
    name: String,
    /// None once it has failed.
    talk: Option<Talk>,
    has_started: bool,
    /// How many derivations of the graph have been looked at.
    seen: usize,
    /// Those of them that were not loaded then.
    not_loaded: Vec<DrvId>,
    /// Goals that have ended since the last question.
    ended: Vec<u32>,
    /// In a world without machines, the rank of each goal.
    ranks: Vec<u64>,
    /// In a world with machines, whether each goal that waits has been told of as ready.
    is_offered: Vec<bool>,
}

/// What is told the program.
#[derive(SystemParam)]
struct Known<'w, 's> {
    graph: Res<'w, BuildGraph>,
    estimates: Res<'w, Estimates>,
    seed: Res<'w, Seed>,
    tasks: Option<Res<'w, TaskNames>>,
    workload: Option<Res<'w, Workload>>,
    fleet: Option<Res<'w, Fleet>>,
    machines: Query<'w, 's, &'static Machine>,
}

/// The policy of a program, as `./policy.py`, `python3 policy.py` or `./policy.py,timeout=1m`.
pub(super) fn parse(text: &str) -> Result<Arc<dyn PolicyPlugin>, String> {
    let (command, timeout) = match text.rsplit_once(",timeout=") {
        Some((command, timeout)) => (command, Duration::from_micros(time(timeout, "s")?)),
        None => (text, TIMEOUT),
    };
    if timeout.is_zero() {
        return Err("a timeout should be above 0".to_owned());
    }
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let program = command
        .first()
        .ok_or("say which program decides, as in program:./policy.py")?;
    if program.contains('/')
        && let Err(error) = std::fs::metadata(program)
    {
        return Err(format!("cannot use the program '{program}': {error}"));
    }
    Ok(Arc::new(ProgramPolicy {
        name: format!("{NAME}:{}", command.join(" ")),
        command,
        timeout,
    }))
}

impl PolicyPlugin for ProgramPolicy {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants_names(&self) -> bool {
        true
    }

    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems) {
        let talk = Talk::start(&self.command, self.timeout);
        let talk = talk.map_err(|reason| {
            let what = self.name.clone();
            let error = Error::Policy { what, reason };
            world.resource_mut::<Scheduler>().abort(error);
        });
        world.insert_non_send(Asked {
            name: self.name.clone(),
            talk: talk.ok(),
            has_started: false,
            seen: 0,
            not_loaded: Vec::new(),
            ended: Vec::new(),
            ranks: Vec::new(),
            is_offered: Vec::new(),
        });
        systems.add_to_rank(rank::rank);
        systems.add_to_place(place::place);
        systems.add_at_ends(note_ends);
    }
}

/// Notes which goals have ended, for the next question.
fn note_ends(scheduler: Res<Scheduler>, mut asked: NonSendMut<Asked>) {
    if asked.talk.is_some() {
        let drvs = scheduler.ended().iter().filter_map(|end| end.drv());
        asked.ended.extend(drvs.map(|drv| drv.index() as u32));
    }
}

impl Known<'_, '_> {
    /// How many microseconds of the engine make a second, or unit.
    fn units(&self) -> f64 {
        self.tasks.as_ref().map_or(1e6, |tasks| tasks.units)
    }

    fn time(&self, scheduler: &Scheduler) -> f64 {
        scheduler.now.as_secs_f64() * 1e6 / self.units()
    }

    /// How long a goal is thought to take, if anything is known.
    fn estimate(&self, drv: DrvId) -> Option<f64> {
        match &self.workload {
            Some(workload) => Some(workload.work(drv)),
            None if self.tasks.is_some() => Some(self.estimates.of(drv) as f64 / self.units()),
            None => self.estimates.known(drv).map(|micros| micros as f64 / 1e6),
        }
    }

    fn task(&self, drv: DrvId) -> Task<'_> {
        let needs = self.workload.as_deref().map(|workload| Needs {
            cores: [workload.cores(drv).least, workload.cores(drv).most],
            memory: workload.memory(drv),
            inputs: workload.inputs(drv),
            outputs: workload.outputs(drv),
        });
        let inputs = self.graph.inputs(drv);
        Task {
            id: drv.index() as u32,
            name: name_of(self.tasks.as_deref(), &self.graph, drv),
            estimate: self.estimate(drv),
            after: inputs.map(|row| row.drv.index() as u32).collect(),
            needs,
        }
    }

    /// All machines.
    fn machines(&self) -> Vec<MachineInfo<'_>> {
        let entities = self.fleet.iter().flat_map(|fleet| &fleet.entities);
        let machines = entities.filter_map(|&entity| self.machines.get(entity).ok());
        machines.map(MachineInfo::of).collect()
    }
}

impl Asked {
    /// What there is to say before a question: the beginning, and tasks that are new.
    fn introduce(&mut self, known: &Known<'_, '_>, slots: u32, to: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_started, true) {
            let machines = known.machines();
            let data = known.workload.as_deref().map_or(Vec::new(), |workload| {
                let data = 0..workload.data_count() as u32;
                data.map(|number| workload.size(number)).collect()
            });
            let start = Message::Start {
                version: VERSION,
                seed: known.seed.0,
                slots: machines.is_empty().then_some(slots),
                machines,
                data,
            };
            start.write(to);
        }
        let count = known.graph.drv_count();
        let new = (self.seen..count).map(DrvId::from_index);
        let mut left = std::mem::take(&mut self.not_loaded);
        left.extend(new);
        self.seen = count;
        let (loaded, left): (Vec<DrvId>, Vec<DrvId>) = left
            .into_iter()
            .partition(|&drv| known.graph.is_loaded(drv));
        self.not_loaded = left;
        if !loaded.is_empty() {
            let tasks = loaded.into_iter().map(|drv| known.task(drv)).collect();
            Message::Tasks { tasks }.write(to);
        }
    }

    /// Says that, and gives the answer, if the program has one.
    fn ask<A: DeserializeOwned>(
        &mut self,
        lines: &[u8],
        check: impl FnOnce(&A) -> Result<(), String>,
    ) -> Result<A, Silence> {
        let talk = self.talk.as_mut().ok_or(Silence::Interrupted)?;
        self.ended.clear();
        talk.say(lines)?;
        let line = talk.hear()?;
        let answer: A = match serde_json::from_slice(&line) {
            Ok(answer) => answer,
            Err(error) => return Err(talk.not_an_answer(&line, &error.to_string())),
        };
        match check(&answer) {
            Ok(()) => Ok(answer),
            Err(reason) => Err(talk.not_an_answer(&line, &reason)),
        }
    }

    /// The program has failed, and is asked no more: the end of a simulation.
    fn fail(
        &mut self,
        silence: Silence,
        is_simulated: bool,
        (scheduler, services): (&mut Scheduler, &mut Services),
    ) {
        self.talk = None;
        let Silence::Failed(reason) = silence else {
            return;
        };
        let what = self.name.clone();
        if is_simulated {
            scheduler.abort(Error::Policy { what, reason });
            return;
        }
        let text =
            format!("the policy {what}: {reason}\nfrom now on, what is ready first is built first");
        let level = Level::Warn;
        services
            .reporter
            .report(&Event::Message { level, text: &text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_arguments_and_a_timeout() {
        for (text, wanted) in [
            ("sh", "program:sh"),
            ("sh -x  y,timeout=2m", "program:sh -x y"),
            ("/bin/sh", "program:/bin/sh"),
        ] {
            assert_eq!(parse(text).unwrap().name(), wanted);
        }
        for (text, wanted) in [
            ("", "say which program decides"),
            (" ,timeout=1s", "say which program decides"),
            ("sh,timeout=0s", "above 0"),
            ("sh,timeout=1MB", "no unit of time"),
            (
                "/no/such/policy",
                "cannot use the program '/no/such/policy'",
            ),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
