//! What a new process does to itself before it runs its program: system calls, prepared as plain data.
//! Carrying them out allocates nothing, takes no lock and leaves errno alone, so that it may be done between clone and exec.

use std::ffi::{CStr, CString, c_int, c_ulong, c_void};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use windrow_sys::call;

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
    /// Makes a mount read-only, and without devices and set-user-id programs; with those below it, where the kernel can.
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
    /// Gives up the file system's root and working directory shared with other threads, and some namespaces (unshare).
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

const AT_RECURSIVE: c_int = 0x8000;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
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
    pub fn run(&self) -> Result<(), c_int> {
        match self {
            Self::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => {
                let mount = |flags| {
                    // SAFETY: NUL-terminated strings that outlive the call, or null where the kernel allows it.
                    let result = unsafe {
                        call!(
                            mount,
                            pointer(source.as_deref()),
                            target.as_ptr(),
                            pointer(*kind),
                            flags,
                            pointer(data.as_deref()),
                        )
                    };
                    result.map(drop)
                };
                match mount(*flags) {
                    // What is mounted below must not be bared by an ordinary user.
                    Err(libc::EINVAL) if *flags == libc::MS_BIND => mount(flags | libc::MS_REC),
                    result => result,
                }
            }
            Self::Restrict {
                target,
                read_only,
                devices,
            } => restrict(target, *read_only, *devices),
            Self::MakeDir { path, mode } => {
                // SAFETY: a NUL-terminated string.
                match unsafe { call!(mkdirat, libc::AT_FDCWD, path.as_ptr(), *mode) } {
                    Err(libc::EEXIST) => Ok(()),
                    result => result.map(drop),
                }
            }
            Self::MakeFile {
                path,
                contents,
                mode,
            } => {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
                write_file(path, contents, flags, *mode)
            }
            Self::Link { target, path } => {
                // SAFETY: NUL-terminated strings.
                let result =
                    unsafe { call!(symlinkat, target.as_ptr(), libc::AT_FDCWD, path.as_ptr()) };
                result.map(drop)
            }
            Self::Write {
                path,
                contents,
                needed,
            } => match write_file(path, contents.to_bytes(), libc::O_WRONLY, 0) {
                Err(_) if !needed => Ok(()),
                result => result,
            },
            Self::Pivot(root) => pivot(root),
            // SAFETY: plain system calls on integers from here on, unless said otherwise.
            Self::Unshare(flags) => unsafe { call!(unshare, *flags) }.map(drop),
            // SAFETY: the descriptor is open, for the action owns it.
            Self::Enter(fd) => unsafe { call!(setns, fd.as_raw_fd(), 0) }.map(drop),
            Self::NameHost => {
                let (host, domain) = (c"localhost".to_bytes(), c"(none)".to_bytes());
                // SAFETY: the lengths are those of the strings.
                unsafe {
                    call!(sethostname, host.as_ptr(), host.len())?;
                    call!(setdomainname, domain.as_ptr(), domain.len()).map(drop)
                }
            }
            Self::LoopbackUp => loopback_up(),
            Self::LeaveGroups => {
                // SAFETY: an empty list. The C library's own function would change every thread of the engine.
                unsafe { call!(setgroups, 0, ptr::null::<libc::gid_t>()) }.map(drop)
            }
            Self::Become { uid, gid } => become_user(*uid, *gid),
            Self::NewKeyring => {
                // SAFETY: joins an anonymous keyring. A kernel without keyrings has nothing to hide.
                let _ = unsafe { call!(keyctl, 1, ptr::null::<c_void>()) };
                Ok(())
            }
            Self::DropCapabilities => drop_capabilities(),
            Self::NoNewPrivileges => {
                // SAFETY: as above.
                unsafe { call!(prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.map(drop)
            }
            Self::Landlock(ruleset) => {
                // SAFETY: the descriptor is open, for the action owns it.
                unsafe { call!(landlock_restrict_self, ruleset.as_raw_fd(), 0) }.map(drop)
            }
            Self::Filter(program) => install_filter(program),
            Self::LimitProcesses(count) => {
                let limit = libc::rlimit64 {
                    rlim_cur: *count,
                    rlim_max: *count,
                };
                let old = ptr::null_mut::<libc::rlimit64>();
                // SAFETY: the structure is valid while it is read; nothing is written.
                unsafe { call!(prlimit64, 0, libc::RLIMIT_NPROC, &raw const limit, old) }.map(drop)
            }
            Self::ReadFrom(path) => read_from(path),
        }
    }
}

/// Carries out all of `actions`. Async-signal-safe, and `errno` stays as it is.
///
/// # Errors
/// Which one failed, and the errno.
pub fn run_all(actions: &[Action]) -> Result<(), (usize, c_int)> {
    for (index, action) in actions.iter().enumerate() {
        action.run().map_err(|errno| (index, errno))?;
    }
    Ok(())
}

fn pointer(text: Option<&CStr>) -> *const libc::c_char {
    text.map_or(ptr::null(), CStr::as_ptr)
}

fn write_file(path: &CStr, contents: &[u8], flags: c_int, mode: libc::mode_t) -> Result<(), c_int> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: plain system calls on valid strings; the descriptor is closed again.
    unsafe {
        let fd = call!(openat, libc::AT_FDCWD, path.as_ptr(), flags, mode)?;
        let result = match call!(write, fd, contents.as_ptr(), contents.len()) {
            Ok(count) if count == contents.len() => Ok(()),
            Ok(_) => Err(libc::EIO),
            Err(errno) => Err(errno),
        };
        let _ = call!(close, fd);
        result
    }
}

fn read_from(path: &CStr) -> Result<(), c_int> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: plain system calls on a valid string; the descriptor is closed again. The old standard input is this process's.
    unsafe {
        let Ok(fd) = call!(openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) else {
            return Ok(());
        };
        let fd = fd as c_int;
        let result = call!(dup3, fd, 0, 0);
        let _ = call!(close, fd);
        result.map(drop)
    }
}

fn restrict(target: &CStr, read_only: bool, devices: bool) -> Result<(), c_int> {
    let attributes = MountAttr {
        set: MOUNT_ATTR_NOSUID
            | if read_only { MOUNT_ATTR_RDONLY } else { 0 }
            | if devices { 0 } else { MOUNT_ATTR_NODEV },
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: string and structure are valid while they are read, and of the size given.
    let result = unsafe {
        call!(
            mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    match result {
        Err(libc::ENOSYS) => {}
        result => return result.map(drop),
    }
    // Before Linux 5.12: all flags are set anew, so those that are there must be given again.
    // SAFETY: a valid string and a structure to be written to; all-zero is valid for it.
    unsafe {
        // Where words have 64 bits, this is what the plain call fills in, too.
        let mut stat: libc::statfs64 = std::mem::zeroed();
        call!(statfs, target.as_ptr(), &raw mut stat)?;
        let has = stat.f_flags as c_ulong;
        let mut flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID;
        for (flag, mount_flag) in [
            (libc::ST_NOEXEC, libc::MS_NOEXEC),
            (libc::ST_NODEV, libc::MS_NODEV),
            (libc::ST_RDONLY, libc::MS_RDONLY),
            (libc::ST_NOATIME, libc::MS_NOATIME),
            (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
            (libc::ST_RELATIME, libc::MS_RELATIME),
        ] {
            if has & flag != 0 {
                flags |= mount_flag;
            }
        }
        if read_only {
            flags |= libc::MS_RDONLY;
        }
        if !devices {
            flags |= libc::MS_NODEV;
        }
        let none = ptr::null::<c_void>();
        call!(mount, none, target.as_ptr(), none, flags, none).map(drop)
    }
}

fn pivot(root: &CStr) -> Result<(), c_int> {
    let here = c".";
    // SAFETY: plain system calls on valid strings. The old root is stacked on the new one and unmounted from there, so
    // that no directory is needed to put it.
    unsafe {
        call!(chdir, root.as_ptr())?;
        call!(pivot_root, here.as_ptr(), here.as_ptr())?;
        call!(umount2, here.as_ptr(), libc::MNT_DETACH)?;
        call!(chdir, c"/".as_ptr()).map(drop)
    }
}

fn loopback_up() -> Result<(), c_int> {
    // SAFETY: the request is valid while the kernel reads and writes it; the socket is closed again.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let socket = call!(socket, libc::AF_INET, kind, 0)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_RUNNING) as _;
        let result = call!(ioctl, socket, libc::SIOCSIFFLAGS, &raw mut request);
        let _ = call!(close, socket);
        result.map(drop)
    }
}

/// The C library's own functions would make every thread of the engine change its ids.
fn become_user(uid: u32, gid: u32) -> Result<(), c_int> {
    // SAFETY: raw system calls on integers, which concern the calling process or thread only.
    unsafe {
        call!(setresgid, gid, gid, gid)?;
        call!(setresuid, uid, uid, uid).map(drop)
    }
}

fn drop_capabilities() -> Result<(), c_int> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;
    // SECBIT_NOROOT and SECBIT_NO_SETUID_FIXUP, both locked: user 0 is a user like any other.
    const NO_ROOT: libc::c_ulong = 0b1111;
    // SAFETY: plain system calls; header and data have the layout of version 3 and are only read.
    unsafe {
        for capability in 0..64 {
            // Beyond the last capability the kernel knows, it says so.
            if call!(prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0).is_err() {
                break;
            }
        }
        call!(prctl, libc::PR_SET_SECUREBITS, NO_ROOT, 0, 0, 0)?;
        let header = Header {
            version: VERSION_3,
            pid: 0,
        };
        let none = [0_u32; 6];
        call!(capset, &raw const header, none.as_ptr()).map(drop)
    }
}

fn install_filter(program: &[libc::sock_filter]) -> Result<(), c_int> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| libc::EINVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program is valid while the kernel copies it.
    let result = unsafe {
        call!(
            seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program
        )
    };
    result.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_made_and_failures_name_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
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
        assert_eq!(error, (2, libc::EEXIST));
        assert!(actions[2].describe().contains("d/f"));
    }
}
