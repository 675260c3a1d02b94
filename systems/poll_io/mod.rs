//! The fourth system, and the only one that sleeps: until a child says something or exits, a signal comes, the
//! pool is done with something, or a deadline is reached.

pub mod answers;
pub mod circle;
pub mod fetch;
pub mod hook;
pub mod launched;
pub mod repair;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use bevy_ecs::prelude::{Entity, NonSend, NonSendMut, Query, Res, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, BuilderProcess, ChildPipes, Deadlines};
use windrow_components::goal::{DerivationGoal, SubstitutionGoal};
use windrow_components::graph::BuildGraph;

use crate::error::Error;
use crate::helpers::Substituters;
use crate::helpers::hook::talk::HookHandle;
use crate::process::log_writer::{LogFile, LogThread};
use crate::process::reactor::{Reactor, Readable};
use crate::report::{BuildRef, Event, Level};
use crate::timeout::next_deadline;
use crate::world::{
    Background, BuilderConfig, Clock, CollectedQueue, Estates, HelperEvents, LINGER, LockWaiters,
    Now, Options, PendingGoals, PoolHandle, ReporterHandle, RunState, Running,
};

/// How many reads of one pipe a tick makes before it looks after the other children.
const READS_PER_TICK: usize = 16;

/// How long to wait for a log that can't be written as fast as its builder goes on.
const CATCH_UP: Duration = Duration::from_millis(5);

/// How long the user's terminal goes without news at most, in a run that has nothing to do but wait.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A child as it is watched.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct WatchedChild {
    process: &'static mut BuilderProcess,
    pipes: &'static mut ChildPipes,
    deadlines: &'static mut Deadlines,
    log: &'static mut BuildLog,
    file: Option<&'static mut LogFile>,
    derivation: Option<&'static DerivationGoal>,
    path: Option<&'static SubstitutionGoal>,
}

/// What watching children touches.
#[derive(SystemParam)]
pub struct Watching<'w, 's> {
    children: Query<'w, 's, WatchedChild>,
    graph: Res<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    options: Res<'w, Options>,
    clock: Res<'w, Clock>,
    reactor: NonSendMut<'w, Reactor>,
    pool: NonSendMut<'w, PoolHandle>,
    logs: NonSendMut<'w, LogThread>,
    reporter: NonSendMut<'w, ReporterHandle>,
    collected: ResMut<'w, CollectedQueue>,
    estates: Res<'w, Estates>,
    helpers: ResMut<'w, HelperEvents>,
}

/// Waits for real children.
pub fn poll_children(
    mut run: ResMut<RunState>,
    (running, waiting): (Res<Running>, Res<LockWaiters>),
    mut now: ResMut<Now>,
    pending: PendingGoals<'_>,
    (background, substituters): (Res<Background>, Res<Substituters>),
    hook: Option<NonSend<HookHandle>>,
    mut params: Watching<'_, '_>,
) {
    // A pipe that was not read to its end says nothing new by itself, for the poll tells of changes only.
    let busy = pending.any()
        || !params.estates.0.is_empty()
        || !params.collected.unread.is_empty()
        || !params.helpers.now.is_empty()
        || run.is_over();
    let timeout = if busy {
        Some(Duration::ZERO)
    } else {
        let children = running
            .0
            .iter()
            .filter_map(|&goal| params.children.get(goal).ok());
        let deadlines = children.map(|child| child.deadlines);
        let (desk, fetches) = (&pending.desk, &pending.fetches);
        let next = [
            next_deadline(&params.options, &waiting, deadlines, now.0),
            fetches.next_retry(),
            desk.next_retry(),
            pending.completed.held_until,
            hook.and_then(|hook| hook.deadline(&params.options)),
        ];
        let next = next.into_iter().flatten().min();
        let nothing_under_way = running.0.is_empty()
            && !background.is_busy()
            && !substituters.is_waiting()
            && !desk.is_asking();
        let retries = [fetches.next_retry(), desk.next_retry()];
        if nothing_under_way && waiting.foreign.is_empty() && retries == [None, None] {
            run.fatal = Some(stuck(&params.options));
            return;
        }
        let elapsed = params.clock.0.elapsed();
        let held_back =
            !params.collected.held_back.is_empty() || !params.helpers.held_back.is_empty();
        let at_most = match held_back {
            false => elapsed + HEARTBEAT,
            true => elapsed + CATCH_UP,
        };
        Some(next.unwrap_or(at_most).min(at_most).saturating_sub(elapsed))
    };
    // Loading a large graph has nothing to poll for; children are looked after in between.
    let mut readable = Vec::new();
    match params.reactor.wait(timeout, &mut readable) {
        Ok(Some(signal)) => run.interrupted = Some(signal),
        Ok(None) => {}
        Err(source) => {
            run.fatal = Some(Error::Poll { source });
            return;
        }
    }
    now.0 = params.clock.0.elapsed();
    let HelperEvents {
        now: look_at,
        held_back,
        ..
    } = &mut *params.helpers;
    look_at.append(held_back);
    for event in readable {
        let index = match event {
            Readable::Log(index) | Readable::Exit(index) => index,
            Readable::Said(_) | Readable::Told(_) | Readable::Hook => {
                params.helpers.now.push(event);
                continue;
            }
        };
        let Some(&goal) = running.0.iter().find(|goal| goal.index_u32() == index) else {
            continue;
        };
        match event {
            Readable::Exit(_) => params.note_exit(goal, now.0),
            _ => params.read_log(goal, now.0, false),
        }
    }
    let mut unread = std::mem::take(&mut params.collected.unread);
    unread.append(&mut params.collected.held_back);
    for goal in unread {
        params.read_log(goal, now.0, false);
    }
    while let Some(collected) = params.pool.0.take() {
        params.collected.done.push(collected);
    }
    let problems: Vec<String> = params.logs.problems().collect();
    for text in &problems {
        params.reporter.0.report(&Event::Message {
            level: Level::Warn,
            text,
        });
    }
}

fn stuck(options: &Options) -> Error {
    if options.max_jobs == 0 {
        Error::NoSlots
    } else {
        Error::Stuck
    }
}

impl Watching<'_, '_> {
    /// Reads what a child has written, up to a bound; what is left is read in the next tick. Unless
    /// it `must`, it reads nothing while the log or whoever is shown it is behind: the full pipe
    /// then makes the child wait.
    fn read_log(&mut self, goal: Entity, now: Duration, must: bool) {
        let Ok(mut child) = self.children.get_mut(goal) else {
            return;
        };
        let Some(pipe) = &child.pipes.log else { return };
        let file_is_behind = child.file.as_ref().is_some_and(|file| file.is_behind());
        let user_is_behind = self.config.report_output && self.reporter.0.is_behind();
        if !must && (file_is_behind || user_is_behind) {
            // That it says nothing new is our doing.
            child.deadlines.last_output = now;
            push_once(&mut self.collected.held_back, goal);
            return;
        }
        let (path, name) = match (child.derivation, child.path) {
            (Some(known), _) => (
                self.graph.drv_path(known.drv),
                self.graph.drv_name(known.drv),
            ),
            (None, Some(known)) => (known.path, self.graph.paths.name(known.path)),
            (None, None) => return,
        };
        let drv_path = self.graph.full_path(path);
        let build = BuildRef {
            id: goal.to_bits(),
            drv_path: &drv_path,
            name,
        };
        for _ in 0..READS_PER_TICK {
            match read(pipe, &mut self.reactor.buffer) {
                Ok(0) => {
                    self.reactor.forget(pipe.as_fd());
                    child.pipes.log = None;
                    return;
                }
                Ok(count) => {
                    let bytes = &self.reactor.buffer[..count];
                    child.deadlines.last_output = now;
                    child.log.append(bytes);
                    if let Some(file) = &mut child.file {
                        self.logs.append(file, bytes);
                    }
                    if self.config.report_output {
                        self.reporter.0.report(&Event::Output { build, bytes });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    child.pipes.log = None;
                    return;
                }
            }
        }
        push_once(&mut self.collected.unread, goal);
    }

    /// A child has exited. Its zombie keeps its process group's number until what it left behind is killed.
    fn note_exit(&mut self, goal: Entity, now: Duration) {
        // What it wrote itself is in the pipe now. More is written only by what it left running, which must not keep us.
        self.read_log(goal, now, true);
        let Ok(mut child) = self.children.get_mut(goal) else {
            return;
        };
        self.reactor.forget(child.process.pidfd.as_fd());
        child.process.exited = true;
        child.deadlines.exited = Some(now);
        child.deadlines.linger = Some(if child.pipes.log.is_some() {
            now + LINGER
        } else {
            now
        });
    }
}

/// The lists are as short as there are slots at most.
fn push_once(list: &mut Vec<Entity>, goal: Entity) {
    if !list.contains(&goal) {
        list.push(goal);
    }
}

fn read(pipe: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    nix::unistd::read(pipe, buffer).map_err(io::Error::from)
}
