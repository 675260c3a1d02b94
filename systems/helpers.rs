//! Substituters and the build hook in the real world: what they are, and what of them comes back from other threads.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bevy_ecs::prelude::{Entity, IntoScheduleConfigs as _, Schedule, World};
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::engine::TickSet;
use crate::finish::{fetch as finish_fetch, hook as finish_hook, reap};
use crate::poll_io::{HelperEvents, poll_children};
use crate::process::helper::HelperEnv;
use crate::process::launch::{SpawnError, Spawned};
use crate::process::reactor::Reactor;
use crate::repair;
use crate::spawn::hook::desk::HookDesk;
use crate::spawn::hook::instance::{HookError, Instance, dismiss};
use crate::spawn::hook::talk::{self, HookBuild, HookHandle};
use crate::spawn::{fetch as spawn_fetch, spawn_builders};
use crate::substitute::querier::Queriers;
use crate::substitute::substituters::Substituters;
use crate::substitute::{answers, substitute};
use crate::world::BuiltOutput;

/// Which helpers a run has.
#[derive(Debug, Clone)]
pub struct HelperConfig {
    /// The substituters' programs, in the order in which they are tried.
    pub substituters: Vec<PathBuf>,
    /// The build hook's program.
    pub hook: Option<PathBuf>,
    /// What the hook is started with: the system, the seconds of silence, whether traces are printed, and the seconds
    /// that a build may take.
    pub hook_args: Vec<String>,
    /// Their environment.
    pub env: HelperEnv,
    /// How many seconds a substituter's answer may take; 0 for any time.
    pub patience_s: u64,
}

/// Something that a thread has done for a helper.
#[derive(Debug)]
pub enum HelperNews {
    /// The hook was started, or could not be.
    Hook(Result<Instance, HookError>),
    /// A substituter was started to fetch a path, or could not be.
    Started {
        /// The path's goal.
        goal: Entity,
        /// Its process.
        result: Result<Spawned, SpawnError>,
    },
    /// What a substituter has fetched was looked at.
    Received {
        /// The path's goal.
        goal: Entity,
        /// The substituter's raw wait status.
        status: i32,
        /// The path, ready to be registered, or what is wrong with it.
        result: Result<BuiltOutput, String>,
        /// What went wrong beside that.
        warnings: Vec<String>,
    },
}

/// Where such news arrive.
pub struct News {
    sender: Sender<HelperNews>,
    receiver: Receiver<HelperNews>,
    wake: Arc<dyn Fn() + Send + Sync>,
    hooks: VecDeque<Result<Instance, HookError>>,
    fetches: VecDeque<HelperNews>,
    /// The environment of every helper.
    pub env: HelperEnv,
}

impl News {
    fn new(env: HelperEnv, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, receiver) = unbounded();
        Self {
            sender,
            receiver,
            wake: Arc::new(wake),
            hooks: VecDeque::new(),
            fetches: VecDeque::new(),
            env,
        }
    }

    /// What a thread tells its news with.
    pub fn teller(&self) -> impl Fn(HelperNews) + Send + 'static {
        let (sender, wake) = (self.sender.clone(), Arc::clone(&self.wake));
        move |news| {
            if sender.send(news).is_ok() {
                wake();
            }
        }
    }

    fn sort(&mut self) {
        for news in self.receiver.try_iter() {
            match news {
                HelperNews::Hook(result) => self.hooks.push_back(result),
                other => self.fetches.push_back(other),
            }
        }
    }

    /// The next news of a hook.
    pub fn take_hook(&mut self) -> Option<Result<Instance, HookError>> {
        self.sort();
        self.hooks.pop_front()
    }

    /// The next news of a path that is fetched.
    pub fn take_fetch(&mut self) -> Option<HelperNews> {
        self.sort();
        self.fetches.pop_front()
    }
}

/// Adds the helpers to a run in the real world, if there are any.
pub fn plug_in(world: &mut World, schedule: &mut Schedule, config: HelperConfig) {
    let waker = world.non_send::<Reactor>().waker();
    // Should the kernel refuse to wake, the next event or heartbeat brings the news.
    let wake = move || drop(waker.wake());
    world.insert_non_send(News::new(Arc::clone(&config.env), wake.clone()));
    if !config.substituters.is_empty() {
        let names = config.substituters.iter();
        let names = names.map(|program| program.to_string_lossy().into_owned());
        world.insert_resource(Substituters::new(names));
        let env = Arc::clone(&config.env);
        let queriers = Queriers::new(config.substituters, env, config.patience_s, wake);
        world.insert_non_send(queriers);
        world.insert_resource(finish_fetch::ReceivedQueue::default());
        schedule.add_systems((
            answers::ask
                .in_set(TickSet::Substitute)
                .after(substitute)
                .after(repair::ask),
            spawn_fetch::start_fetches
                .in_set(TickSet::Spawn)
                .after(spawn_builders),
            (
                answers::take_answers,
                spawn_fetch::take_started,
                spawn_fetch::hear_fetches,
                answers::break_circle,
            )
                .chain()
                .in_set(TickSet::PollIo)
                .after(poll_children)
                .after(repair::answer),
            (finish_fetch::reap_fetches, finish_fetch::take_received)
                .chain()
                .in_set(TickSet::Finish)
                .after(reap::take_collected)
                .before(repair::remember)
                .before(crate::finish::register),
        ));
    }
    if let Some(program) = config.hook {
        world.insert_resource(HookDesk::open());
        world.insert_non_send(HookHandle::new(program, config.hook_args));
        schedule.add_systems((
            // What was accepted leaves with its process before another is offered.
            (talk::hand_over, talk::offer_builds)
                .chain()
                .in_set(TickSet::Spawn)
                .after(spawn_builders)
                .after(spawn_fetch::start_fetches),
            (talk::hear_hook, talk::talk_on)
                .chain()
                .in_set(TickSet::PollIo)
                .after(poll_children)
                .after(repair::answer)
                .after(answers::break_circle),
            talk::hurry_hook
                .in_set(TickSet::Timeout)
                .after(reap::kill_condemned)
                .after(crate::timeout::retry_locks),
            finish_hook::reap_hooks
                .in_set(TickSet::Finish)
                .after(reap::take_collected)
                .after(finish_fetch::take_received)
                .before(repair::remember)
                .before(crate::finish::register),
        ));
    }
    schedule.add_systems(
        forget_events
            .in_set(TickSet::Timeout)
            .before(crate::timeout::condemn),
    );
}

fn forget_events(mut events: bevy_ecs::prelude::ResMut<HelperEvents>) {
    events.0.clear();
}

/// Ends the helpers that are left when a run is over, after the threads that start them have ended.
pub(crate) fn clean_up(world: &mut World) {
    use windrow_components::building::BuilderProcess;
    drop(world.remove_non_send::<Queriers>());
    if let Some(mut hook) = world.remove_non_send::<HookHandle>()
        && let Some(child) = hook.take_child()
    {
        dismiss(&child);
    }
    if let Some(mut news) = world.remove_non_send::<News>() {
        while let Some(result) = news.take_hook() {
            if let Ok(instance) = result {
                dismiss(&instance.child);
            }
        }
        while let Some(fetch) = news.take_fetch() {
            if let HelperNews::Started {
                result: Ok(child), ..
            } = fetch
            {
                dismiss(&child);
            }
        }
    }
    // A hook has something to tell a machine far away before it ends.
    let mut hooks = world.query_filtered::<Entity, bevy_ecs::prelude::With<HookBuild>>();
    let hooks: Vec<Entity> = hooks.iter(world).collect();
    for goal in hooks {
        if let Some(BuilderProcess { pid, pidfd, .. }) = world.entity_mut(goal).take() {
            dismiss(&Spawned { pid, pidfd });
        }
    }
}
