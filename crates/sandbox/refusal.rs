//! Why the kernel refused namespaces, and which setting of the machine would allow them. An errno
//! alone misleads: "No space left on device" is a limit on namespaces, and "Operation not
//! permitted" has half a dozen causes.

use std::ffi::CStr;
use std::path::Path;

use crate::process::launch::action::Action;
use crate::process::launch::{SpawnError, Step};

/// The namespaces of a sandbox: by their names in /proc/self/ns, by those of their limits in
/// /proc/sys/user, and in words.
const NAMESPACES: [(&str, &str, &str); 6] = [
    ("user", "max_user_namespaces", "user namespaces"),
    ("mnt", "max_mnt_namespaces", "mount namespaces"),
    ("pid", "max_pid_namespaces", "PID namespaces"),
    ("net", "max_net_namespaces", "network namespaces"),
    ("ipc", "max_ipc_namespaces", "IPC namespaces"),
    ("uts", "max_uts_namespaces", "UTS namespaces"),
];

/// Settings that some distributions' kernels have: name, value that forbids, and what to do.
const KNOBS: [(&str, &str, &str); 2] = [
    (
        "kernel.unprivileged_userns_clone",
        "0",
        "root can allow them with 'sysctl -w kernel.unprivileged_userns_clone=1'",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "root can give windrow an AppArmor profile with 'userns,' in it, or allow them for all with 'sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0'",
    ),
];

const CAP_SYS_ADMIN: u32 = 21;

/// What can be said of a process of a sandbox that could not be started, beyond its errno: the
/// cause as far as it can be found out, and what to do about it. `actions` are those of the
/// request.
pub fn reason(error: &SpawnError, actions: &[Action]) -> Option<String> {
    let action = error.action.and_then(|index| actions.get(index));
    let proc: Option<&CStr> = Some(c"proc");
    let attempt = Attempt {
        cloning: error.step == Step::Clone,
        mounting_proc: matches!(action, Some(Action::Mount { kind, .. }) if *kind == proc),
        errno: error.source.raw_os_error()?,
        root: nix::unistd::geteuid().is_root(),
    };
    if !attempt.cloning && error.step != Step::Isolate {
        return None;
    }
    let machine = Machine {
        read: &|path| std::fs::read_to_string(path).ok(),
        exists: &|path| Path::new(path).symlink_metadata().is_ok(),
    };
    attempt.reason(&machine)
}

/// What was tried, and what the kernel said.
#[derive(Clone, Copy)]
struct Attempt {
    /// It was the making of the namespaces, and not a step in them.
    cloning: bool,
    /// It was the mounting of a /proc.
    mounting_proc: bool,
    errno: i32,
    root: bool,
}

/// What can be looked up.
struct Machine<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    exists: &'a dyn Fn(&str) -> bool,
}

impl Machine<'_> {
    /// The value of a sysctl by its dotted name.
    fn setting(&self, name: &str) -> Option<String> {
        let text = (self.read)(&format!("/proc/sys/{}", name.replace('.', "/")))?;
        Some(text.trim().to_owned())
    }

    /// A line of what the kernel says of this process.
    fn status(&self, name: &str) -> Option<String> {
        let text = (self.read)("/proc/self/status")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_prefix(':')?.trim().to_owned())
    }

    fn is_filtered(&self) -> bool {
        self.status("Seccomp").as_deref() == Some("2")
    }

    fn lacks_capability(&self) -> bool {
        let effective = self.status("CapEff");
        let effective = effective.and_then(|text| u64::from_str_radix(&text, 16).ok());
        effective.is_some_and(|effective| effective & 1 << CAP_SYS_ADMIN == 0)
    }

    /// Whether something is mounted in /proc. The kernel then shows no new one to a user namespace,
    /// for that would bare it.
    fn hides_parts_of_proc(&self) -> bool {
        (self.read)("/proc/self/mountinfo").is_some_and(|text| {
            let mut targets = text.lines().filter_map(|line| line.split(' ').nth(4));
            targets.any(|target| target.starts_with("/proc/"))
        })
    }
}

impl Attempt {
    fn reason(self, machine: &Machine<'_>) -> Option<String> {
        match self.errno {
            libc::ENOSPC | libc::EUSERS if self.cloning => Some(limit(machine)),
            libc::ENOSYS | libc::EINVAL if self.cloning => absent(machine),
            libc::EPERM | libc::EACCES => Some(self.forbidden(machine)),
            _ => None,
        }
    }

    fn forbidden(self, machine: &Machine<'_>) -> String {
        if self.root && machine.lacks_capability() {
            return "this root has not the capability CAP_SYS_ADMIN, as in most containers; give the container that \
                    (docker and podman: '--cap-add SYS_ADMIN')"
                .to_owned();
        }
        if !self.root {
            let knob = KNOBS.iter().find(|(name, forbidding, _)| {
                machine.setting(name).as_deref() == Some(*forbidding)
            });
            if let Some((name, value, remedy)) = knob {
                return format!("the kernel's setting {name} is {value}; {remedy}");
            }
        }
        if self.mounting_proc && machine.hides_parts_of_proc() {
            return "parts of '/proc' are hidden here, as in containers, so that no other one can be mounted; have them \
                    shown (docker: '--security-opt systempaths=unconfined', podman: '--security-opt unmask=ALL')"
                .to_owned();
        }
        if machine.is_filtered() {
            return filtered();
        }
        let modules = "a security module (AppArmor, SELinux, Landlock)";
        match (self.cloning, self.root) {
            (true, true) => format!("{modules} may be what forbids it"),
            (true, false) => format!(
                "ordinary users may not make user namespaces here; {modules} or a chroot may be what forbids it"
            ),
            (false, _) => {
                format!("namespaces can be made here, but {modules} may be what forbids their use")
            }
        }
    }
}

/// A filter does not say what it refuses, but where there is one it is nearly always that.
fn filtered() -> String {
    "a filter of system calls (seccomp) is in force here, as in containers, and probably refuses that; allow namespaces \
     and mounts in it (docker and podman: '--security-opt seccomp=unconfined')"
        .to_owned()
}

/// A limit is reached. Those of an outer user namespace, such as a container's, hold as well, but
/// can't be seen.
fn limit(machine: &Machine<'_>) -> String {
    let names = NAMESPACES.map(|(_, limit, _)| format!("user.{limit}"));
    let none = |name: &&String| machine.setting(name).as_deref() == Some("0");
    match names.iter().find(none) {
        Some(name) => format!(
            "the kernel's setting {name} is 0; root can allow some with 'sysctl -w {name}=10000', and in a sandbox of \
             windrow's its setting 'sandbox-allow-namespaces' does"
        ),
        None => {
            "as many namespaces are in use as a limit allows, one of the kernel's settings user.max_*_namespaces, here or \
             in a container around this one; root can raise it with 'sysctl -w'"
                .to_owned()
        }
    }
}

fn absent(machine: &Machine<'_>) -> Option<String> {
    let missing = NAMESPACES
        .iter()
        .find(|(name, ..)| !(machine.exists)(&format!("/proc/self/ns/{name}")));
    match missing {
        Some((_, _, words)) => Some(format!("this kernel was built without {words}")),
        None => machine.is_filtered().then(filtered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const CLONE: Attempt = Attempt {
        cloning: true,
        mounting_proc: false,
        errno: libc::EPERM,
        root: false,
    };
    const MOUNT: Attempt = Attempt {
        cloning: false,
        ..CLONE
    };

    /// The reason on a machine whose files are these; all kinds of namespaces are there but
    /// `missing`.
    #[track_caller]
    fn said(attempt: Attempt, files: &[(&str, &str)], missing: &str) -> String {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let machine = Machine {
            read: &|path| files.get(path).map(|&text| text.to_owned()),
            exists: &|path| path != format!("/proc/self/ns/{missing}"),
        };
        attempt.reason(&machine).unwrap_or_default()
    }

    const USER: &str = "/proc/sys/user/max_user_namespaces";
    const NET: &str = "/proc/sys/user/max_net_namespaces";
    const DEBIAN: &str = "/proc/sys/kernel/unprivileged_userns_clone";
    const UBUNTU: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    const STATUS: &str = "/proc/self/status";
    const MOUNTS: &str = "/proc/self/mountinfo";

    #[test]
    fn a_limit_is_named_by_its_setting_and_only_where_a_limit_was_reached() {
        let full = Attempt {
            errno: libc::ENOSPC,
            ..CLONE
        };
        let files = [(USER, "0\n"), (NET, "5\n"), (DEBIAN, "0\n")];
        let seen = said(full, &files, "");
        assert!(seen.contains("user.max_user_namespaces is 0"), "{seen}");
        assert!(seen.contains("'sysctl -w user.max_user_namespaces=10000'"));
        let seen = said(full, &[(USER, "5\n"), (NET, "0\n")], "");
        assert!(seen.contains("user.max_net_namespaces is 0"), "{seen}");
        let root = Attempt { root: true, ..full };
        assert_eq!(said(root, &[(NET, "0\n")], ""), seen);
        let seen = said(full, &[(USER, "5\n"), (NET, "5\n")], "");
        assert!(
            seen.contains("user.max_*_namespaces") && seen.contains("container"),
            "{seen}"
        );
        // What else may be so is not the cause of another errno.
        assert!(!said(CLONE, &[(USER, "0\n")], "").contains("max_user_namespaces"));
        // A full disk is one.
        let disk = Attempt {
            errno: libc::ENOSPC,
            ..MOUNT
        };
        assert_eq!(said(disk, &[(USER, "0\n")], ""), "");
    }

    #[test]
    fn settings_that_forbid_are_named_to_ordinary_users() {
        for attempt in [CLONE, MOUNT] {
            let seen = said(attempt, &[(DEBIAN, "0\n"), (UBUNTU, "0\n")], "");
            assert!(
                seen.contains("kernel.unprivileged_userns_clone is 0"),
                "{seen}"
            );
            assert!(seen.contains("'sysctl -w kernel.unprivileged_userns_clone=1'"));
            let eacces = Attempt {
                errno: libc::EACCES,
                ..attempt
            };
            let files = [(DEBIAN, "1\n"), (UBUNTU, "1\n"), (STATUS, "Seccomp:\t2\n")];
            let seen = said(eacces, &files, "");
            assert!(
                seen.contains("kernel.apparmor_restrict_unprivileged_userns is 1"),
                "{seen}"
            );
            assert!(seen.contains("AppArmor profile"), "{seen}");
            let root = Attempt {
                root: true,
                ..attempt
            };
            assert!(!said(root, &[(DEBIAN, "0\n"), (UBUNTU, "1\n")], "").contains("setting"));
        }
    }

    #[test]
    fn containers_are_told_by_what_they_take_away() {
        let root = Attempt {
            root: true,
            ..CLONE
        };
        let seen = said(root, &[(STATUS, "CapEff:\t00000000a80425fb\n")], "");
        assert!(seen.contains("CAP_SYS_ADMIN"), "{seen}");
        let able = "CapEff:\t000001ffffffffff\nSeccomp:\t2\n";
        assert!(said(root, &[(STATUS, able)], "").contains("seccomp"));
        let able = "CapEff:\t000001ffffffffff\nSeccomp:\t0\n";
        assert!(said(root, &[(STATUS, able)], "").contains("security module"));
        let none = "CapEff:\t0000000000000000\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let seen = said(CLONE, &[(STATUS, none)], "");
        assert!(
            seen.contains("seccomp") && !seen.contains("CAP_SYS_ADMIN"),
            "{seen}"
        );
        let none = "CapEff:\t0000000000000000\nSeccomp:\t0\n";
        assert!(said(CLONE, &[(STATUS, none)], "").contains("chroot"));
        assert!(said(MOUNT, &[(STATUS, none)], "").contains("can be made here"));
        let mounts =
            "22 27 0:21 / /proc rw - proc proc rw\n30 22 0:5 / /proc/kcore rw - tmpfs tmpfs rw\n";
        let proc = Attempt {
            mounting_proc: true,
            ..MOUNT
        };
        let files = [(MOUNTS, mounts), (STATUS, "Seccomp:\t2\n")];
        assert!(said(proc, &files, "").contains("'/proc' are hidden"));
        assert!(said(MOUNT, &files, "").contains("seccomp"));
        let (whole, _) = mounts.split_at(mounts.find('\n').unwrap());
        assert!(!said(proc, &[(MOUNTS, whole)], "").contains("hidden"));
    }

    #[test]
    fn a_kernel_without_namespaces_is_told_from_a_filter() {
        let filter = [(STATUS, "Seccomp:\t2\n")];
        for errno in [libc::EINVAL, libc::ENOSYS] {
            let attempt = Attempt { errno, ..CLONE };
            let seen = said(attempt, &filter, "user");
            assert!(seen.contains("built without user namespaces"), "{seen}");
            assert!(said(attempt, &filter, "").contains("seccomp"));
            assert_eq!(said(attempt, &[], ""), "");
        }
        let busy = Attempt {
            errno: libc::EAGAIN,
            ..CLONE
        };
        assert_eq!(said(busy, &[(USER, "0\n"), (DEBIAN, "0\n")], ""), "");
    }
}
