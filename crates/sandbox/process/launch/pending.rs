//! Starts a child without waiting until it runs its program, for the thread that has other things
//! to do until then. [`PendingExec`] owns the memory that the child reads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use windrow_sys::clone::Stack;

use super::child::{Order, Process, give_back_stack, make, take_stack};
use super::{Request, SpawnError, Spawned, Streams};
use crate::process::launch::action::Action;

/// Owns what a program is started from.
pub trait SpawnRequest: Send + Sync {
    /// The program to start.
    fn request(&self) -> Request<'_>;
}

/// A child that may not have executed its program yet, and what it needs until then. Dropped before
/// that, it leaves the memory to the child for good.
pub struct PendingExec<R: SpawnRequest>(Arc<Shared<R>>);

/// What the child reads.
struct Shared<R> {
    /// In an allocation of its own, for the order points to what it holds.
    owner: Arc<R>,
    order: Order,
    process: Arc<OnItsWay>,
}

/// A process, and what it needs until it has executed its program or exited.
pub(super) struct OnItsWay {
    pub(super) process: Process,
    /// What the process does to itself, if nobody else keeps that.
    pub(super) actions: Option<Arc<[Action]>>,
    pub(super) stack: Stack,
    /// Not zero while the child uses any of this: the kernel clears it as the child executes its
    /// program or exits.
    pub(super) in_use: AtomicU32,
}

impl OnItsWay {
    pub(super) fn new(process: Process) -> Self {
        Self {
            process,
            actions: None,
            stack: take_stack(),
            in_use: AtomicU32::new(1),
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Acquire) != 0
    }

    /// Gives its stack to the next, once no child uses it.
    pub(super) fn end(self: Arc<Self>) {
        let ended = Arc::into_inner(self).expect("a process has one owner");
        give_back_stack(ended.stack);
    }
}

/// Starts the program that `owner` asks for in a session of its own, and returns at once: the child
/// may not be a session's leader yet, nor a process group's. What it can't do is told by
/// [`PendingExec::exec_result`]. It is killed when the calling thread ends.
///
/// # Errors
/// `owner`, and why no process could be made.
pub fn spawn_async<R: SpawnRequest>(
    owner: R,
    streams: &Streams<'_>,
) -> Result<(Spawned, PendingExec<R>), (R, SpawnError)> {
    let owner = Arc::new(owner);
    let request = owner.request();
    let order = Order::new(&request);
    let process = Arc::new(OnItsWay::new(Process::new(&request, streams)));
    let shared = Arc::new(Shared {
        order,
        process,
        owner: Arc::clone(&owner),
    });
    let child = &shared.process;
    child.process.tell(&shared.order);
    // SAFETY: all of it lies in allocations that are not given back, nor lent exclusively, while
    // `in_use` is set.
    match unsafe {
        make(
            &child.process,
            &child.stack,
            request.namespaces,
            &child.in_use,
        )
    } {
        Ok(spawned) => {
            drop(owner);
            Ok((spawned, PendingExec(shared)))
        }
        Err(error) => {
            let error = SpawnError::no_process(error, &request);
            drop(owner);
            Err((take_back(shared), error))
        }
    }
}

/// The owner of what no child uses any more.
fn take_back<R>(shared: Arc<Shared<R>>) -> R {
    let shared = Arc::into_inner(shared).expect("a pending child is not cloned");
    shared.process.end();
    Arc::into_inner(shared.owner).expect("its owner is not either")
}

impl<R: SpawnRequest> PendingExec<R> {
    /// Has a process that waits for an order run the program that `owner` asks for, or stop before
    /// the program's first instruction.
    pub(super) fn order(process: Arc<OnItsWay>, owner: R, held: bool) -> Self {
        let owner = Arc::new(owner);
        let mut order = Order::new(&owner.request());
        if held {
            order = order.held();
        }
        let shared = Arc::new(Shared {
            owner,
            order,
            process,
        });
        shared.process.process.tell(&shared.order);
        shared.process.process.wake();
        Self(shared)
    }

    /// Takes the owner back, and with it why the child could not execute its program, if that is
    /// so. Of a child that has exited that is known.
    ///
    /// # Errors
    /// This, if the child has not executed its program yet.
    pub fn exec_result(self) -> Result<(R, Option<SpawnError>), Self> {
        if self.0.process.is_in_use() {
            return Err(self);
        }
        let shared = Arc::clone(&self.0);
        drop(self);
        let failure = shared.process.process.failure(&shared.owner.request());
        Ok((take_back(shared), failure))
    }
}

impl<R: SpawnRequest> Drop for PendingExec<R> {
    fn drop(&mut self) {
        if self.0.process.is_in_use() {
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}

impl<R: SpawnRequest> fmt::Debug for PendingExec<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.0.process.is_in_use() {
            "pending"
        } else {
            "executed"
        };
        write!(f, "PendingExec({state})")
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, CString};
    use std::fs::File;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::path::Path;

    use nix::errno::Errno;
    use windrow_sys::raw;

    use super::*;
    use crate::process::kill::kill_group;
    use crate::process::launch::Step;
    use crate::process::launch::action::{Action, c_path};

    struct Script {
        program: CString,
        args: Vec<CString>,
        cwd: CString,
        actions: Vec<Action>,
    }

    impl Script {
        fn of(script: &str) -> Self {
            let args = ["sh", "-c", script];
            Self {
                program: c"/bin/sh".to_owned(),
                args: args.map(|arg| CString::new(arg).unwrap()).into(),
                cwd: c"/".to_owned(),
                actions: Vec::new(),
            }
        }
    }

    impl SpawnRequest for Script {
        fn request(&self) -> Request<'_> {
            Request {
                program: Some(&self.program),
                args: &self.args,
                env: &[],
                cwd: &self.cwd,
                personality: 0,
                namespaces: 0,
                actions: &self.actions,
            }
        }
    }

    fn start(script: Script) -> (Spawned, PendingExec<Script>) {
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let streams = Streams {
            stdin: null.as_fd(),
            output: null.as_fd(),
            error: None,
            builder_log: None,
            cgroup: None,
        };
        spawn_async(script, &streams)
            .map_err(|(_, error)| error)
            .unwrap()
    }

    /// Waits for a child; its raw wait status.
    fn wait(child: &Spawned) -> i32 {
        // Raw, for the C library may set errno.
        raw::wait(child.pid, 0).unwrap().status
    }

    fn fail(script: Script) -> SpawnError {
        let (child, pending) = start(script);
        assert_eq!(wait(&child), 127 << 8);
        let (_, failure) = pending.exec_result().unwrap();
        failure.unwrap()
    }

    #[test]
    fn many_run_their_programs_at_a_time() {
        let all_pending: Vec<_> = (0..64)
            .map(|n| start(Script::of(&format!("exit {n}"))))
            .collect();
        for (n, (child, pending)) in all_pending.into_iter().enumerate() {
            assert_eq!(wait(&child), (n as i32) << 8);
            let (script, failure) = pending.exec_result().unwrap();
            assert!(failure.is_none());
            assert_eq!(script.args[2].to_str().unwrap(), format!("exit {n}"));
        }
    }

    #[test]
    fn failures_name_the_step() {
        let missing = c"/there/is/no/such/thing";
        let error = fail(Script {
            program: missing.to_owned(),
            ..Script::of("")
        });
        assert_eq!(error.step, Step::Execute);
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
        let error = fail(Script {
            program: c"/".to_owned(),
            ..Script::of("")
        });
        assert_eq!(error.source.raw_os_error(), Some(libc::EACCES));
        let error = fail(Script {
            cwd: missing.to_owned(),
            ..Script::of("")
        });
        assert_eq!(error.step, Step::ChangeDirectory);
        let write = |path: &CStr| Action::Write {
            path: path.to_owned(),
            contents: c"x".to_owned(),
            needed: true,
        };
        let error = fail(Script {
            actions: vec![write(c"/dev/null"), write(missing)],
            ..Script::of("")
        });
        assert_eq!((error.step, error.action), (Step::Isolate, Some(1)));
        assert!(error.to_string().contains("such/thing"), "{error}");
    }

    #[test]
    fn a_failing_child_leaves_errno_to_its_maker() {
        let (child, pending) = start(Script {
            program: c"/there/is/no/such/thing".to_owned(),
            ..Script::of("")
        });
        // The child may have failed before that: then this shows less, but never something wrong.
        Errno::set_raw(libc::EDOM);
        wait(&child);
        assert_eq!(Errno::last_raw(), libc::EDOM);
        drop(pending);
    }

    /// A child that stays on its way until somebody reads from the FIFO.
    fn delayed(fifo: &Path, script: &str) -> (Spawned, PendingExec<Script>) {
        nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        start(Script {
            actions: vec![Action::Write {
                path: c_path(fifo),
                contents: c"x".to_owned(),
                needed: true,
            }],
            ..Script::of(script)
        })
    }

    #[test]
    fn what_the_child_reads_stays_until_it_has_executed_its_program() {
        let directory = tempfile::tempdir().unwrap();
        let (child, pending) = delayed(&directory.path().join("a"), "exit 3");
        let pending = pending.exec_result().map(drop).unwrap_err();
        kill_group(child.pid);
        assert_eq!(wait(&child), libc::SIGKILL);
        let (_, failure) = pending.exec_result().unwrap();
        assert!(failure.is_none());

        let fifo = directory.path().join("b");
        let (child, pending) = delayed(&fifo, "exit 3");
        drop(pending);
        // Whoever takes memory now must not get that of the child.
        let others: Vec<_> = (0..8).map(|_| start(Script::of("exit 4"))).collect();
        std::fs::read(&fifo).unwrap();
        assert_eq!(wait(&child), 3 << 8);
        for (child, pending) in others {
            assert_eq!(wait(&child), 4 << 8);
            assert!(pending.exec_result().is_ok());
        }
    }

    #[test]
    fn its_streams_may_be_closed_at_once() {
        let (ours, theirs) = std::io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let theirs = OwnedFd::from(theirs);
        let streams = Streams {
            stdin: null.as_fd(),
            output: theirs.as_fd(),
            error: None,
            builder_log: None,
            cgroup: None,
        };
        let made = spawn_async(Script::of("echo out; echo err >&2"), &streams);
        let (child, pending) = made.map_err(|(_, error)| error).unwrap();
        drop((null, theirs));
        assert_eq!(std::io::read_to_string(ours).unwrap(), "out\nerr\n");
        assert_eq!(wait(&child), 0);
        assert!(pending.exec_result().is_ok());
    }
}
