//! A process that ends what the engine leaves running when it is killed: its children with their
//! process groups and cgroups, and all that build users run. It knows numbers only.
//!
//! It shares the engine's memory, where the ids are listed, and its table of open files: the locks
//! of a dead engine are not given back before nothing runs that they protected. While the engine
//! lives it sleeps.

use std::ffi::c_int;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, setsid,
};
use rustix::thread::{nanosleep, set_name};
use windrow_sys::clone::{Child, Stack, clone_vm};
use windrow_sys::mutex;
use windrow_sys::raw;

use crate::process::kill_user;

/// A place that nothing is listed at.
const FREE: i32 = 0;
/// A place of something that has no number yet. No process and no user has this one.
const TAKEN: i32 = -1;
const PLACES: usize = 64;

/// Numbers that the guard must find without a lock, for whoever holds it may be dead. Never freed.
struct List {
    places: [AtomicI32; PLACES],
    more: OnceLock<Box<List>>,
}

static CHILDREN: List = List::new();
static USERS: List = List::new();
static CGROUPS: List = List::new();

impl List {
    const fn new() -> Self {
        Self {
            places: [const { AtomicI32::new(FREE) }; PLACES],
            more: OnceLock::new(),
        }
    }

    fn next(&'static self) -> Option<&'static Self> {
        self.more.get().map(|list| &**list)
    }

    fn places(&'static self) -> impl Iterator<Item = &'static AtomicI32> {
        std::iter::successors(Some(self), |list| list.next()).flat_map(|list| &list.places)
    }

    /// A free place, which then holds `value`.
    fn take(&'static self, value: i32) -> &'static AtomicI32 {
        loop {
            let free = self.places().find(|place| {
                let order = (Ordering::AcqRel, Ordering::Relaxed);
                place
                    .compare_exchange(FREE, value, order.0, order.1)
                    .is_ok()
            });
            if let Some(place) = free {
                return place;
            }
            self.grow();
        }
    }

    fn grow(&'static self) {
        let mut last = self;
        while let Some(next) = last.next() {
            last = next;
        }
        last.more.get_or_init(|| Box::new(Self::new()));
    }

    fn strike(&'static self, value: i32) {
        if let Some(place) = self
            .places()
            .find(|place| place.load(Ordering::Relaxed) == value)
        {
            place.store(FREE, Ordering::Release);
        }
    }
}

/// The place of a child that is about to be made.
pub(crate) struct Place(&'static AtomicI32);

impl Place {
    /// A place in the list of children. Makes the guard, if there is none.
    pub(crate) fn take() -> Self {
        watch();
        Self(CHILDREN.take(TAKEN))
    }

    /// Where the kernel is to write the child's id as it makes it (`CLONE_PARENT_SETTID`): the
    /// guard must know of it even if this thread never comes back from the call.
    pub(crate) fn id(&self) -> &'static AtomicI32 {
        self.0
    }

    /// Gives it up: there is no child.
    pub(crate) fn free(self) {
        self.0.store(FREE, Ordering::Release);
    }
}

/// Takes a child off the list: to be called when it and its group were killed, and before its exit
/// status is taken, for its number may be another's afterwards.
pub(crate) fn strike(pid: i32) {
    CHILDREN.strike(pid);
}

/// Lists a build user whose processes are to die with the engine.
pub(crate) fn add_user(uid: u32) {
    USERS.take(uid.cast_signed());
}

/// Takes a build user off the list.
pub(crate) fn strike_user(uid: u32) {
    USERS.strike(uid.cast_signed());
}

/// Lists a `cgroup.kill` that is open to be written: what it kills dies with the engine.
pub(crate) fn add_cgroup(kill: &OwnedFd) {
    CGROUPS.take(kill.as_raw_fd());
}

/// Takes one off the list, before it is closed.
pub(crate) fn strike_cgroup(kill: &OwnedFd) {
    CGROUPS.strike(kill.as_raw_fd());
}

/// Not zero while the guard lives: the kernel clears it.
static LIVES: AtomicU32 = AtomicU32::new(0);
/// Its process id, if it has ever lived and was not waited for.
static GUARD: Mutex<Option<c_int>> = Mutex::new(None);

/// What a guard needs that no allocation can be made for later.
struct Means {
    engine: OwnedFd,
    stack: Stack,
    /// For the processes that kill those of a user. Nobody but the guard takes it.
    killers: Mutex<Stack>,
}

static MEANS: OnceLock<Means> = OnceLock::new();

/// Makes sure that there is a guard. Where none can be made, children still die by their own
/// request (`PR_SET_PDEATHSIG`), but not what they have started.
pub(crate) fn watch() {
    if LIVES.load(Ordering::Acquire) != 0 {
        return;
    }
    let mut guard = mutex::lock(&GUARD);
    if LIVES.load(Ordering::Acquire) != 0 {
        return;
    }
    if let Some(dead) = guard.take() {
        wait(dead);
    }
    let Some(means) = means() else { return };
    LIVES.store(1, Ordering::Release);
    let flags = libc::CLONE_FILES;
    // SAFETY: all that it uses is static, and its stack is its own: a second guard is made only
    // after the first was waited for.
    match unsafe { clone_vm(means, &means.stack, flags, None, &raw const LIVES) } {
        Ok(pid) => *guard = Some(pid),
        Err(_) => LIVES.store(0, Ordering::Release),
    }
}

fn means() -> Option<&'static Means> {
    if MEANS.get().is_none() {
        let pid = rustix::process::getpid();
        let engine = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let _ = MEANS.set(Means {
            engine,
            stack: Stack::new(kill_user::STACK_SIZE),
            killers: Mutex::new(Stack::new(kill_user::STACK_SIZE)),
        });
    }
    MEANS.get()
}

/// Ends the guard of an engine that has no children any more.
pub fn dismiss() {
    let mut guard = mutex::lock(&GUARD);
    if let Some(pid) = guard.take() {
        let _ = signal::kill(nix::unistd::Pid::from_raw(pid), signal::Signal::SIGKILL);
        wait(pid);
    }
}

/// Waits for a guard that is dead or was killed. It tells of its death by no signal, so that it
/// must be asked for.
fn wait(pid: c_int) {
    let _ = raw::wait(pid, libc::__WALL);
}

/// The guard.
impl Child for Means {
    fn run(&self) -> c_int {
        // Whoever ends the engine's process group or session must not end the guard; nor who looks
        // for its name.
        let _ = setsid();
        let _ = set_name(c"builder-guard");
        let mut engine = [PollFd::new(&self.engine, PollFlags::IN)];
        while poll(&mut engine, None) != Ok(1) {}
        // Nothing else means that the engine is dead.
        if engine[0].revents().contains(PollFlags::IN) {
            end_all(self);
        }
        raw::exit(0)
    }
}

/// How long to wait for the dying, in milliseconds. What is longer about it may be a zombie that
/// nobody waits for.
const PATIENCE_MS: u32 = 3000;

/// Kills all that is listed, and waits until it is gone. The engine is dead, so that the lists do
/// not change any more.
fn end_all(means: &Means) {
    for cgroup in CGROUPS.places() {
        let fd = cgroup.load(Ordering::Acquire);
        if fd > FREE {
            // SAFETY: whoever listed it keeps it open, in the table that is this process's, too.
            let kill = unsafe { BorrowedFd::borrow_raw(fd) };
            let _ = rustix::io::write(kill, b"1");
        }
    }
    for user in USERS.places() {
        let uid = user.load(Ordering::Acquire).cast_unsigned();
        if uid != FREE.cast_unsigned() {
            let mut stack = mutex::lock(&means.killers);
            for _ in 0..3 {
                if let Ok(Some(0)) = kill_user::attempt(&mut stack, uid) {
                    break;
                }
            }
        }
    }
    for _ in 0..PATIENCE_MS {
        let mut left = false;
        for child in CHILDREN.places() {
            let pid = child.load(Ordering::Acquire);
            let Some(id) = (pid > FREE).then(|| Pid::from_raw(pid)).flatten() else {
                continue;
            };
            // It may lead no group yet. Both are there until they were waited for.
            let is_there = kill_process(id, Signal::KILL).is_ok();
            if kill_process_group(id, Signal::KILL).is_ok() | is_there {
                left = true;
            } else {
                child.store(FREE, Ordering::Release);
            }
        }
        if !left {
            return;
        }
        let _ = nanosleep(&Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        });
    }
}
