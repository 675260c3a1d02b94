//! Buries real children: kills what they left behind, closes their logs, sends their outputs to be hashed.

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, BuilderProcess, ChildPipes, Deadlines, HashRewrites, MissingOutputs,
};
use windrow_components::goal::{BuildMode, DerivationGoal, Stage};
use windrow_components::graph::BuildGraph;

use crate::error::Result;
use crate::failure::{Failure, FailureKind, describe_status};
use crate::finish::mislaid;
use crate::process::BuildDirs;
use crate::process::log_writer::{LogFile, LogThread};
use crate::report::{BuildRef, Event, Level, Usage};
use crate::sandbox::Room;
use crate::sandbox::process::kill::{Reaped, kill_and_measure};
use crate::spawn::Aloft;
use crate::store::check::Check;
use crate::store::collect::{CollectJob, Mislaid, collect};
use crate::store::harmless::open_to_all;
use crate::world::{
    Background, BuilderConfig, Buried, Collected, CollectedQueue, Completed, Condemned, Estates,
    Failures, Janitor, Lodging, Now, PoolHandle, ReporterHandle, RunState, Running, Slots,
    StoreHandle, Successors,
};

/// A child as it is buried.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct DeadChild {
    process: Option<&'static BuilderProcess>,
    pipes: &'static ChildPipes,
    deadlines: &'static Deadlines,
    log: &'static BuildLog,
    dir: &'static BuildDir,
    missing: Option<&'static MissingOutputs>,
    rewrites: Option<&'static HashRewrites>,
    goal: &'static DerivationGoal,
    stage: &'static mut Stage,
}

/// What burying children touches.
#[derive(SystemParam)]
pub struct Reaping<'w, 's> {
    commands: Commands<'w, 's>,
    children: Query<'w, 's, DeadChild>,
    log_files: Query<'w, 's, &'static mut LogFile>,
    condemned: Query<'w, 's, &'static Condemned>,
    lodgings: Query<'w, 's, &'static mut Lodging>,
    aloft: Query<'w, 's, &'static mut Aloft>,
    graph: ResMut<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    now: Res<'w, Now>,
    store: NonSendMut<'w, StoreHandle>,
    pool: NonSendMut<'w, PoolHandle>,
    logs: NonSendMut<'w, LogThread>,
    reporter: NonSendMut<'w, ReporterHandle>,
    background: ResMut<'w, Background>,
    failures: ResMut<'w, Failures>,
    dirs: Res<'w, BuildDirs>,
}

/// Buries every child that has exited and whose log is complete, or was given time enough to be.
pub fn reap(
    mut running: ResMut<Running>,
    mut slots: ResMut<Slots>,
    mut run: ResMut<RunState>,
    successors: Successors<'_>,
    (mut estates, mut collected): (ResMut<Estates>, ResMut<CollectedQueue>),
    mut params: Reaping<'_, '_>,
) {
    let now = params.now.0;
    let done = &mut collected.done;
    let mut waiting = std::mem::take(&mut estates.0);
    let last = waiting.pop();
    for buried in waiting {
        if let Err(error) = params.look_after(buried, None) {
            run.fatal = Some(error);
        }
    }
    if let Some(last) = last
        && let Err(error) = params.look_after(last, Some(&mut *done))
    {
        run.fatal = Some(error);
    }
    let children = &params.children;
    let buried: Vec<Entity> = running
        .0
        .extract_if(.., |goal| {
            children.get(*goal).is_ok_and(|child| child.is_over(now))
        })
        .collect();
    for goal in buried {
        slots.used -= 1;
        let mode = run.mode_of(goal);
        let Some(buried) = params.bury(goal, mode) else {
            continue;
        };
        if buried.is_good()
            && mode == BuildMode::Normal
            && !params.lodgings.contains(goal)
            && successors.any()
        {
            estates.0.push(buried);
            continue;
        }
        if let Err(error) = params.look_after(buried, Some(&mut *done)) {
            run.fatal = Some(error);
        }
    }
}

impl DeadChildReadOnlyItem<'_, '_> {
    fn is_over(&self, now: Duration) -> bool {
        let process = self.process;
        process.is_some_and(|process| process.is_over(self.pipes, self.deadlines, now))
    }
}

impl Reaping<'_, '_> {
    /// Takes the exit status of a child, and kills what it left behind.
    fn bury(&mut self, goal: Entity, mode: BuildMode) -> Option<Buried> {
        let child = self.children.get(goal).ok()?;
        let drv = child.goal.drv;
        let Reaped {
            status,
            cpu,
            peak_memory,
        } = kill_and_measure(child.process?.pid);
        // Its number may be another's from now on.
        self.commands.entity(goal).remove::<BuilderProcess>();
        let path = self.graph.full_path(self.graph.drv_path(drv));
        let buried = Buried {
            goal,
            mode,
            status,
            grounded: (self.aloft.get_mut(goal).ok()).and_then(|mut aloft| aloft.land()),
            condemned: self.condemned.get(goal).ok().cloned(),
        };
        let at = child.deadlines.exited.unwrap_or(self.now.0);
        self.reporter.0.report(&Event::Exited {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &path,
                name: self.graph.drv_name(drv),
            },
            system: self.graph.system(drv).unwrap_or_default(),
            usage: Usage {
                wall: at.saturating_sub(child.deadlines.started),
                cpu,
                peak_memory,
            },
            good: buried.is_good(),
            at,
        });
        Some(buried)
    }

    /// Sends the outputs of a good build to be hashed, or looks at them at once if `here` can take them and that is no
    /// more work than waking another thread. Says why another build failed.
    fn look_after(&mut self, buried: Buried, here: Option<&mut Vec<Collected>>) -> Result<()> {
        let good = buried.is_good();
        let Buried {
            goal,
            mode,
            status,
            grounded,
            condemned,
        } = buried;
        if let Ok(mut file) = self.log_files.get_mut(goal) {
            match grounded {
                None => self.logs.close(&mut file),
                Some(_) => self.logs.discard(&mut file),
            }
        }
        let Ok(mut child) = self.children.get_mut(goal) else {
            return Ok(());
        };
        let (dir, drv) = (child.dir, child.goal.drv);
        let lodging = self.lodgings.get_mut(goal).ok();
        let room = lodging.and_then(|mut lodging| lodging.0.take());
        // In a sandbox everything has its own name.
        let boxed = room.as_ref().is_some_and(Room::is_sandbox);
        let rewrites = child.rewrites.filter(|_| !boxed);
        if good {
            *child.stage = Stage::Collecting;
            let closure = self.store.0.input_closure(&mut self.graph, drv)?;
            let missing = MissingOutputs::of(child.missing, &self.graph, drv);
            let mut job = CollectJob::new(
                &self.graph,
                &self.config,
                drv,
                &missing,
                &closure,
                rewrites,
                room.as_ref(),
            );
            if mode == BuildMode::Check {
                let registered = missing
                    .iter()
                    .map(|&path| self.store.0.nar_hash(&self.graph, path))
                    .collect::<Result<Vec<_>>>()?;
                job = job.comparing(Check {
                    registered,
                    keep: self.config.keep_failed,
                });
            }
            self.background.collecting += 1;
            for &output in &missing {
                self.reporter.0.say(Level::Talkative, || {
                    let output = self.graph.full_path(output);
                    format!("scanning for references inside '{output}'")
                });
            }
            let keep_failed = self.config.keep_failed.then(|| dir.0.clone());
            if let Some(done) = here
                && self.config.optimiser.is_none()
                && room.is_none()
                && keep_failed.is_none()
                && job.is_trifle()
            {
                done.push(Collected {
                    goal,
                    result: collect(&job),
                    warnings: Vec::new(),
                    kept: None,
                });
                self.strip(goal);
                return Ok(());
            }
            let optimiser = self.config.optimiser.clone();
            let janitor = self.pool.1.clone();
            self.pool.0.submit(move || {
                let places = optimiser.as_ref().map(|_| job.places());
                let alone = undisturbed(room.as_ref());
                // Nobody may be let in to what somebody still works on.
                let keep_failed = keep_failed.filter(|_| alone.is_ok());
                let result = alone.and_then(|()| collect(&job));
                let mut warnings = match (optimiser, places, &result) {
                    (Some(optimiser), Some(places), Ok(built)) if !built.is_empty() => {
                        optimiser.optimise_new(&places)
                    }
                    _ => Vec::new(),
                };
                let keep = keep_failed.filter(|_| result.is_err());
                let kept = leave(room, &job, keep, &janitor, &mut warnings);
                Some(Collected {
                    goal,
                    result,
                    warnings,
                    kept,
                })
            });
            self.strip(goal);
            return Ok(());
        }

        let path = self.graph.full_path(self.graph.drv_path(drv));
        let fixed = self.graph.traits(drv).fixed;
        let disk_full = is_disk_nearly_full(&self.config, &dir.0);
        let (kind, what) = match condemned {
            Some(Condemned { reason, kind }) => (kind, reason),
            None if fixed || disk_full => (FailureKind::Other, describe_status(status)),
            None => (FailureKind::Permanent, describe_status(status)),
        };
        let note = if disk_full {
            "; the disk is nearly full, which may be the reason: free some space and try again"
        } else {
            ""
        };
        let ran = grounded.is_none();
        let failure = grounded.unwrap_or_else(|| Failure {
            kind,
            message: format!("builder for '{path}' {what}{note}"),
            log_tail: child.log.last_lines(self.config.log_lines),
        });
        // What never ran has left nothing to look at.
        let keep = self.config.keep_failed && (ran || room.is_some());
        if room.is_some() || keep {
            let missing = MissingOutputs::of(child.missing, &self.graph, drv);
            let (graph, config) = (&self.graph, &self.config);
            let job = CollectJob::new(graph, config, drv, &missing, &[], rewrites, room.as_ref());
            *child.stage = Stage::Collecting;
            self.background.collecting += 1;
            let (janitor, keep) = (self.pool.1.clone(), keep.then(|| dir.0.clone()));
            self.pool.0.submit(move || {
                let alone = undisturbed(room.as_ref());
                let keep = keep.filter(|_| alone.is_ok());
                let result = alone.and(Err((failure, None)));
                job.discard_scratch();
                let mut warnings = Vec::new();
                let kept = leave(room, &job, keep, &janitor, &mut warnings);
                Some(Collected {
                    goal,
                    result,
                    warnings,
                    kept,
                })
            });
            self.strip(goal);
            return Ok(());
        }
        self.failures.0.push((goal, failure));
        let scratch = rewrites.into_iter().flat_map(|rewrites| &rewrites.scratch);
        for scratch in scratch {
            let path = self.config.layout.real_path(&scratch.scratch_path);
            self.pool.delete(path);
        }
        let dir = dir.clone();
        self.discard(&dir);
        self.strip(goal);
        self.commands.entity(goal).remove::<(BuildDir, BuildLog)>();
        Ok(())
    }

    /// Takes off what only a running child needs.
    fn strip(&mut self, goal: Entity) {
        let mut entity = self.commands.entity(goal);
        entity.remove::<(
            BuilderProcess,
            Aloft,
            ChildPipes,
            Deadlines,
            LogFile,
            Condemned,
        )>();
    }

    fn say_kept(&mut self, dir: &std::path::Path) {
        let text = format!("note: keeping build directory '{}'", dir.display());
        self.reporter.0.report(&Event::Message {
            level: Level::Error,
            text: &text,
        });
    }

    /// Deletes a build folder.
    fn discard(&mut self, dir: &BuildDir) {
        // Most builders leave it as it was, ready for the next.
        self.pool.retire(&dir.0, &self.dirs.0);
    }
}

/// Takes back what the pool has hashed: outputs to register, or a reason why the build failed after all.
pub fn take_collected(
    mut queue: ResMut<CollectedQueue>,
    mut completed: ResMut<Completed>,
    (dirs, goals): (Query<(&BuildDir, &BuildLog)>, Query<&DerivationGoal>),
    mut params: Reaping<'_, '_>,
) {
    for Collected {
        goal,
        result,
        warnings,
        kept,
    } in queue.done.drain(..)
    {
        params.background.collecting -= 1;
        for text in &warnings {
            let level = Level::Warn;
            params.reporter.0.report(&Event::Message { level, text });
        }
        match result {
            Ok(outputs) => {
                let drv = goals.get(goal).ok().map(|known| known.drv);
                completed.push(goal, drv, outputs);
            }
            Err((mut failure, mislaid)) => {
                if failure.kind == FailureKind::Rejected
                    && let Ok((dir, _)) = dirs.get(goal)
                    && is_disk_nearly_full(&params.config, &dir.0)
                {
                    // Many programs don't notice that they could not write.
                    failure.kind = FailureKind::Other;
                }
                if let Some(mislaid) = mislaid {
                    let world = (&mut *params.graph, &mut *params.store);
                    let kept = mislaid::keep(*mislaid, world, &params.config, &params.pool);
                    failure.message.push_str(&kept);
                }
                params.failures.0.push((goal, failure));
            }
        }
        if let Some(kept) = kept {
            params.dirs.0.keep(&kept);
            params.say_kept(&kept);
        } else if !params.lodgings.contains(goal)
            && let Ok((dir, _)) = dirs.get(goal)
        {
            params.discard(dir);
        }
        params
            .commands
            .entity(goal)
            .remove::<(BuildDir, BuildLog, Lodging)>();
    }
}

/// Makes sure that nothing the builder left behind can touch its outputs any more (the seed's `UserLock::kill`).
fn undisturbed(room: Option<&Room>) -> Result<(), (Failure, Option<Box<Mislaid>>)> {
    let Some(room) = room else { return Ok(()) };
    room.kill_processes().map_err(|error| {
        let uid = room.builder_uid();
        let text = format!("cannot kill the processes of the build user {uid}: {error}");
        (Failure::new(FailureKind::Other, text), None)
    })
}

/// Ends the room of a build, if it had one. With `keep`, the build directory of one that had none,
/// that and what there is of the outputs stay for everybody to look at; returns the directory then.
fn leave(
    room: Option<Room>,
    job: &CollectJob,
    keep: Option<std::path::PathBuf>,
    janitor: &Janitor,
    warnings: &mut Vec<String>,
) -> Option<std::path::PathBuf> {
    let Some(dir) = keep else {
        if let Some(left) = room.map(Room::leave) {
            janitor.run(|| left.delete());
        }
        return None;
    };
    job.keep_outputs();
    let (kept, opened) = match room {
        Some(room) => {
            let (mut left, opened) = room.leave_open();
            let kept = left.kept.take();
            janitor.run(|| left.delete());
            (kept, opened)
        }
        None => {
            let opened = open_to_all(&[&dir], nix::unistd::geteuid().as_raw());
            (Some(dir), opened)
        }
    };
    if let (Err(error), Some(dir)) = (opened, &kept) {
        warnings.push(format!(
            "the build directory '{}' stays closed to others, for it can't be made harmless: {error}",
            dir.display()
        ));
    }
    kept
}

/// Whether a failed build may have failed for want of space (the seed's heuristic: less than 8 MiB).
fn is_disk_nearly_full(config: &BuilderConfig, build_dir: &std::path::Path) -> bool {
    const REQUIRED_BYTES: u64 = 8 * 1024 * 1024;
    [config.layout.real_store_dir.as_path(), build_dir]
        .into_iter()
        .any(|path| {
            nix::sys::statvfs::statvfs(path)
                .is_ok_and(|stat| stat.blocks_available() * stat.fragment_size() < REQUIRED_BYTES)
        })
}
