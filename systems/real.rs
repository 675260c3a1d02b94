//! The real world as a plugin: children are processes, the store is SQLite and a directory, time is
//! the clock.

pub mod helpers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy_ecs::prelude::{Entity, With, World};
use windrow_components::building::{BuildDir, Child};
use windrow_components::graph::BuildGraph;
use windrow_sandbox::BuildEnv;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::dirs::run_dir::delete_dead;
use windrow_sandbox::process::launch::Spawned;
use windrow_store::locks::dead_runs;
use windrow_sys::interrupt::Grace;
use windrow_sys::limits;

use crate::error::{Error, Result};
use crate::process::ahead::NextBuilds;
use crate::process::kill::end_all;
use crate::process::log_writer::{LogFile, LogThread};
use crate::process::pool::Pool;
use crate::process::reactor::Reactor;
use crate::process::spare::Spare;
use crate::report::{Event, Level};
use crate::world::children::{ChildCgroup, ChildEnv, Launched};
use crate::world::{
    Alarms, BuilderConfig, Deleter, HelperEvents, Host, MountTemplateHandle, Parts, PoolHandle,
    Scheduler, Services, Verifier, used,
};

/// Adds the systems and resources of the real world; those that repair only if a request
/// `may_repair`.
///
/// # Errors
/// When the event loop can't be made.
pub fn plug_in(world: &mut World, config: BuilderConfig, may_repair: bool) -> Result<()> {
    let reactor = Reactor::new().map_err(|source| Error::Poll { source })?;
    let waker = reactor.waker();
    // Should the kernel refuse to wake, the next event or heartbeat brings the result.
    let wake = move || drop(waker.wake());
    let threads = |source| Error::Threads { source };
    let pool = Pool::new("pool", limits::processors(8), wake.clone()).map_err(threads)?;
    let launcher = Pool::new("launcher", 1, wake.clone()).map_err(threads)?;
    let deleter = Deleter::new().map_err(threads)?;
    let dirs = SpareDirs::new(&config.builds_dir);
    let (builds, store) = (
        config.builds_dir.clone(),
        config.layout.real_store_dir.clone(),
    );
    deleter.run(move || delete_dead(&builds, &store));
    if let Some(cgroups) = config.cgroups.clone() {
        deleter.run(move || cgroups.remove_dead());
    }
    for text in &config.notices {
        let level = Level::Warn;
        let mut services = world.non_send_mut::<Services>();
        services.reporter.report(&Event::Message { level, text });
    }
    world.resource_mut::<Parts>().pre_build = config.hooks.pre_build.is_some();
    if config.hooks.post_build.is_some() {
        world.resource_mut::<Scheduler>().have_post_build_hook();
    }
    let template = MountTemplateHandle {
        pool: Pool::new("template", 1, wake.clone()).map_err(threads)?,
        entered: Arc::default(),
    };
    world.insert_non_send(Host {
        config,
        began: Instant::now(),
        was_stopped: false,
        reactor,
        pool: PoolHandle(pool, deleter),
        launcher,
        spare: Spare::default(),
        ahead: NextBuilds::default(),
        template,
        logs: LogThread::new().map_err(threads)?,
        dirs,
        launched: Default::default(),
        scans: Default::default(),
        scanned: Vec::new(),
        deferred: Vec::new(),
        alarms: Alarms::default(),
        next_second: Duration::from_secs(1),
        second_passed: false,
        over: Vec::new(),
        unread: Vec::new(),
        held_back: Vec::new(),
        events: HelperEvents::default(),
    });
    let mut parts = world.resource_mut::<Parts>();
    (parts.others, parts.processes) = (true, true);
    if may_repair {
        world.resource_mut::<Parts>().repair = true;
        world.insert_non_send(Verifier::new(wake).map_err(threads)?);
    }
    bound_holding(world);
    Ok(())
}

fn warn(world: &mut World, text: &str) {
    let level = Level::Warn;
    let mut services = world.non_send_mut::<Services>();
    services.reporter.report(&Event::Message { level, text });
}

/// How many descriptors are left to what is no child: databases and their journals, trees that are
/// looked at or deleted.
const RESERVED_DESCRIPTORS: usize = 32;

/// How many descriptors a goal with a child takes: the pipe of its log, which has two ends while
/// the child is made, its standard input, its pidfd, its log file, the locks of its output and of
/// its build user, and one more for a hook, a substituter, or the cgroup that the child enters.
const DESCRIPTORS_PER_CHILD: usize = 8;

/// Has no more children at a time than there are descriptors for.
fn bound_holding(world: &mut World) {
    let spare = limits::spare_descriptors().saturating_sub(RESERVED_DESCRIPTORS);
    let most = u32::try_from(spare / DESCRIPTORS_PER_CHILD).unwrap_or(u32::MAX);
    let mut scheduler = world.resource_mut::<Scheduler>();
    scheduler.bound_holding(most);
    let (most, max_jobs) = (most.max(1), scheduler.options.max_jobs);
    if max_jobs > most {
        let text = format!(
            "at most {most} builds run at a time, although 'max-jobs' is {max_jobs}: only {} files \
             may be open ('ulimit -n')",
            limits::descriptors()
        );
        let level = Level::Warn;
        let mut services = world.non_send_mut::<Services>();
        services
            .reporter
            .report(&Event::Message { level, text: &text });
    }
}

/// Ends every child that still runs, deletes the build directories and gives up all locks: what a
/// run that stops early owes the machine. Nothing half done is registered.
///
/// Nix 1.8: `DerivationGoal::DerivationGoal`, `DerivationGoal::~DerivationGoal`, `Worker::Worker`.
/// Nix 1.8: `Worker::~Worker`.
pub fn clean_up(world: &mut World) {
    if let Some(host) = world.remove_non_send::<Host>() {
        clean_up_host(world, host);
    }
}

/// Ends the children that goals carry and those that have not been taken up. Returns these goals,
/// and the environments of the others.
fn end_children(
    world: &mut World,
    untaken: impl IntoIterator<Item = Launched>,
) -> (Vec<Entity>, Vec<BuildEnv>) {
    let mut children = helpers::clean_up(world);
    let (mut envs, mut cgroups) = (Vec::new(), Vec::new());
    for Launched { setup, made, .. } in untaken {
        children.extend(made.process.ok().map(|process| (setup.kind, process)));
        envs.extend(made.env);
        cgroups.extend(made.cgroup);
    }
    let goals: Vec<Entity> = world
        .query_filtered::<Entity, With<Child>>()
        .iter(world)
        .collect();
    for &goal in &goals {
        let mut entity = world.entity_mut(goal);
        if let Some(child) = entity.take::<Child>() {
            let (pid, pidfd) = (child.pid, child.pidfd);
            children.push((child.kind, Spawned { pid, pidfd }));
        }
        cgroups.extend(entity.take::<ChildCgroup>().and_then(|cgroup| cgroup.0));
    }
    end_all(&children);
    // With what is left in them.
    drop(cgroups);
    (goals, envs)
}

fn clean_up_host(world: &mut World, host: Host) {
    use crate::world::OutputLocks;
    // What is not deleted in a moment is left to the next run.
    let _grace = Grace::new();
    drop((host.spare, host.ahead));
    let mut untaken = host.launched;
    // Not to be dropped before the children are dead: a hook is asked to end first.
    let mut threads = Vec::new();
    for launcher in [host.launcher, host.template.pool] {
        let (launched, finished) = launcher.finish();
        untaken.extend(launched);
        threads.push(finished);
    }
    let (goals, mut envs) = end_children(world, untaken);
    drop(threads);
    let mut logs = world.query::<&mut LogFile>();
    for mut log in logs.iter_mut(world) {
        host.logs.close(&mut log);
    }
    let problems = host.logs.finish();
    problems.iter().for_each(|text| warn(world, text));
    // Waits for what is being hashed, whose directories could not be deleted under it.
    host.scans.stop_all();
    drop(host.pool);
    let mut children = world.query::<&mut ChildEnv>();
    envs.extend(children.iter_mut(world).filter_map(|mut env| env.0.take()));
    for env in &envs {
        // What does not die now is what the user must look after.
        let _ = env.kill_processes();
    }
    for env in envs {
        env.leave().delete();
    }
    if let Some(sandbox) = &host.config.sandbox {
        sandbox.close();
    }
    for goal in goals {
        world.entity_mut(goal).remove::<BuildDir>();
    }
    let mut locks = world.query::<&mut OutputLocks>();
    for mut held in locks.iter_mut(world) {
        held.locks.clear();
    }
    // Not before, for whoever wants a lock must not find it taken by this.
    dead_runs::clear(&host.config.layout);
    // A panic may have lost it.
    if world.contains_resource::<BuildGraph>() {
        used::tell(world, &[]);
        let mut services = world.non_send_mut::<Services>();
        services.reporter.report(&Event::Over);
        world.resource_scope::<BuildGraph, _>(|world, graph| {
            world.non_send_mut::<Services>().store.close(&graph);
        });
    }
    host.dirs.close();
}
