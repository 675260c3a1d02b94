//! A new process until it runs its program, and the clone that makes it. It lives on the engine's memory while the engine
//! may go on: it allocates nothing, takes no lock, leaves `errno` alone and touches nothing but its plan.

use std::cell::{RefCell, UnsafeCell};
use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use super::{Request, SpawnError, Spawned, Step, Streams};
use crate::process::guard::Place;
use crate::process::kill;
use crate::process::launch::action::{self, Action};
use windrow_sys::call;

/// What the child reads, prepared so that it needs no allocation, and where it leaves word of a failure.
pub(super) struct Plan {
    /// Null for none.
    program: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    actions: *const [Action],
    /// The engine's process id, where the child can see it.
    engine: Option<u32>,
    personality: u64,
    stdin: c_int,
    output: c_int,
    error: c_int,
    /// -1 for none.
    builder_log: c_int,
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
    failed_action: AtomicUsize,
}

impl Plan {
    /// A plan for `request`, to whose strings and actions it points; `args` and `env` are lists of them that end with null.
    pub(super) fn new(
        request: &Request<'_>,
        streams: &Streams<'_>,
        args: &[*const c_char],
        env: &[*const c_char],
    ) -> Self {
        Self {
            program: request.program.map_or(ptr::null(), CStr::as_ptr),
            args: args.as_ptr(),
            env: env.as_ptr(),
            cwd: request.cwd.as_ptr(),
            actions: request.actions,
            engine: (request.namespaces & libc::CLONE_NEWPID == 0).then(std::process::id),
            personality: request.personality,
            stdin: streams.stdin.as_raw_fd(),
            output: streams.output.as_raw_fd(),
            error: streams.error.unwrap_or(streams.output).as_raw_fd(),
            builder_log: streams.builder_log.map_or(-1, |fd| fd.as_raw_fd()),
            failed_step: AtomicI32::new(0),
            failed_errno: AtomicI32::new(0),
            failed_action: AtomicUsize::new(0),
        }
    }

    /// Why the child could not go on, if it could not. It must have executed its program or exited by now.
    pub(super) fn failure(&self, request: &Request<'_>) -> Option<SpawnError> {
        let step = match self.failed_step.load(Ordering::Acquire) {
            0 => return None,
            2 => Step::SetUp,
            3 => Step::Isolate,
            4 => Step::ChangeFolder,
            _ => Step::Execute,
        };
        let errno = self.failed_errno.load(Ordering::Acquire);
        let action = (step == Step::Isolate).then(|| self.failed_action.load(Ordering::Acquire));
        let described = action.and_then(|index| request.actions.get(index));
        Some(SpawnError {
            step,
            what: described.map_or_else(|| step.describe().to_owned(), Action::describe),
            action,
            source: io::Error::from_raw_os_error(errno),
        })
    }
}

/// What the child stands on until it runs its program.
pub(super) struct Stack(Box<[UnsafeCell<u128>]>);

const STACK_SIZE: usize = 64 * 1024;

thread_local! {
    /// Stacks that no child needs any more. Their pages stay, where those of new ones would have to be made each time.
    static SPARE: RefCell<Vec<Stack>> = const { RefCell::new(Vec::new()) };
}

impl Stack {
    pub(super) fn take() -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        spare.ok().flatten().unwrap_or_else(|| {
            let words = vec![0_u128; STACK_SIZE / size_of::<u128>()];
            Self(words.into_iter().map(UnsafeCell::new).collect())
        })
    }

    pub(super) fn give_back(self) {
        // A thread that ends has no use for it.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().push(self));
    }

    /// Its upper end, aligned to 16 bytes as the platforms' calling conventions want it.
    fn top(&self) -> *mut c_void {
        let end = self.0.as_ptr_range().end;
        UnsafeCell::raw_get(end).cast()
    }
}

/// Makes a process that carries out `plan`, with the memory of this one and the `flags` for clone(2) beside. The kernel
/// clears `aloft` when the child no longer uses that memory.
///
/// # Errors
/// When the process can't be made.
///
/// # Safety
/// Until the child has executed its program or exited, `plan`, all that it points to, the stack and `aloft` must stay where
/// they are, and of them only what is atomic may be changed.
pub(super) unsafe fn make(
    plan: *const Plan,
    stack: &Stack,
    flags: c_int,
    aloft: *const AtomicU32,
) -> io::Result<Spawned> {
    let (mut all_signals, mut old_mask) = (empty_sigset(), empty_sigset());
    // SAFETY: both sets are valid for writing. Signals stay blocked until the child runs its program, so
    // that no handler of ours runs in it on our memory.
    unsafe {
        libc::sigfillset(&mut all_signals);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all_signals, &mut old_mask);
    }
    let flags = flags
        | libc::CLONE_VM
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::SIGCHLD;
    let place = Place::take();
    // SAFETY: the caller keeps stack, plan and word; `run_child` only reads the plan, but for its atomics. The child has no
    // thread state of its own but does nothing that needs one. The place is never freed.
    let pid = unsafe {
        libc::clone(
            run_child,
            stack.top(),
            flags,
            plan.cast_mut().cast::<c_void>(),
            place.pointer(),
            ptr::null_mut::<c_void>(),
            aloft.cast_mut(),
        )
    };
    let clone_error = io::Error::last_os_error();
    // SAFETY: `old_mask` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old_mask, ptr::null_mut()) };
    if pid == -1 {
        place.free();
        return Err(clone_error);
    }
    // SAFETY: integers. The child was not waited for, so that the number is still its own.
    match unsafe { call!(pidfd_open, pid, 0) } {
        Ok(pidfd) => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it. It closes on exec.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as c_int) };
            Ok(Spawned { pid, pidfd })
        }
        Err(errno) => {
            kill::kill_and_reap(pid);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

fn empty_sigset() -> libc::sigset_t {
    // SAFETY: all-zero is a valid, empty set.
    unsafe { std::mem::zeroed() }
}

/// The child's life until it executes its program.
extern "C" fn run_child(plan: *mut c_void) -> c_int {
    // SAFETY: `make` passes its `Plan`, which outlives this function.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let Err((step, errno)) = set_up_and_execute(plan);
    plan.failed_errno.store(errno, Ordering::Release);
    plan.failed_step.store(step as i32, Ordering::Release);
    exit(127)
}

/// Leaves without running anything of the parent's.
fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: an integer; it does not return.
        let _ = unsafe { call!(exit_group, status) };
    }
}

fn set_up_and_execute(plan: &Plan) -> Result<Infallible, (Step, c_int)> {
    let set_up = |errno| (Step::SetUp, errno);
    // As the kernel has it on every platform, all zeros: default handling, no flags, an empty mask.
    let default_handling = [0_u64; 4];
    // The size of the kernel's set of 64 signals, in bytes.
    let sigset_size = size_of::<u64>();
    let no_signals = 0_u64;
    let none = ptr::null_mut::<c_void>();
    // SAFETY: plain system calls on valid descriptors, and on structures and NUL-terminated strings that the parent keeps
    // alive or that are here. Signal dispositions are the child's own, since CLONE_SIGHAND is not given.
    unsafe {
        call!(setsid).map_err(set_up)?;
        // What the engine ignores would stay ignored in the builder (the seed's `restoreSIGPIPE`).
        let default_handling = default_handling.as_ptr();
        call!(
            rt_sigaction,
            libc::SIGPIPE,
            default_handling,
            none,
            sigset_size
        )
        .map_err(set_up)?;
        for (from, to) in [(plan.stdin, 0), (plan.output, 1), (plan.error, 2)] {
            duplicate(from, to).map_err(set_up)?;
        }
        // Whatever else was inherited from who started the engine closes on exec.
        call!(close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).map_err(set_up)?;
        if plan.builder_log != -1 {
            // Should it have that number already, duplicating it would leave it to be closed.
            duplicate(plan.builder_log, 4).map_err(set_up)?;
            call!(fcntl, 4, libc::F_SETFD, 0).map_err(set_up)?;
        }
        let _ = call!(umask, 0o022);
        let mut core = libc::rlimit64 {
            rlim_cur: 0,
            rlim_max: 0,
        };
        call!(prlimit64, 0, libc::RLIMIT_CORE, none, &raw mut core).map_err(set_up)?;
        core.rlim_cur = 0;
        call!(prlimit64, 0, libc::RLIMIT_CORE, &raw const core, none).map_err(set_up)?;
        if let Ok(current) = call!(personality, 0xffff_ffff_u32) {
            let _ = call!(personality, current as u64 | plan.personality);
        }
        if let Err((index, errno)) = action::run_all(&*plan.actions) {
            plan.failed_action.store(index, Ordering::Release);
            return Err((Step::Isolate, errno));
        }
        // After the change of user, which takes this back.
        call!(prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).map_err(set_up)?;
        if let Some(engine) = plan.engine
            && call!(getppid) != Ok(engine as usize)
        {
            // It died before that.
            exit(127);
        }
        call!(chdir, plan.cwd).map_err(|errno| (Step::ChangeFolder, errno))?;
        // Builders start with nothing blocked, whatever the engine blocks for its own purposes.
        let no_signals = &raw const no_signals;
        let _ = call!(
            rt_sigprocmask,
            libc::SIG_SETMASK,
            no_signals,
            none,
            sigset_size
        );
        if plan.program.is_null() {
            exit(0);
        }
        match call!(execve, plan.program, plan.args, plan.env) {
            Err(errno) => Err((Step::Execute, errno)),
            // It does not come back with success.
            Ok(_) => exit(127),
        }
    }
}

/// Makes `to` a duplicate of `from` that stays open when a program is executed, as dup2(2) does also where they are the same.
unsafe fn duplicate(from: c_int, to: c_int) -> Result<(), c_int> {
    // SAFETY: integers; what `to` was is not used any more in this process, says the caller.
    unsafe {
        if from == to {
            return call!(fcntl, from, libc::F_GETFD).map(drop);
        }
        call!(dup3, from, to, 0).map(drop)
    }
}
