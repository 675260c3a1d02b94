//! A process that has executed its program and stands still before the first instruction: what
//! executing takes is not paid when the program is to run.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use windrow_sys::raw;

use super::Spawned;
use crate::process::guard;
use crate::process::kill::kill_and_reap;

/// A process that stands still. Dropped, it is killed.
///
/// It belongs to the thread that made it: no other one can let it go on, and if that thread ends,
/// the process is killed.
#[derive(Debug)]
pub struct HeldProcess {
    /// `None` once it goes on.
    spawned: Option<Spawned>,
    of_this_thread: PhantomData<*const ()>,
}

/// How long is waited for it to get to where it stands still. It was told long before: what it may
/// still wait for is a processor, or a disk on which its program is.
const WAIT: Duration = Duration::from_millis(2);

/// How long whoever waits sleeps before it looks again.
const LOOK: Duration = Duration::from_micros(20);

/// Why a process can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It has not executed its program yet.
    Late,
    /// It has ended: its program could not be executed, the machine allows nobody to hold up a
    /// process, or it was killed.
    Ended,
}

impl HeldProcess {
    pub(super) fn new(spawned: Spawned) -> Self {
        Self {
            spawned: Some(spawned),
            of_this_thread: PhantomData,
        }
    }

    /// Lets its program run.
    ///
    /// # Errors
    /// Why it can't; nothing of it is left then.
    ///
    /// # Panics
    /// Never: it is let go once.
    pub fn release(mut self) -> Result<Spawned, Lost> {
        // That there was one when the program was executed is long ago.
        guard::watch();
        let spawned = self.spawned.as_ref().expect("it is let go once");
        wait_until_it_stands(spawned.pid)?;
        raw::let_go(spawned.pid).map_err(|_| Lost::Ended)?;
        Ok(self.spawned.take().expect("it was there"))
    }
}

/// Waits until a process has been stopped by what executing a program sends to one that is held up.
fn wait_until_it_stands(pid: i32) -> Result<(), Lost> {
    let pid = Pid::from_raw(pid).ok_or(Lost::Ended)?;
    // Whoever reaps it is still to learn how it ended.
    let how = WaitIdOptions::EXITED
        | WaitIdOptions::STOPPED
        | WaitIdOptions::NOHANG
        | WaitIdOptions::NOWAIT;
    let began = Instant::now();
    loop {
        match waitid(WaitId::Pid(pid), how) {
            Ok(None) if began.elapsed() > WAIT => return Err(Lost::Late),
            // Not by yielding: it is of another session, and the kernel shares time among those.
            Ok(None) => std::thread::sleep(LOOK),
            Ok(Some(status)) if status.trapping_signal() == Some(libc::SIGTRAP) => return Ok(()),
            Ok(Some(_)) | Err(_) => return Err(Lost::Ended),
        }
    }
}

impl Drop for HeldProcess {
    fn drop(&mut self) {
        if let Some(spawned) = self.spawned.take() {
            kill_and_reap(spawned.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::super::Step;
    use super::super::standby::tests::{Program, standby, wait};
    use super::*;

    fn is_readable(log: &io::PipeReader) -> bool {
        let mut log = [PollFd::new(log, PollFlags::IN)];
        poll(&mut log, Some(&Timespec::default())).unwrap() > 0
    }

    /// Waits until a process has executed its program, however long that takes.
    fn settle(held: &HeldProcess) {
        let pid = held.spawned.as_ref().unwrap().pid;
        while wait_until_it_stands(pid) == Err(Lost::Late) {}
    }

    #[test]
    fn the_program_runs_once_it_is_released() {
        for _ in 0..100 {
            let (standby, mut log) = standby(Vec::new().into());
            let (held, pending) = standby.execute_and_hold(Program::script("echo said; exit 3"));
            settle(&held);
            assert!(!is_readable(&log));
            let child = held.release().unwrap();
            let mut said = String::new();
            log.read_to_string(&mut said).unwrap();
            assert_eq!(said, "said\n");
            assert_eq!(wait(&child), 3 << 8);
            let (_, failure) = pending.exec_result().unwrap();
            assert!(failure.is_none(), "{failure:?}");
        }
    }

    #[test]
    fn what_cannot_be_executed_is_not_released() {
        let (standby, mut log) = standby(Vec::new().into());
        let missing = Program(c"/there/is/no/such/program".to_owned(), Vec::new());
        let (held, pending) = standby.execute_and_hold(missing);
        log.read_to_end(&mut Vec::new()).unwrap();
        let pid = held.spawned.as_ref().unwrap().pid;
        assert_eq!(held.release().err(), Some(Lost::Ended));
        assert!(raw::wait(pid, 0).is_err());
        let (_, failure) = pending.exec_result().unwrap();
        assert_eq!(failure.unwrap().step, Step::Execute);
    }

    #[test]
    fn what_was_killed_is_not_released() {
        let (standby, _log) = standby(Vec::new().into());
        let (held, _pending) = standby.execute_and_hold(Program::script("echo said"));
        settle(&held);
        let pid = held.spawned.as_ref().unwrap().pid;
        crate::process::kill::kill_group(pid);
        assert_eq!(held.release().err(), Some(Lost::Ended));
        assert!(raw::wait(pid, 0).is_err());
    }

    #[test]
    fn dropped_it_is_gone_and_its_program_has_not_run() {
        let (standby, mut log) = standby(Vec::new().into());
        let (held, _pending) = standby.execute_and_hold(Program::script("echo said"));
        settle(&held);
        let pid = held.spawned.as_ref().unwrap().pid;
        drop(held);
        assert_eq!(log.read(&mut [0]).unwrap(), 0);
        assert!(raw::wait(pid, 0).is_err());
    }
}
