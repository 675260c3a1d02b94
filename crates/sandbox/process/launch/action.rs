//! What a new process does to itself before it runs its program: system calls, prepared as plain
//! data. Carrying them out allocates nothing, takes no lock and leaves errno alone, so that it may
//! be done between clone and exec.

use std::ffi::{CStr, CString, c_int, c_ulong};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{self, MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{self, Gid, Resource, Rlimit, Uid};
use rustix::system;
use rustix::thread::{self, CapabilitiesSecureBits, CapabilitySet, CapabilitySets};
use windrow_sys::raw::{self, mount_attr};

/// One step. Paths are those of the process's own root at that moment.
#[derive(Debug, Clone)]
pub enum Action {
    /// mount(2).
    Mount {
        /// The first argument.
        source: Option<CString>,
        /// Where.
        target: CString,
        /// The type of a new file system.
        kind: Option<&'static CStr>,
        /// `MS_…`.
        flags: c_ulong,
        /// Options of the file system.
        data: Option<CString>,
    },
    /// Makes a mount read-only, and without devices and set-user-id programs; with those below it,
    /// where the kernel can.
    Restrict {
        /// The mount.
        target: CString,
        /// Whether it becomes read-only, too.
        read_only: bool,
        /// Whether devices work on it.
        devices: bool,
    },
    /// Makes a directory; that it exists is no error.
    MakeDir {
        /// Its path.
        path: CString,
        /// Its mode.
        mode: libc::mode_t,
    },
    /// Makes a file that does not exist.
    MakeFile {
        /// Its path.
        path: CString,
        /// What it holds.
        contents: Vec<u8>,
        /// Its mode.
        mode: libc::mode_t,
    },
    /// Makes a symbolic link.
    Link {
        /// What it says.
        target: CString,
        /// Its path.
        path: CString,
    },
    /// Writes to a file that exists, such as those of /proc.
    Write {
        /// Its path.
        path: CString,
        /// What to write, in one call.
        contents: CString,
        /// Whether it is an error if that fails.
        needed: bool,
    },
    /// Makes the mount at this path the root, and the old root unreachable.
    Pivot(CString),
    /// Gives up the file system's root and working directory shared with other threads, and some
    /// namespaces (unshare).
    Unshare(c_int),
    /// Enters a namespace.
    Enter(Arc<OwnedFd>),
    /// Sets host and domain name to what they are in every sandbox.
    NameHost,
    /// Brings the loopback interface up.
    LoopbackUp,
    /// Leaves all groups but its first.
    LeaveGroups,
    /// Becomes a user and a group, as the present user namespace names them.
    Become {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
    /// Begins a session keyring of its own.
    NewKeyring,
    /// Gives up all capabilities for good, even as root.
    DropCapabilities,
    /// Gains no privileges from programs any more.
    NoNewPrivileges,
    /// Confines itself to a Landlock ruleset.
    Landlock(Arc<OwnedFd>),
    /// Installs a filter of system calls.
    Filter(Arc<[libc::sock_filter]>),
    /// Sets the limits on the number of processes.
    LimitProcesses(u64),
    /// Takes this file for its standard input, if there is such a file.
    ReadFrom(&'static CStr),
}

/// A path for a system call. A NUL in it cuts it off, which no path that the system gave us has.
pub fn c_path(path: impl AsRef<Path>) -> CString {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_ref().as_os_str().as_bytes();
    let end = bytes.iter().position(|&byte| byte == 0);
    CString::new(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or_default()
}

impl Action {
    /// A bind mount of what lies at `source`, without what is mounted below it.
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::mount(Some(source.as_ref()), target, None, libc::MS_BIND, None)
    }

    /// A mount(2).
    pub fn mount(
        source: Option<&Path>,
        target: impl AsRef<Path>,
        kind: Option<&'static CStr>,
        flags: c_ulong,
        data: Option<&str>,
    ) -> Self {
        Self::Mount {
            source: source.map(c_path),
            target: c_path(target),
            kind,
            flags,
            data: data.map(c_path),
        }
    }

    /// A directory with mode 0755.
    pub fn dir(path: impl AsRef<Path>) -> Self {
        Self::MakeDir {
            path: c_path(path),
            mode: 0o755,
        }
    }

    /// What it does, as the object of "cannot".
    pub fn describe(&self) -> String {
        let shown = |path: &CStr| PathBuf::from(path.to_string_lossy().into_owned());
        match self {
            Self::Mount {
                source,
                target,
                kind,
                ..
            } => match (kind, source) {
                (Some(kind), _) => format!(
                    "mount a {} at '{}'",
                    kind.to_string_lossy(),
                    shown(target).display()
                ),
                (None, Some(source)) => format!(
                    "show '{}' at '{}'",
                    shown(source).display(),
                    shown(target).display()
                ),
                (None, None) => "make mounts private".to_owned(),
            },
            Self::Restrict { target, .. } => {
                format!("restrict the mount at '{}'", shown(target).display())
            }
            Self::MakeDir { path, .. } => format!("make the directory '{}'", shown(path).display()),
            Self::MakeFile { path, .. } | Self::Link { path, .. } => {
                format!("make '{}'", shown(path).display())
            }
            Self::Write { path, .. } => format!("write to '{}'", shown(path).display()),
            Self::Pivot(_) => "change the root directory".to_owned(),
            Self::Unshare(_) => "make new namespaces".to_owned(),
            Self::Enter(_) => "enter a namespace".to_owned(),
            Self::NameHost => "set the host name".to_owned(),
            Self::LoopbackUp => "bring the loopback interface up".to_owned(),
            Self::LeaveGroups => "leave supplementary groups".to_owned(),
            Self::Become { uid, gid } => format!("become user {uid} and group {gid}"),
            Self::NewKeyring => "begin a keyring".to_owned(),
            Self::DropCapabilities => "drop capabilities".to_owned(),
            Self::NoNewPrivileges => "give up new privileges".to_owned(),
            Self::Landlock(_) => "confine sockets".to_owned(),
            Self::Filter(_) => "filter system calls".to_owned(),
            Self::LimitProcesses(_) => "limit the number of processes".to_owned(),
            Self::ReadFrom(path) => format!("read from '{}'", shown(path).display()),
        }
    }

    /// Carries it out. Async-signal-safe, and `errno` stays as it is.
    ///
    /// # Errors
    /// The errno of the call that failed.
    pub fn run(&self) -> Result<(), Errno> {
        match self {
            Self::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => {
                let source = source.as_deref();
                mount(source, target, *kind, *flags, data.as_deref())
            }
            Self::Restrict {
                target,
                read_only,
                devices,
            } => restrict(target, *read_only, *devices),
            Self::MakeDir { path, mode } => make_dir(path, Mode::from_raw_mode(*mode)),
            Self::MakeFile {
                path,
                contents,
                mode,
            } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                write_file(path, contents, flags, Mode::from_raw_mode(*mode))
            }
            Self::Link { target, path } => fs::symlinkat(target, fs::CWD, path),
            Self::Write {
                path,
                contents,
                needed,
            } => match write_file(path, contents.to_bytes(), OFlags::WRONLY, Mode::empty()) {
                Err(_) if !needed => Ok(()),
                result => result,
            },
            Self::Pivot(root) => pivot(root),
            Self::Unshare(flags) => raw::unshare(*flags),
            Self::Enter(fd) => thread::move_into_link_name_space(fd.as_fd(), None),
            Self::NameHost => name_host(),
            Self::LoopbackUp => raw::bring_loopback_up(),
            Self::LeaveGroups => thread::set_thread_groups(&[]),
            Self::Become { uid, gid } => become_user(*uid, *gid),
            Self::NewKeyring => {
                raw::begin_keyring();
                Ok(())
            }
            Self::DropCapabilities => drop_capabilities(),
            Self::NoNewPrivileges => thread::set_no_new_privs(true),
            Self::Landlock(ruleset) => raw::landlock_restrict(ruleset.as_fd()),
            Self::Filter(program) => raw::install_filter(program),
            Self::LimitProcesses(count) => limit_processes(*count),
            Self::ReadFrom(path) => read_from(path),
        }
    }
}

/// Carries out all of `actions`. Async-signal-safe, and `errno` stays as it is.
///
/// # Errors
/// Which one failed, and the errno.
///
/// Nix 1.8: `childEntry`, `DerivationGoal::initChild`.
pub fn run_all(actions: &[Action]) -> Result<(), (usize, Errno)> {
    for (index, action) in actions.iter().enumerate() {
        action.run().map_err(|errno| (index, errno))?;
    }
    Ok(())
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: c_ulong,
    data: Option<&CStr>,
) -> Result<(), Errno> {
    let bits = flags as u32;
    let Some(kind) = kind else {
        let Some(source) = source else {
            return mount::mount_change(target, MountPropagationFlags::from_bits_retain(bits));
        };
        if flags & libc::MS_REC != 0 {
            return mount::mount_bind_recursive(source, target);
        }
        return match mount::mount_bind(source, target) {
            // The kernel refuses an unprivileged bind mount that would reveal what a submount
            // hides.
            Err(Errno::INVAL) => mount::mount_bind_recursive(source, target),
            result => result,
        };
    };
    // The kernel calls one without a source that, too.
    let source = source.unwrap_or(c"none");
    mount::mount(
        source,
        target,
        kind,
        MountFlags::from_bits_retain(bits),
        data,
    )
}

fn make_dir(path: &CStr, mode: Mode) -> Result<(), Errno> {
    match fs::mkdirat(fs::CWD, path, mode) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

fn name_host() -> Result<(), Errno> {
    system::sethostname(b"localhost")?;
    system::setdomainname(b"(none)")
}

fn limit_processes(count: u64) -> Result<(), Errno> {
    let (current, maximum) = (Some(count), Some(count));
    process::setrlimit(Resource::Nproc, Rlimit { current, maximum })
}

fn write_file(path: &CStr, contents: &[u8], flags: OFlags, mode: Mode) -> Result<(), Errno> {
    let file = fs::openat(fs::CWD, path, flags | OFlags::CLOEXEC, mode)?;
    let result = match rustix::io::write(&file, contents) {
        Ok(count) if count == contents.len() => Ok(()),
        Ok(_) => Err(Errno::IO),
        Err(errno) => Err(errno),
    };
    raw::close(file);
    result
}

fn read_from(path: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let Ok(file) = fs::openat(fs::CWD, path, flags, Mode::empty()) else {
        return Ok(());
    };
    // SAFETY: the old standard input is this process's, and nobody owns it.
    let result = unsafe { raw::duplicate_onto(file.as_raw_fd(), 0) };
    raw::close(file);
    result
}

fn restrict(target: &CStr, read_only: bool, devices: bool) -> Result<(), Errno> {
    let attributes = mount_attr::NOSUID
        | if read_only { mount_attr::RDONLY } else { 0 }
        | if devices { 0 } else { mount_attr::NODEV };
    match raw::set_mount_attributes(target, attributes) {
        Err(Errno::NOSYS) => {}
        result => return result,
    }
    // Before Linux 5.12: all flags are set anew, so those that are there must be given again.
    let has = fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID;
    for (flag, mount_flag) in [
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        flags.set(mount_flag, has.contains(flag));
    }
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    if !devices {
        flags |= MountFlags::NODEV;
    }
    mount::mount_remount(target, flags, c"")
}

/// The old root is stacked on the new one and unmounted from there, so that no directory is needed
/// to put it.
fn pivot(root: &CStr) -> Result<(), Errno> {
    process::chdir(root)?;
    process::pivot_root(c".", c".")?;
    mount::unmount(c".", UnmountFlags::DETACH)?;
    process::chdir(c"/")
}

/// The C library's own functions would make every thread of the engine change its ids.
fn become_user(uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)
}

fn drop_capabilities() -> Result<(), Errno> {
    for capability in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << capability);
        // Beyond the last capability the kernel knows, it says so.
        if thread::remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    // User 0 is a user like any other.
    thread::set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED,
    )?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    thread::set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_made_and_failures_name_the_step() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let actions = [
            Action::dir(at("d")),
            Action::dir(at("d")),
            Action::MakeFile {
                path: c_path(at("d/f")),
                contents: b"text".to_vec(),
                mode: 0o644,
            },
            Action::Link {
                target: c"f".to_owned(),
                path: c_path(at("d/l")),
            },
            Action::Write {
                path: c_path(at("absent")),
                contents: c"x".to_owned(),
                needed: false,
            },
        ];
        run_all(&actions).unwrap();
        assert_eq!(std::fs::read(at("d/l")).unwrap(), b"text");
        let error = run_all(&actions).unwrap_err();
        assert_eq!(error, (2, Errno::EXIST));
        assert!(actions[2].describe().contains("d/f"));
    }
}
