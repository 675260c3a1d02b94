//! A person in the place of a builder: all that the builder of a derivation gets, with another
//! program, at the terminal of whoever runs windrow. What it makes of outputs is thrown away.
//!
//! No goal and no tick: the derivation's inputs are valid, and the program is waited for.

mod choice;
mod pre_build;

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use windrow_components::building::HashRewrites;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::ids::users::{UserLock, UserPool};
use windrow_sandbox::paths::{SandboxPath, Shown};
use windrow_sandbox::process::attend::{Attendant, Attended};
use windrow_sandbox::process::launch::action::c_path;
use windrow_sandbox::{BuildEnv, Isolation};
use windrow_sys::harmless::{make_harmless, open_to_all};
use windrow_sys::tree::delete_path;

use crate::failure::{Failure, FailureKind};
use crate::process::spare::Spare;
use crate::spawn::builder::{BuilderInputs, ByHand, PreparedLaunch, prepare_launch};
use crate::spawn::launch::Launch;
use crate::world::BuilderConfig;
use crate::world::children::Made;
use choice::Around;
pub use choice::Run;
pub use pre_build::call_pre_build;

/// What a person is to get.
pub struct ShellInputs<'a> {
    /// A graph that has the derivation and its inputs.
    pub graph: &'a BuildGraph,
    /// What builders need to know of this machine.
    pub config: &'a BuilderConfig,
    /// The derivation, all of whose inputs are valid.
    pub drv: DrvId,
    /// What a sandbox shows of the store.
    pub closure: &'a [PathId],
    /// What the pre-build hook wants shown beside it.
    pub shown: &'a [(SandboxPath, Shown)],
    /// Names for its outputs that nobody else has.
    pub rewrites: &'a HashRewrites,
    /// The directory of a build that was kept, to work in; its path is absolute.
    pub kept: Option<&'a Path>,
    /// What to run.
    pub run: Run,
}

/// A person's program that lacks only its process.
pub struct Shell {
    launch: Launch,
    attendant: Attendant,
    is_interactive: bool,
    leavings: Leavings,
    /// What to warn of.
    pub warning: Option<String>,
}

/// How a person's program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its raw wait status.
    pub status: i32,
    /// The signal to windrow that it was killed for, if it was.
    pub ended_by: Option<i32>,
    /// Its build directory, if that stays.
    pub kept: Option<PathBuf>,
    /// What could not be done afterwards.
    pub warnings: Vec<String>,
}

fn other(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Other, text)
}

impl Shell {
    /// Prepares it.
    ///
    /// # Errors
    /// Why the derivation can't be built here, or what is asked for can't be had.
    pub fn prepare(inputs: &ShellInputs<'_>) -> Result<Self, Failure> {
        let ShellInputs {
            graph, config, drv, ..
        } = *inputs;
        let path = graph.full_path(graph.drv_path(drv));
        let user = match inputs.kept {
            Some(kept) => user_of(kept, config.users.as_ref()).map_err(other)?,
            None => any_user(config.users.as_ref()).map_err(other)?,
        };
        let dirs = SpareDirs::new(&config.builds_dir);
        let missing: Vec<PathId> = graph.outputs(drv).iter().map(|row| row.path).collect();
        let mut spare = Spare::default();
        let prepared = prepare_launch(
            &mut BuilderInputs {
                graph,
                config,
                pool: None,
                drv,
                missing: &missing,
                rewrites: Some(inputs.rewrites),
                user,
                closure: inputs.closure,
                shown: inputs.shown,
                spare: &mut spare,
                leftovers: Vec::new(),
                next: None,
                by_hand: Some(ByHand { kept: inputs.kept }),
            },
            &dirs,
        )?;
        let PreparedLaunch {
            launch,
            dir,
            warning,
            ..
        } = prepared;
        let scratch = inputs.rewrites.scratch.iter();
        let scratch = scratch.map(|it| config.layout.real_path(&it.scratch_path));
        let sandbox = launch.sandbox.as_ref();
        let leavings = Leavings {
            new_dir: dir.filter(|_| inputs.kept.is_none()),
            kept: inputs.kept.map(Path::to_owned),
            sandbox: sandbox.map(|(isolation, _)| isolation.clone()),
            outputs: (missing.iter())
                .map(|&path| graph.paths.base_name(path).into())
                .collect(),
            scratch: scratch.collect(),
            dirs,
        };
        let mut shell = Self {
            attendant: Attendant::new(inputs.run == Run::Shell, launch.wants_sandbox()),
            is_interactive: false,
            launch: match launch.is_ready() {
                true => launch,
                false => launch.get_ready(),
            },
            leavings,
            warning,
        };
        match shell.take_place(inputs, &path) {
            Ok(()) => Ok(shell),
            Err(failure) => {
                shell.leavings.clear_away(None, false);
                Err(failure)
            }
        }
    }

    /// Puts the person's program into the builder's place.
    fn take_place(&mut self, inputs: &ShellInputs<'_>, path: &str) -> Result<(), Failure> {
        let around = Around {
            layout: &inputs.config.layout,
            sandbox: self.leavings.sandbox.as_ref(),
            own_shell: std::env::var_os("SHELL").map(PathBuf::from),
        };
        let about = |reason: String| other(format!("cannot open a shell for '{path}': {reason}"));
        let invocation = &mut self.launch.invocation;
        let (program, words) = choice::words(&inputs.run, invocation, &around).map_err(about)?;
        let build = choice::command_line(invocation);
        invocation.env.extend(build);
        invocation.program = c_path(program);
        invocation.args = choice::c_strings(words).map_err(about)?;
        self.launch.by_hand = Some(self.attendant.session());
        self.is_interactive = inputs.run == Run::Shell && self.attendant.has_terminal();
        if self.is_interactive {
            let name = inputs.graph.drv_name(inputs.drv);
            let env = &mut self.launch.invocation.env;
            if !env.iter().any(|pair| pair.as_bytes().starts_with(b"PS1=")) {
                env.extend(CString::new(format!("PS1=[{name}]$ ")).ok());
            }
        }
        Ok(())
    }

    /// Gives it up before it has run.
    pub fn abandon(self) {
        self.leavings.clear_away(None, false);
    }

    /// Whether somebody types what it is to do.
    pub fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// The directory it begins in, as it sees it.
    pub fn directory(&self) -> &Path {
        &self.launch.dir
    }

    /// Whether it is in a sandbox.
    pub fn is_sandboxed(&self) -> bool {
        self.leavings.sandbox.is_some()
    }

    /// Whether `WINDROW_BUILD` has the builder's command line.
    pub fn has_command_line(&self) -> bool {
        let mut env = self.launch.invocation.env.iter();
        env.any(|pair| pair.as_bytes().starts_with(b"WINDROW_BUILD="))
    }

    /// Runs it to its end, and throws away what it made of outputs. A new build directory stays if
    /// it is to be kept. To be called by a thread that outlives the program.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn run(self, keep: bool) -> Result<Ended, Failure> {
        let Made {
            process,
            cgroup,
            env,
            ..
        } = self.launch.run_here();
        let attended = match process {
            Ok(process) => Ok(self.attendant.attend(&process)),
            Err(failure) => match self.attendant.give_up() {
                Some(signal) => Ok(Attended {
                    status: signal,
                    ended_by: Some(signal),
                }),
                None => Err(failure),
            },
        };
        // With all that is left in it.
        drop(cgroup);
        let (kept, warnings) = self.leavings.clear_away(env, keep && attended.is_ok());
        let Attended { status, ended_by } = attended?;
        Ok(Ended {
            status,
            ended_by,
            kept,
            warnings,
        })
    }
}

/// What is there for a person's program, and is to go when that has ended.
struct Leavings {
    dirs: SpareDirs,
    /// A new build directory that was made already.
    new_dir: Option<PathBuf>,
    kept: Option<PathBuf>,
    sandbox: Option<Isolation>,
    /// The base names of the outputs.
    outputs: Vec<OsString>,
    /// What it takes for them without a sandbox.
    scratch: Vec<PathBuf>,
}

impl Leavings {
    /// Ends what the program has left running, where that can be known, and deletes all but the
    /// build directory if that stays: then it is returned. What could not be done, too.
    fn clear_away(self, env: Option<BuildEnv>, keep: bool) -> (Option<PathBuf>, Vec<String>) {
        let mut warnings = Vec::new();
        if let Some(Err(error)) = env.as_ref().map(BuildEnv::kill_processes) {
            warnings.push(format!("cannot end all that was started: {error}"));
        }
        let Self {
            dirs,
            new_dir,
            kept,
            sandbox,
            outputs,
            scratch,
        } = self;
        let (stays, opened) = match (env, kept, new_dir) {
            (env, Some(kept), _) => (Some(kept.clone()), leave_kept(env, &kept, &outputs)),
            (Some(env), None, _) if keep => {
                let (mut left, opened) = env.leave_open();
                let stays = left.kept.take();
                left.delete();
                (stays, opened)
            }
            (Some(env), None, _) => {
                env.leave_without(&outputs).delete();
                (None, Ok(()))
            }
            (None, None, Some(dir)) if keep => {
                dirs.keep(&dir);
                let opened = open_to_all(&[&dir], geteuid().as_raw());
                (Some(dir), opened)
            }
            (None, None, dir) => {
                dir.iter().for_each(|dir| dirs.delete(dir));
                (None, Ok(()))
            }
        };
        if let Err(error) = opened {
            warnings.push(format!(
                "the build directory can't be made harmless: {error}"
            ));
        }
        for path in scratch
            .iter()
            .filter(|path| path.symlink_metadata().is_ok())
        {
            if let Err(error) = delete_path(path) {
                warnings.push(format!("what was made of an output stays: {error}"));
            }
        }
        if let Some(sandbox) = sandbox {
            sandbox.close();
        }
        dirs.close();
        (stays, warnings)
    }
}

/// Leaves the environment of a program that has worked in an old directory. Where others may look
/// into that, nothing of a build user's may give them privileges.
fn leave_kept(env: Option<BuildEnv>, kept: &Path, outputs: &[OsString]) -> windrow_sys::Result<()> {
    let user = env.as_ref().and_then(BuildEnv::build_user);
    if let Some(env) = env {
        env.leave_without(outputs).delete();
    }
    user.map_or(Ok(()), |user| make_harmless(kept, user.uid))
}

/// A build user, if there are any.
fn any_user(pool: Option<&UserPool>) -> Result<Option<UserLock>, String> {
    let Some(pool) = pool else { return Ok(None) };
    pool.acquire()?.map(Some).ok_or_else(|| in_use(pool))
}

fn in_use(pool: &UserPool) -> String {
    let holder = pool.holder();
    let holder = holder.map_or_else(String::new, |holder| format!(" (one by {holder})"));
    let origin = pool.origin();
    format!(
        "all build users in {origin} that could be used are in use{holder}; try again when a build has ended"
    )
}

/// Who works in a directory that was kept: its owner, who must be a build user if there are any,
/// and else whoever runs windrow.
fn user_of(kept: &Path, pool: Option<&UserPool>) -> Result<Option<UserLock>, String> {
    let shown = kept.display();
    let about = |error: io::Error| format!("cannot work in '{shown}': {error}");
    let metadata = kept.metadata().map_err(about)?;
    if !metadata.is_dir() {
        return Err(about(io::ErrorKind::NotADirectory.into()));
    }
    let (uid, ours) = (metadata.uid(), geteuid().as_raw());
    match pool {
        Some(pool) if pool.has(uid) => pool.acquire_uid(uid)?.map(Some).ok_or_else(|| in_use(pool)),
        Some(pool) => Err(format!(
            "cannot work in '{shown}': it belongs to user {uid}, and builders run as users in {}; give it to one of \
             them with 'chown -R'",
            pool.origin()
        )),
        None if uid != ours => Err(format!(
            "cannot work in '{shown}': it belongs to user {uid}, and builders run as user {ours}; give it to that one \
             with 'chown -R {ours}'"
        )),
        None => Ok(None),
    }
}
