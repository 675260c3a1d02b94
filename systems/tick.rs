//! One tick: every system of every set, in its order, with the condition under which a world has it
//! and when it is due.
//!
//! Systems run one after the other in the order in which they stand here. To read this list is to
//! read the tick; no system is added elsewhere, except by policies, whose places are named here. A
//! system that is not due when its turn comes is passed over: to ask for that costs next to
//! nothing, while a system that runs fetches all that it touches first.
//!
//! What the order leaves open is in which order a system works through a list: the faulty world
//! shuffles those lists before each set, for nothing may come of it.

use bevy_ecs::prelude::{IntoSystem, World};

use crate::helpers::caches::Caches;
use crate::policy::{Policy, PolicySystems};
use crate::simulate::caches::{SimulatedCaches, systems as cached};
use crate::simulate::machines::systems as on_machines;
use crate::simulate::{arrivals, children as simulated, faults as faulty};
use crate::world::{Due, Parts, Scheduler, Step, TickSet, TickSystems};
use crate::{finish, lock, policy, poll_io, spawn, substitute, timeout};

/// Every system of a tick in a world that has these parts, with this policy.
#[rustfmt::skip]
fn sets(has: Parts, policy: PolicySystems) -> [Set; 7] {
    let place = placing(has, policy.place);
    [
        // What is missing?
        Set::new(TickSet::Substitute).only(has.faults, faulty::shuffle)
            .always(substitute::substitute).due(Scheduler::is_awake)
            .always(substitute::requests::follow).due(Scheduler::has_asked)
            .only(has.repair, substitute::repair::ask).due(Scheduler::has_repair_questions)
            .only(has.substituters, substitute::questions::ask)
            .only(has.forecast, policy::forecast::estimate)
            .only(has.arrivals, arrivals::hold).due(Scheduler::has_newly_ready)
            .only(has.simulated, simulated::note_ready).due(Scheduler::has_newly_ready)
            .only(has.simulated_caches, cached::ask)
            .only(has.faults, faulty::answer_questions),
        // Which ready goal comes first? Due when goals have become ready.
        Set::new(TickSet::Rank).of_policy(policy.rank),
        // Which ready goal gets the next slot? Its outputs are locked and looked up again.
        Set::new(TickSet::Lock).only(has.faults, faulty::shuffle)
            .only(has.others, lock::hook::take_reply).due(lock::hook::has_reply)
            .only(has.others || has.simulated_caches, lock::fetch::lock_paths).due(Scheduler::has_ready_fetches)
            .of_policy(place)
            .only(has.machines, on_machines::accept)
            .always(lock::lock).due(Scheduler::has_lockable),
        // Start what has a slot. A hook that accepted a build leaves with it before another build
        // is offered.
        Set::new(TickSet::Spawn)
            .only(has.faults, faulty::shuffle)
            .only(has.processes, spawn::spawn_builders).due(Scheduler::has_starting)
            .only(has.substituters, spawn::fetch::start_fetches).due(Scheduler::has_starting_fetches)
            .only(has.simulated_caches, cached::start_fetches).due(Scheduler::has_starting_fetches)
            .only(has.caches, spawn::downloads::begin_downloads::<Caches>)
            .only(has.simulated_caches, spawn::downloads::begin_downloads::<SimulatedCaches>)
            .only(has.processes, spawn::post_build::call).due(Scheduler::has_post_build)
            .only(has.hook, spawn::hook::hand_over).due(spawn::hook::is_due)
            .only(has.hook, spawn::hook::offer_builds).due(spawn::hook::is_due)
            .only(has.simulated && !has.machines, simulated::start).due(Scheduler::has_starting)
            .only(has.machines, on_machines::start).due(Scheduler::has_starting)
            .only(has.faults, faulty::answer_offers)
            .only(has.faults, faulty::start),
        // Sleep until something happens, and take in what has happened.
        Set::new(TickSet::PollIo)
            .only(has.processes, poll_io::launched::take_launched).due(Scheduler::is_launching)
            .only(has.processes, poll_io::ahead::prepare_next).due(Scheduler::has_started)
            .only(has.processes, poll_io::poll_children)
            .only(has.repair, poll_io::repair::answer).due(Scheduler::is_verifying)
            .only(has.substituters, poll_io::answers::take_answers)
            .only(has.caches, poll_io::caches::take_answers)
            .only(has.substituters, poll_io::circle::break_circle)
            .only(has.hook, poll_io::hook::hear_hook)
            .only(has.substituters || has.hook || has.pre_build, poll_io::talk::talk_on)
            .only(has.has_slots_alone(), simulated::advance).due(simulated::idle)
            .only(has.arrivals && !has.machines, arrivals::advance).due(simulated::idle)
            .only(has.machines, on_machines::advance).due(simulated::idle)
            .only(has.simulated_caches, cached::advance).due(simulated::idle)
            .only(has.faults, faulty::advance).due(simulated::idle),
        // What should have happened by now?
        Set::new(TickSet::Timeout).only(has.faults, faulty::shuffle)
            .only(has.processes, timeout::condemn).due(Scheduler::has_alarms)
            .only(has.processes, timeout::cancel).due(Scheduler::has_cancelled)
            .only(has.faults, faulty::kill).due(Scheduler::has_cancelled)
            .only(has.others, timeout::retry_locks).due(Scheduler::has_parked)
            .only(has.substituters || has.simulated_caches, timeout::grace::end_graces)
            .only(has.hook, timeout::hook::hurry_hook),
        finish_set(has, policy.at_ends),
    ]
}

/// What chooses machines, where there are any: the policy, or else the engine for it.
fn placing(has: Parts, of_policy: Vec<Step>) -> Vec<Step> {
    match (has.machines, of_policy.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => vec![Step::new(policy::place_greedily)],
        (true, false) => of_policy,
    }
}

/// Those of the last set.
#[rustfmt::skip]
fn finish_set(has: Parts, at_ends: Vec<Step>) -> Set {
    // Reap, register, report, tell the waiters.
    Set::new(TickSet::Finish).only(has.faults, faulty::shuffle)
        .only(has.processes, finish::reap::reap)
        .only(has.caches, finish::downloaded::take_downloaded)
        .only(has.simulated_caches, cached::take_downloaded)
        .only(has.processes, finish::scanned::take_scanned).due(Scheduler::is_scanning)
        .only(has.repair, finish::repair::remember).due(Scheduler::has_completed)
        .always(finish::register).due(Scheduler::has_completed)
        .only(has.processes, finish::hooks::pass).due(Scheduler::has_passed)
        .only(has.others, finish::failure_cache::remember).due(Scheduler::has_failures)
        .always(finish::fail).due(Scheduler::has_failures)
        .only(has.others, finish::retry::wake_postponed).due(finish::retry::has_postponed)
        .of_policy(at_ends)
        .only(has.machines, on_machines::forget).due(Scheduler::has_ended)
        .always(finish::tell_waiters).due(Scheduler::has_ended)
        .always(finish::requests::close).due(Scheduler::has_ended_requests)
        .only(has.caches, spawn::downloads::end_downloads::<Caches>)
        .due(Scheduler::has_given_up_goals)
        .only(has.simulated_caches, spawn::downloads::end_downloads::<SimulatedCaches>)
        .due(Scheduler::has_given_up_goals)
        .only(has.processes, finish::report_progress).due(Scheduler::has_progress)
}

/// The systems that a world has of one set.
struct Set {
    set: TickSet,
    steps: Vec<Step>,
    /// Whether the world has the system that was named last.
    has_last: bool,
}

impl Set {
    fn new(set: TickSet) -> Self {
        Self {
            set,
            steps: Vec::new(),
            has_last: false,
        }
    }

    /// A system that every world has.
    fn always<M>(self, system: impl IntoSystem<(), (), M>) -> Self {
        self.only(true, system)
    }

    /// A system that only worlds with some part have.
    fn only<M>(mut self, has: bool, system: impl IntoSystem<(), (), M>) -> Self {
        self.has_last = has;
        if has {
            self.steps.push(Step::new(system));
        }
        self
    }

    /// The system named last runs only in ticks in which it has something to do.
    fn due(mut self, due: Due) -> Self {
        if self.has_last
            && let Some(step) = self.steps.pop()
        {
            self.steps.push(step.due(due));
        }
        self
    }

    /// Systems of the policy, which say themselves when they are due.
    fn of_policy(mut self, steps: Vec<Step>) -> Self {
        self.has_last = false;
        self.steps.extend(steps);
        self
    }
}

/// The systems of one tick in this world, which has all its parts, with a policy.
pub fn systems(world: &mut World, policy: &Policy) -> TickSystems {
    let has = *world.resource::<Parts>();
    let policy = policy.plug_in(world);
    let steps = sets(has, policy).into_iter().flat_map(|set| set.steps);
    TickSystems::new(world, steps)
}

/// The systems of a tick by name, a line for each set, in a world that has these parts, with the
/// systems of a policy.
pub fn describe(has: Parts, policy: PolicySystems) -> String {
    let mut text = String::new();
    for Set { set, steps, .. } in sets(has, policy) {
        text += &format!("{set:?}\n");
        for step in steps {
            let name = step.name();
            let name = name.strip_prefix("windrow_systems::").unwrap_or(name);
            // Whom it is for, where it is for several, is seen from the world.
            let (name, _) = name.split_once('<').unwrap_or((name, ""));
            text += &format!("    {name}\n");
        }
    }
    text
}
