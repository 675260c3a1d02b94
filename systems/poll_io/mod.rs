//! The fourth system, and the only one that sleeps: until a child says something or exits, a signal
//! comes, the pool is done with something, or a deadline is reached.

pub mod ahead;
pub mod answers;
pub mod caches;
pub mod circle;
pub mod hook;
pub mod launched;
pub mod repair;
pub mod talk;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, Child};
use windrow_components::goal::{DerivationGoal, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_sys::interrupt;

use crate::error::Error;
use crate::helpers::Substituters;
use crate::helpers::downloads::Downloads;
use crate::helpers::hook::talk::HookHandle;
use crate::process::log_writer::LogFile;
use crate::process::reactor::Readable;
use crate::report::{BuildRef, Event, Level};
use crate::world::children::{HookLines, LINGER};
use crate::world::{Host, Scheduler, Services};

/// How much of one pipe a tick reads before it looks after signals and the other children, in
/// bytes. A read counts as one of a full buffer.
const READ_PER_TICK: usize = 1 << 20;

/// How many bytes a line that is shown counts as: what writes nothing but short lines must not keep
/// a tick for longer.
const LINE_COST: usize = 32;

/// How long to wait for a log that can't be written as fast as its builder goes on.
const CATCH_UP: Duration = Duration::from_millis(5);

/// How long the user's terminal goes without news at most, in a run that has nothing to do but
/// wait; and how often what has come of a line is shown.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A sleep that takes so much longer than it should was no sleep: the engine was stopped.
const STOPPED: Duration = Duration::from_millis(500);

/// A child as it is watched.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct WatchedChild {
    child: &'static mut Child,
    log: &'static mut BuildLog,
    file: Option<&'static mut LogFile>,
    derivation: Option<&'static DerivationGoal>,
    path: Option<&'static SubstitutionGoal>,
    lines: Option<&'static mut HookLines>,
}

/// What watching children touches.
#[derive(SystemParam)]
pub struct Watching<'w, 's> {
    children: Query<'w, 's, WatchedChild>,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    downloads: Res<'w, Downloads>,
    hook: Option<NonSendMut<'w, HookHandle>>,
    host: NonSendMut<'w, Host>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
}

/// The goal of an event about a child. Goals are never despawned, so the number of its entity is
/// enough.
pub(crate) fn goal_of(index: u32) -> Entity {
    Entity::from_raw_u32(index).expect("the number of an entity")
}

/// Waits until something happens, and reads what children have written.
///
/// Nix 1.8: `Worker::waitForInput`.
pub fn poll_children(mut params: Watching<'_, '_>) {
    if params.has_finished() {
        params.scheduler.run.interrupted = params.scheduler.run.finishing;
        return;
    }
    let Some(timeout) = params.timeout() else {
        params.scheduler.run.is_stuck = true;
        return;
    };
    let mut readable = Vec::new();
    match params.host.reactor.wait(Some(timeout), &mut readable) {
        Ok(Some(signal)) => params.interrupt(signal),
        Ok(None) => {}
        Err(source) => return params.scheduler.abort(Error::Poll { source }),
    }
    params.tell_time(timeout);
    params.host.events.turn();
    for event in readable {
        match event {
            Readable::Exit(index) => params.note_exit(goal_of(index)),
            Readable::Log(index) => params.read_log(goal_of(index), false),
            Readable::Said(_) | Readable::Told(_) | Readable::Hook => {
                params.host.events.now.push(event);
            }
        }
    }
    let mut unread = std::mem::take(&mut params.host.unread);
    unread.append(&mut params.host.held_back);
    for goal in unread {
        if let Ok(mut watched) = params.children.get_mut(goal) {
            watched.child.is_listed = false;
        }
        params.read_log(goal, false);
    }
    let Host {
        pool,
        scanned,
        logs,
        ..
    } = &mut *params.host;
    scanned.extend(std::iter::from_fn(|| pool.0.take()));
    let problems: Vec<String> = logs.problems().collect();
    let (now, next) = (params.scheduler.now, params.host.alarms.next());
    params
        .scheduler
        .note_alarms(next.is_some_and(|at| at <= now));
    let reporter = &mut params.services.reporter;
    for text in &problems {
        let level = Level::Warn;
        reporter.report(&Event::Message { level, text });
    }
    let second_passed = now >= params.host.next_second;
    params.host.second_passed = second_passed;
    if second_passed {
        params.host.next_second = now + HEARTBEAT;
        reporter.report(&Event::SecondPassed);
        for mut watched in &mut params.children {
            let kind = watched.child.kind;
            if let Some(lines) = &mut watched.lines {
                lines.tell_overdue(kind, reporter);
            }
            if let Some(file) = &mut watched.file {
                params.host.logs.show(file);
            }
        }
    }
}

impl Watching<'_, '_> {
    /// Whether the run was to end with what runs, and nothing does any more.
    fn has_finished(&self) -> bool {
        let scheduler = &self.scheduler;
        scheduler.run.finishing.is_some()
            && !scheduler.is_busy()
            && !scheduler.has_starting()
            && !scheduler.has_starting_fetches()
            && !scheduler.has_completed()
    }

    /// A signal has come that asks for an end.
    fn interrupt(&mut self, signal: i32) {
        let finish = self.scheduler.options.finish_running;
        let run = &mut self.scheduler.run;
        if interrupt::is_signalled() || !finish {
            run.interrupted = Some(signal);
            return;
        }
        run.finishing = Some(signal);
        let what = match self.scheduler.counts().running {
            1 => "the build that runs".to_owned(),
            count => format!("the {count} builds that run"),
        };
        let text = format!("waiting for {what} to end; interrupt once more to kill what runs");
        let level = Level::Warn;
        let reporter = &mut self.services.reporter;
        reporter.report(&Event::Message { level, text: &text });
    }

    /// Looks at the clock after a sleep that should have taken `timeout` at most. If it took much
    /// longer, the engine was stopped, perhaps together with its children: by a signal, with its
    /// cgroup, or because the machine was. That is nobody's silence.
    fn tell_time(&mut self, timeout: Duration) {
        let (before, now) = (self.scheduler.now, self.host.elapsed());
        self.scheduler.now = now;
        let late = now.saturating_sub(before + timeout);
        let was_stopped = std::mem::replace(&mut self.host.was_stopped, late > STOPPED);
        if late <= STOPPED {
            return;
        }
        // When it was stopped in that time is not known. On a machine that is merely busy, where
        // each sleep is too long, some time must pass nevertheless.
        let stopped = if was_stopped { late } else { now - before };
        for mut watched in &mut self.children {
            watched.child.deadlines.engine_was_stopped(now, stopped);
        }
        self.host.scans.engine_was_stopped(now, stopped);
        if let Some(hook) = &mut self.hook {
            hook.since = now.min(hook.since + stopped);
        }
    }

    /// How long to sleep if nothing happens; `None` if nothing would ever happen.
    fn timeout(&self) -> Option<Duration> {
        let (host, scheduler) = (&self.host, &self.scheduler);
        // A pipe that was not read to its end says nothing new by itself, for the poll tells of
        // changes only. Loading a large graph has nothing to poll for; children are looked after in
        // between.
        let busy = scheduler.has_work()
            || scheduler.has_cancelled()
            || !host.deferred.is_empty()
            || !host.over.is_empty()
            || self.downloads.has_news()
            || !host.unread.is_empty()
            || !host.events.unread.is_empty()
            || scheduler.run.has_stopped()
            || scheduler.can_begin()
            || (scheduler.run.is_over() && !scheduler.is_busy() && !scheduler.desk.is_asking());
        if busy {
            return Some(Duration::ZERO);
        }
        let retries = [scheduler.next_retry(), scheduler.desk.next_retry()];
        let waits = scheduler.is_busy()
            || self.substituters.is_waiting()
            || scheduler.awaits_archives()
            || scheduler.desk.is_asking()
            || retries != [None, None];
        if !waits {
            return None;
        }
        let hook = self.hook.as_ref();
        let others = [
            host.alarms.next(),
            self.substituters.next_end_of_grace(),
            scheduler.completed().held_until,
            hook.and_then(|hook| hook.deadline(&scheduler.options)),
        ];
        let next = retries.into_iter().chain(others).flatten().min();
        let elapsed = host.elapsed();
        let at_most = match host.held_back.is_empty() && host.events.held_back.is_empty() {
            true => elapsed + HEARTBEAT,
            false => elapsed + CATCH_UP,
        };
        Some(next.unwrap_or(at_most).min(at_most).saturating_sub(elapsed))
    }

    /// Reads what a child has written, up to a bound; what is left is read in the next tick. Unless
    /// it `must`, it reads nothing while the log or whoever is shown it is behind: the full pipe
    /// then makes the child wait.
    ///
    /// Nix 1.8: `Goal::handleChildOutput`, `Goal::handleEOF`, `DerivationGoal::handleChildOutput`.
    /// Nix 1.8: `DerivationGoal::handleEOF`, `SubstitutionGoal::handleChildOutput`.
    /// Nix 1.8: `SubstitutionGoal::handleEOF`.
    fn read_log(&mut self, goal: Entity, must: bool) {
        let (host, now) = (&mut *self.host, self.scheduler.now);
        let Ok(mut watched) = self.children.get_mut(goal) else {
            return;
        };
        let child = &mut *watched.child;
        let Some(pipe) = &child.log else { return };
        let file_is_behind = watched.file.as_ref().is_some_and(|file| file.is_behind());
        let user_is_behind = host.config.report_output && self.services.reporter.is_behind();
        if !must && (file_is_behind || user_is_behind) {
            // That it says nothing new is our doing.
            child.deadlines.last_output = now;
            return list(&mut host.held_back, goal, child);
        }
        let Some(build) = Named::of(&self.graph, goal, watched.derivation, watched.path) else {
            return;
        };
        let mut cost = 0;
        while cost < READ_PER_TICK {
            match read(pipe, &mut host.reactor.buffer) {
                Ok(0) => {
                    host.reactor.forget(pipe.as_fd());
                    child.log = None;
                    return host.note_if_over(goal, child, true);
                }
                Ok(count) => {
                    let bytes = &host.reactor.buffer[..count];
                    child.deadlines.last_output = now;
                    cost += host.reactor.buffer.len();
                    watched.log.append(bytes);
                    let limit = self.scheduler.limits_of(goal).max_log_size;
                    if limit > 0 && watched.log.size > limit {
                        host.alarms.set(now, goal);
                    }
                    if let Some(file) = &mut watched.file {
                        host.logs.append(file, bytes);
                    }
                    let reporter = &mut self.services.reporter;
                    if watched.lines.is_some() || host.config.report_output {
                        cost += LINE_COST * memchr::memchr_iter(b'\n', bytes).count();
                    }
                    if let Some(lines) = &mut watched.lines {
                        lines.feed(child.kind, bytes, reporter);
                    } else if host.config.report_output {
                        let build = build.build_ref();
                        reporter.report(&Event::Output { build, bytes });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    child.log = None;
                    return host.note_if_over(goal, child, true);
                }
            }
        }
        list(&mut host.unread, goal, child);
    }

    /// A child has exited. Its zombie keeps its process group's number until what it left behind is
    /// killed.
    fn note_exit(&mut self, goal: Entity) {
        // What it wrote itself is in the pipe now. More is written only by what it left running,
        // which must not keep us.
        self.read_log(goal, true);
        let (host, now) = (&mut *self.host, self.scheduler.now);
        let Ok(mut watched) = self.children.get_mut(goal) else {
            return;
        };
        let child = &mut *watched.child;
        host.reactor.forget(child.pidfd.as_fd());
        child.deadlines.exited = Some(now);
        let log_ended = child.log.is_none();
        host.note_if_over(goal, child, log_ended);
        if !log_ended {
            host.alarms.set(now + LINGER, goal);
        }
    }
}

/// A build or a fetch, with its path in full.
struct Named<'a> {
    id: u64,
    path: String,
    name: &'a str,
}

impl<'a> Named<'a> {
    fn of(
        graph: &'a BuildGraph,
        goal: Entity,
        derivation: Option<&DerivationGoal>,
        path: Option<&SubstitutionGoal>,
    ) -> Option<Self> {
        let (path, name) = match (derivation, path) {
            (Some(known), _) => (graph.drv_path(known.drv), graph.drv_name(known.drv)),
            (None, Some(known)) => (known.path, graph.paths.name(known.path)),
            (None, None) => return None,
        };
        Some(Self {
            id: goal.to_bits(),
            path: graph.full_path(path),
            name,
        })
    }

    fn build_ref(&self) -> BuildRef<'_> {
        BuildRef {
            id: self.id,
            drv_path: &self.path,
            name: self.name,
        }
    }
}

/// Lists a goal whose pipe is to be read again, unless it stands in a list already.
fn list(list: &mut Vec<Entity>, goal: Entity, child: &mut Child) {
    if !child.is_listed {
        child.is_listed = true;
        list.push(goal);
    }
}

fn read(pipe: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    nix::unistd::read(pipe, buffer).map_err(io::Error::from)
}
