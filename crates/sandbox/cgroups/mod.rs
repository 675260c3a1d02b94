//! A cgroup for each build: it is killed whole, tells what it took, and has limits. One [`Cgroups`]
//! for an engine, one [`Cgroup`] for each of its builds. Cgroups of version 2 only.
//!
//! The builds of a process lie in one directory of its own (`run`), below the cgroup that the
//! process itself is in (`place`). That one must be delegated: the process may make others there.

mod dir;
mod place;
mod run;
mod usage;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use run::Run;
pub use usage::{Ended, Exceeded};

/// How long what was killed may take to be gone. What takes longer hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(5);

/// More processes than that there can't be, and the kernel refuses to count to more.
const PROCESSES_MAX: u64 = 4 << 20;

/// The period of `cpu.max`, in microseconds: what the kernel has by default.
const CPU_PERIOD_US: u64 = 100_000;

/// Why builds can have no cgroups.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is none of version 2, or what there is can't be seen.
    #[error("no cgroup2 file system is mounted")]
    NotMounted,
    /// What is mounted does not show it.
    #[error("this process's cgroup '{0}' can't be seen where cgroup2 is mounted")]
    NotVisible(String),
    /// This process may make none.
    #[error("cannot make cgroups in '{}': {source}", path.display())]
    NotDelegated {
        /// Where it tried to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It holds threads of several processes.
    #[error("the cgroup '{}' is threaded", .0.display())]
    Threaded(PathBuf),
}

impl Unavailable {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotMounted => "mount one ('mount -t cgroup2 none /sys/fs/cgroup')",
            Self::NotDelegated { source, .. }
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                "have that file system mounted so that it can be written"
            }
            Self::NotVisible(_) | Self::NotDelegated { .. } | Self::Threaded(_) => {
                "start windrow in a cgroup that is its own ('systemd-run --scope -p Delegate=yes', with '--user' as an \
                 ordinary user; 'Delegate=yes' in a service)"
            }
        }
    }
}

/// What a build may take at most; `None` where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildLimits {
    /// Bytes of memory, swap not counted.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u64>,
    /// Percent of the time of one CPU.
    pub cpu: Option<u32>,
}

/// A controller that there is none of here, and why.
#[derive(Debug)]
pub struct Missing {
    /// Its name, as the kernel has it.
    pub controller: &'static str,
    /// The reason, and what to do.
    pub why: String,
}

/// The cgroups of an engine's builds. Clones are the same.
#[derive(Debug, Clone)]
pub struct Cgroups {
    run: Arc<Run>,
    limits: BuildLimits,
}

impl Cgroups {
    /// Prepares to give each build a cgroup with these limits. Limits that there can't be here are
    /// left out, and told. This process may move to a cgroup below the one it is in.
    ///
    /// # Errors
    /// When there can be no cgroups.
    pub fn new(mut limits: BuildLimits) -> Result<(Self, Vec<Missing>), Unavailable> {
        let run = Run::shared()?;
        let mut missing = Vec::new();
        let mut lack = |controller, is_wanted| {
            let why = run.enable(controller).err();
            let lacks = why.is_some();
            missing.extend(
                why.filter(|_| is_wanted)
                    .map(|why| Missing { controller, why }),
            );
            lacks
        };
        // That of memory tells the peak as well.
        if lack("memory", limits.memory.is_some()) {
            limits.memory = None;
        }
        if limits.processes.is_some() && lack("pids", true) {
            limits.processes = None;
        }
        if limits.cpu.is_some() && lack("cpu", true) {
            limits.cpu = None;
        }
        Ok((Self { run, limits }, missing))
    }

    /// Removes what dead runs left beside it, with the processes in it.
    pub fn remove_dead(&self) {
        self.run.remove_dead();
    }

    /// Makes the cgroup of one build.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn make(&self) -> io::Result<Cgroup> {
        let name = self.run.make_build()?;
        let cgroup = Cgroup {
            run: Arc::clone(&self.run),
            name,
            limits: self.limits,
            ended: false,
        };
        cgroup.set_limits()?;
        Ok(cgroup)
    }
}

/// The cgroup of a build. Dropped, it is killed and removed.
#[derive(Debug)]
pub struct Cgroup {
    run: Arc<Run>,
    name: String,
    limits: BuildLimits,
    ended: bool,
}

impl Cgroup {
    fn set_limits(&self) -> io::Result<()> {
        let set = |file: &str, value: &str| {
            let file = format!("{}/{file}", self.name);
            self.run.dir().write(&file, value)
        };
        if let Some(bytes) = self.limits.memory {
            set("memory.max", &bytes.to_string())?;
            // A build that has lost one of its processes is of no use.
            set("memory.oom.group", "1")?;
        }
        if let Some(most) = self.limits.processes.filter(|&most| most < PROCESSES_MAX) {
            set("pids.max", &most.to_string())?;
        }
        if let Some(percent) = self.limits.cpu {
            let quota = u64::from(percent) * (CPU_PERIOD_US / 100);
            set("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
        }
        Ok(())
    }

    /// The file that a process enters it by, writing `0` there.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        let file = format!("{}/cgroup.procs", self.name);
        self.run.dir().open_to_write(&file).map(OwnedFd::from)
    }

    /// Kills every process in it, without waiting for their end.
    pub fn kill(&self) {
        // That it can't be opened means that it is gone, with all that was in it.
        if let Ok(dir) = self.run.dir().child(&self.name) {
            dir.kill();
        }
    }

    /// Makes sure that nothing in it runs any more, tells what it took, and removes it.
    pub fn end(mut self) -> Ended {
        let ended = match self.run.dir().child(&self.name) {
            Ok(dir) => {
                let is_empty = dir.empty(PATIENCE);
                Ended {
                    is_empty,
                    ..usage::of(&dir, self.limits)
                }
            }
            Err(_) => Ended::default(),
        };
        self.run.remove_build(&self.name);
        self.ended = true;
        ended
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(dir) = self.run.dir().child(&self.name) {
            dir.empty(PATIENCE);
        }
        self.run.remove_build(&self.name);
    }
}
