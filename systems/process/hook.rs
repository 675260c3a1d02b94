//! The programs of `pre-build-hook`, `post-build-hook` and `diff-hook`: how they are started. When
//! they are called, and what comes of it, is for the systems that do so.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag};
use windrow_sandbox::become_user;
use windrow_sandbox::ids::Owner;
use windrow_sandbox::process::launch::{self, Request, SpawnError, Spawned, Streams};

use crate::process::helper::HelperEnv;

/// A call of a hook.
#[derive(Debug)]
pub struct Call<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: &'a [&'a OsStr],
    /// What it finds in its environment, whatever the build.
    pub env: &'a HelperEnv,
    /// What it finds there of this build; these come first.
    pub variables: &'a [(&'a str, String)],
    /// Where it runs.
    pub cwd: &'a CStr,
    /// As whom it runs, if not as whoever runs the engine.
    pub user: Option<Owner>,
}

/// A hook about to be started: everything but its process.
#[derive(Debug)]
pub struct Launch {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    user: Option<Owner>,
    stdin: OwnedFd,
    output: OwnedFd,
    /// Where its errors go, if not where its output does.
    error: Option<OwnedFd>,
}

impl Call<'_> {
    /// Makes the pipe that its output and errors come through; gives the end to read from.
    ///
    /// # Errors
    /// When there are no descriptors left, or an argument has a NUL byte.
    pub fn prepare(&self) -> io::Result<(Launch, OwnedFd)> {
        let (read, write) = pipe()?;
        let program = CString::new(self.program.as_os_str().as_bytes())?;
        let mut args = vec![program.clone()];
        for arg in self.args {
            args.push(CString::new(arg.as_bytes())?);
        }
        let is_ours = |pair: &CString| {
            self.variables.iter().any(|(name, _)| {
                let rest = pair.as_bytes().strip_prefix(name.as_bytes());
                rest.is_some_and(|rest| rest.starts_with(b"="))
            })
        };
        let outer = self.env.iter().filter(|pair| !is_ours(pair));
        let mut env: Vec<CString> = outer.cloned().collect();
        for (name, value) in self.variables {
            env.push(CString::new(format!("{name}={value}"))?);
        }
        let launch = Launch {
            program,
            args,
            env,
            cwd: self.cwd.to_owned(),
            user: self.user,
            stdin: File::open("/dev/null")?.into(),
            output: write,
            error: None,
        };
        Ok((launch, read))
    }

    /// The same for a hook whose output is an answer: gives the end to read its errors from, and
    /// that to read its answer from.
    ///
    /// # Errors
    /// As [`Call::prepare`].
    pub fn prepare_to_hear(&self) -> io::Result<(Launch, OwnedFd, OwnedFd)> {
        let (mut launch, answer) = self.prepare()?;
        let (errors, write) = pipe()?;
        launch.error = Some(write);
        Ok((launch, errors, answer))
    }
}

/// A pipe of which the end to read from does not block.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

impl Launch {
    /// Makes the process; waits until it runs its program.
    ///
    /// # Errors
    /// When it can't be made or the program can't be executed.
    pub fn run(self) -> Result<Spawned, SpawnError> {
        let actions: Vec<_> = self.user.into_iter().flat_map(become_user).collect();
        let request = Request {
            program: Some(&self.program),
            args: &self.args,
            env: &self.env,
            cwd: &self.cwd,
            personality: 0,
            namespaces: 0,
            actions: &actions,
        };
        let streams = Streams {
            stdin: self.stdin.as_fd(),
            output: self.output.as_fd(),
            error: self.error.as_ref().map(OwnedFd::as_fd),
            builder_log: None,
            cgroup: None,
        };
        launch::spawn(&request, &streams)
    }
}
