//! Kills every process of a user, from a process that has become that user and shares this one's memory for the moment.
//!
//! A fork would copy the engine's page tables, and killing them one by one would race with new ones.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::ptr;

use crate::process::guard;
use windrow_sys::call;

/// What the killer stands on, in bytes.
pub(crate) const STACK_SIZE: usize = 16 * 1024;
/// How long one attempt may take. A process of that user may have stopped or killed the killer.
const PATIENCE: libc::timespec = libc::timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
const ATTEMPTS: u32 = 60;

/// Kills all processes of the user `uid`, which must be a build user's: neither root nor ourselves. Takes root (the
/// seed's `killUser`).
///
/// # Errors
/// When the killer can't be made, or processes don't die.
pub fn kill_user(uid: u32) -> io::Result<()> {
    if uid == 0 || uid == nix::unistd::getuid().as_raw() || uid == nix::unistd::geteuid().as_raw() {
        let text = format!("user {uid} is no build user");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut stack = vec![0_u128; STACK_SIZE / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    for _ in 0..ATTEMPTS {
        // SAFETY: the stack is this function's own.
        match unsafe { attempt(top, &uid) }.map_err(io::Error::from_raw_os_error)? {
            Some(0) => return wait_until_gone(uid),
            Some(errno) if errno > 0 => return Err(io::Error::from_raw_os_error(errno)),
            _ => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Waits until no process of the user can do anything any more. Where /proc is not to be seen, that has to be taken on
/// trust.
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

/// The errno that the killer ended with, 0 for success; `None` if it was killed or stopped itself. Allocates nothing.
///
/// # Errors
/// The errno, when no process can be made.
///
/// # Safety
/// `stack_top` must be the upper end of memory that nobody uses, of [`STACK_SIZE`] bytes at least, aligned to 16 bytes.
pub(crate) unsafe fn attempt(stack_top: *mut c_void, uid: &u32) -> Result<Option<c_int>, c_int> {
    let place = guard::Place::take();
    let flags = libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
    // SAFETY: the child runs on a stack that outlives it, for it is waited for below, and reads nothing but `uid`, which
    // does too. It blocks all signals from its birth on, as the calling thread does for the moment.
    let (pid, error) = unsafe {
        let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let argument = ptr::from_ref(uid).cast_mut().cast::<c_void>();
        let pid = libc::clone(kill_all, stack_top, flags, argument, place.pointer());
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut());
        (pid, error)
    };
    if pid == -1 {
        place.free();
        return Err(error);
    }
    let mut status = 0;
    let none = ptr::null_mut::<c_void>();
    // SAFETY: integers and structures that are here. The child was not waited for.
    unsafe {
        if let Ok(pidfd) = call!(pidfd_open, pid, 0) {
            let mut poll = libc::pollfd {
                fd: pidfd as c_int,
                events: libc::POLLIN,
                revents: 0,
            };
            let patience = PATIENCE;
            let _ = call!(ppoll, &raw mut poll, 1, &raw const patience, none, 0);
            let _ = call!(close, pidfd);
        }
        let _ = call!(kill, pid, libc::SIGKILL);
        place.free();
        while call!(wait4, pid, &raw mut status, 0, none) == Err(libc::EINTR) {}
    }
    Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
}

/// The killer. Raw system calls only: the C library's would change the ids of all threads of the engine.
extern "C" fn kill_all(uid: *mut c_void) -> c_int {
    // SAFETY: `attempt` passes a pointer to a number that outlives this process. The calls allocate nothing.
    unsafe {
        let uid = *uid.cast::<u32>();
        // Groups and group ids don't matter for who may be killed.
        if let Err(errno) = call!(setresuid, uid, uid, uid) {
            return errno;
        }
        loop {
            // Reaches all at one moment, and who has a signal waiting can't fork any more.
            match call!(kill, -1_i32, libc::SIGKILL) {
                Err(libc::EINTR) => {}
                // That there is no process but this one is as good.
                Ok(_) | Err(libc::ESRCH) => return 0,
                Err(errno) => return errno,
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
