//! User namespaces in which a builder is user 1000 of group 100, whoever it is outside: the same in
//! every build.
//!
//! Root makes one for each build user and keeps it. An ordinary user's builders make their own as
//! they start.

use std::ffi::{CStr, OsStr, c_int};
use std::fs::File;
use std::io::{self, PipeReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use nix::fcntl::{OFlag, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use rustix::process::{self, set_parent_process_death_signal};
use windrow_sys::clone::{Child, Stack, clone_vm};
use windrow_sys::raw;

use crate::ids::Owner;
use crate::process::guard::Place;
use crate::process::launch::action::{Action, c_path};

/// The user and group that a builder is in its own eyes, where user namespaces can do that.
pub const SANDBOX_UID: u32 = 1000;
/// See [`SANDBOX_UID`].
pub const SANDBOX_GID: u32 = 100;

/// The limits of a user namespace that keep all in it from making user namespaces, without which
/// nobody in it can make any others either, and namespaces of cgroups: files below /proc.
pub const LIMITS: &[&CStr] = &[
    c"sys/user/max_user_namespaces",
    c"sys/user/max_cgroup_namespaces",
];
/// The one of [`LIMITS`] that there is in any case: whoever owns a namespace of cgroups may mount
/// their file system, and there kill the cgroup that it was made in.
pub const CGROUP_LIMIT: &[&CStr] = &[c"sys/user/max_cgroup_namespaces"];

/// What a process with all capabilities over its user namespace does to set these limits to zero,
/// where it sees that namespace's /proc.
pub fn forbid(proc: &Path, limits: &[&CStr]) -> impl Iterator<Item = Action> {
    limits.iter().map(move |limit| Action::Write {
        path: c_path(proc.join(OsStr::from_bytes(limit.to_bytes()))),
        contents: c"0".to_owned(),
        needed: true,
    })
}

/// Ids that a user namespace has: as many as given, from the first inside on and from the first
/// outside on.
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

/// The ids of a builder in the user namespace of a sandbox.
pub fn sandbox_ids(owner: Owner) -> IdMap {
    IdMap {
        uid: SANDBOX_UID,
        gid: SANDBOX_GID,
        outer_uid: owner.uid,
        outer_gid: owner.gid,
        count: 1,
    }
}

/// The first steps of a process in a user namespace of its own, which an ordinary user may fill
/// with itself only.
pub fn own_user_namespace(map: &IdMap) -> [Action; 3] {
    let write = |path: &str, contents: String| Action::Write {
        path: c_path(path),
        contents: c_path(contents),
        needed: true,
    };
    [
        write("/proc/self/setgroups", "deny".to_owned()),
        write("/proc/self/uid_map", map.uids()),
        write("/proc/self/gid_map", map.gids()),
    ]
}

/// The directory /proc, open, for threads that do not see it any more.
///
/// # Errors
/// When there is none.
pub fn open_proc() -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open("/proc", flags, Mode::empty())?)
}

const STACK_SIZE: usize = 16 * 1024;

/// Makes a user namespace with these ids, in which `limits` of [`LIMITS`] are zero. Takes root.
/// `proc` is the machine's /proc, which the calling thread may not see.
///
/// # Errors
/// When the kernel makes none, or does not take the ids or the limits.
pub fn create(map: &IdMap, proc: &OwnedFd, limits: &[&CStr]) -> io::Result<OwnedFd> {
    let stack = Stack::new(STACK_SIZE);
    let place = Place::take();
    let (told, tell) = io::pipe()?;
    let first = First {
        told: &told,
        proc: proc.as_fd(),
        limits,
    };
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: the child is waited for below, so that all it uses outlives it.
    let pid = match unsafe { clone_vm(&first, &stack, flags, Some(place.id()), ptr::null()) } {
        Ok(pid) => pid,
        Err(error) => {
            place.free();
            return Err(error);
        }
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
        let namespace = open("ns/user", OFlag::O_RDONLY)?;
        (&tell).write_all(&[0])?;
        Ok(namespace)
    };
    let namespace: io::Result<OwnedFd> = fill();
    if namespace.is_err() {
        // A child of ours that was not waited for.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    place.free();
    let status = raw::wait(pid, 0)?.status;
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => namespace,
        (true, errno) => namespace.and(Err(io::Error::from_raw_os_error(errno))),
        (false, _) => namespace.and(Err(io::ErrorKind::Interrupted.into())),
    }
}

/// What the first process of a user namespace works with, whose descriptors are copies.
struct First<'a> {
    /// Where it is told that the namespace is complete.
    told: &'a PipeReader,
    proc: BorrowedFd<'a>,
    limits: &'a [&'a CStr],
}

impl Child for First<'_> {
    /// Returns an errno, 0 for success.
    fn run(&self) -> c_int {
        // It must not be left waiting when its maker dies.
        let _ = set_parent_process_death_signal(Some(process::Signal::KILL));
        let set = |limit: &&CStr| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = fs::openat(self.proc, *limit, flags, fs::Mode::empty())?;
            rustix::io::write(&file, b"0")?;
            raw::close(file);
            Ok::<_, Errno>(())
        };
        let done = rustix::io::read(self.told, &mut [0; 1]);
        let done = done.and_then(|_| self.limits.iter().try_for_each(set));
        done.map_or_else(Errno::raw_os_error, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::process::launch::{Request, Streams, spawn};

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
        let Ok(namespace) = create(&map, &proc, &[]) else {
            eprintln!("skipped: this machine makes no user namespaces");
            return;
        };
        let link = std::fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd())).unwrap();
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        assert!(link.to_str().unwrap().starts_with("user:["));
        assert_ne!(link, own);
    }

    /// What comes of making a user namespace, and one with a namespace of cgroups, in a namespace
    /// with these limits.
    fn attempts(proc: &OwnedFd, limits: &[&CStr]) -> Option<[bool; 2]> {
        let map = IdMap {
            uid: 0,
            gid: 0,
            outer_uid: 0,
            outer_gid: 0,
            count: 1,
        };
        let namespace = std::sync::Arc::new(create(&map, proc, limits).ok()?);
        let mut results = [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP,
        ]
        .map(|flags| {
            let null = File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap();
            let actions = [
                Action::Enter(std::sync::Arc::clone(&namespace)),
                Action::Unshare(flags),
            ];
            let request = Request {
                program: None,
                args: &[],
                env: &[],
                cwd: c"/",
                personality: 0,
                namespaces: 0,
                actions: &actions,
            };
            let streams = Streams {
                stdin: null.as_fd(),
                output: null.as_fd(),
                error: None,
                builder_log: None,
                cgroup: None,
            };
            spawn(&request, &streams)
        })
        .into_iter();
        Some([(); 2].map(|()| match results.next().unwrap() {
            Ok(child) => {
                raw::wait(child.pid, 0).unwrap();
                true
            }
            Err(error) => {
                assert_eq!(error.action, Some(1), "{error}");
                assert_eq!(error.source.raw_os_error(), Some(libc::ENOSPC));
                false
            }
        }))
    }

    #[test]
    fn limits_hold_for_all_who_enter_and_all_namespaces_below() {
        let Ok(proc) = open_proc() else { return };
        let Some(without) = attempts(&proc, &[]) else {
            eprintln!("skipped: it takes root and a machine that makes user namespaces");
            return;
        };
        assert_eq!(without, [true, true]);
        assert_eq!(attempts(&proc, LIMITS), Some([false, false]));
        assert_eq!(attempts(&proc, CGROUP_LIMIT), Some([true, false]));
    }
}
