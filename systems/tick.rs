//! One tick: every system of every set, in its order, with the condition under which a world has it.
//!
//! Sets run in the order of [`TickSet`]; the policy's ranking ([`policy`]) runs in [`TickSet::Rank`]. Within a
//! set systems run in the order in which they stand here. To read this list is to read the tick; no system is added
//! elsewhere, except by policies. What the order leaves open is in which order a system works through a list: the faulty
//! world shuffles those lists before each set, for nothing may come of it.

use std::any::type_name_of_val;

use bevy_ecs::prelude::{IntoScheduleConfigs, Schedule, SystemCondition};
use bevy_ecs::schedule::{
    LogLevel, ScheduleBuildSettings, ScheduleConfigs, SingleThreadedExecutor,
};
use bevy_ecs::system::ScheduleSystem;

use crate::simulate::{children as simulated, faults as faulty};
use crate::world::{Parts, TickSet};
use crate::{finish, lock, policy, poll_io, spawn, substitute, timeout};

/// Every system of a tick in a world that has these parts.
#[rustfmt::skip]
fn sets(has: Parts) -> [Set; 6] {
    [
        // What is missing?
        Set::new(TickSet::Substitute)
            .only(has.faults, faulty::shuffle)
            .always(substitute::substitute)
            .only(has.repair, substitute::repair::ask)
            .only(has.substituters, substitute::questions::ask)
            .only(has.forecast, policy::forecast::estimate)
            .only(has.simulated, simulated::note_ready)
            .only(has.faults, faulty::answer_questions),

        // Which ready goal gets the next slot? Its outputs are locked and looked up again.
        Set::new(TickSet::Lock)
            .only(has.faults, faulty::shuffle)
            .only(has.others, lock::hook::take_reply).due(lock::hook::has_reply)
            .only(has.others, lock::fetch::lock_paths).due(lock::fetch::has_ready)
            .always(lock::lock),

        // Start what has a slot. A hook that accepted a build leaves with it before another build is offered.
        Set::new(TickSet::Spawn)
            .only(has.faults, faulty::shuffle)
            .only(has.processes, spawn::spawn_builders)
            .only(has.substituters, spawn::fetch::start_fetches)
            .only(has.hook, spawn::hook::hand_over)
            .only(has.hook, spawn::hook::offer_builds)
            .only(has.simulated, simulated::start)
            .only(has.faults, faulty::answer_offers)
            .only(has.faults, faulty::start),

        // Sleep until something happens, and take in what has happened.
        Set::new(TickSet::PollIo)
            .only(has.processes, poll_io::launched::take_launched)
            .only(has.processes, poll_io::poll_children)
            .only(has.repair, poll_io::repair::answer)
            .only(has.substituters, poll_io::answers::take_answers)
            .only(has.substituters, poll_io::fetch::take_started)
            .only(has.substituters, poll_io::fetch::hear_fetches)
            .only(has.substituters, poll_io::circle::break_circle)
            .only(has.hook, poll_io::hook::hear_hook)
            .only(has.hook, poll_io::hook::talk_on)
            .only(has.simulated, simulated::advance).due(simulated::idle)
            .only(has.faults, faulty::advance).due(simulated::idle),

        // What should have happened by now?
        Set::new(TickSet::Timeout)
            .only(has.faults, faulty::shuffle)
            .only(has.processes, timeout::condemn)
            .only(has.processes, timeout::cancel).due(timeout::has_cancelled)
            .only(has.others, timeout::retry_locks).due(timeout::is_waiting_for_locks)
            .only(has.hook, timeout::hook::hurry_hook),

        // Reap, register, report, tell the waiters.
        Set::new(TickSet::Finish)
            .only(has.faults, faulty::shuffle)
            .only(has.processes, finish::reap::reap)
            .only(has.processes, finish::reap::take_collected)
            .only(has.substituters, finish::fetch::reap_fetches)
            .only(has.substituters, finish::fetch::take_received)
            .only(has.hook, finish::hook::reap_hooks)
            .only(has.repair, finish::repair::remember)
            .always(finish::register)
            .only(has.others, finish::failure_cache::remember).due(finish::has_failures)
            .always(finish::fail).due(finish::has_failures)
            .only(has.others, finish::retry::wake_postponed).due(finish::retry::has_postponed)
            .always(finish::tell_waiters)
            .always(finish::report_progress),
    ]
}

/// The systems that a world has of one set.
struct Set {
    set: TickSet,
    systems: Vec<(&'static str, ScheduleConfigs<ScheduleSystem>)>,
    /// Whether the world has the system that was named last.
    has_last: bool,
}

impl Set {
    fn new(set: TickSet) -> Self {
        Self {
            set,
            systems: Vec::new(),
            has_last: false,
        }
    }

    /// A system that every world has.
    fn always<M>(self, system: impl IntoScheduleConfigs<ScheduleSystem, M>) -> Self {
        self.only(true, system)
    }

    /// A system that only worlds with some part have.
    fn only<M>(mut self, has: bool, system: impl IntoScheduleConfigs<ScheduleSystem, M>) -> Self {
        self.has_last = has;
        if has {
            let name = type_name_of_val(&system);
            self.systems.push((name, system.into_configs()));
        }
        self
    }

    /// The system named last runs only in ticks in which it has something to do: asking for that costs less than fetching
    /// everything that the system touches.
    fn due<M>(mut self, condition: impl SystemCondition<M>) -> Self {
        if self.has_last
            && let Some((name, system)) = self.systems.pop()
        {
            self.systems.push((name, system.run_if(condition)));
        }
        self
    }

    fn add_to(self, schedule: &mut Schedule) {
        let systems = ScheduleConfigs::Configs {
            configs: self.systems.into_iter().map(|(_, it)| it).collect(),
            collective_conditions: Vec::new(),
            metadata: Default::default(),
        };
        schedule.add_systems(systems.chain().in_set(self.set));
    }
}

/// The schedule of one tick in a world that has these parts, without its policy.
pub fn schedule(has: Parts) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.set_executor(SingleThreadedExecutor::new());
    schedule.set_build_settings(ScheduleBuildSettings {
        ambiguity_detection: LogLevel::Error,
        ..ScheduleBuildSettings::default()
    });
    schedule.configure_sets(
        (
            TickSet::Substitute,
            TickSet::Rank,
            TickSet::Lock,
            TickSet::Spawn,
            TickSet::PollIo,
            TickSet::Timeout,
            TickSet::Finish,
        )
            .chain(),
    );
    for set in sets(has) {
        set.add_to(&mut schedule);
    }
    schedule
}

/// The systems of a tick by name, a line for each set, in a world that has these parts.
pub fn describe(has: Parts) -> String {
    let mut text = String::new();
    for set in sets(has) {
        text += &format!("{:?}\n", set.set);
        for (name, _) in set.systems {
            let name = name.strip_prefix("windrow_systems::").unwrap_or(name);
            text += &format!("    {name}\n");
        }
    }
    text
}
