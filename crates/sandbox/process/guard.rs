//! A process that ends what the engine leaves running when it is killed: its children with their process groups, and all
//! that build users run. It knows process and user ids only.
//!
//! It shares the engine's memory, where the ids are listed, and its table of open files: the locks of a dead engine are not
//! given back before nothing runs that they protected. While the engine lives it sleeps.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::process::kill_user;
use windrow_sys::call;

/// A place that nothing is listed at.
const FREE: i32 = 0;
/// A place of something that has no number yet. No process and no user has this one.
const TAKEN: i32 = -1;
const PLACES: usize = 64;

/// Numbers that the guard must find without a lock, for who holds it may be dead. Never freed.
struct List {
    places: [AtomicI32; PLACES],
    more: AtomicPtr<List>,
}

static CHILDREN: List = List::new();
static USERS: List = List::new();

impl List {
    const fn new() -> Self {
        Self {
            places: [const { AtomicI32::new(FREE) }; PLACES],
            more: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or a list that was leaked.
        unsafe { self.more.load(Ordering::Acquire).as_ref() }
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
        let new = Box::into_raw(Box::new(Self::new()));
        let (null, order) = (ptr::null_mut(), (Ordering::AcqRel, Ordering::Relaxed));
        if last
            .more
            .compare_exchange(null, new, order.0, order.1)
            .is_err()
        {
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
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

    /// Where the kernel is to write the child's id as it makes it (`CLONE_PARENT_SETTID`): the guard must know of it
    /// even if this thread never comes back from the call.
    pub(crate) fn pointer(&self) -> *mut c_int {
        self.0.as_ptr()
    }

    /// Gives it up: there is no child.
    pub(crate) fn free(self) {
        self.0.store(FREE, Ordering::Release);
    }
}

/// Takes a child off the list: to be called when it and its group were killed, and before its exit status is taken, for its
/// number may be another's afterwards.
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

/// Not zero while the guard lives: the kernel clears it.
static LIVES: AtomicU32 = AtomicU32::new(0);
/// Its process id, if it has ever lived and was not waited for.
static GUARD: Mutex<Option<c_int>> = Mutex::new(None);

/// What a guard needs that no allocation can be made for later.
struct Means {
    engine: OwnedFd,
    /// For itself, and for the processes that kill those of a user.
    stacks: [Stack; 2],
}

#[repr(align(16))]
struct Stack([AtomicU32; kill_user::STACK_SIZE / 4]);

impl Stack {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; kill_user::STACK_SIZE / 4])
    }

    fn top(&self) -> *mut c_void {
        self.0.as_ptr_range().end.cast_mut().cast()
    }
}

static MEANS: OnceLock<Box<Means>> = OnceLock::new();

/// Makes sure that there is a guard. Where none can be made, children still die by their own request
/// (`PR_SET_PDEATHSIG`), but not what they have started.
fn watch() {
    if LIVES.load(Ordering::Acquire) != 0 {
        return;
    }
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if LIVES.load(Ordering::Acquire) != 0 {
        return;
    }
    if let Some(dead) = guard.take() {
        wait(dead);
    }
    let Some(means) = means() else { return };
    LIVES.store(1, Ordering::Release);
    // SAFETY: the guard runs on a stack that is its own for ever, reads nothing but what is static, and touches the C
    // library only when the engine is dead. It blocks all signals from its birth on, as this thread does for the moment.
    let pid = unsafe {
        let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let pid = libc::clone(
            stand_by,
            means.stacks[0].top(),
            libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID,
            ptr::from_ref::<Means>(means).cast_mut().cast::<c_void>(),
            ptr::null_mut::<c_int>(),
            ptr::null_mut::<c_void>(),
            LIVES.as_ptr(),
        );
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut());
        pid
    };
    if pid == -1 {
        LIVES.store(0, Ordering::Release);
    } else {
        *guard = Some(pid);
    }
}

fn means() -> Option<&'static Means> {
    if MEANS.get().is_none() {
        // SAFETY: integers.
        let fd = unsafe { call!(pidfd_open, std::process::id(), 0) }.ok()?;
        // SAFETY: the kernel has just made this descriptor for us. It closes on exec.
        let engine = unsafe { OwnedFd::from_raw_fd(c_int::try_from(fd).ok()?) };
        let stacks = [const { Stack::new() }; 2];
        let _ = MEANS.set(Box::new(Means { engine, stacks }));
    }
    MEANS.get().map(|means| &**means)
}

/// Ends the guard of an engine that has no children any more.
pub fn dismiss() {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = guard.take() {
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        wait(pid);
    }
}

fn wait(pid: c_int) {
    let none = ptr::null_mut::<c_void>();
    // SAFETY: a child of ours that was not waited for and is dead or was killed. It tells of its death by no signal, so that
    // it must be asked for.
    while unsafe { call!(wait4, pid, none, libc::__WALL, none) } == Err(libc::EINTR) {}
}

/// The guard.
extern "C" fn stand_by(means: *mut c_void) -> c_int {
    // SAFETY: `watch` passes what is never freed.
    let means = unsafe { &*means.cast::<Means>() };
    let mut poll = libc::pollfd {
        fd: means.engine.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let none = ptr::null::<c_void>();
    // SAFETY: plain system calls on integers and on structures that are here.
    unsafe {
        // Whoever ends the engine's process group or session must not end the guard; nor who looks for its name.
        let _ = call!(setsid);
        let name = c"builder-guard".as_ptr();
        let _ = call!(prctl, libc::PR_SET_NAME, name, 0, 0, 0);
        while call!(ppoll, &raw mut poll, 1, none, none, 0) != Ok(1) {}
    }
    // Nothing else means that the engine is dead.
    if poll.revents & libc::POLLIN != 0 {
        end_all(means);
    }
    loop {
        // SAFETY: an integer; it does not return.
        let _ = unsafe { call!(exit_group, 0) };
    }
}

/// How long to wait for the dying, in milliseconds. What is longer about it may be a zombie that nobody waits for.
const PATIENCE_MS: u32 = 3000;

/// Kills all that is listed, and waits until it is gone. The engine is dead, so that the lists do not change any more.
fn end_all(means: &Means) {
    for user in USERS.places() {
        let uid = user.load(Ordering::Acquire).cast_unsigned();
        if uid != FREE.cast_unsigned() {
            for _ in 0..3 {
                // SAFETY: nobody else uses this stack.
                if let Ok(Some(0)) = unsafe { kill_user::attempt(means.stacks[1].top(), &uid) } {
                    break;
                }
            }
        }
    }
    for _ in 0..PATIENCE_MS {
        let mut left = false;
        for child in CHILDREN.places() {
            let pid = child.load(Ordering::Acquire);
            if pid <= FREE {
                continue;
            }
            // It may lead no group yet. Both are there until they were waited for.
            // SAFETY: integers.
            let is_there = |target| unsafe { call!(kill, target, libc::SIGKILL) }.is_ok();
            if is_there(pid) | is_there(-pid) {
                left = true;
            } else {
                child.store(FREE, Ordering::Release);
            }
        }
        if !left {
            return;
        }
        let moment = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        // SAFETY: the structure is valid while it is read.
        let _ = unsafe { call!(nanosleep, &raw const moment, ptr::null::<c_void>()) };
    }
}
