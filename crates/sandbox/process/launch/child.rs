//! A new process until it runs its program, and the clone that makes it. It lives on the engine's
//! memory while the engine may go on: it allocates nothing, takes no lock, leaves `errno` alone and
//! touches nothing but its plan.

use std::cell::RefCell;
use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, chdir, getppid, getrlimit, pidfd_open,
    set_parent_process_death_signal, setrlimit, setsid, umask,
};
use rustix::thread::futex;
use windrow_sys::clone::{Child, Stack, clone_vm};
use windrow_sys::limits::restore_descriptors;
use windrow_sys::{raw, terminal};

use super::{Request, Session, SpawnError, Spawned, Step, Streams};
use crate::process::guard::Place;
use crate::process::kill;
use crate::process::launch::action::{self, Action};

/// A process on its way to its program: how it sets itself up, and what it runs then, which may be
/// told later. It reads this, prepared so that it needs no allocation, and leaves word here of a
/// failure.
pub(super) struct Process {
    setup: Setup,
    /// The program's, for as long as the process may read it. Null until it is told.
    order: AtomicPtr<Order>,
    /// Not zero once the order is there: a futex.
    told: AtomicU32,
    failure: Failure,
}

/// How a process sets itself up.
struct Setup {
    actions: *const [Action],
    /// The engine's process id, where the child can see it.
    engine: Option<u32>,
    personality: u64,
    stdin: c_int,
    output: c_int,
    error: c_int,
    /// -1 for none.
    builder_log: c_int,
    /// What it writes to, to enter its cgroup; -1 for none.
    cgroup: c_int,
    /// Whether it may wait for its program, and must not hold open what others close.
    waits: bool,
    session: Session,
}

/// What a process runs.
pub(super) struct Order {
    /// Null for none.
    program: *const c_char,
    /// Strings, and null at the end.
    args: Vec<*const c_char>,
    /// The same.
    env: Vec<*const c_char>,
    cwd: *const c_char,
    /// Whether it stops before the program's first instruction.
    held: bool,
}

/// Where a process could not go on.
struct Failure {
    step: AtomicI32,
    errno: AtomicI32,
    action: AtomicUsize,
}

// SAFETY: its pointers are to what nobody changes for as long as it is used.
unsafe impl Send for Process {}
// SAFETY: as above; everything else is atomic or only read.
unsafe impl Sync for Process {}
// SAFETY: its pointers are to what nobody changes for as long as it is used.
unsafe impl Send for Order {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Order {}

fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    let strings = strings.iter().map(|string| string.as_ptr());
    strings.chain([ptr::null()]).collect()
}

impl Order {
    /// The program of `request`, to whose strings it points.
    pub(super) fn new(request: &Request<'_>) -> Self {
        Self {
            program: request.program.map_or(ptr::null(), CStr::as_ptr),
            args: null_terminated(request.args),
            env: null_terminated(request.env),
            cwd: request.cwd.as_ptr(),
            held: false,
        }
    }

    /// The same, to stop before the program's first instruction.
    pub(super) fn held(self) -> Self {
        Self { held: true, ..self }
    }
}

impl Process {
    /// A process that sets itself up as `request` says, to whose actions it points, and waits for
    /// an order.
    pub(super) fn new(request: &Request<'_>, streams: &Streams<'_>) -> Self {
        Self {
            setup: Setup {
                actions: request.actions,
                engine: (request.namespaces & libc::CLONE_NEWPID == 0).then(std::process::id),
                personality: request.personality,
                stdin: streams.stdin.as_raw_fd(),
                output: streams.output.as_raw_fd(),
                error: streams.error.unwrap_or(streams.output).as_raw_fd(),
                builder_log: streams.builder_log.map_or(-1, |fd| fd.as_raw_fd()),
                cgroup: streams.cgroup.map_or(-1, |fd| fd.as_raw_fd()),
                waits: true,
                session: Session::Own,
            },
            order: AtomicPtr::new(ptr::null_mut()),
            told: AtomicU32::new(0),
            failure: Failure {
                step: AtomicI32::new(0),
                errno: AtomicI32::new(0),
                action: AtomicUsize::new(0),
            },
        }
    }

    /// The same in another session.
    pub(super) fn in_session(mut self, session: Session) -> Self {
        self.setup.session = session;
        self
    }

    /// The same with its order, which must stay where it is as long as the process.
    pub(super) fn with_order(mut self, order: &Order) -> Self {
        self.setup.waits = false;
        self.tell(order);
        self
    }

    /// Tells the process what to run, once. The order must stay where it is for as long as the
    /// process may read it.
    pub(super) fn tell(&self, order: &Order) {
        self.order
            .store(ptr::from_ref(order).cast_mut(), Ordering::Release);
        self.told.store(1, Ordering::Release);
    }

    /// Wakes the process if it waits.
    pub(super) fn wake(&self) {
        // This fails only for what is no futex.
        let _ = futex::wake(&self.told, futex::Flags::PRIVATE, 1);
    }

    /// Waits until the order is there.
    fn wait(&self) -> *const Order {
        while self.told.load(Ordering::Acquire) == 0 {
            // That it was told in between, or interrupted, is seen by looking again.
            let _ = futex::wait(&self.told, futex::Flags::PRIVATE, 0, None);
        }
        self.order.load(Ordering::Acquire)
    }

    /// Why the child could not go on, if it could not. It must have executed its program or exited
    /// by now.
    pub(super) fn failure(&self, request: &Request<'_>) -> Option<SpawnError> {
        let step = match self.failure.step.load(Ordering::Acquire) {
            0 => return None,
            2 => Step::EnterCgroup,
            3 => Step::SetUp,
            4 => Step::Isolate,
            5 => Step::ChangeDirectory,
            _ => Step::Execute,
        };
        let errno = self.failure.errno.load(Ordering::Acquire);
        let action = (step == Step::Isolate).then(|| self.failure.action.load(Ordering::Acquire));
        let described = action.and_then(|index| request.actions.get(index));
        Some(SpawnError {
            step,
            what: described.map_or_else(|| step.describe().to_owned(), Action::describe),
            action,
            source: io::Error::from_raw_os_error(errno),
        })
    }
}

/// What the child stands on until it runs its program, in bytes.
const STACK_SIZE: usize = 64 * 1024;

thread_local! {
    /// Stacks that no child needs any more. Their pages stay, where those of new ones would have to
    /// be made each time.
    static SPARE: RefCell<Vec<Stack>> = const { RefCell::new(Vec::new()) };
}

/// A stack for one child at a time.
pub(super) fn take_stack() -> Stack {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    spare
        .ok()
        .flatten()
        .unwrap_or_else(|| Stack::new(STACK_SIZE))
}

/// Keeps a stack that no child uses any more for the next.
pub(super) fn give_back_stack(stack: Stack) {
    // A thread that ends has no use for it.
    let _ = SPARE.try_with(|spare| spare.borrow_mut().push(stack));
}

/// Makes a process that does what `process` says, with the memory of this one and the `flags` for
/// clone(2) beside. The kernel clears `in_use` when the child no longer uses that memory.
///
/// # Errors
/// When the process can't be made.
///
/// # Safety
/// Until the child has executed its program or exited, `process`, all that it points to, the stack
/// and `in_use` must stay where they are, and of them only what is atomic may be changed.
pub(super) unsafe fn make(
    process: *const Process,
    stack: &Stack,
    flags: c_int,
    in_use: *const AtomicU32,
) -> io::Result<Spawned> {
    let place = Place::take();
    // SAFETY: the caller keeps what the child reads.
    let made = unsafe {
        clone_vm(
            process,
            stack,
            flags | libc::SIGCHLD,
            Some(place.id()),
            in_use,
        )
    };
    let pid = match made {
        Ok(pid) => pid,
        Err(error) => {
            place.free();
            return Err(error);
        }
    };
    // The child was not waited for, so that the number is still its own.
    let pidfd = Pid::from_raw(pid).ok_or(Errno::SRCH);
    match pidfd.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Ok(pidfd) => Ok(Spawned { pid, pidfd }),
        Err(errno) => {
            kill::kill_and_reap(pid);
            Err(errno.into())
        }
    }
}

impl Child for Process {
    fn run(&self) -> c_int {
        let Err((step, errno)) = self.set_up_and_execute();
        let errno = errno.raw_os_error();
        self.failure.errno.store(errno, Ordering::Release);
        self.failure.step.store(step as i32, Ordering::Release);
        FAILED
    }
}

/// The exit status of a child that could not execute its program.
const FAILED: c_int = 127;

impl Process {
    /// What the new process does until it is the program. Returns only when that failed.
    ///
    /// Nix 1.8: `commonChildInit`, `restoreSIGPIPE`, `childEntry`, `DerivationGoal::initChild`.
    fn set_up_and_execute(&self) -> Result<Infallible, (Step, Errno)> {
        let setup = &self.setup;
        if setup.cgroup != -1 {
            enter_cgroup(setup.cgroup).map_err(|errno| (Step::EnterCgroup, errno))?;
        }
        set_up(setup).map_err(|errno| (Step::SetUp, errno))?;
        // SAFETY: the actions live as long as the request that the process is of.
        if let Err((index, errno)) = action::run_all(unsafe { &*setup.actions }) {
            self.failure.action.store(index, Ordering::Release);
            return Err((Step::Isolate, errno));
        }
        // After the change of user, which takes this back.
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|errno| (Step::SetUp, errno))?;
        if let Some(engine) = setup.engine
            && getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(engine)
        {
            // It died before that.
            raw::exit(FAILED);
        }
        // SAFETY: whoever told the order keeps it until this process no longer uses it.
        let order = unsafe { &*self.wait() };
        // SAFETY: a string of the request that the order is of.
        let cwd = unsafe { CStr::from_ptr(order.cwd) };
        chdir(cwd).map_err(|errno| (Step::ChangeDirectory, errno))?;
        // Builders start with nothing blocked, whatever the engine blocks for its own purposes.
        raw::unblock_signals();
        if order.program.is_null() {
            raw::exit(0);
        }
        restore_descriptors();
        if order.held {
            raw::trace_me().map_err(|errno| (Step::Execute, errno))?;
        }
        let (args, env) = (order.args.as_ptr(), order.env.as_ptr());
        // SAFETY: strings of the request that the order is of; the lists end with null.
        Err((Step::Execute, unsafe {
            raw::execve(order.program, args, env)
        }))
    }
}

/// Whatever this process makes from now on is in the cgroup, too.
fn enter_cgroup(entrance: c_int) -> Result<(), Errno> {
    // SAFETY: open in this process, whose table of open files is a copy of its own.
    let entrance = unsafe { BorrowedFd::borrow_raw(entrance) };
    // It stands for whoever writes it, in every PID namespace.
    rustix::io::write(entrance, b"0").map(drop)
}

/// Session, signals, descriptors and limits.
fn set_up(setup: &Setup) -> Result<(), Errno> {
    match setup.session {
        Session::Own => {
            setsid()?;
        }
        Session::Callers => {}
        Session::Foreground => {
            // SAFETY: open in this process, whose table of open files is a copy of its own.
            let terminal = unsafe { BorrowedFd::borrow_raw(setup.stdin) };
            terminal::come_to_foreground(terminal)?;
        }
    }
    // What the engine ignores would stay ignored in the builder (Nix 1.8: `restoreSIGPIPE`).
    raw::handle_by_default(libc::SIGPIPE)?;
    raw::handle_by_default(libc::SIGXFSZ)?;
    for (from, to) in [(setup.stdin, 0), (setup.output, 1), (setup.error, 2)] {
        // SAFETY: a process of its own, whose standard streams nobody owns.
        unsafe { raw::duplicate_onto(from, to) }?;
    }
    if setup.waits {
        // Logs and locks of others must not stay open with it.
        // SAFETY: the table is a copy of its own, and no action of it uses a descriptor.
        unsafe { raw::close_from(3) }?;
    }
    // Whatever else was inherited from who started the engine closes on exec.
    raw::close_on_exec_from(3)?;
    if setup.builder_log != -1 {
        // SAFETY: nothing else is left that this process needs.
        unsafe { raw::duplicate_onto(setup.builder_log, 4) }?;
    }
    umask(Mode::from_raw_mode(0o022));
    let core = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    setrlimit(Resource::Core, core)?;
    raw::add_personality(setup.personality);
    Ok(())
}
