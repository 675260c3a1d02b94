//! The directory that holds the cgroups of this process's builds, locked as long as it is used, and
//! the controllers that they have. What runs that were killed left is known by its lock.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use windrow_sys::flock::try_lock_exclusive;
use windrow_sys::mutex;

use super::dir::Dir;
use super::{PATIENCE, Unavailable, place};
use crate::process::guard;

/// How the directories of runs begin; a process id and a number follow.
const PREFIX: &str = "windrow-run-";
/// What follows in the name of the cgroup that the engine moves to.
const ENGINE: &str = ".engine";
/// How long threads that end may take to be gone.
const MOMENT: Duration = Duration::from_millis(200);
/// How many names are tried before they are given up.
const ATTEMPTS: u32 = 1000;

/// The run of this process. All engines in it have one, for the process is in one cgroup.
static SHARED: Mutex<Weak<Run>> = Mutex::new(Weak::new());

/// The directory of the builds' cgroups. Dropped, it goes with all that is in it.
#[derive(Debug)]
pub(super) struct Run {
    /// The cgroup that it is in.
    path: PathBuf,
    home: Dir,
    name: String,
    dir: Dir,
    next: AtomicU64,
    /// What was done to the cgroup that it is in.
    changes: Mutex<Changes>,
    /// What the guard kills it by.
    kill: Option<OwnedFd>,
}

/// What is to be undone at the end.
#[derive(Debug, Default)]
struct Changes {
    /// Controllers that it did not give to those below.
    enabled: Vec<String>,
    /// Where the engine has moved.
    engine: Option<String>,
}

impl Run {
    /// The run of this process; makes it if there is none.
    pub(super) fn shared() -> Result<Arc<Self>, Unavailable> {
        let mut shared = mutex::lock(&SHARED);
        if let Some(run) = shared.upgrade() {
            return Ok(run);
        }
        let run = Arc::new(Self::create(place::home()?)?);
        *shared = Arc::downgrade(&run);
        Ok(run)
    }

    fn create(path: PathBuf) -> Result<Self, Unavailable> {
        let may_not = |source: io::Error| Unavailable::NotDelegated {
            path: path.clone(),
            source,
        };
        let home = Dir::open(&path).map_err(may_not)?;
        // Whoever moves a process down from there must be allowed to write this.
        let entrance = path.join("cgroup.procs");
        accessat(CWD, &entrance, Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(|errno| may_not(errno.into()))?;
        let (name, dir) = make_locked(&home).map_err(may_not)?;
        if !dir.lists("cgroup.type", "domain") {
            let _ = home.remove_child(&name);
            return Err(Unavailable::Threaded(path));
        }
        let kill = dir.open_to_write("cgroup.kill").ok().map(OwnedFd::from);
        if let Some(kill) = &kill {
            guard::add_cgroup(kill);
        }
        Ok(Self {
            path,
            home,
            name,
            dir,
            next: AtomicU64::new(0),
            changes: Mutex::default(),
            kill,
        })
    }

    /// Where the cgroups of builds are.
    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Makes the cgroup of a build, and tells its name.
    pub(super) fn make_build(&self) -> io::Result<String> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.dir.make_child(&name)?;
        Ok(name)
    }

    /// Removes that of a build in which nothing runs. Where something does, it goes with the run,
    /// or the next one.
    pub(super) fn remove_build(&self, name: &str) {
        let _ = self.dir.remove_child(name);
    }

    /// Has the cgroups of builds made from now on have a controller.
    ///
    /// # Errors
    /// Why they can't, and what to do.
    pub(super) fn enable(&self, controller: &str) -> Result<(), String> {
        let path = self.path.display();
        if !self.home.lists("cgroup.controllers", controller) {
            return Err(format!("the cgroup '{path}' does not have the controller"));
        }
        let on = format!("+{controller}");
        let cannot = |error: io::Error| match error.kind() {
            ErrorKind::ResourceBusy => format!(
                "other processes are in the cgroup '{path}'; start windrow in one of its own ('systemd-run --scope -p \
                 Delegate=yes')"
            ),
            _ => format!("the cgroup '{path}' does not give the controller to others: {error}"),
        };
        if !self.home.lists(SUBTREE_CONTROL, controller) {
            let mut changes = mutex::lock(&self.changes);
            let enabled = match self.home.write(SUBTREE_CONTROL, &on) {
                // There may be processes or controllers, and not both.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    self.enable_aside(&on, &mut changes)
                }
                enabled => enabled,
            };
            enabled.map_err(cannot)?;
            changes.enabled.push(controller.to_owned());
        }
        self.dir.write(SUBTREE_CONTROL, &on).map_err(cannot)
    }

    /// Moves this process out of the way of a controller, to a cgroup of its own.
    fn enable_aside(&self, on: &str, changes: &mut Changes) -> io::Result<()> {
        if changes.engine.is_some() {
            return Err(ErrorKind::ResourceBusy.into());
        }
        let engine = format!("{}{ENGINE}", self.name);
        self.home.make_child(&engine)?;
        // It would stay where it is; another one is made with the next child.
        guard::dismiss();
        let moved = self.home.write(&format!("{engine}/cgroup.procs"), "0");
        let enabled = moved.and_then(|()| self.enable_when_left(on));
        match enabled {
            Ok(()) => changes.engine = Some(engine),
            Err(_) => self.move_back(&engine),
        }
        enabled
    }

    /// Enables a controller where this process has just left. One of its threads that was about to
    /// end has stayed, is not to be seen there, and is in the way for a moment.
    fn enable_when_left(&self, on: &str) -> io::Result<()> {
        let until = Instant::now() + MOMENT;
        loop {
            let enabled = self.home.write(SUBTREE_CONTROL, on);
            let is_busy = |error: &io::Error| error.kind() == ErrorKind::ResourceBusy;
            let seems_empty = || {
                self.home
                    .read("cgroup.procs")
                    .is_ok_and(|list| list.is_empty())
            };
            if !enabled.as_ref().is_err_and(is_busy) || !seems_empty() || Instant::now() >= until {
                return enabled;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn move_back(&self, engine: &str) {
        guard::dismiss();
        // What can't be undone is no harm: an empty cgroup, which the next run removes.
        let _ = self.home.write("cgroup.procs", "0");
        if let Ok(dir) = self.home.child(engine) {
            // For threads that were about to end.
            dir.wait_until_empty(MOMENT, || {});
        }
        let _ = self.home.remove_child(engine);
    }

    /// Removes what dead runs left beside it, and kills what still runs there.
    pub(super) fn remove_dead(&self) {
        for name in self.home.names().unwrap_or_default() {
            match kind_of(&name) {
                // The kernel refuses that while somebody is in it.
                Some(Kind::Engine) => drop(self.home.remove_child(&name)),
                Some(Kind::Builds) if name != self.name => {
                    let Ok(dir) = self.home.child(&name) else {
                        continue;
                    };
                    if matches!(try_lock_exclusive(dir.file()), Ok(true)) {
                        dir.empty(PATIENCE);
                        let _ = self.home.remove_child(&name);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Which controllers a cgroup gives to those below it.
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

impl Drop for Run {
    fn drop(&mut self) {
        self.dir.empty(PATIENCE);
        if let Some(kill) = &self.kill {
            guard::strike_cgroup(kill);
        }
        let _ = self.home.remove_child(&self.name);
        let changes = std::mem::take(&mut *mutex::lock(&self.changes));
        for controller in changes.enabled {
            let _ = self.home.write(SUBTREE_CONTROL, &format!("-{controller}"));
        }
        if let Some(engine) = changes.engine {
            self.move_back(&engine);
        }
    }
}

/// What a cgroup is for that a run made.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Builds,
    Engine,
}

/// What the cgroup of that name is for. Nobody else's has such a name by chance.
fn kind_of(name: &str) -> Option<Kind> {
    let numbers = name.strip_prefix(PREFIX)?;
    let (numbers, kind) = match numbers.strip_suffix(ENGINE) {
        Some(numbers) => (numbers, Kind::Engine),
        None => (numbers, Kind::Builds),
    };
    let (process, number) = numbers.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(process) && is_number(number)).then_some(kind)
}

/// Makes a directory for a run, and locks it.
fn make_locked(home: &Dir) -> io::Result<(String, Dir)> {
    for number in 0..ATTEMPTS {
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        match home.make_child(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        let Ok(dir) = home.child(&name) else { continue };
        // Somebody may have taken it for that of a dead run before it was locked.
        let is_ours = try_lock_exclusive(dir.file())?
            && home.child(&name).is_ok_and(|now| is_same(&now, &dir));
        if is_ours {
            return Ok((name, dir));
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn is_same(one: &Dir, other: &Dir) -> bool {
    let inode = |dir: &Dir| dir.file().metadata().ok().map(|metadata| metadata.ino());
    inode(one) == inode(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_runs_give_are_theirs() {
        assert_eq!(kind_of("windrow-run-12-0"), Some(Kind::Builds));
        assert_eq!(kind_of("windrow-run-12-0.engine"), Some(Kind::Engine));
        for other in [
            "windrow.service",
            "windrow-run-12",
            "windrow-run-12-",
            "windrow-run--1",
            "windrow-run-12-0.service",
            "windrow-run-a-0.engine",
        ] {
            assert_eq!(kind_of(other), None, "{other}");
        }
    }
}
