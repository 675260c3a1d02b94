//! The systems of a tick in their order, and the loop that runs them: each system that has
//! something to do, one after the other.
//!
//! They are bevy_ecs systems, but not in a `Schedule`: its executor spends some 350 instructions on
//! every system in every tick, and a condition costs as much as a system. Here a system that has
//! nothing to do is passed over by a look at the scheduler's state. As all systems stand in one
//! list, no order is left open.

use std::any::type_name_of_val;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bevy_ecs::prelude::{IntoSystem, World};
use bevy_ecs::system::{BoxedSystem, RunSystemError};

use crate::world::Scheduler;

/// Whether a system has something to do, as the scheduler's state tells without looking at anything
/// else.
pub type Due = fn(&Scheduler) -> bool;

/// A system, and when it runs.
pub struct Step {
    name: &'static str,
    system: BoxedSystem,
    due: Option<Due>,
    /// Whether it has commands to be applied when it has run; known once it is initialised.
    is_deferring: bool,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Step {
    /// A system that runs in every tick.
    pub fn new<M>(system: impl IntoSystem<(), (), M>) -> Self {
        Self {
            name: type_name_of_val(&system),
            system: Box::new(IntoSystem::into_system(system)),
            due: None,
            is_deferring: false,
        }
    }

    /// The same in those ticks only in which it is `due` when its turn comes.
    pub fn due(mut self, due: Due) -> Self {
        self.due = Some(due);
        self
    }

    /// The system's full name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, world: &mut World) {
        match self.system.run_without_applying_deferred((), world) {
            Ok(()) | Err(RunSystemError::Skipped(_)) => {}
            Err(RunSystemError::Failed(error)) => panic!("{}: {error}", self.name),
        }
        if self.is_deferring {
            self.system.apply_deferred(world);
        }
    }
}

/// The systems of a tick in their order.
#[derive(Debug)]
pub struct TickSystems {
    steps: Vec<Step>,
}

impl TickSystems {
    /// Makes the systems ready to run in `world`, and in no other.
    ///
    /// # Panics
    /// If a system asks for one thing twice, once of it to write.
    pub fn new(world: &mut World, steps: impl IntoIterator<Item = Step>) -> Self {
        let mut steps: Vec<Step> = steps.into_iter().collect();
        for step in &mut steps {
            step.system.initialize(world);
            step.is_deferring = step.system.has_deferred();
        }
        Self { steps }
    }

    /// Runs one tick: every system that is due, and after each its commands. Those that a system
    /// had given before it panicked are carried out too: they may be all that knows of a child.
    ///
    /// # Panics
    /// If a system panics, or something that it needs is not in the world.
    pub fn run(&mut self, world: &mut World) {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_due(world)));
        if let Err(panic) = ran {
            for step in self.steps.iter_mut().filter(|step| step.is_deferring) {
                step.system.apply_deferred(world);
            }
            resume_unwind(panic);
        }
    }

    fn run_due(&mut self, world: &mut World) {
        // Change detection compares ticks of 32 bits: old ones must be moved up before they
        // overflow. This is rarely due, and the world says when.
        if let Some(check) = world.check_change_ticks() {
            for step in &mut self.steps {
                step.system.check_change_tick(check);
            }
        }
        // Looked up once for all systems in a row that are not due.
        let mut scheduler = None;
        for step in &mut self.steps {
            if let Some(due) = step.due
                && !due(scheduler.get_or_insert_with(|| world.resource::<Scheduler>()))
            {
                continue;
            }
            scheduler = None;
            step.run(world);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::change_detection::{CHECK_TICK_THRESHOLD, MAX_CHANGE_AGE};
    use bevy_ecs::prelude::{Commands, Res, ResMut, Resource};

    #[derive(Default, Resource)]
    struct Trace(Vec<&'static str>);

    #[derive(Resource)]
    struct Made;

    fn world() -> World {
        let mut world = World::new();
        world.insert_resource(Scheduler::new(crate::engine::default_options()));
        world.init_resource::<Trace>();
        world
    }

    fn note(what: &'static str) -> impl Fn(ResMut<Trace>) {
        move |mut trace| trace.0.push(what)
    }

    #[test]
    fn systems_that_are_due_run_in_their_order() {
        let mut world = world();
        let stop = |mut scheduler: ResMut<Scheduler>| scheduler.run.is_stuck = true;
        let is_stuck: Due = |scheduler| scheduler.run.is_stuck;
        let steps = [
            Step::new(note("first")),
            Step::new(note("too early")).due(is_stuck),
            Step::new(stop),
            Step::new(note("second")).due(is_stuck),
            Step::new(note("never")).due(|_| false),
            Step::new(note("third")),
        ];
        let mut tick = TickSystems::new(&mut world, steps);
        tick.run(&mut world);
        assert_eq!(world.resource::<Trace>().0, ["first", "second", "third"]);
    }

    #[test]
    fn commands_are_applied_before_the_next_system_runs() {
        let mut world = world();
        let steps = [
            Step::new(|mut commands: Commands| commands.insert_resource(Made)),
            Step::new(|made: Option<Res<Made>>, mut trace: ResMut<Trace>| {
                trace.0.extend(made.map(|_| "made"));
            }),
        ];
        TickSystems::new(&mut world, steps).run(&mut world);
        assert_eq!(world.resource::<Trace>().0, ["made"]);
    }

    #[test]
    fn commands_of_a_system_that_panics_are_applied() {
        let mut world = world();
        let panics = |mut commands: Commands| {
            commands.insert_resource(Made);
            panic!("a system that panics");
        };
        let mut tick = TickSystems::new(&mut world, [Step::new(panics)]);
        let ran = catch_unwind(AssertUnwindSafe(|| tick.run(&mut world)));
        assert!(ran.is_err() && world.contains_resource::<Made>());
    }

    #[test]
    #[should_panic(expected = "Resource does not exist")]
    fn what_a_system_needs_must_be_there() {
        let mut world = world();
        world.remove_resource::<Trace>();
        TickSystems::new(&mut world, [Step::new(note("nothing"))]).run(&mut world);
    }

    #[test]
    fn a_system_that_has_not_run_for_very_long_sees_changes_still() {
        let mut world = world();
        let never: Due = |_| false;
        let mut tick = TickSystems::new(&mut world, [Step::new(note("late")).due(never)]);
        for _ in 0..=CHECK_TICK_THRESHOLD {
            world.increment_change_tick();
        }
        let now = world.change_tick();
        let system = &mut tick.steps[0].system;
        let mut long_ago = now;
        long_ago.set(now.get().wrapping_sub(MAX_CHANGE_AGE + 1));
        system.set_last_run(long_ago);
        tick.run(&mut world);
        let last_run = tick.steps[0].system.get_last_run();
        assert_eq!(now.get().wrapping_sub(last_run.get()), MAX_CHANGE_AGE);
    }
}
