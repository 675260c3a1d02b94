//! The making of a builder's process: at once, or by a thread that makes its environment and waits
//! until it runs its program.

use std::ffi::{CString, OsStr, c_int};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use windrow_sandbox::cgroups::{Cgroup, Cgroups};
use windrow_sandbox::dirs::admit;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::ids::Owner;
use windrow_sandbox::ids::barred::barred;
use windrow_sandbox::ids::users::UserLock;
use windrow_sandbox::process::kill_user::kill_user;
use windrow_sandbox::process::launch::action::Action;
use windrow_sandbox::process::launch::{
    self, HeldProcess, PendingExec, Request, Session, SpawnError, SpawnRequest, Spawned, Standby,
    Step, Streams,
};
use windrow_sandbox::{BuildEnv, Isolation, MountTemplate, SandboxRequest, refusal};
use windrow_store::db::reader::Reader;
use windrow_sys::limits::lacks_means;
use windrow_sys::mutex;
use windrow_sys::terminal::standard_streams;
use windrow_sys::tree::delete_path;

use crate::failure::{Failure, FailureKind};
use crate::process::environment::Invocation;
use crate::process::spare::make_cgroup;
use crate::process::too_long;
use crate::spawn::attributes::Files;
use crate::world::children::{Made, PendingStart};

/// What becomes a builder's standard streams. Its log ends only when nobody but its processes has
/// these open.
pub(super) struct Ends {
    pub(super) input: File,
    pub(super) output: OwnedFd,
}

/// What a builder's process comes from.
pub(super) enum Origin {
    /// It is to be made, with these streams.
    New(Ends),
    /// It was made in advance, in a cgroup or not, and [may be spawned
    /// async](Launch::may_spawn_async).
    Spare(Standby, Option<Cgroup>),
}

impl Ends {
    fn streams<'a>(&'a self, entrance: Option<&'a OwnedFd>) -> Streams<'a> {
        Streams {
            stdin: self.input.as_fd(),
            output: self.output.as_fd(),
            error: None,
            builder_log: None,
            cgroup: entrance.map(AsFd::as_fd),
        }
    }
}

/// The making of one process: by [`Launch::spawn_async`], or, where that takes long, by
/// [`Launch::run`] in a launching thread.
pub(super) struct Launch {
    pub(super) invocation: Invocation,
    pub(super) files: Files,
    pub(super) dir: PathBuf,
    pub(super) dirs: SpareDirs,
    pub(super) reader: Arc<Reader>,
    pub(super) cgroups: Option<Cgroups>,
    pub(super) cwd: CString,
    pub(super) personality: u64,
    pub(super) namespaces: c_int,
    pub(super) actions: Vec<Action>,
    pub(super) sandbox: Option<(Isolation, SandboxRequest)>,
    pub(super) user: Option<UserLock>,
    pub(super) drv_path: String,
    pub(super) fixed: bool,
    /// What lies where outputs are to be, is not valid, and could not be moved away.
    pub(super) leftovers: Vec<PathBuf>,
    /// Why it can't be started, if that was found out by [`Launch::get_ready`].
    pub(super) unfit: Option<Failure>,
    /// If a person is in the builder's place, to which session the person's program belongs.
    pub(super) by_hand: Option<Session>,
    /// Whether its directory is an old one, which has an owner and files.
    pub(super) keeps: bool,
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
        !self.wants_sandbox() && self.is_ready() && self.user.is_none() && self.namespaces == 0
    }

    /// Whether its program may be executed before its inputs are there: nothing of what it finds
    /// hangs on them.
    pub(super) fn may_be_held(&self) -> bool {
        self.may_spawn_async() && self.files.are_none()
    }

    /// Whether it must be run by the thread that has entered the mount template.
    pub(super) fn wants_template(&self) -> bool {
        self.sandbox
            .as_ref()
            .is_some_and(|(isolation, request)| isolation.wants_template(request))
    }

    /// Whether [`Launch::get_ready`] has nothing to do.
    pub(super) fn is_ready(&self) -> bool {
        self.files.exports.is_empty() && self.leftovers.is_empty()
    }

    /// Looks up the reference graphs that the builder is to get, and deletes what is in the way of
    /// its outputs. Not on a thread that makes processes: it may take a while, and such a thread
    /// may live where neither database nor store can be seen.
    pub(super) fn get_ready(mut self) -> Self {
        self.files.look_up(&self.reader);
        let leftovers = std::mem::take(&mut self.leftovers);
        let deleted = leftovers.iter().try_for_each(|path| {
            delete_path(path).map(drop).map_err(|error| {
                let drv = &self.drv_path;
                let text = format!(
                    "cannot build derivation '{drv}': an invalid output is in the way: {error}"
                );
                Failure::new(FailureKind::Other, text)
            })
        });
        self.unfit = deleted.err();
        self
    }

    /// Makes the builder's environment if it is to have one, writes its files and makes its
    /// process; waits until that runs its program. There is an environment even if the process
    /// could not be made.
    pub(super) fn run(self, ends: &Ends, template: &Mutex<Option<MountTemplate>>) -> Made {
        let (cgroup, entrance) = match self.make_cgroup() {
            Ok(made) => made,
            Err(failure) => return Made::new(Err(failure)),
        };
        let (process, env) = self.make(&ends.streams(entrance.as_ref()), Some(template));
        Made {
            env,
            cgroup,
            ..Made::new(process)
        }
    }

    /// The same with the standard streams of this process, on any thread that outlives the process:
    /// its sandbox is made from nothing.
    pub(super) fn run_here(self) -> Made {
        let (cgroup, entrance) = match self.make_cgroup() {
            Ok(made) => made,
            Err(failure) => return Made::new(Err(failure)),
        };
        let [stdin, output, error] = standard_streams();
        let streams = Streams {
            stdin,
            output,
            error: Some(error),
            builder_log: None,
            cgroup: entrance.as_ref().map(AsFd::as_fd),
        };
        let (process, env) = self.make(&streams, None);
        Made {
            env,
            cgroup,
            ..Made::new(process)
        }
    }

    fn make(
        mut self,
        streams: &Streams<'_>,
        template: Option<&Mutex<Option<MountTemplate>>>,
    ) -> (Result<Spawned, Failure>, Option<BuildEnv>) {
        if let Some(failure) = self.unfit.take() {
            return (Err(failure), None);
        }
        let user = self.user.take();
        if let Some(user) = &user {
            // What another engine left when it was killed must not meet this build.
            let uid = user.owner().uid;
            if let Err(error) = kill_user(uid) {
                let text = format!("cannot kill the processes of the build user {uid}: {error}");
                return (Err(Failure::to_start(&error, text)), None);
            }
        }
        let Some((isolation, request)) = &self.sandbox else {
            let owner = user.as_ref().map(UserLock::owner);
            let above = self.dir.parent().unwrap_or(&self.dir).to_owned();
            let new = owner.filter(|_| !self.keeps);
            let made = new.map_or(Ok(()), |owner| admit::make_build_dir(&above, owner));
            let env = user.map(|user| BuildEnv::without_sandbox(self.dirs.clone(), above, user));
            let started = match made {
                Ok(()) => self.start(streams, owner),
                Err(error) => {
                    let path = &self.drv_path;
                    let text = format!("cannot make the build directory of '{path}': {error}");
                    Err(Failure::to_start(&error, text))
                }
            };
            return (started, env);
        };
        let owner = user.as_ref().map(UserLock::owner);
        let cannot_set_up = |error: &dyn Display| {
            let path = &self.drv_path;
            format!("failed to set up the sandbox for '{path}': {error}")
        };
        let wanted = template.filter(|_| isolation.wants_template(request));
        let mut template = wanted.map(mutex::lock);
        if let Some(template) = &mut template
            && template.is_none()
        {
            match MountTemplate::enter(isolation) {
                Ok(entered) => **template = Some(entered),
                Err(error) => {
                    let text = cannot_set_up(&error);
                    return (Err(Failure::to_start(&error, text)), None);
                }
            }
        }
        let entered = template.as_ref().and_then(|template| template.as_ref());
        let setup = match isolation.set_up(request, entered, user) {
            Ok(setup) => setup,
            Err(error) => {
                let text = cannot_set_up(&error);
                return (Err(Failure::to_start(&error, text)), None);
            }
        };
        (self.namespaces, self.actions) = (setup.namespaces, setup.actions);
        self.dir = setup.build_dir;
        (self.start(streams, owner), Some(setup.env))
    }

    /// Writes the builder's files and makes its process, or tells it what to run, without waiting
    /// until that runs its program. Only if it [`may_spawn_async`](Launch::may_spawn_async).
    pub(super) fn spawn_async(mut self, origin: Origin) -> Made {
        if let Err(failure) = self.write_files() {
            return Made::new(Err(failure));
        }
        let (made, cgroup) = match origin {
            Origin::New(ends) => {
                let (cgroup, entrance) = match self.make_cgroup() {
                    Ok(made) => made,
                    Err(failure) => return Made::new(Err(failure)),
                };
                let streams = ends.streams(entrance.as_ref());
                (launch::spawn_async(self, &streams), cgroup)
            }
            Origin::Spare(standby, cgroup) => (Ok(standby.start(self)), cgroup),
        };
        match made {
            Ok((process, pending)) => Made {
                pending: Some(Self::pending_start(pending)),
                cgroup,
                ..Made::new(Ok(process))
            },
            Err((launch, error)) => Made::new(Err(launch.failure(error, None))),
        }
    }

    fn make_cgroup(&self) -> Result<(Option<Cgroup>, Option<OwnedFd>), Failure> {
        make_cgroup(self.cgroups.as_ref()).map_err(|error| {
            let text = format!("cannot make a cgroup for '{}': {error}", self.drv_path);
            Failure::to_start(&error, text)
        })
    }

    /// Has the builder executed by a process made in advance, and held up before it does anything.
    /// Only if it [`may_be_held`](Launch::may_be_held).
    pub(super) fn execute_and_hold(self, standby: Standby) -> (HeldProcess, PendingStart) {
        let (process, pending) = standby.execute_and_hold(self);
        (process, Self::pending_start(pending))
    }

    fn pending_start(pending: PendingExec<Self>) -> PendingStart {
        PendingStart::new(move || {
            let (launch, error) = pending.exec_result().ok()?;
            error.map(|error| launch.failure(error, None))
        })
    }

    /// Tells which files it has written.
    fn write_files(&mut self) -> Result<Vec<PathBuf>, Failure> {
        let files = std::mem::take(&mut self.files);
        files.write(&self.dir).map_err(|problem| {
            let text = format!("cannot build derivation '{}': {problem}", self.drv_path);
            Failure::new(FailureKind::Other, text)
        })
    }

    fn start(&mut self, streams: &Streams<'_>, owner: Option<Owner>) -> Result<Spawned, Failure> {
        let mut written = self.write_files()?;
        if self.sandbox.is_none() && !self.keeps {
            written.push(self.dir.clone());
        }
        // The sandbox's directory is its user's already, and what nobody touched can be used again.
        if let Some(owner) = owner {
            give(&written, owner).map_err(|error| {
                let path = &self.drv_path;
                let text =
                    format!("cannot give the build directory of '{path}' to its user: {error}");
                Failure::to_start(&error, text)
            })?;
        }
        let session = self.by_hand.unwrap_or_default();
        launch::spawn_in(session, &self.request(), streams)
            .map_err(|error| self.failure(error, owner))
    }

    fn failure(&self, error: SpawnError, owner: Option<Owner>) -> Failure {
        let path = &self.drv_path;
        if error.step != Step::Execute {
            // That there can be a sandbox is known. That there can be one more is not.
            let reason = (error.step == Step::Clone && self.namespaces != 0)
                .then(|| refusal::reason(&error, &self.actions))
                .flatten();
            let reason = reason.or_else(|| match error.step {
                Step::ChangeDirectory => self.keeps_out(&error.source, &self.dir, owner),
                _ => None,
            });
            let reason = reason.map_or_else(String::new, |reason| format!("; {reason}"));
            let text =
                format!("failed to set up the build environment for '{path}': {error}{reason}");
            return Failure::to_start(&error.source, text);
        }
        if lacks_means(&error.source) {
            let text = format!("cannot start the builder of '{path}': {error}");
            return Failure::to_start(&error.source, text);
        }
        let program = OsStr::from_bytes(self.invocation.program.as_bytes());
        let problem = self.execution_problem(&error.source, Path::new(program), owner);
        if self.by_hand.is_some() {
            let text = format!(
                "'{}' can't be executed where '{path}' is built: {problem}",
                program.display()
            );
            return Failure::new(FailureKind::Other, text);
        }
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
                problem,
            ),
        )
    }

    /// Says more than "No such file" where it can: a script's interpreter or a program's loader may
    /// be what is missing.
    fn execution_problem(&self, error: &io::Error, program: &Path, owner: Option<Owner>) -> String {
        let (args, env) = (&self.invocation.args, &self.invocation.env);
        if let Some(largest) = too_long::largest(error, args, env) {
            return format!("{error}: {largest}; {}", largest.remedy());
        }
        if let Some(reason) = self.keeps_out(error, program, owner) {
            return format!("{error}: {reason}");
        }
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

impl Launch {
    /// Which directory a build user without a sandbox may not enter on the way to a path, if that
    /// may be why something failed.
    fn keeps_out(&self, error: &io::Error, path: &Path, owner: Option<Owner>) -> Option<String> {
        let denied = error.kind() == io::ErrorKind::PermissionDenied && self.sandbox.is_none();
        let found = barred(path, owner.filter(|_| denied)?);
        found.map(|barred| barred.to_string())
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

/// Gives what was put into a build directory, and that if it is among it, to a build user. Nothing
/// of that user's runs yet.
fn give(paths: &[PathBuf], owner: Owner) -> io::Result<()> {
    for path in paths {
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}
