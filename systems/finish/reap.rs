//! Reaps children, of whatever kind: takes their exits from the queue, kills what they left behind,
//! waits for them, closes their logs, and hands them on to be scanned.

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSend, NonSendMut, Query, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, Child, ChildKind, HashRewrites, MissingOutputs,
};
use windrow_components::goal::{BuildMode, DerivationGoal, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;
use windrow_sandbox::cgroups::{self, Cgroup};
use windrow_sandbox::process::kill::{Reaped, kill_and_measure};

use crate::error::Result;
use crate::failure::FailureKind;
use crate::helpers::Substituters;
use crate::helpers::caches::Caches;
use crate::helpers::hook::talk::{HookHandle, say};
use crate::process::log_writer::LogFile;
use crate::process::side_channel::SideChannel;
use crate::report::{BuildRef, Event, Usage};
use crate::world::children::{
    ChildCgroup, ChildEnv, Condemned, HookLines, PendingDiff, PendingStart, ReapedChild,
};
use crate::world::{Host, OutputLocks, Scheduler, Services};

/// What a goal carries whose child is over.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct EndedChild {
    /// `None` once it was waited for.
    child: Option<&'static Child>,
    pub(super) channel: Option<&'static mut SideChannel>,
    pub(super) log: Option<&'static BuildLog>,
    file: Option<&'static mut LogFile>,
    pending: Option<&'static mut PendingStart>,
    condemned: Option<&'static Condemned>,
    cgroup: Option<&'static mut ChildCgroup>,
    pub(super) dir: Option<&'static BuildDir>,
    pub(super) env: Option<&'static mut ChildEnv>,
    pub(super) derivation: Option<&'static DerivationGoal>,
    pub(super) missing: Option<&'static MissingOutputs>,
    pub(super) rewrites: Option<&'static HashRewrites>,
    pub(super) path: Option<(&'static SubstitutionGoal, &'static Substitution)>,
    pub(super) locks: Option<&'static mut OutputLocks>,
    lines: Option<&'static mut HookLines>,
    pub(super) diff: Option<&'static mut PendingDiff>,
}

/// What reaping children and scanning what they made touches.
#[derive(SystemParam)]
pub struct Reaping<'w, 's> {
    pub(super) commands: Commands<'w, 's>,
    pub(super) children: Query<'w, 's, EndedChild>,
    pub(super) graph: ResMut<'w, BuildGraph>,
    pub(super) substituters: ResMut<'w, Substituters>,
    pub(super) caches: Option<NonSend<'w, Caches>>,
    hook: Option<NonSend<'w, HookHandle>>,
    pub(super) host: NonSendMut<'w, Host>,
    pub(super) services: NonSendMut<'w, Services>,
    pub(super) scheduler: ResMut<'w, Scheduler>,
}

/// Reaps every child that is over (Nix 1.8: the first half of `DerivationGoal::buildDone`). The
/// outputs of those that were deferred in the last tick are seen to first.
///
/// Nix 1.8: `Worker::childTerminated`.
pub fn reap(mut params: Reaping<'_, '_>) {
    let mut deferred = std::mem::take(&mut params.host.deferred);
    let last = deferred.pop();
    for reaped in deferred {
        params.see_to_outputs(reaped, false);
    }
    if let Some(last) = last {
        params.see_to_outputs(last, true);
    }
    let mut over = std::mem::take(&mut params.host.over);
    for goal in over.drain(..) {
        let Some((reaped, may_wait)) = params.reap(goal) else {
            continue;
        };
        if may_wait && params.scheduler.has_successors() {
            params.host.deferred.push(reaped);
        } else {
            params.see_to_outputs(reaped, true);
        }
    }
    params.host.over = over;
}

impl Reaping<'_, '_> {
    /// Takes the exit status of a child, and kills what it left behind. Tells whether its outputs
    /// may wait until its slot was given away, too.
    fn reap(&mut self, goal: Entity) -> Option<(ReapedChild, bool)> {
        let mut ended = self.children.get_mut(goal).ok()?;
        let child = ended.child?;
        let buffer = &mut self.host.reactor.buffer;
        match ended.channel.as_deref_mut() {
            Some(SideChannel::Fetch(pipe)) => drop(pipe.read(buffer)),
            Some(SideChannel::Hook(talk)) => {
                for line in talk.listen(buffer) {
                    if let Some(hook) = &self.hook {
                        say(&mut self.services.reporter, hook.program(), &line);
                    }
                }
            }
            None => {}
        }
        let measured = kill_and_measure(child.pid);
        let cgroup = ended.cgroup.as_mut().and_then(|cgroup| cgroup.0.take());
        let cgroup = cgroup.map(Cgroup::end);
        if let Some(name) = child.kind.setting() {
            let rest = ended.lines.as_mut().and_then(|lines| lines.0.rest());
            if let Some(line) = &rest {
                let reporter = &mut self.services.reporter;
                reporter.report(&Event::HelperOutput { name, line });
            }
            self.scheduler.hook_exited();
        } else {
            self.scheduler.exited(goal);
        }
        // Its number may be another's from now on.
        self.commands.entity(goal).remove::<Child>();
        let reaped = ReapedChild {
            goal,
            kind: child.kind,
            mode: self.scheduler.mode_of(goal),
            status: measured.status,
            exec_error: (ended.pending.as_mut()).and_then(|pending| pending.exec_error()),
            condemned: (ended.condemned.cloned()).or_else(|| left_running(cgroup.as_ref())),
            exceeded: cgroup.and_then(|cgroup| cgroup.exceeded),
            deadlines: child.deadlines,
        };
        if child.kind != ChildKind::Builder {
            return Some((reaped, false));
        }
        let plain = reaped.mode == BuildMode::Normal && ended.env.is_none();
        let may_wait = reaped.is_good() && plain;
        let deadlines = child.deadlines;
        self.report_exit(
            goal,
            &reaped,
            (with(measured, cgroup), deadlines.started, deadlines.exited),
        );
        Some((reaped, may_wait))
    }

    fn report_exit(
        &mut self,
        goal: Entity,
        reaped: &ReapedChild,
        (measured, started, exited): (Reaped, Duration, Option<Duration>),
    ) {
        let Some(&DerivationGoal { drv, .. }) =
            (self.children.get(goal).ok()).and_then(|ended| ended.derivation)
        else {
            return;
        };
        let at = exited.unwrap_or(self.scheduler.now);
        self.services.reporter.report(&Event::Exited {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &self.graph.full_path(self.graph.drv_path(drv)),
                name: self.graph.drv_name(drv),
            },
            system: self.graph.system(drv).unwrap_or_default(),
            usage: Usage {
                wall: at.saturating_sub(started),
                cpu: measured.cpu,
                peak_memory: measured.peak_memory,
            },
            good: reaped.is_good(),
            at,
        });
    }

    /// Closes the log of a child, and sees to what it made, or says why it failed. `here` says
    /// whether this thread may look at outputs itself.
    fn see_to_outputs(&mut self, reaped: ReapedChild, here: bool) {
        let goal = reaped.goal;
        let Ok(mut ended) = self.children.get_mut(goal) else {
            return;
        };
        if let Some(file) = &mut ended.file {
            match reaped.exec_error {
                None => self.host.logs.close(file),
                Some(_) => self.host.logs.discard(file),
            }
        }
        let done: Result<()> = match reaped.kind {
            ChildKind::Builder => self.scan_build(reaped, here),
            ChildKind::Hook => self.scan_hook(reaped),
            ChildKind::PreBuildHook => self.end_pre_build(reaped),
            ChildKind::PostBuildHook => {
                self.end_post_build(reaped);
                Ok(())
            }
            ChildKind::DiffHook => {
                self.end_diff(reaped);
                Ok(())
            }
            ChildKind::Fetch => {
                self.scan_fetch(reaped);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.scheduler.abort(error);
        }
        // What only a running child needs.
        let mut entity = self.commands.entity(goal);
        entity.remove::<(PendingStart, SideChannel, LogFile)>();
        entity.remove::<(Condemned, HookLines, ChildCgroup)>();
    }
}

/// Why a build fails whose cgroup has not become empty.
fn left_running(cgroup: Option<&cgroups::Ended>) -> Option<Condemned> {
    let is_empty = cgroup.is_none_or(|cgroup| cgroup.is_empty);
    (!is_empty).then(|| Condemned {
        reason: "left processes running that can't be killed".to_owned(),
        kind: FailureKind::Other,
    })
}

/// What a child took, by its cgroup as far as that tells: all of its processes are counted there.
fn with(measured: Reaped, cgroup: Option<cgroups::Ended>) -> Reaped {
    let cgroup = cgroup.unwrap_or_default();
    Reaped {
        cpu: cgroup.cpu.unwrap_or(measured.cpu),
        peak_memory: cgroup.peak_memory.or(measured.peak_memory),
        ..measured
    }
}
