//! A process made in advance: it has set itself up and waits to be told its program, so that
//! starting that takes no more than waking it.

use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::action::Action;
use super::child::{Process, make};
use super::held::HeldProcess;
use super::pending::{OnItsWay, PendingExec};
use super::{Request, SpawnError, SpawnRequest, Spawned, Streams};
use crate::process::guard;
use crate::process::kill::kill_and_reap;

/// A process that waits for its program. Dropped, it is killed.
pub struct Standby {
    /// `None` once it was told its program.
    waiting: Option<Waiting>,
}

struct Waiting {
    spawned: Spawned,
    process: Arc<OnItsWay>,
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spawned = self.waiting.as_ref().map(|waiting| &waiting.spawned);
        f.debug_tuple("Standby").field(&spawned).finish()
    }
}

impl Standby {
    /// Makes a process in a session of its own that carries out `actions`, none of which may use a
    /// descriptor, and waits. All it has open are its streams. It is killed when the calling thread
    /// ends.
    ///
    /// # Errors
    /// When no process can be made. What it can't do to itself is told with its program's result.
    pub fn new(
        actions: Arc<[Action]>,
        personality: u64,
        streams: &Streams<'_>,
    ) -> Result<Self, SpawnError> {
        let request = Request {
            program: None,
            args: &[],
            env: &[],
            cwd: c"/",
            personality,
            namespaces: 0,
            actions: &actions,
        };
        let mut process = OnItsWay::new(Process::new(&request, streams));
        process.actions = Some(Arc::clone(&actions));
        let process = Arc::new(process);
        // SAFETY: process and actions lie in allocations that are not given back before the child
        // has executed a program or was killed and waited for.
        let made = unsafe { make(&process.process, &process.stack, 0, &process.in_use) };
        let spawned = match made {
            Ok(spawned) => spawned,
            Err(error) => {
                process.end();
                return Err(SpawnError::no_process(error, &request));
            }
        };
        Ok(Self {
            waiting: Some(Waiting { spawned, process }),
        })
    }

    /// Whether it still waits. Others may have killed it (the kernel too, for want of memory), or
    /// it has ended because it could not set itself up.
    pub fn is_waiting(&self) -> bool {
        let Some(waiting) = &self.waiting else {
            return false;
        };
        let mut ended = [PollFd::new(&waiting.spawned.pidfd, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())) == Ok(0)
    }

    /// Runs the program that `owner` asks for. Its actions, personality and streams must be those
    /// of the process.
    pub fn start<R: SpawnRequest>(mut self, owner: R) -> (Spawned, PendingExec<R>) {
        // That there was one when the process was made is long ago.
        guard::watch();
        let waiting = self.waiting.take().expect("it is told once");
        let pending = PendingExec::order(waiting.process, owner, false);
        (waiting.spawned, pending)
    }

    /// The same, but the program stands still before its first instruction until it is
    /// [released](HeldProcess::release). It is held up by ptrace(2), so only by the thread that
    /// made the process.
    pub fn execute_and_hold<R: SpawnRequest>(mut self, owner: R) -> (HeldProcess, PendingExec<R>) {
        guard::watch();
        let waiting = self.waiting.take().expect("it is told once");
        let pending = PendingExec::order(waiting.process, owner, true);
        (HeldProcess::new(waiting.spawned), pending)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            kill_and_reap(waiting.spawned.pid);
            waiting.process.end();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::ffi::CString;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::{AsFd as _, OwnedFd};

    use super::*;
    use crate::process::launch::Step;
    use windrow_sys::raw;

    pub(in super::super) struct Program(
        pub(in super::super) CString,
        pub(in super::super) Vec<CString>,
    );

    impl Program {
        pub(in super::super) fn script(text: &str) -> Self {
            let args = ["sh", "-c", text];
            let args = args.map(|arg| CString::new(arg).unwrap());
            Self(c"/bin/sh".to_owned(), args.into())
        }
    }

    impl SpawnRequest for Program {
        fn request(&self) -> Request<'_> {
            Request {
                program: Some(&self.0),
                args: &self.1,
                env: &[],
                cwd: c"/",
                personality: 0,
                namespaces: 0,
                actions: &[],
            }
        }
    }

    pub(in super::super) fn standby(actions: Arc<[Action]>) -> (Standby, std::io::PipeReader) {
        let null = File::open("/dev/null").unwrap();
        let (ours, theirs) = std::io::pipe().unwrap();
        let theirs = OwnedFd::from(theirs);
        let streams = Streams {
            stdin: null.as_fd(),
            output: theirs.as_fd(),
            error: None,
            builder_log: None,
            cgroup: None,
        };
        (Standby::new(actions, 0, &streams).unwrap(), ours)
    }

    pub(in super::super) fn wait(child: &Spawned) -> i32 {
        raw::wait(child.pid, 0).unwrap().status
    }

    #[test]
    fn it_runs_the_program_that_it_is_told() {
        for _ in 0..100 {
            let (standby, mut log) = standby(Arc::new([Action::NoNewPrivileges]));
            let (child, pending) = standby.start(Program::script("echo said; exit 3"));
            assert_eq!(wait(&child), 3 << 8);
            let mut said = String::new();
            log.read_to_string(&mut said).unwrap();
            assert_eq!(said, "said\n");
            let (_, failure) = pending.exec_result().unwrap();
            assert!(failure.is_none(), "{failure:?}");
        }
    }

    #[test]
    fn why_it_could_not_run_it_is_told() {
        let (standby, _log) = standby(Arc::new([]));
        let missing = Program(c"/there/is/no/such/program".to_owned(), Vec::new());
        let (child, pending) = standby.start(missing);
        assert_eq!(wait(&child), 127 << 8);
        let (_, failure) = pending.exec_result().unwrap();
        assert_eq!(failure.unwrap().step, Step::Execute);
    }

    #[test]
    fn what_it_could_not_do_to_itself_is_told() {
        let write = Action::Write {
            path: c"/there/is/no/such/thing".to_owned(),
            contents: c"".to_owned(),
            needed: true,
        };
        let (standby, mut log) = standby(Arc::new([write]));
        // Its streams close as it ends, which it does before it is told anything.
        log.read_to_end(&mut Vec::new()).unwrap();
        let (child, pending) = standby.start(Program::script("exit 3"));
        assert_eq!(wait(&child), 127 << 8);
        let (_, failure) = pending.exec_result().unwrap();
        assert_eq!(failure.unwrap().step, Step::Isolate);
    }

    #[test]
    fn it_holds_nothing_open_of_others() {
        let (mut ours, theirs) = std::io::pipe().unwrap();
        let (standby, _log) = standby(Arc::new([]));
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        drop(standby);
    }

    #[test]
    fn that_it_was_killed_is_seen() {
        let (standby, mut log) = standby(Arc::new([]));
        assert!(standby.is_waiting());
        let pid = standby.waiting.as_ref().unwrap().spawned.pid;
        crate::process::kill::kill_group(pid);
        // Its streams close as it dies; a moment later it counts as dead.
        assert_eq!(log.read(&mut [0]).unwrap(), 0);
        while standby.is_waiting() {
            std::thread::yield_now();
        }
        drop(standby);
        assert!(raw::wait(pid, 0).is_err());
    }

    #[test]
    fn dropped_it_is_gone() {
        let (standby, mut log) = standby(Arc::new([]));
        let pid = standby.waiting.as_ref().unwrap().spawned.pid;
        drop(standby);
        assert_eq!(log.read(&mut [0]).unwrap(), 0);
        assert!(raw::wait(pid, 0).is_err());
    }
}
