//! The third system: starts a builder for every goal that has its locks and a slot.
//!
//! In the real world a child process (Nix 1.8: `startBuilder`); other worlds have their own system
//! in the same set.

pub mod ahead;
mod attributes;
mod builder;
pub mod downloads;
pub mod fetch;
pub mod hook;
mod launch;
pub mod post_build;
mod pre_build;
mod program;
pub mod shell;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{ChildKind, HashRewrites, MissingOutputs};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::ids::users::{UserLock, UserPool};

use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::process::ahead::ReleasedBuilder;
use crate::report::{Event, Level};
use crate::spawn::ahead::release;
use crate::spawn::launch::{Launch, Origin};
use crate::world::children::{ChildSetup, Made, Maker, PreBuilt};
use crate::world::{Backoff, Host, OutputLocks, ReadyGoal, Scheduler, Services, WaitNews, Waiting};

/// What a goal that has its locks and a slot carries.
type LockedGoal = (
    Option<&'static MissingOutputs>,
    Option<&'static HashRewrites>,
    Option<&'static mut OutputLocks>,
    Option<&'static mut PreBuilt>,
);

/// What starting builders touches.
#[derive(SystemParam)]
pub struct Spawning<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, LockedGoal>,
    graph: ResMut<'w, BuildGraph>,
    services: NonSendMut<'w, Services>,
    host: NonSendMut<'w, Host>,
    scheduler: ResMut<'w, Scheduler>,
}

/// How long a goal waits for a build user that this run will free itself.
const OWN_USER: Duration = Duration::from_millis(20);

/// Prepares real builders and makes their processes (Nix 1.8: `DerivationGoal::startBuilder`).
/// Builders that need a sandbox, another user or reference graphs are spawned on a worker thread,
/// because `CLONE_VFORK` blocks the caller until exec.
pub fn spawn_builders(mut params: Spawning<'_, '_>) {
    for ready in params.scheduler.take_starting() {
        match params.spawn(ready) {
            Ok(()) => {}
            Err(GiveUp::Goal(failure)) => params.scheduler.fail(ready.goal, failure),
            Err(GiveUp::Run(error)) => return params.scheduler.abort(error),
            Err(GiveUp::NoUser) => params.wait_for_user(ready),
        }
    }
}

/// Why a builder is not started.
enum GiveUp {
    /// Its goal fails.
    Goal(Failure),
    /// The run ends.
    Run(Error),
    /// All build users are in use.
    NoUser,
}

impl Spawning<'_, '_> {
    /// A user for a builder; none where there are no build users.
    fn build_user(&self) -> Result<Option<UserLock>, GiveUp> {
        let Some(pool) = &self.host.config.users else {
            return Ok(None);
        };
        let acquired = pool.acquire();
        let acquired =
            acquired.map_err(|text| GiveUp::Goal(Failure::new(FailureKind::Other, text)))?;
        acquired.map(Some).ok_or(GiveUp::NoUser)
    }

    /// Lets a goal give up its locks and try again later, when a build user may be free.
    ///
    /// Nix 1.8: `UserLock::UserLock`, `UserLock::~UserLock`, `UserLock::acquire`.
    /// Nix 1.8: `UserLock::release`.
    fn wait_for_user(&mut self, ready: ReadyGoal) {
        if let Ok((_, _, Some(mut held), _)) = self.goals.get_mut(ready.goal) {
            let locks = std::mem::take(&mut *held);
            self.services.store.unlock(locks, false);
        }
        let mut entity = self.commands.entity(ready.goal);
        entity.remove::<(OutputLocks, MissingOutputs, HashRewrites)>();
        let pool = self.host.config.users.as_ref();
        let ours = pool.is_some_and(UserPool::is_used_by_us);
        let wait = match ours {
            true => Backoff::Constant(OWN_USER),
            false => Backoff::Doubling(OWN_USER),
        };
        let waiting = Waiting::Build(ready);
        let news = self.scheduler.wait_a_while(&self.graph, waiting, wait);
        if news != WaitNews::None && !ours {
            let origin = pool.map_or("", UserPool::origin);
            let holder = match news {
                WaitNews::Long => pool.and_then(UserPool::holder),
                _ => None,
            };
            let text = match holder {
                Some(holder) => {
                    format!("waiting for a build user in {origin}; one is used by {holder}...")
                }
                None if news == WaitNews::Long => return,
                None => format!("waiting for a free build user in {origin}..."),
            };
            self.services.reporter.report(&Event::Message {
                level: Level::Info,
                text: &text,
            });
        }
    }

    /// What a sandbox would show of the store, if there are sandboxes.
    fn closure(&mut self, drv: DrvId, pre_built: &PreBuilt) -> Result<Vec<PathId>, GiveUp> {
        if self.host.config.sandbox.is_none() {
            return Ok(Vec::new());
        }
        let closure = self.services.store.input_closure(&mut self.graph, drv);
        let mut closure = closure.map_err(GiveUp::Run)?;
        for &path in &pre_built.inputs {
            if !closure.contains(&path) {
                closure.push(path);
            }
        }
        Ok(closure)
    }

    fn spawn(&mut self, ready: ReadyGoal) -> Result<(), GiveUp> {
        let ReadyGoal { goal, drv } = ready;
        self.services.store.may_build().map_err(GiveUp::Run)?;
        if self.call_pre_build(ready)? {
            return Ok(());
        }
        let user = self.build_user()?;
        let pre_built = self.take_pre_built(goal);
        let closure = self.closure(drv, &pre_built)?;
        let Ok((missing, rewrites, ..)) = self.goals.get(goal) else {
            return Ok(());
        };
        if self.scheduler.run.has_stopped() {
            let text = "interrupted before it started";
            return Err(GiveUp::Goal(Failure::new(FailureKind::Other, text)));
        }
        let missing = MissingOutputs::of(missing, &self.graph, drv);
        let Host {
            config,
            pool,
            dirs,
            spare,
            ahead,
            ..
        } = &mut *self.host;
        let mut inputs = builder::BuilderInputs {
            graph: &self.graph,
            config,
            pool: Some(pool),
            drv,
            missing: &missing,
            rewrites,
            user,
            closure: &closure,
            shown: &pre_built.shown,
            spare,
            leftovers: Vec::new(),
            next: ahead.take(drv),
            by_hand: None,
        };
        if let Some((released, dir)) = release(&mut inputs, dirs, ahead) {
            self.take_up(goal, released, dir);
            return Ok(());
        }
        let prepared = builder::prepare(&mut inputs, dirs).map_err(GiveUp::Goal)?;
        let builder::Prepared {
            launch,
            origin,
            log,
            dir,
            warning,
        } = prepared;
        if let Some(text) = &warning {
            let level = Level::Warn;
            let reporter = &mut self.services.reporter;
            reporter.report(&Event::Message { level, text });
        }
        let setup = ChildSetup {
            goal,
            kind: ChildKind::Builder,
            log,
            channel: None,
            dir,
        };
        self.launch(setup, launch, origin);
        Ok(())
    }

    /// Lets a builder count as started that was executed before its turn and has been let go.
    fn take_up(&mut self, goal: Entity, released: ReleasedBuilder, dir: PathBuf) {
        let ReleasedBuilder {
            process,
            cgroup,
            pending,
            log,
            program,
        } = released;
        self.services.reporter.say(Level::Chatty, || {
            format!("executing builder '{}'", program.display())
        });
        let setup = ChildSetup {
            goal,
            kind: ChildKind::Builder,
            log,
            channel: None,
            dir: Some(dir),
        };
        let made = Made {
            pending: Some(pending),
            cgroup,
            ..Made::new(Ok(process))
        };
        let maker = (Maker::Here, None);
        self.host
            .launch(&mut self.scheduler, setup, maker, made, |made| made);
    }

    /// Has a process made, at once or by the thread that can wait for it.
    fn launch(&mut self, setup: ChildSetup, launch: Launch, origin: Origin) {
        let reporter = &mut self.services.reporter;
        if launch.wants_sandbox() {
            reporter.say(Level::Chatty, || {
                format!("setting up a sandbox for '{}'", launch.drv_path())
            });
        }
        reporter.say(Level::Chatty, || {
            format!("executing builder '{}'", launch.program().display())
        });
        let (host, scheduler) = (&mut *self.host, &mut self.scheduler);
        let ends = match origin {
            Origin::New(ends) if !launch.may_spawn_async() => ends,
            origin => {
                let maker = (Maker::Here, None);
                return host.launch(scheduler, setup, maker, launch, move |launch| {
                    launch.spawn_async(origin)
                });
            }
        };
        let maker = match launch.wants_template() {
            true => Maker::InTemplate,
            false => Maker::Thread,
        };
        let first = (!launch.is_ready()).then_some(Launch::get_ready as _);
        let template = Arc::clone(&host.template.entered);
        host.launch(scheduler, setup, (maker, first), launch, move |launch| {
            launch.run(&ends, &template)
        });
    }
}
