//! Kills every process of a user, from a process that has become that user and shares this one's
//! memory for the moment.
//!
//! A fork would copy the engine's page tables, and killing them one by one would race with new
//! ones.

use std::ffi::c_int;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, Uid, kill_process, pidfd_open};
use rustix::thread::set_thread_res_uid;
use windrow_sys::clone::{Child, Stack, clone_vm};
use windrow_sys::raw;

use crate::process::guard;

/// What the killer stands on, in bytes.
pub(crate) const STACK_SIZE: usize = 16 * 1024;
/// How long one attempt may take. A process of that user may have stopped or killed the killer.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
const ATTEMPTS: u32 = 60;

/// Kills all processes of the user `uid`, which must be a build user's: neither root nor ourselves.
/// Takes root (the Nix 1.8's `killUser`).
///
/// # Errors
/// When the killer can't be made, or processes don't die.
///
/// Nix 1.8: `UserLock::kill`, `killUser`.
pub fn kill_user(uid: u32) -> io::Result<()> {
    if uid == 0 || uid == nix::unistd::getuid().as_raw() || uid == nix::unistd::geteuid().as_raw() {
        let text = format!("user {uid} is no build user");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut stack = Stack::new(STACK_SIZE);
    for _ in 0..ATTEMPTS {
        match attempt(&mut stack, uid)? {
            Some(0) => return wait_until_gone(uid),
            Some(errno) if errno > 0 => return Err(io::Error::from_raw_os_error(errno)),
            _ => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Waits until no process of the user can do anything any more. Where /proc is not to be seen, that
/// has to be taken on trust.
fn wait_until_gone(uid: u32) -> io::Result<()> {
    for _ in 0..5000 {
        if !has_processes(uid) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn has_processes(uid: u32) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let is_theirs = || entry.metadata().is_ok_and(|metadata| metadata.uid() == uid);
        // A zombie has let go of everything.
        let is_alive = || {
            std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| {
                !stat
                    .rsplit(") ")
                    .next()
                    .is_some_and(|rest| rest.starts_with('Z'))
            })
        };
        is_process && is_theirs() && is_alive()
    })
}

/// The errno that the killer ended with, 0 for success; `None` if it was killed or stopped itself.
/// Allocates nothing.
///
/// # Errors
/// When no process can be made.
pub(crate) fn attempt(stack: &mut Stack, uid: u32) -> io::Result<Option<c_int>> {
    let place = guard::Place::take();
    let killer = Killer { uid };
    let flags = libc::SIGCHLD;
    // SAFETY: the child is waited for below, so that all it uses outlives it. The stack is lent to
    // nobody else.
    let pid = match unsafe { clone_vm(&killer, stack, flags, Some(place.id()), ptr::null()) } {
        Ok(pid) => pid,
        Err(error) => {
            place.free();
            return Err(error);
        }
    };
    // It was not waited for, so that the number is still its own.
    if let Some(id) = Pid::from_raw(pid) {
        if let Ok(pidfd) = pidfd_open(id, PidfdFlags::empty()) {
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&PATIENCE));
            raw::close(pidfd);
        }
        let _ = kill_process(id, Signal::KILL);
    }
    place.free();
    let status = raw::wait(pid, 0)?.status;
    Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
}

/// Becomes the user and kills all that it may kill. The C library's way would change the ids of all
/// threads of the engine.
struct Killer {
    uid: u32,
}

impl Child for Killer {
    fn run(&self) -> c_int {
        let uid = Uid::from_raw(self.uid);
        // Groups and group ids don't matter for who may be killed.
        if let Err(errno) = set_thread_res_uid(uid, uid, uid) {
            return errno.raw_os_error();
        }
        loop {
            // Reaches all at one moment, and who has a signal waiting can't fork any more.
            match raw::kill_all_reachable() {
                Err(Errno::INTR) => {}
                // That there is no process but this one is as good.
                Ok(()) | Err(Errno::SRCH) => return 0,
                Err(errno) => return errno.raw_os_error(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    #[test]
    fn all_processes_of_a_user_die_and_nobody_elses() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        const USER: u32 = 31_399;
        let start = |uid: u32| {
            let mut command = Command::new("/bin/sleep");
            command.arg("300").uid(uid).spawn().unwrap()
        };
        let mut theirs: Vec<_> = (0..3).map(|_| start(USER)).collect();
        let mut other = start(USER - 1);
        kill_user(USER).unwrap();
        for child in &mut theirs {
            assert!(!child.wait().unwrap().success());
        }
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        kill_user(USER).unwrap();
    }

    #[test]
    fn neither_root_nor_ourselves_are_build_users() {
        assert!(kill_user(0).is_err());
        assert!(kill_user(nix::unistd::getuid().as_raw()).is_err());
    }
}
