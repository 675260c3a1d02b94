//! Starts a child without copying the engine's page tables. Knows descriptors and strings, not
//! goals.
//!
//! The child shares the engine's memory until it executes its program (`CLONE_VM`), so starting one
//! costs the same with a thousand goals in memory as with a million. [`spawn`] waits until then
//! (`CLONE_VFORK`), and [`spawn_async`] does not.

pub mod action;
mod child;
mod held;
mod pending;
mod standby;

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use crate::process::kill::kill_and_reap;
use crate::process::launch::action::Action;
use child::{Order, Process, give_back_stack, take_stack};

pub use held::{HeldProcess, Lost};
pub use pending::{PendingExec, SpawnRequest, spawn_async};
pub use standby::Standby;

/// A program to start.
#[derive(Debug)]
pub struct Request<'a> {
    /// The program, absolute. Without one the process exits after its actions, with status 0.
    pub program: Option<&'a CStr>,
    /// Its arguments, the zeroth included.
    pub args: &'a [CString],
    /// Its environment, `NAME=VALUE` each.
    pub env: &'a [CString],
    /// The directory it starts in.
    pub cwd: &'a CStr,
    /// The execution domain to run it in, or-ed to the present one.
    pub personality: u64,
    /// The namespaces it gets of its own (`CLONE_NEW…`).
    pub namespaces: c_int,
    /// What it does to itself before it runs the program.
    pub actions: &'a [Action],
}

/// What a program gets open, and where it runs: what it reads from and writes to, its cgroup.
#[derive(Debug, Clone, Copy)]
pub struct Streams<'a> {
    /// What becomes its standard input.
    pub stdin: BorrowedFd<'a>,
    /// What becomes its standard output, and its standard error unless that goes elsewhere.
    pub output: BorrowedFd<'a>,
    /// What becomes its standard error, if not `output`.
    pub error: Option<BorrowedFd<'a>>,
    /// What becomes its descriptor 4, where a build hook writes the builder's log.
    pub builder_log: Option<BorrowedFd<'a>>,
    /// The `cgroup.procs` of the cgroup that it enters before all else.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// To which session and process group a program belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Session {
    /// A session of its own, without a terminal.
    #[default]
    Own,
    /// The caller's session and group, so that the terminal's keys reach it as they reach the
    /// caller.
    Callers,
    /// The caller's session and a group of its own, which becomes the foreground of the terminal
    /// that its standard input is.
    Foreground,
}

/// A started child.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id; it leads a session and process group of that number, once it has come that
    /// far ([`spawn_async`]), unless it was put into another [`Session`].
    pub pid: i32,
    /// Readable once it has exited. Closed on exec.
    pub pidfd: OwnedFd,
}

/// What the child was doing when it could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// Making the process.
    Clone = 1,
    /// Entering its cgroup.
    EnterCgroup,
    /// Setting up its session, descriptors and limits.
    SetUp,
    /// Arranging what it sees, and giving up what it may do.
    Isolate,
    /// Changing into its directory.
    ChangeDirectory,
    /// Executing the program.
    Execute,
}

impl Step {
    /// What failed, as the object of "cannot".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Clone => "start a process",
            Self::EnterCgroup => "enter its cgroup",
            Self::SetUp => "set up the process",
            Self::Isolate => "isolate the process",
            Self::ChangeDirectory => "change into the build directory",
            Self::Execute => "execute the program",
        }
    }
}

/// A child that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot {}: {source}", .what)]
pub struct SpawnError {
    /// What it was doing.
    pub step: Step,
    /// The same, as the object of "cannot".
    pub what: String,
    /// Which of the request's actions failed, if it was one of them.
    pub action: Option<usize>,
    /// The system's answer.
    pub source: io::Error,
}

impl SpawnError {
    fn no_process(source: io::Error, request: &Request<'_>) -> Self {
        let namespaces = if request.namespaces == 0 {
            ""
        } else {
            " with namespaces of its own"
        };
        Self {
            step: Step::Clone,
            what: format!("{}{namespaces}", Step::Clone.describe()),
            action: None,
            source,
        }
    }
}

/// Starts the program of `request` in a session of its own, and waits until it runs. It is killed
/// when the calling thread ends, as the first of whatever is done about it then: a thread that
/// starts programs must outlive them.
///
/// # Errors
/// [`SpawnError`] when the process can't be made, set up, or its program can't be executed; nothing
/// is then left behind.
pub fn spawn(request: &Request<'_>, streams: &Streams<'_>) -> Result<Spawned, SpawnError> {
    spawn_in(Session::Own, request, streams)
}

/// The same in that session.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_in(
    session: Session,
    request: &Request<'_>,
    streams: &Streams<'_>,
) -> Result<Spawned, SpawnError> {
    let order = Order::new(request);
    let process = Process::new(request, streams)
        .in_session(session)
        .with_order(&order);
    let stack = take_stack();
    let in_use = AtomicU32::new(1);
    let flags = libc::CLONE_VFORK | request.namespaces;
    // SAFETY: CLONE_VFORK suspends this thread until the child executes its program or exits.
    let made = unsafe { child::make(&process, &stack, flags, &in_use) };
    give_back_stack(stack);
    let spawned = made.map_err(|error| SpawnError::no_process(error, request))?;
    match process.failure(request) {
        None => Ok(spawned),
        Some(failure) => {
            kill_and_reap(spawned.pid);
            Err(failure)
        }
    }
}
