//! A cgroup of version 2 that a test makes for itself, and has windrow run in, as a service manager
//! would delegate it. Takes root and a machine where such are mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Cmd, is_root, wait_until};

/// Where cgroups of version 2 are mounted.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| fields[1].into())
    })
}

/// The cgroup of a test. It goes with all that is in it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// A new one; without root or cgroups why there is none.
    pub(crate) fn new() -> Result<Self, &'static str> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            return Err("needs root");
        }
        let top = cgroup2().ok_or("needs cgroups of version 2")?;
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = top.join(format!("e2e-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(_) => Err("needs cgroups that can be made"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives it to a user, as far as that is delegating it.
    pub(crate) fn give_to(&self, uid: u32) {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            let path = self.0.join(file);
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
    }

    /// Whether cgroups in it can have a controller.
    pub(crate) fn has(&self, controller: &str) -> bool {
        let listed = fs::read_to_string(self.0.join("cgroup.controllers")).unwrap();
        listed.split_whitespace().any(|name| name == controller)
    }

    /// The command, started in it.
    pub(crate) fn runs(&self, cmd: Cmd) -> Cmd {
        let line = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        cmd.through("/bin/sh", &["-c", &line, "sh"])
    }

    /// Gives no controllers to the cgroups in it any more, for no process can be put where some are
    /// given on.
    pub(crate) fn take_controllers(&self) {
        let inside = self.inside().into_iter().map(|name| self.0.join(name));
        for path in inside.chain([self.0.clone()]) {
            let given = path.join("cgroup.subtree_control");
            let listed = fs::read_to_string(&given).unwrap();
            for controller in listed.split_whitespace() {
                fs::write(&given, format!("-{controller}")).unwrap();
            }
        }
    }

    /// The names of the cgroups in it.
    pub(crate) fn inside(&self) -> Vec<String> {
        names(&self.0)
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = directories.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

fn remove(path: &Path) {
    for name in names(path) {
        remove(&path.join(name));
    }
    let _ = fs::remove_dir(path);
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let events = self.0.join("cgroup.events");
        if !std::thread::panicking() {
            wait_until("the test's cgroup is empty", || {
                fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 0"))
            });
        }
        remove(&self.0);
    }
}
