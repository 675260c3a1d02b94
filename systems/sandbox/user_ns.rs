//! User namespaces in which a builder is user 1000 of group 100, whoever it is outside: the same in every build.
//!
//! Root makes one for each build user and keeps it. An ordinary user's builders make their own as they start.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::ptr;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::process::guard::Place;
use crate::process::raw::call;

/// Ids that a user namespace has: as many as given, from the first inside on and from the first outside on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdMap {
    /// The first user id inside.
    pub uid: u32,
    /// The first group id inside.
    pub gid: u32,
    /// The first user id outside.
    pub outer_uid: u32,
    /// The first group id outside.
    pub outer_gid: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// What to write to `uid_map`.
    pub fn uids(&self) -> String {
        format!("{} {} {}", self.uid, self.outer_uid, self.count)
    }

    /// What to write to `gid_map`.
    pub fn gids(&self) -> String {
        format!("{} {} {}", self.gid, self.outer_gid, self.count)
    }
}

/// The folder /proc, open, for threads that do not see it any more.
///
/// # Errors
/// When there is none.
pub fn open_proc() -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open("/proc", flags, Mode::empty())?)
}

const STACK_SIZE: usize = 16 * 1024;

/// Makes a user namespace with these ids. Takes root. `proc` is the machine's /proc, which the calling thread may not see.
///
/// # Errors
/// When the kernel makes none, or does not take the ids.
pub fn create(map: &IdMap, proc: &OwnedFd) -> io::Result<OwnedFd> {
    let mut stack = vec![0_u128; STACK_SIZE / size_of::<u128>()];
    let place = Place::take();
    // SAFETY: the child only waits, on a stack that outlives it, for it is killed and waited for below. It blocks all
    // signals from its birth on, as the calling thread does for the moment, so no handler of ours runs in it.
    let pid = unsafe {
        let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let pid = libc::clone(
            wait_to_be_killed,
            stack.as_mut_ptr_range().end.cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_NEWUSER | libc::CLONE_PARENT_SETTID | libc::SIGCHLD,
            ptr::null_mut(),
            place.pointer(),
        );
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut());
        if pid == -1 {
            place.free();
            return Err(error);
        }
        pid
    };
    let fill = || {
        let open = |file: &str, flags: OFlag| {
            let path = format!("{pid}/{file}");
            openat(proc, path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
        };
        let write = |file: &str, text: &str| {
            File::from(open(file, OFlag::O_WRONLY)?).write_all(text.as_bytes())
        };
        write("uid_map", &map.uids())?;
        // One that has many groups may choose among them.
        if map.count == 1 {
            write("setgroups", "deny")?;
        }
        write("gid_map", &map.gids())?;
        Ok(open("ns/user", OFlag::O_RDONLY)?)
    };
    let namespace = fill();
    // SAFETY: a child of ours that was not waited for yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        place.free();
        while libc::waitpid(pid, ptr::null_mut(), 0) == -1
            && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
        {}
    }
    namespace
}

extern "C" fn wait_to_be_killed(_: *mut c_void) -> c_int {
    // SAFETY: integers. It must not be left waiting when its maker dies.
    let _ = unsafe { call!(prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    loop {
        // SAFETY: sleeps; only a signal that can't be blocked ends it.
        unsafe { libc::pause() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn root_makes_one_for_anybody() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let map = IdMap {
            uid: 1000,
            gid: 100,
            outer_uid: 54321,
            outer_gid: 54322,
            count: 1,
        };
        let proc = open_proc().unwrap();
        let Ok(namespace) = create(&map, &proc) else {
            eprintln!("skipped: this machine makes no user namespaces");
            return;
        };
        let link = std::fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd())).unwrap();
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        assert!(link.to_str().unwrap().starts_with("user:["));
        assert_ne!(link, own);
    }
}
