//! One builder: checks that it can run here, makes its directory, environment, log and pipe; then
//! its process.

use std::ffi::{CString, OsStr, c_int};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bevy_ecs::prelude::Component;
use nix::fcntl::OFlag;
use windrow_components::building::{BuildDir, HashRewrites};
use windrow_components::derivation::Derivation;
use windrow_components::derivation::attributes::{AttributeError, Attributes, Special};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::dirs::admit;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::filter::makes_sockets_by_socketcall;
use windrow_sandbox::ids::Owner;
use windrow_sandbox::ids::users::UserLock;
use windrow_sandbox::process::kill_user::kill_user;
use windrow_sandbox::process::launch::action::{Action, c_path};
use windrow_sandbox::process::launch::{
    self, PendingExec, Request, SpawnError, SpawnRequest, Spawned, Step, Streams,
};
use windrow_sandbox::{BuildEnv, Isolation, MountTemplate, SandboxRequest, become_user, refusal};
use windrow_store::db::reader::Reader;

use crate::failure::{Failure, FailureKind};
use crate::process::environment::Invocation;
use crate::spawn::attributes::Files;
use crate::spawn::program::{Builtin, Input, PreparedBuiltin, Program, wants_builtin};
use crate::world::{BuilderConfig, PoolHandle};

/// The execution domain flag that switches address space randomisation off, as builders expect.
const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
/// The execution domain that makes a 64-bit kernel look like a 32-bit one.
const PER_LINUX32: u64 = 0x0008;
/// The execution domain flag that makes the kernel call itself 2.6.
const UNAME26: u64 = 0x002_0000;

/// What a builder is started from.
pub(super) struct BuilderInputs<'a> {
    pub(super) graph: &'a BuildGraph,
    pub(super) config: &'a BuilderConfig,
    pub(super) pool: &'a PoolHandle,
    pub(super) drv: DrvId,
    pub(super) missing: &'a [PathId],
    pub(super) rewrites: Option<&'a HashRewrites>,
    /// Who builds it, if not whoever runs the engine.
    pub(super) user: Option<UserLock>,
    /// What a sandbox would show of the store.
    pub(super) closure: &'a [PathId],
}

/// A builder that lacks only its process.
pub(super) struct Prepared {
    pub(super) launch: Launch,
    pub(super) ends: Ends,
    pub(super) log_pipe: OwnedFd,
    /// `None` if it is made together with the sandbox.
    pub(super) build_dir: Option<BuildDir>,
}

/// What becomes a builder's standard streams. Its log ends only when nobody but its processes has
/// these open.
pub(super) struct Ends {
    input: Input,
    output: OwnedFd,
}

impl Ends {
    fn streams(&self) -> Streams<'_> {
        Streams {
            stdin: self.input.as_fd(),
            output: self.output.as_fd(),
            error: None,
            builder_log: None,
        }
    }
}

/// The making of one process: by [`Launch::spawn_async`], or, where that takes long, by
/// [`Launch::run`] in a launching thread.
pub(super) struct Launch {
    invocation: Invocation,
    files: Files,
    dir: PathBuf,
    dirs: SpareDirs,
    reader: Arc<Reader>,
    cwd: CString,
    personality: u64,
    namespaces: c_int,
    actions: Vec<Action>,
    sandbox: Option<(Isolation, SandboxRequest)>,
    user: Option<UserLock>,
    drv_path: String,
    fixed: bool,
}

/// Makes everything a builder needs but its process.
///
/// # Errors
/// The failure to report for this goal; what was made so far is removed again.
///
/// Nix 1.8: `DerivationGoal::startBuilder`.
pub(super) fn prepare(
    inputs: &mut BuilderInputs<'_>,
    dirs: &SpareDirs,
) -> Result<Prepared, Failure> {
    let (graph, config) = (inputs.graph, inputs.config);
    let path = graph.full_path(graph.drv_path(inputs.drv));
    let other = |message: String| Failure::new(FailureKind::Other, message);

    let file = config.layout.real_path(&path);
    let text = std::fs::read(&file)
        .map_err(|error| other(format!("cannot read derivation '{path}': {error}")))?;
    let drv = Derivation::parse(&text)
        .map_err(|error| other(format!("cannot read derivation '{path}': {error}")))?;
    let wrong = |error: AttributeError| other(format!("cannot build derivation '{path}': {error}"));
    let attributes = Attributes::of(&drv).map_err(wrong)?;
    let special = attributes.special(&graph.store_dir).map_err(wrong)?;
    check_platform(&drv, &special, &path, config)?;
    let builtin = Builtin::of(&drv, config);
    let because = |reason: &str| format!("cannot build derivation '{path}': {reason}");
    if let Some(reason) = builtin.and_then(|builtin| builtin.refusal(&drv)) {
        return Err(Failure::new(FailureKind::Permanent, because(reason)));
    }
    clear_leftovers(inputs).map_err(&other)?;

    let mut sandbox =
        sandbox_request(&attributes, inputs).map_err(|reason| other(because(&reason)))?;
    let builtin = builtin
        .map(|builtin| builtin.prepare(&attributes, sandbox.as_mut().map(|(_, request)| request)))
        .transpose()
        .map_err(|reason| other(because(&reason)))?;
    let dir = match sandbox {
        Some(_) => None,
        None => {
            let name = graph.paths.name(graph.drv_path(inputs.drv));
            let dir = dirs.create(name);
            Some(dir.map_err(|error| other(error.to_string()))?)
        }
    };
    let remove_dir = || {
        if let Some(dir) = &dir {
            // Nothing is in it yet.
            dirs.delete(dir);
        }
    };
    match launch(
        &attributes,
        special,
        &path,
        (dir.as_deref(), dirs),
        (sandbox, builtin),
        inputs,
    ) {
        Ok((launch, ends, log_pipe)) => Ok(Prepared {
            launch,
            ends,
            log_pipe,
            build_dir: dir.map(BuildDir),
        }),
        Err(failure) => {
            remove_dir();
            Err(failure)
        }
    }
}

/// Whether this machine has what the derivation requires: its platform, its features, its builtin
/// builder.
///
/// Nix 1.8: `canBuildLocally`.
fn check_platform(
    drv: &Derivation<'_>,
    special: &Special,
    path: &str,
    config: &BuilderConfig,
) -> Result<(), Failure> {
    let other = |message: String| Err(Failure::new(FailureKind::Other, message));
    let builtin = wants_builtin(drv);
    if builtin && Builtin::of(drv, config).is_none() {
        let builder = String::from_utf8_lossy(&drv.builder);
        return other(format!(
            "cannot build derivation '{path}': windrow does not have the builder '{builder}'"
        ));
    }
    let known = (config.platforms.iter()).any(|platform| *platform == drv.system);
    // What comes with the engine runs wherever the engine does.
    if !known && !builtin {
        let text = format!(
            "a '{}' is required to build '{path}', but I am a '{}'; use such a machine, or add it to \
             the setting 'extra-platforms' if this one can run its programs",
            drv.system, config.platforms[0]
        );
        return Err(Failure::new(FailureKind::Platform, text));
    }
    let missing: Vec<&str> = special
        .required_features
        .iter()
        .map(String::as_str)
        .filter(|feature| !config.system_features.iter().any(|known| known == feature))
        .collect();
    if !missing.is_empty() {
        return other(format!(
            "building '{path}' requires the system features '{}', which this machine does not have \
             (setting 'system-features')",
            missing.join(" ")
        ));
    }
    Ok(())
}

/// Moves what lies at the outputs' places, though it is not valid, out of the way; the pool deletes
/// it.
fn clear_leftovers(inputs: &BuilderInputs<'_>) -> Result<(), String> {
    let rewritten = inputs
        .rewrites
        .map_or(&[][..], |rewrites| &rewrites.scratch);
    let scratch = rewritten.iter().map(|scratch| scratch.scratch_path.clone());
    // Valid outputs, even those that are to be made again, stay.
    let is_valid = |path: PathId| {
        let hash = inputs.graph.paths.hash_part(path);
        rewritten.iter().any(|scratch| scratch.hash == hash)
    };
    let outputs = inputs.missing.iter().filter(|&&path| !is_valid(path));
    let outputs = outputs.map(|&path| inputs.graph.full_path(path));
    for path in outputs.chain(scratch) {
        let real = inputs.config.layout.real_path(&path);
        if std::fs::symlink_metadata(&real).is_err() {
            continue;
        }
        inputs.pool.discard_invalid(&real).map_err(|error| {
            format!(
                "cannot move the invalid path '{}' away: {error}",
                real.display()
            )
        })?;
    }
    Ok(())
}

/// The sandbox that a build is to have, if any.
fn sandbox_request(
    attributes: &Attributes<'_>,
    inputs: &BuilderInputs<'_>,
) -> Result<Option<(Isolation, SandboxRequest)>, String> {
    let Some(isolation) = &inputs.config.sandbox else {
        return Ok(None);
    };
    let drv = attributes.derivation();
    let no_chroot = attributes
        .flag("__noChroot")
        .map_err(|error| error.to_string())?;
    if !isolation.applies(drv.is_fixed(), no_chroot == Some(true))? {
        return Ok(None);
    }
    let paths = &inputs.graph.paths;
    let request = SandboxRequest {
        drv_base_name: paths
            .base_name(inputs.graph.drv_path(inputs.drv))
            .to_owned(),
        inputs: inputs
            .closure
            .iter()
            .map(|&path| c_path(paths.base_name(path)))
            .collect(),
        network: drv.is_fixed(),
        has_input: wants_builtin(drv),
        shown: Vec::new(),
        socketcall: makes_sockets_by_socketcall(&drv.system),
    };
    Ok(Some((isolation.clone(), request)))
}

fn launch(
    attributes: &Attributes<'_>,
    special: Special,
    path: &str,
    (dir, dirs): (Option<&Path>, &SpareDirs),
    (sandbox, builtin): (
        Option<(Isolation, SandboxRequest)>,
        Option<PreparedBuiltin<'_>>,
    ),
    inputs: &mut BuilderInputs<'_>,
) -> Result<(Launch, Ends, OwnedFd), Failure> {
    let other = |message: String| Failure::new(FailureKind::Other, message);
    let config = inputs.config;
    // In a sandbox nothing is in the way of outputs that are valid already.
    let rewrites = inputs.rewrites.filter(|_| sandbox.is_none());
    let rewrites = rewrites.map_or(&[][..], |rewrites| &rewrites.scratch);
    let seen_at = match (&sandbox, dir) {
        (Some((isolation, _)), _) => isolation.build_dir(),
        (None, Some(dir)) if inputs.user.is_some() => &dir.join(admit::BUILD),
        (None, dir) => dir.unwrap_or(Path::new("/")),
    };
    let drv = attributes.derivation();
    let program = match builtin {
        Some(builtin) => Program::of_engine(builtin, attributes, seen_at, rewrites),
        None => Program::of_derivation(attributes, special, seen_at, rewrites, inputs),
    };
    let Program {
        invocation,
        files,
        input,
    } = program.map_err(|error| other(format!("cannot build derivation '{path}': {error}")))?;
    let set_up = |error: io::Error| {
        other(format!(
            "failed to set up the build environment for '{path}': {error}"
        ))
    };
    let (log_pipe, output) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| set_up(error.into()))?;
    // Only our end must not block; the builder's is an ordinary pipe.
    nix::fcntl::fcntl(&log_pipe, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|error| set_up(error.into()))?;
    let cwd = c_path(seen_at);
    let mount = config.store_mount.as_ref().filter(|_| sandbox.is_none());
    let mut actions: Vec<Action> = mount.map_or_else(Vec::new, |mount| mount.actions.clone());
    if sandbox.is_none() {
        let socketcall = makes_sockets_by_socketcall(&drv.system);
        actions.extend(config.limits.actions(socketcall));
        if let Some(user) = &inputs.user {
            actions.extend(become_user(user.owner()));
        }
    }
    let launch = Launch {
        invocation,
        files,
        dir: seen_at.to_owned(),
        dirs: dirs.clone(),
        reader: Arc::clone(&config.reader),
        cwd,
        personality: personality(&drv.system, config),
        namespaces: mount.map_or(0, |mount| mount.namespaces),
        actions,
        sandbox,
        user: inputs.user.take(),
        drv_path: path.to_owned(),
        fixed: drv.is_fixed(),
    };
    Ok((launch, Ends { input, output }, log_pipe))
}

/// The execution domain that builders of a platform expect.
fn personality(platform: &str, config: &BuilderConfig) -> u64 {
    let machine = config.platforms[0].as_str();
    let linux32 = match platform {
        "i686-linux" => machine == "x86_64-linux",
        "armv5tel-linux" | "armv6l-linux" | "armv7l-linux" => machine == "aarch64-linux",
        _ => false,
    };
    let linux26 = config.impersonate_linux_26 && ["i686-linux", "x86_64-linux"].contains(&platform);
    let flags = [(linux32, PER_LINUX32), (linux26, UNAME26)];
    let flags = flags.iter().filter(|(set, _)| *set);
    flags.fold(ADDR_NO_RANDOMIZE, |all, (_, flag)| all | flag)
}

impl Launch {
    /// The derivation's path.
    pub(super) fn drv_path(&self) -> &str {
        &self.drv_path
    }

    /// What it executes.
    pub(super) fn program(&self) -> &OsStr {
        OsStr::from_bytes(self.invocation.program.as_bytes())
    }

    /// Whether it is to run in a sandbox.
    pub(super) fn wants_sandbox(&self) -> bool {
        self.sandbox.is_some()
    }

    /// Whether its process can be made by [`Launch::spawn_async`].
    pub(super) fn may_spawn_async(&self) -> bool {
        !self.wants_sandbox() && !self.wants_graphs() && self.user.is_none() && self.namespaces == 0
    }

    /// Whether it must be run by the thread that has entered the mount template.
    pub(super) fn wants_template(&self) -> bool {
        self.sandbox
            .as_ref()
            .is_some_and(|(isolation, request)| isolation.wants_template(request))
    }

    /// Whether [`Launch::with_graphs`] must come first.
    pub(super) fn wants_graphs(&self) -> bool {
        !self.files.exports.is_empty()
    }

    /// Looks up the reference graphs that the builder is to get. Not on a thread that makes
    /// processes: it may take a while, and such a thread may live where neither database nor store
    /// can be seen.
    pub(super) fn with_graphs(mut self) -> Self {
        self.files.look_up(&self.reader);
        self
    }

    /// Makes the builder's environment if it is to have one, writes its files and makes its
    /// process; waits until that runs its program. An environment is returned even if the process
    /// could not be made.
    ///
    /// # Errors
    /// The failure to report, when it can't be set up or its program can't be executed.
    pub(super) fn run(
        mut self,
        ends: &Ends,
        template: &Mutex<Option<MountTemplate>>,
    ) -> (Result<Spawned, Failure>, Option<BuildEnv>) {
        let user = self.user.take();
        if let Some(user) = &user {
            // What another engine left when it was killed must not meet this build.
            let uid = user.owner().uid;
            if let Err(error) = kill_user(uid) {
                let text = format!("cannot kill the processes of the build user {uid}: {error}");
                return (Err(Failure::new(FailureKind::Other, text)), None);
            }
        }
        let Some((isolation, request)) = &self.sandbox else {
            let owner = user.as_ref().map(UserLock::owner);
            let above = self.dir.parent().unwrap_or(&self.dir).to_owned();
            let made = owner.map_or(Ok(()), |owner| admit::make_build_dir(&above, owner));
            let env = user.map(|user| BuildEnv::without_sandbox(self.dirs.clone(), above, user));
            let started = match made {
                Ok(()) => self.start(ends, owner),
                Err(error) => {
                    let path = &self.drv_path;
                    let text = format!("cannot make the build directory of '{path}': {error}");
                    Err(Failure::new(FailureKind::Other, text))
                }
            };
            return (started, env);
        };
        let owner = user.as_ref().map(UserLock::owner);
        let set_up = |error: String| {
            let path = &self.drv_path;
            let text = format!("failed to set up the sandbox for '{path}': {error}");
            Failure::new(FailureKind::Other, text)
        };
        let mut template = template.lock().unwrap_or_else(PoisonError::into_inner);
        let template = if isolation.wants_template(request) {
            if template.is_none() {
                match MountTemplate::enter(isolation) {
                    Ok(entered) => *template = Some(entered),
                    Err(error) => return (Err(set_up(format!("cannot {error}"))), None),
                }
            }
            template.as_ref()
        } else {
            None
        };
        let setup = match isolation.set_up(request, template, user) {
            Ok(setup) => setup,
            Err(error) => return (Err(set_up(error.to_string())), None),
        };
        (self.namespaces, self.actions) = (setup.namespaces, setup.actions);
        self.dir = setup.build_dir;
        (self.start(ends, owner), Some(setup.env))
    }

    /// Writes the builder's files and makes its process, without waiting until that runs its
    /// program. Only if it [`may_spawn_async`](Launch::may_spawn_async).
    ///
    /// # Errors
    /// The failure to report, when it can't be set up.
    pub(super) fn spawn_async(mut self, ends: &Ends) -> Result<(Spawned, PendingStart), Failure> {
        self.write_files()?;
        match launch::spawn_async(self, &ends.streams()) {
            Ok((spawned, pending)) => Ok((spawned, PendingStart(Some(pending)))),
            Err((launch, error)) => Err(launch.failure(error)),
        }
    }

    fn write_files(&mut self) -> Result<bool, Failure> {
        let files = std::mem::take(&mut self.files);
        files.write(&self.dir).map_err(|problem| {
            let text = format!("cannot build derivation '{}': {problem}", self.drv_path);
            Failure::new(FailureKind::Other, text)
        })
    }

    fn start(&mut self, ends: &Ends, owner: Option<Owner>) -> Result<Spawned, Failure> {
        let wrote = self.write_files()?;
        // The sandbox's is its user's already, and what nobody touched can be used again.
        if let Some(owner) = owner.filter(|_| wrote || self.sandbox.is_none()) {
            give_dir(&self.dir, owner).map_err(|error| {
                let path = &self.drv_path;
                let text =
                    format!("cannot give the build directory of '{path}' to its user: {error}");
                Failure::new(FailureKind::Other, text)
            })?;
        }
        launch::spawn(&self.request(), &ends.streams()).map_err(|error| self.failure(error))
    }

    fn failure(&self, error: SpawnError) -> Failure {
        let path = &self.drv_path;
        if error.step != Step::Execute {
            // That there can be a sandbox is known. That there can be one more is not.
            let reason = (error.step == Step::Clone && self.namespaces != 0)
                .then(|| refusal::reason(&error, &self.actions))
                .flatten();
            let reason = reason.map_or_else(String::new, |reason| format!("; {reason}"));
            return Failure::new(
                FailureKind::Other,
                format!("failed to set up the build environment for '{path}': {error}{reason}"),
            );
        }
        let program = OsStr::from_bytes(self.invocation.program.as_bytes());
        let kind = if self.fixed {
            FailureKind::Other
        } else {
            FailureKind::Permanent
        };
        Failure::new(
            kind,
            format!(
                "cannot build derivation '{path}': its builder '{}' can't be executed: {}",
                program.display(),
                self.execution_problem(&error.source, Path::new(program)),
            ),
        )
    }

    /// Says more than "No such file" where it can: a script's interpreter or a program's loader may
    /// be what is missing.
    fn execution_problem(&self, error: &io::Error, program: &Path) -> String {
        if error.kind() != io::ErrorKind::NotFound {
            return error.to_string();
        }
        if self.sandbox.is_some() {
            return format!(
                "{error}; in the sandbox there are only the derivation's inputs and what the setting 'sandbox-paths' \
                 names"
            );
        }
        if program.exists() {
            return format!("{error}; the file exists, so its interpreter or loader is missing");
        }
        error.to_string()
    }
}

impl SpawnRequest for Launch {
    fn request(&self) -> Request<'_> {
        Request {
            program: Some(&self.invocation.program),
            args: &self.invocation.args,
            env: &self.invocation.env,
            cwd: &self.cwd,
            personality: self.personality,
            namespaces: self.namespaces,
            actions: &self.actions,
        }
    }
}

/// A builder whose process was made without waiting until it runs its program.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct PendingStart(Option<PendingExec<Launch>>);

impl PendingStart {
    /// Why the builder's process, which has exited, could not execute its program, if that is so.
    pub fn exec_error(&mut self) -> Option<Failure> {
        let (launch, error) = self.0.take()?.exec_result().ok()?;
        error.map(|error| launch.failure(error))
    }
}

/// Gives a build directory and the files that were put into it to a build user. Nothing of that
/// user's runs yet.
fn give_dir(dir: &Path, owner: Owner) -> io::Result<()> {
    let files = std::fs::read_dir(dir)?;
    let paths = files.map(|entry| Ok::<_, io::Error>(entry?.path()));
    for path in paths.chain([Ok(dir.to_owned())]) {
        std::os::unix::fs::lchown::<PathBuf>(path?, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}
