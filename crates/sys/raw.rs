//! System calls that no crate has, and those that crates have only through the C library.
//!
//! Nothing here allocates, takes a lock or touches `errno`, so that all of it may be done by a
//! process that shares its parent's memory, between clone and exec; the same is true of the
//! functions of rustix that take `&CStr` and no buffer, for it makes its calls itself. The C
//! library's own functions set the `errno` of the thread that made the process, and change the ids
//! of all threads instead of one.

use std::ffi::{CStr, c_char, c_int, c_ulong};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Makes the system call of that name. What is passed must be valid for the call.
macro_rules! call {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        syscalls::syscall!(syscalls::Sysno::$name $(, $argument)*)
            .map_err(|errno| Errno::from_raw_os_error(errno.into_raw()))
    };
}

/// The size of the kernel's set of 64 signals, in bytes.
const SIGSET_SIZE: usize = size_of::<u64>();

/// Attributes of mounts, `MOUNT_ATTR_…` of linux/mount.h, which the libc crate has not.
pub mod mount_attr {
    /// Nothing can be written.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Devices can't be opened.
    pub const NODEV: u64 = 0x4;
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Ends the process without running anything of its parent's.
pub fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: an integer; it does not return.
        let _ = unsafe { call!(exit_group, status) };
    }
}

/// execve(2): returns only if that fails.
///
/// # Safety
/// `program` must be a NUL-terminated string, `args` and `env` lists of such strings that end with
/// a null pointer.
pub unsafe fn execve(
    program: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
) -> Errno {
    // SAFETY: valid, says the caller.
    match unsafe { call!(execve, program, args, env) } {
        Err(errno) => errno,
        // It does not come back with success.
        Ok(_) => Errno::NOEXEC,
    }
}

/// Whose quota is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaOf {
    /// A user's.
    User = libc::USRQUOTA as isize,
    /// A group's.
    Group = libc::GRPQUOTA as isize,
}

/// The quota of a user or group on the file system of an open file: quotactl_fd(2) with
/// `Q_GETQUOTA`.
///
/// # Errors
/// When there is none, or it is none of ours.
pub fn quota(file: BorrowedFd<'_>, of: QuotaOf, id: u32) -> Result<libc::dqblk> {
    const SUBCOMMAND_SHIFT: c_int = 8;
    let command = (libc::Q_GETQUOTA << SUBCOMMAND_SHIFT) | of as c_int;
    let mut found = std::mem::MaybeUninit::<libc::dqblk>::zeroed();
    // SAFETY: an open descriptor, integers, and room for the structure that the kernel writes.
    unsafe {
        call!(
            quotactl_fd,
            file.as_raw_fd(),
            command,
            id,
            found.as_mut_ptr()
        )
    }?;
    // SAFETY: integers only, which were zero before the kernel wrote.
    Ok(unsafe { found.assume_init() })
}

/// Closes a descriptor; whatever is wrong with that, it is closed.
pub fn close(fd: OwnedFd) {
    // SAFETY: nobody else owns it.
    let _ = unsafe { call!(close, fd.into_raw_fd()) };
}

/// Makes `to` a duplicate of `from` that stays open when a program is executed, as dup2(2) does,
/// also where they are the same already.
///
/// # Errors
/// When `from` is not open.
///
/// # Safety
/// Nobody may own `to`, or count on what it refers to.
pub unsafe fn duplicate_onto(from: RawFd, to: RawFd) -> Result<()> {
    // SAFETY: integers; what becomes of `to` is all right with the caller.
    unsafe {
        if from != to {
            call!(dup3, from, to, 0)?;
        }
        call!(fcntl, to, libc::F_SETFD, 0)?;
    }
    Ok(())
}

/// Makes all descriptors from `first` on close when a program is executed.
///
/// # Errors
/// When the kernel has no close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: integers. Descriptors stay open until this process executes a program.
    unsafe { call!(close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }.map(drop)
}

/// Closes all descriptors from `first` on.
///
/// # Errors
/// When the kernel has no close_range(2).
///
/// # Safety
/// Nobody in this process, or who shares its table of open files, may count on any of them.
pub unsafe fn close_from(first: u32) -> Result<()> {
    // SAFETY: integers; that these are closed is all right with the caller.
    unsafe { call!(close_range, first, u32::MAX, 0) }.map(drop)
}

/// Gives a signal its default handling.
///
/// # Errors
/// For a number that is no signal, or one that has no other handling.
pub fn handle_by_default(signal: c_int) -> Result<()> {
    // As the kernel has it on every platform, all zeros: default handling, no flags, an empty mask.
    let default = [0_u64; 4];
    let none = ptr::null_mut::<u64>();
    // SAFETY: the structure is valid while it is read, and not larger than this; nothing is
    // written.
    unsafe { call!(rt_sigaction, signal, default.as_ptr(), none, SIGSET_SIZE) }.map(drop)
}

/// Blocks no signal any more.
pub fn unblock_signals() {
    let (set, none) = (0_u64, ptr::null_mut::<u64>());
    // SAFETY: the set is valid while it is read; nothing is written.
    let _ = unsafe {
        call!(
            rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const set,
            none,
            SIGSET_SIZE
        )
    };
}

/// Adds these bits to the execution domain, where the kernel knows them.
pub fn add_personality(bits: u64) {
    // SAFETY: integers. This one changes nothing.
    if let Ok(present) = unsafe { call!(personality, u32::MAX) } {
        // SAFETY: integers.
        let _ = unsafe { call!(personality, present as u64 | bits) };
    }
}

/// Gives up what this thread shares with others, and some namespaces.
///
/// # Errors
/// When the kernel refuses that; `INVAL` for `CLONE_FILES`.
pub fn unshare(flags: c_int) -> Result<()> {
    if flags & libc::CLONE_FILES != 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: an integer. Descriptors, on whose numbers others may count, stay shared.
    unsafe { call!(unshare, flags) }.map(drop)
}

/// Sets these [attributes](mount_attr) of a mount and of all below it.
///
/// # Errors
/// `NOSYS` before Linux 5.12; else when there is no such mount.
pub fn set_mount_attributes(target: &CStr, attributes: u64) -> Result<()> {
    let attributes = MountAttr {
        set: attributes,
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
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    result.map(drop)
}

/// Begins an anonymous session keyring. A kernel without keyrings has nothing to hide.
pub fn begin_keyring() {
    /// Of linux/keyctl.h; the libc crate has it for other C libraries only.
    const JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: the kernel reads no string where there is null.
    let _ = unsafe { call!(keyctl, JOIN_SESSION_KEYRING, ptr::null::<c_char>()) };
}

/// A Landlock ruleset that confines abstract sockets and signals to those who are confined by it:
/// Linux 6.12 and later.
///
/// # Errors
/// When the kernel can't do that.
pub fn landlock_scope() -> Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const ABSTRACT_SOCKETS_AND_SIGNALS: u64 = 0b11;
    let attributes = Attributes {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: ABSTRACT_SOCKETS_AND_SIGNALS,
    };
    let (pointer, size) = (&raw const attributes, size_of::<Attributes>());
    // SAFETY: the structure is valid while it is read, and of the size given; the descriptor is
    // new, so nobody owns it.
    unsafe {
        let fd = call!(landlock_create_ruleset, pointer, size, 0)?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Confines this thread to a Landlock ruleset.
///
/// # Errors
/// When the kernel refuses that.
pub fn landlock_restrict(ruleset: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the descriptor is open while it is borrowed.
    unsafe { call!(landlock_restrict_self, ruleset.as_raw_fd(), 0) }.map(drop)
}

/// Installs a filter of system calls.
///
/// # Errors
/// When the kernel refuses it.
pub fn install_filter(program: &[libc::sock_filter]) -> Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    let mode: c_ulong = libc::SECCOMP_SET_MODE_FILTER.into();
    // SAFETY: the program is valid while the kernel copies it.
    unsafe { call!(seccomp, mode, 0, &raw const program) }.map(drop)
}

/// Brings the loopback interface of this network namespace up.
///
/// # Errors
/// When the kernel refuses that.
pub fn bring_loopback_up() -> Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = *from as c_char;
    }
    let flags = (libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_RUNNING) as _;
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the request is valid while the kernel reads and writes it.
    let result = unsafe {
        call!(
            ioctl,
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw mut request
        )
    };
    close(socket);
    result.map(drop)
}

/// What is told of a child when it is waited for.
pub struct Waited {
    /// Its raw wait status.
    pub status: c_int,
    /// What it took, with the children that it waited for.
    pub usage: libc::rusage,
}

/// Kills every process that this one may kill, except itself and the first of its PID namespace, at
/// one moment.
///
/// # Errors
/// `SRCH` if there is none; `PERM` if it may kill none.
pub fn kill_all_reachable() -> Result<()> {
    // SAFETY: integers.
    unsafe { call!(kill, -1_i32, libc::SIGKILL) }.map(drop)
}

/// Waits for a child of this process, however often a signal interrupts that. Unlike waitid(2), it
/// tells what the child took.
///
/// # Errors
/// When it is no child of ours, or was waited for.
pub fn wait(pid: c_int, options: c_int) -> Result<Waited> {
    let mut status = 0;
    loop {
        // SAFETY: plain numbers, for which zeros are valid; both places are ours while the kernel
        // writes to them.
        let (result, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            let result = call!(wait4, pid, &raw mut status, options, &raw mut usage);
            (result, usage)
        };
        match result {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(Waited { status, usage }),
        }
    }
}

/// Lets the thread that made this process hold it up: it stops once it has executed a program.
///
/// # Errors
/// When it is traced already, or the machine allows that to nobody.
pub fn trace_me() -> Result<()> {
    // SAFETY: integers; the kernel reads none but the first.
    unsafe { call!(ptrace, libc::PTRACE_TRACEME, 0, 0, 0) }.map(drop)
}

/// Lets a process go on that this thread holds up.
///
/// # Errors
/// When it does not, or the process is gone.
pub fn let_go(pid: c_int) -> Result<()> {
    const NO_SIGNAL: c_int = 0;
    // SAFETY: integers.
    unsafe { call!(ptrace, libc::PTRACE_DETACH, pid, 0, NO_SIGNAL) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_returned_and_errno_is_not_touched() {
        nix::errno::Errno::set_raw(libc::EDOM);
        assert_eq!(wait(1, 0).err(), Some(Errno::CHILD));
        assert_eq!(handle_by_default(-1), Err(Errno::INVAL));
        assert_eq!(nix::errno::Errno::last_raw(), libc::EDOM);
    }

    /// Features of crates add up: were some other crate to ask rustix for its calls through the C
    /// library, it could not be used between clone and exec any more.
    #[test]
    fn rustix_makes_its_calls_itself() {
        nix::errno::Errno::set_raw(libc::EDOM);
        let missing = c"/there/is/no/such/directory";
        assert_eq!(rustix::process::chdir(missing), Err(Errno::NOENT));
        let (fd, flags) = (rustix::fs::CWD, rustix::fs::OFlags::RDONLY);
        let opened = rustix::fs::openat(fd, missing, flags, rustix::fs::Mode::empty());
        assert_eq!(opened.err(), Some(Errno::NOENT));
        assert_eq!(
            rustix::mount::unmount(missing, rustix::mount::UnmountFlags::DETACH).err(),
            Some(if rustix::process::geteuid().is_root() {
                Errno::NOENT
            } else {
                Errno::PERM
            })
        );
        assert_eq!(nix::errno::Errno::last_raw(), libc::EDOM);
    }
}
