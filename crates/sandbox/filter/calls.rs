//! The system calls that builders may not make, by their numbers on each ABI, and what becomes of
//! them. Why each is here, and why others are not, is in docs/SECURITY.md ("System calls").

#[cfg(any(test, target_arch = "riscv64"))]
use syscalls::riscv64;
#[cfg(any(test, target_arch = "aarch64"))]
use syscalls::{aarch64, arm};
#[cfg(any(test, target_arch = "x86_64"))]
use syscalls::{x86, x86_64};

/// What is done about a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Fails with an errno, whatever its arguments.
    Fail(i32),
    /// Fails with EPERM if the argument of that number, a mode, has a set-id bit.
    Mode(u8),
    /// As `Mode`, if the argument of the first number, open flags, makes the call create something.
    Create {
        /// Which argument holds the flags.
        flags: u8,
        /// Which argument holds the mode.
        mode: u8,
    },
    /// Fails as on a file that does not know them for the [`REQUESTS`] in the second argument.
    Request,
    /// Fails with that errno if the argument of that number is one of these values.
    OneOf(u8, &'static [u32], i32),
    /// Fails with EPERM if the argument of that number has any of these bits.
    AnyBit(u8, u32),
    /// Fails as on a kernel without them for all but the families of sockets in [`FAMILIES`], and
    /// of AF_NETLINK all but NETLINK_ROUTE. The family is the first argument, the protocol the
    /// third.
    Family,
    /// Fails with ENOPROTOOPT for one option of sockets: level and name, the second and third
    /// argument.
    SocketOption(u32, u32),
}

/// A call by its numbers on the two ABIs of a machine; -1 where it does not exist.
pub(super) type Row = ([i32; 2], Rule);

/// Those that set-user-id files and extended attributes are made with, and those that reach beyond
/// a build by other means.
pub(super) struct Calls {
    /// What both ABIs have, then what only some have.
    pub(super) rows: &'static [&'static [Row]],
    /// What can be refused to those builds only that don't need it: socketcall, where it exists.
    pub(super) multiplexed: &'static [Row],
    /// What makes namespaces, or enters them.
    pub(super) namespaces: &'static [Row],
    /// What of them makes namespaces of cgroups.
    pub(super) cgroup_namespaces: &'static [Row],
}

const NO_ATTRIBUTES: Rule = Rule::Fail(libc::ENOTSUP);
/// As on kernels that lack them: calls whose arguments a filter can't see, so that programs fall
/// back on others, and whole facilities.
const ABSENT: Rule = Rule::Fail(libc::ENOSYS);
/// As to those who lack a capability.
const FORBIDDEN: Rule = Rule::Fail(libc::EPERM);

/// The families of sockets that builders may have beside AF_NETLINK.
pub(super) const FAMILIES: &[u32] = &[
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
];

const F_SETLEASE: u32 = libc::F_SETLEASE as u32;
/// F_SETLEASE, and F_SETDELEG of newer kernels: whoever opens such a file waits for its holder.
const LEASES: Rule = Rule::OneOf(1, &[F_SETLEASE, F_SETLEASE + 16], libc::EINVAL);

/// IPV6_FLOWLABEL_MGR of SOL_IPV6, whose labels outlive the sockets that they were made with.
const FLOW_LABELS: Rule =
    Rule::SocketOption(libc::SOL_IPV6 as u32, libc::IPV6_FLOWLABEL_MGR as u32);

/// Requests that change what a file's contents and mode don't tell of it, or act on a terminal:
/// type and number, which are the same on all ABIs, where the upper half has a size.
pub(super) const REQUESTS: &[u32] = &[
    libc::TIOCSTI as u32,
    libc::TIOCLINUX as u32,
    libc::TIOCSETD as u32,
    libc::FS_IOC_SETFLAGS as u32 & 0xffff,
    // The libc crate has not got these.
    0x5820, // FS_IOC_FSSETXATTR
    0x6685, // FS_IOC_ENABLE_VERITY
    0x6613, // FS_IOC_SET_ENCRYPTION_POLICY
    0x6617, // FS_IOC_ADD_ENCRYPTION_KEY
    0x940e, // BTRFS_IOC_SUBVOL_CREATE
    0x9418, // BTRFS_IOC_SUBVOL_CREATE_V2
];

const NEW_CGROUP: u32 = libc::CLONE_NEWCGROUP as u32;
/// All flags of namespaces but that of time, which clone takes for a part of the exit signal.
const NEW: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;
const NEW_TIME: u32 = 0x80;

/// Rows of calls that both ABIs have.
macro_rules! both {
    ($first:ident, $second:ident: $($name:ident => $rule:expr,)*) => {
        &[$(([$first::Sysno::$name as i32, $second::Sysno::$name as i32], $rule),)*]
    };
}

/// Rows of calls that only the second ABI has.
macro_rules! second {
    ($second:ident: $($name:ident => $rule:expr,)*) => {
        &[$(([-1, $second::Sysno::$name as i32], $rule),)*]
    };
}

/// Calls that all machines have.
macro_rules! common {
    ($first:ident, $second:ident) => {
        both!($first, $second:
            fchmod => Rule::Mode(1),
            fchmodat => Rule::Mode(2),
            fchmodat2 => Rule::Mode(2),
            openat => Rule::Create { flags: 2, mode: 3 },
            mknodat => Rule::Mode(2),
            openat2 => ABSENT,
            io_uring_setup => ABSENT,
            setxattr => NO_ATTRIBUTES,
            lsetxattr => NO_ATTRIBUTES,
            fsetxattr => NO_ATTRIBUTES,
            setxattrat => NO_ATTRIBUTES,
            getxattr => NO_ATTRIBUTES,
            lgetxattr => NO_ATTRIBUTES,
            fgetxattr => NO_ATTRIBUTES,
            getxattrat => NO_ATTRIBUTES,
            listxattr => NO_ATTRIBUTES,
            llistxattr => NO_ATTRIBUTES,
            flistxattr => NO_ATTRIBUTES,
            listxattrat => NO_ATTRIBUTES,
            file_setattr => ABSENT,
            add_key => ABSENT,
            request_key => ABSENT,
            keyctl => ABSENT,
            bpf => FORBIDDEN,
            perf_event_open => FORBIDDEN,
            userfaultfd => FORBIDDEN,
            fcntl => LEASES,
            ioctl => Rule::Request,
            socket => Rule::Family,
            socketpair => Rule::Family,
            setsockopt => FLOW_LABELS,
        )
    };
}

/// Calls that machines of before 2012 have.
macro_rules! old {
    ($rows:ident, $($abi:ident),*) => {
        $rows!($($abi),*:
            chmod => Rule::Mode(1),
            open => Rule::Create { flags: 1, mode: 2 },
            creat => Rule::Mode(1),
            mknod => Rule::Mode(1),
        )
    };
}

macro_rules! namespaces {
    ($first:ident, $second:ident) => {
        both!($first, $second:
            unshare => Rule::AnyBit(0, NEW | NEW_TIME),
            clone => Rule::AnyBit(0, NEW),
            clone3 => ABSENT,
            setns => FORBIDDEN,
        )
    };
}

macro_rules! cgroup_namespaces {
    ($first:ident, $second:ident) => {
        both!($first, $second:
            unshare => Rule::AnyBit(0, NEW_CGROUP),
            clone => Rule::AnyBit(0, NEW_CGROUP),
            clone3 => ABSENT,
        )
    };
}

#[cfg(any(test, target_arch = "x86_64"))]
pub(super) const X86_64: Calls = Calls {
    rows: &[
        common!(x86_64, x86),
        old!(both, x86_64, x86),
        second!(x86: fcntl64 => LEASES,),
    ],
    multiplexed: second!(x86: socketcall => ABSENT,),
    namespaces: namespaces!(x86_64, x86),
    cgroup_namespaces: cgroup_namespaces!(x86_64, x86),
};

#[cfg(any(test, target_arch = "aarch64"))]
pub(super) const AARCH64: Calls = Calls {
    rows: &[
        common!(aarch64, arm),
        old!(second, arm),
        second!(arm: fcntl64 => LEASES,),
    ],
    multiplexed: &[],
    namespaces: namespaces!(aarch64, arm),
    cgroup_namespaces: cgroup_namespaces!(aarch64, arm),
};

/// It has no other ABI in use; what stands for one here has no number that is asked for.
#[cfg(any(test, target_arch = "riscv64"))]
pub(super) const RISCV64: Calls = Calls {
    rows: &[common!(riscv64, riscv64)],
    multiplexed: &[],
    namespaces: namespaces!(riscv64, riscv64),
    cgroup_namespaces: cgroup_namespaces!(riscv64, riscv64),
};
