//! Starts a child without copying the engine's page tables. Knows descriptors and strings, not goals.
//!
//! The child shares the engine's memory until it executes its program (`CLONE_VM | CLONE_VFORK`), so
//! starting one costs the same with a thousand goals in memory as with a million. In return, the code
//! between clone and exec allocates nothing, takes no lock and touches nothing but its own request.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use crate::sandbox::action::{self, Action};

/// A program to start.
#[derive(Debug)]
pub struct Request<'a> {
    /// The program, absolute. Without one the process exits after its actions, with status 0.
    pub program: Option<&'a CStr>,
    /// Its arguments, the zeroth included.
    pub args: &'a [CString],
    /// Its environment, `NAME=VALUE` each.
    pub env: &'a [CString],
    /// The folder it starts in.
    pub cwd: &'a CStr,
    /// What becomes its standard input.
    pub stdin: BorrowedFd<'a>,
    /// What becomes its standard output, and its standard error unless that goes elsewhere.
    pub output: BorrowedFd<'a>,
    /// What becomes its standard error, if not `output`.
    pub error: Option<BorrowedFd<'a>>,
    /// What becomes its descriptor 4, where a build hook writes the builder's log.
    pub builder_log: Option<BorrowedFd<'a>>,
    /// The execution domain to run it in, or-ed to the present one.
    pub personality: u64,
    /// The namespaces it gets of its own (`CLONE_NEW…`).
    pub namespaces: c_int,
    /// What it does to itself before it runs the program.
    pub actions: &'a [Action],
}

/// A started child.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id; it leads a session and process group of that number.
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
    /// Setting up its session, descriptors and limits.
    SetUp,
    /// Arranging what it sees, and giving up what it may do.
    Isolate,
    /// Changing into its folder.
    ChangeFolder,
    /// Executing the program.
    Execute,
}

impl Step {
    /// What failed, as the object of "cannot".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Clone => "start a process",
            Self::SetUp => "set up the process",
            Self::Isolate => "isolate the process",
            Self::ChangeFolder => "change into the build directory",
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

const STACK_SIZE: usize = 64 * 1024;

/// What the child reads, prepared so that it needs no allocation, and where it leaves word of a failure.
struct Plan<'a> {
    request: &'a Request<'a>,
    args: *const *const c_char,
    env: *const *const c_char,
    stdin: c_int,
    output: c_int,
    error: c_int,
    /// -1 for none.
    builder_log: c_int,
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
    failed_action: AtomicUsize,
}

fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Starts the program of `request` in a session of its own.
///
/// # Errors
/// [`SpawnError`] when the process can't be made, set up, or its program can't be executed; nothing is then left
/// behind.
pub fn spawn(request: &Request<'_>) -> Result<Spawned, SpawnError> {
    let args = null_terminated(request.args);
    let env = null_terminated(request.env);
    STACK.with_borrow_mut(|stack| spawn_on(stack, request, &args, &env))
}

thread_local! {
    /// For the children that this thread makes, one after the other. Its pages stay, where those of a new one would have
    /// to be made each time.
    static STACK: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
}

fn spawn_on(
    stack: &mut Vec<u128>,
    request: &Request<'_>,
    args: &[*const c_char],
    env: &[*const c_char],
) -> Result<Spawned, SpawnError> {
    stack.resize(STACK_SIZE / size_of::<u128>(), 0);
    let (mut all_signals, mut old_mask) = (empty_sigset(), empty_sigset());
    // SAFETY: both sets are valid for writing. Signals stay blocked until the child runs its program, so
    // that no handler of ours runs in it on our memory.
    unsafe {
        libc::sigfillset(&mut all_signals);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all_signals, &mut old_mask);
    }
    let plan = Plan {
        request,
        args: args.as_ptr(),
        env: env.as_ptr(),
        stdin: request.stdin.as_raw_fd(),
        output: request.output.as_raw_fd(),
        error: request.error.unwrap_or(request.output).as_raw_fd(),
        builder_log: request.builder_log.map_or(-1, |fd| fd.as_raw_fd()),
        failed_step: AtomicI32::new(0),
        failed_errno: AtomicI32::new(0),
        failed_action: AtomicUsize::new(0),
    };
    let memory = libc::CLONE_VM | libc::CLONE_VFORK;
    let flags = memory | libc::CLONE_PIDFD | libc::SIGCHLD | request.namespaces;
    let mut pidfd: c_int = -1;
    // SAFETY: the stack outlives the child's use of it, for CLONE_VFORK suspends this thread until the
    // child executes or exits; its end is aligned to 16 bytes. `run_child` only reads `plan`, but for its
    // atomics. CLONE_PIDFD makes the kernel store the descriptor through the parent-tid argument.
    let pid = unsafe {
        libc::clone(
            run_child,
            stack.as_mut_ptr_range().end.cast::<c_void>(),
            flags,
            ptr::from_ref(&plan).cast_mut().cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let clone_error = io::Error::last_os_error();
    // SAFETY: `old_mask` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old_mask, ptr::null_mut()) };
    if pid == -1 {
        let namespaces = if request.namespaces == 0 {
            ""
        } else {
            " with namespaces of its own"
        };
        return Err(SpawnError {
            step: Step::Clone,
            what: format!("{}{namespaces}", Step::Clone.describe()),
            action: None,
            source: clone_error,
        });
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let step = match plan.failed_step.load(Ordering::Acquire) {
        0 => return Ok(Spawned { pid, pidfd }),
        2 => Step::SetUp,
        3 => Step::Isolate,
        4 => Step::ChangeFolder,
        _ => Step::Execute,
    };
    // SAFETY: `pid` is a child of ours that has exited and was not waited for yet.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    let errno = plan.failed_errno.load(Ordering::Acquire);
    let action = (step == Step::Isolate).then(|| plan.failed_action.load(Ordering::Acquire));
    let described = action.and_then(|index| request.actions.get(index));
    Err(SpawnError {
        step,
        what: described.map_or_else(|| step.describe().to_owned(), Action::describe),
        action,
        source: io::Error::from_raw_os_error(errno),
    })
}

fn empty_sigset() -> libc::sigset_t {
    // SAFETY: all-zero is a valid, empty set.
    unsafe { std::mem::zeroed() }
}

/// The child's life until it executes its program. Async-signal-safe calls only.
extern "C" fn run_child(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its `Plan`, which outlives this function.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    let Err(step) = set_up_and_execute(plan);
    // SAFETY: errno is this thread's; the parent's thread, whose it is too, is suspended.
    let errno = unsafe { *libc::__errno_location() };
    plan.failed_errno.store(errno, Ordering::Release);
    plan.failed_step.store(step as i32, Ordering::Release);
    // SAFETY: leaves without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn set_up_and_execute(plan: &Plan<'_>) -> Result<std::convert::Infallible, Step> {
    let ok = |result: c_int, step: Step| if result == -1 { Err(step) } else { Ok(()) };
    // SAFETY: plain system calls on valid descriptors and NUL-terminated strings that the parent keeps
    // alive; none allocates. Signal dispositions are the child's own, since CLONE_SIGHAND is not given.
    unsafe {
        ok(libc::setsid(), Step::SetUp)?;
        // What the engine ignores would stay ignored in the builder (the seed's `restoreSIGPIPE`).
        ok(
            if libc::signal(libc::SIGPIPE, libc::SIG_DFL) == libc::SIG_ERR {
                -1
            } else {
                0
            },
            Step::SetUp,
        )?;
        ok(libc::dup2(plan.stdin, 0), Step::SetUp)?;
        ok(libc::dup2(plan.output, 1), Step::SetUp)?;
        ok(libc::dup2(plan.error, 2), Step::SetUp)?;
        // Whatever else was inherited from who started the engine closes on exec.
        let close_rest = libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        ok(if close_rest == -1 { -1 } else { 0 }, Step::SetUp)?;
        if plan.builder_log != -1 {
            // Should it have that number already, duplicating it would leave it to be closed.
            ok(libc::dup2(plan.builder_log, 4), Step::SetUp)?;
            ok(libc::fcntl(4, libc::F_SETFD, 0), Step::SetUp)?;
        }
        libc::umask(0o022);
        let mut core = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        ok(libc::getrlimit(libc::RLIMIT_CORE, &mut core), Step::SetUp)?;
        core.rlim_cur = 0;
        ok(libc::setrlimit(libc::RLIMIT_CORE, &core), Step::SetUp)?;
        let current = libc::personality(0xffff_ffff);
        if current != -1 {
            libc::personality(current as libc::c_ulong | plan.request.personality as libc::c_ulong);
        }
        if let Err((index, errno)) = action::run_all(plan.request.actions) {
            plan.failed_action.store(index, Ordering::Release);
            *libc::__errno_location() = errno;
            return Err(Step::Isolate);
        }
        ok(libc::chdir(plan.request.cwd.as_ptr()), Step::ChangeFolder)?;
        // Builders start with nothing blocked, whatever the engine blocks for its own purposes.
        libc::sigprocmask(libc::SIG_SETMASK, &empty_sigset(), ptr::null_mut());
        match plan.request.program {
            Some(program) => libc::execve(program.as_ptr(), plan.args, plan.env),
            None => libc::_exit(0),
        };
    }
    Err(Step::Execute)
}
