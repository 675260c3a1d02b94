//! What the kernel, and whoever set up this machine, let us do. Looked at once, before the first
//! build.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use windrow_sys::raw;

use crate::ids::Owner;
use crate::ids::user_ns;
use crate::process::launch::action::Action;
use crate::process::launch::{Request, Streams, spawn};
use crate::refusal;
use crate::root::WaitingProc;

/// What can be done here.
#[derive(Debug, Clone)]
pub struct Support {
    /// Whether we are root.
    pub root: bool,
    /// Whether we are root of a user namespace only.
    pub contained: bool,
    /// Whether supplementary groups can be given up: an ordinary user can't, nor can anybody in a
    /// user namespace of an ordinary user's.
    pub may_leave_groups: bool,
    /// The directory /proc, open.
    pub proc: Arc<OwnedFd>,
    /// Whether a builder can have a user namespace.
    pub user_namespaces: bool,
    /// Whether that can be kept from having [others](user_ns::LIMITS) in it by its own limits.
    pub namespace_limits: bool,
    /// A Landlock ruleset that keeps processes from the abstract sockets of others, and from
    /// signalling them.
    pub socket_scope: Option<Arc<OwnedFd>>,
    /// Whether a PID namespace has a limit of its own on the number of processes.
    pub pid_limits: bool,
}

impl Support {
    /// Tries it.
    ///
    /// # Errors
    /// Why there can be no sandbox here, as the end of a sentence that starts with "cannot".
    pub fn probe() -> Result<Self, String> {
        let root = nix::unistd::geteuid().is_root();
        let own = Owner {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        };
        let proc = user_ns::open_proc().map_err(|error| format!("open '/proc': {error}"))?;
        let create = |limits| user_ns::create(&user_ns::sandbox_ids(own), &proc, limits).is_ok();
        let (user_namespaces, namespace_limits) = if root {
            let limits = create(user_ns::LIMITS);
            try_namespaces(root, own, &[])?;
            (limits || create(&[]), limits)
        } else {
            let limits = try_namespaces(root, own, user_ns::LIMITS).is_ok();
            if !limits {
                try_namespaces(root, own, &[])?;
            }
            (true, limits)
        };
        Ok(Self {
            root,
            namespace_limits,
            contained: root && is_contained(),
            may_leave_groups: may_leave_groups(),
            proc: Arc::new(proc),
            user_namespaces,
            socket_scope: raw::landlock_scope().ok().map(Arc::new),
            pid_limits: kernel_version().is_some_and(|version| version >= (6, 14)),
        })
    }
}

impl Support {
    /// The /proc that a template of root's must show for new ones to be mounted.
    pub(crate) fn waiting_proc(&self) -> WaitingProc {
        if self.contained {
            WaitingProc::Machine
        } else {
            WaitingProc::None
        }
    }
}

/// Whether this is not the machine's own user namespace: that one has all ids, and each is what it
/// is.
fn is_contained() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().ne(["0", "0", "4294967295"])
}

/// Starts a process as a sandbox's would be, and lets it mount something and set limits of its user
/// namespace.
fn try_namespaces(root: bool, own: Owner, limits: &[&CStr]) -> Result<(), String> {
    let mut namespaces: c_int = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    let mut actions = Vec::new();
    if !root {
        namespaces |= libc::CLONE_NEWUSER;
        actions.extend(user_ns::own_user_namespace(&user_ns::sandbox_ids(own)));
    }
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let (slash, none) = (Path::new("/"), Some(Path::new("none")));
    let tmp = std::env::temp_dir();
    // One that can't be reached must not look like a mount that is forbidden.
    tmp.metadata().map_err(|error| {
        format!(
            "look at the temporary directory '{}': {error}",
            tmp.display()
        )
    })?;
    actions.extend([
        Action::LoopbackUp,
        Action::NameHost,
        Action::mount(None, slash, None, private, None),
        Action::mount(none, &tmp, Some(c"tmpfs"), 0, None),
        Action::dir(tmp.join("proc")),
        Action::mount(none, tmp.join("proc"), Some(c"proc"), 0, None),
        Action::dir(tmp.join("pts")),
        Action::mount(
            none,
            tmp.join("pts"),
            Some(c"devpts"),
            0,
            Some("newinstance"),
        ),
    ]);
    actions.extend(user_ns::forbid(&tmp.join("proc"), limits));
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| format!("open '/dev/null': {error}"))?;
    let request = Request {
        program: None,
        args: &[],
        env: &[],
        cwd: c"/",
        personality: 0,
        namespaces,
        actions: &actions,
    };
    let streams = Streams {
        stdin: null.as_fd(),
        output: null.as_fd(),
        error: None,
        builder_log: None,
        cgroup: None,
    };
    let child = spawn(&request, &streams).map_err(|error| {
        let reason = refusal::reason(&error, &actions);
        let reason = reason.map_or_else(String::new, |reason| format!("; {reason}"));
        format!("{}: {}{reason}", error.what, error.source)
    })?;
    // It has exited or is about to.
    let _ = raw::wait(child.pid, 0);
    Ok(())
}

/// Whether this process may call setgroups(2): it has the capability, in a user namespace that
/// allows it.
fn may_leave_groups() -> bool {
    /// CAP_SETGID, as a bit of the capabilities in /proc/self/status.
    const SETGID: u64 = 1 << 6;
    let allowed = std::fs::read_to_string("/proc/self/setgroups");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    allowed.is_ok_and(|text| text.trim() == "allow")
        && effective.is_some_and(|bits| bits & SETGID != 0)
}

/// Of this kernel, major and minor.
fn kernel_version() -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
