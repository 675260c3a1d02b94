//! The process of a builder, made while nothing else is to do, with the pipe of its log: what makes
//! it and sets it up is not paid between the end of one builder and the start of the next.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use windrow_sandbox::cgroups::{Cgroup, Cgroups};
use windrow_sandbox::isolation::Limits;
use windrow_sandbox::process::launch::action::Action;
use windrow_sandbox::process::launch::{Standby, Streams};

/// How a builder's process is set up before it is told its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupKind {
    /// Its execution domain.
    pub personality: u64,
    /// Whether it makes sockets by socketcall(2).
    pub socketcall: bool,
}

/// A process made in advance, and the read end of its log.
#[derive(Debug)]
pub struct SpareProcess {
    /// The process.
    pub standby: Standby,
    /// The cgroup that it is in. After the process, for nothing is to be in it when it goes.
    pub cgroup: Option<Cgroup>,
    /// Does not block.
    pub log: OwnedFd,
}

/// At most one process made in advance, of the kind that was needed last.
#[derive(Debug, Default)]
pub struct Spare {
    kind: Option<SetupKind>,
    process: Option<SpareProcess>,
}

impl Spare {
    /// The process made in advance, if there is one of this kind, and nobody has killed it. The
    /// next one will be of this kind.
    pub fn take(&mut self, kind: SetupKind) -> Option<SpareProcess> {
        let fits = self.kind.replace(kind) == Some(kind);
        let process = self.process.take();
        process.filter(|process| fits && process.standby.is_waiting())
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.process.is_some()
    }

    /// Takes a process back that was not told its program.
    pub fn put_back(&mut self, process: SpareProcess) {
        self.process = Some(process);
    }

    /// Ends the process made in advance, whose descriptors are needed for something else.
    pub fn give_up(&mut self) {
        self.process = None;
    }

    /// Makes one, of the kind that was needed last, unless there is one. That none can be made is
    /// told when a builder needs one.
    pub fn refill(&mut self, limits: &Limits, cgroups: Option<&Cgroups>) {
        if let (Some(kind), None) = (self.kind, &self.process) {
            self.process = SpareProcess::new(kind, limits, cgroups).ok();
        }
    }
}

impl SpareProcess {
    fn new(kind: SetupKind, limits: &Limits, cgroups: Option<&Cgroups>) -> io::Result<Self> {
        let (cgroup, entrance) = make_cgroup(cgroups)?;
        let input = File::open("/dev/null")?;
        let (log, output) = log_pipe()?;
        let streams = Streams {
            stdin: input.as_fd(),
            output: output.as_fd(),
            error: None,
            builder_log: None,
            cgroup: entrance.as_ref().map(AsFd::as_fd),
        };
        let actions: Arc<[Action]> = limits.actions(kind.socketcall).collect();
        let standby = Standby::new(actions, kind.personality, &streams);
        let standby = standby.map_err(|error| error.source)?;
        Ok(Self {
            standby,
            cgroup,
            log,
        })
    }
}

/// The cgroup of a build that is to be started, if it is to have one, and what its process enters
/// it by.
///
/// # Errors
/// When it can't be made.
pub fn make_cgroup(cgroups: Option<&Cgroups>) -> io::Result<(Option<Cgroup>, Option<OwnedFd>)> {
    let Some(cgroups) = cgroups else {
        return Ok((None, None));
    };
    let cgroup = cgroups.make()?;
    let entrance = cgroup.entrance()?;
    Ok((Some(cgroup), Some(entrance)))
}

/// A pipe for what a builder writes. Only our end, the first, must not block; the builder's is an
/// ordinary pipe.
///
/// # Errors
/// When there is no room for one.
pub fn log_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (log, output) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&log, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((log, output))
}
