//! What the root of a sandbox holds: the part that is the same for all builds, and what each build
//! adds.
//!
//! Everything is arranged in a small place of its own, the template: a file system in memory with
//! the store at `/inputs` (read-only), the two directories of the run at `/store` (the one in the
//! store) and `/builds`, and the sandbox's root at `/root`. A mount inherits the restrictions of
//! what it is taken from, so one call shows an input read-only.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::dirs::view::{Place, View};
use crate::paths::{SandboxPath, Shown};
use crate::process::launch::action::{Action, c_path};

/// What all sandboxes of a run have in common.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The store directory, as builders see it.
    pub store_dir: PathBuf,
    /// Where it lies.
    pub real_store_dir: PathBuf,
    /// Where builders see theirs.
    pub build_dir: PathBuf,
    /// How large /dev/shm may become, as tmpfs takes it.
    pub dev_shm_size: String,
    /// What of the machine they see.
    pub paths: Vec<(SandboxPath, Shown)>,
    /// Whether /dev/kvm is among it.
    pub kvm: bool,
    /// What of /proc is not about processes and can be written to, of [`GUARDED`].
    pub guarded: Vec<&'static str>,
    /// How many processes a build may have at once, if the kernel can limit that.
    pub max_processes: Option<u64>,
    /// Whether they may make user namespaces, and others in them (`sandbox-allow-namespaces`).
    pub allow_namespaces: bool,
    /// A directory of the machine that is the build directory, if that is not a new one. Only where
    /// one build has a template of its own.
    pub kept: Option<PathBuf>,
}

/// Whose sandbox it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxIds {
    /// Its user id, as files in the sandbox name it.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// Which /proc can be seen in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingProc {
    /// None.
    None,
    /// That of the PID namespace of whoever makes the template.
    Own,
    /// The machine's.
    Machine,
}

/// Where a build's /proc comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proc {
    /// It waits in the template.
    Waiting,
    /// It is mounted anew.
    Fresh {
        /// Whether what user 0 may write to there, because the files are its own, becomes
        /// read-only. Without that, a builder that runs as root outside could change the whole
        /// machine, whatever it may do otherwise.
        guarded: bool,
    },
}

/// What of /proc may be not about processes and can be written to.
pub const GUARDED: [&str; 8] = [
    "sys",
    "sysrq-trigger",
    "irq",
    "bus",
    "fs",
    "acpi",
    "scsi",
    "mtrr",
];

const TMP: &str = "/tmp";

/// Where the template has a build directory that is not a new one.
const KEPT: &str = "kept";

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// A root under construction: which directories it has, and how to make the rest.
struct Draft {
    root: PathBuf,
    dirs: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    actions: Vec<Action>,
}

impl Draft {
    fn new(root: PathBuf, actions: Vec<Action>) -> Self {
        let (dirs, files) = (BTreeSet::from([PathBuf::from("/")]), BTreeSet::new());
        Self {
            root,
            dirs,
            files,
            actions,
        }
    }

    /// Makes sure of a directory and those above it.
    fn dir(&mut self, path: &Path) {
        let above: Vec<&Path> = path.ancestors().collect();
        for dir in above.into_iter().rev() {
            if self.dirs.insert(dir.to_owned()) {
                self.actions.push(Action::dir(self.at(dir)));
            }
        }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn file(&mut self, path: &Path, contents: impl Into<Vec<u8>>) {
        self.dir(path.parent().unwrap_or(path));
        if !self.files.insert(path.to_owned()) {
            return;
        }
        self.actions.push(Action::MakeFile {
            path: c_path(self.at(path)),
            contents: contents.into(),
            mode: 0o644,
        });
    }

    fn link(&mut self, path: &Path, target: &Path) {
        self.dir(path.parent().unwrap_or(path));
        self.actions.push(Action::Link {
            target: c_path(target),
            path: c_path(self.at(path)),
        });
    }

    /// Shows a path of the machine, with what is mounted below it.
    fn show(&mut self, target: &Path, source: &Path, shown: &Shown, device: bool) {
        match shown {
            Shown::Link(link) => return self.link(target, link),
            Shown::Directory => self.dir(target),
            Shown::File => self.file(target, ""),
        }
        let flags = libc::MS_BIND | libc::MS_REC;
        let at = self.at(target);
        self.actions
            .push(Action::mount(Some(source), &at, None, flags, None));
        if !device {
            self.actions.push(Action::Restrict {
                target: c_path(&at),
                read_only: true,
                devices: false,
            });
        }
    }
}

impl SandboxConfig {
    /// The same with `more` beside what all sandboxes show, or instead of what these show at the
    /// same place, and with `kept` for its build directory if there is one.
    pub fn showing(&self, more: &[(SandboxPath, Shown)], kept: Option<&Path>) -> Cow<'_, Self> {
        if more.is_empty() && kept.is_none() {
            return Cow::Borrowed(self);
        }
        let all = self.paths.iter().chain(more).cloned();
        let by_target: BTreeMap<_, _> = all.map(|it| (it.0.target.clone(), it)).collect();
        Cow::Owned(Self {
            paths: by_target.into_values().collect(),
            kept: kept.map(Path::to_owned),
            ..self.clone()
        })
    }

    /// Where on the machine that lies which is shown at a path; `None` if nothing is.
    pub fn source_of(&self, path: &Path) -> Option<PathBuf> {
        let rows = self.paths.iter();
        let above = rows.filter_map(|(shown, _)| {
            let rest = path.strip_prefix(&shown.target).ok()?;
            Some((shown, rest))
        });
        // What is shown deepest hides the others.
        let (shown, rest) = above.min_by_key(|(_, rest)| rest.as_os_str().len())?;
        Some(match rest.as_os_str().is_empty() {
            true => shown.source.clone(),
            false => shown.source.join(rest),
        })
    }

    /// Makes the template at `base`, a directory, and everything that sandboxes share, and leaves
    /// the rest of the machine. `run` says where the directories of the run are. `waiting` is the
    /// /proc that waits there at `/proc`: where none can be seen, nobody can mount one in a user
    /// namespace.
    ///
    /// Nix 1.8: `DerivationGoal::startBuilder`.
    pub fn template(
        &self,
        base: &Path,
        run: &View,
        ids: SandboxIds,
        network: bool,
        waiting: WaitingProc,
    ) -> Vec<Action> {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let mut actions = vec![
            Action::mount(None, "/", None, private, None),
            tmpfs(base, "mode=0755,size=1m"),
        ];
        let kept = self.kept.as_ref().map(|kept| (KEPT, kept));
        let sources = [
            ("inputs", &self.real_store_dir),
            ("store", &run.store),
            ("builds", &run.builds),
        ];
        for (name, source) in sources.into_iter().chain(kept) {
            let target = base.join(name);
            actions.push(Action::dir(&target));
            // Without what is mounted below, for the template itself may be.
            actions.push(Action::bind(source, &target));
            actions.push(Action::Restrict {
                target: c_path(&target),
                read_only: name == "inputs",
                devices: false,
            });
        }
        let proc = base.join("proc");
        match waiting {
            WaitingProc::None => {}
            WaitingProc::Own => actions.extend([Action::dir(&proc), self.proc(&proc)]),
            WaitingProc::Machine => {
                actions.extend([Action::dir(&proc), Action::bind("/proc", &proc)]);
            }
        }
        let root = base.join("root");
        actions.push(Action::dir(&root));
        actions.push(tmpfs(&root, "mode=0755,size=4m"));
        let mut draft = Draft::new(root.clone(), actions);
        self.furnish(&mut draft, ids, network);
        let mut aside = Draft::new(base.join("aside"), draft.actions);
        if self.below_tmp().next().is_some() {
            aside.actions.push(Action::dir(base.join("aside")));
        }
        for (index, (path, shown)) in self.below_tmp() {
            aside.show(&aside_path(index), &path.source, shown, is_device(path));
        }
        let mut actions = aside.actions;
        actions.push(Action::Restrict {
            target: c_path(root),
            read_only: true,
            devices: true,
        });
        actions.push(Action::Pivot(c_path(base)));
        actions
    }

    fn furnish(&self, draft: &mut Draft, ids: SandboxIds, network: bool) {
        for dir in [
            &self.store_dir,
            &self.build_dir,
            Path::new("/proc"),
            Path::new("/tmp"),
        ] {
            draft.dir(dir);
        }
        let home = self.build_dir.display();
        let SandboxIds { uid, gid } = ids;
        let root = if uid == 0 {
            String::new()
        } else {
            format!("root:x:0:0:Nix build user:{home}:/noshell\n")
        };
        let group = if gid == 0 { "" } else { "root:x:0:\n" };
        draft.file(
            Path::new("/etc/passwd"),
            format!(
                "{root}nixbld:x:{uid}:{gid}:Nix build user:{home}:/noshell\n\
                 nobody:x:65534:65534:Nobody:/:/noshell\n"
            ),
        );
        draft.file(
            Path::new("/etc/group"),
            format!("{group}nixbld:!:{gid}:\nnogroup:x:65534:\n"),
        );
        let targets = self.paths.iter().map(|(path, _)| &*path.target);
        let mut taken: BTreeSet<&Path> = targets.collect();
        if network {
            draft.file(
                Path::new("/etc/nsswitch.conf"),
                "hosts: files dns\nservices: files\n",
            );
            for path in ["/etc/resolv.conf", "/etc/services", "/etc/hosts"].map(Path::new) {
                if path.exists() && taken.insert(path) {
                    draft.show(path, path, &Shown::File, false);
                }
            }
        } else if taken.insert(Path::new("/etc/hosts")) {
            draft.file(
                Path::new("/etc/hosts"),
                "127.0.0.1 localhost\n::1 localhost\n",
            );
        }
        if !taken.contains(Path::new("/dev")) {
            self.furnish_dev(draft, &taken);
        }
        for (path, shown) in &self.paths {
            if !path.target.starts_with(TMP) {
                draft.show(&path.target, &path.source, shown, is_device(path));
            }
        }
    }

    /// What must be shown below /tmp, which is each build's own, and so can't be shown before that
    /// is there.
    fn below_tmp(&self) -> impl Iterator<Item = (usize, &(SandboxPath, Shown))> {
        let below = |(_, (path, _)): &(usize, &(SandboxPath, Shown))| path.target.starts_with(TMP);
        self.paths.iter().enumerate().filter(below)
    }

    /// The directories that a build's /tmp must have for the store or the build directory to be
    /// shown there.
    pub fn tmp_dirs(&self) -> Vec<PathBuf> {
        let both = [&self.store_dir, &self.build_dir];
        let below = both.map(|dir| dir.strip_prefix(TMP).ok());
        below
            .into_iter()
            .flatten()
            .filter(|dir| !dir.as_os_str().is_empty())
            .map(Path::to_owned)
            .collect()
    }

    fn furnish_dev(&self, draft: &mut Draft, taken: &BTreeSet<&Path>) {
        for dir in ["/dev/shm", "/dev/pts"] {
            draft.dir(Path::new(dir));
        }
        let kvm = self.kvm.then_some("kvm");
        for name in DEVICES.into_iter().chain(kvm) {
            let path = Path::new("/dev").join(name);
            if path.exists() && !taken.contains(&*path) {
                draft.show(&path, &path, &Shown::File, true);
            }
        }
        for (name, target) in [
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
            ("/dev/ptmx", "/dev/pts/ptmx"),
        ] {
            if !taken.contains(Path::new(name)) {
                draft.link(Path::new(name), Path::new(target));
            }
        }
    }

    /// Turns the template's `/root` into the root of one build: its store, inputs, directories and
    /// file systems.
    pub fn build(&self, place: &Place, inputs: &[CString], proc: Proc) -> Vec<Action> {
        let root = Path::new("/root");
        let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let store = at(&self.store_dir);
        let mut actions = vec![
            Action::bind(&place.tmp, at(Path::new(TMP))),
            Action::bind(&place.store, &store),
        ];
        for name in inputs {
            let name = OsStr::from_bytes(name.as_bytes());
            let source = Path::new("/inputs").join(name);
            actions.push(Action::bind(source, store.join(name)));
        }
        let kept = self.kept.as_ref().map(|_| Path::new("/").join(KEPT));
        let build_dir = kept.as_ref().unwrap_or(&place.build);
        actions.push(Action::bind(build_dir, at(&self.build_dir)));
        self.show_below_tmp(root, &mut actions);
        self.mount_proc(&at(Path::new("/proc")), proc, &mut actions);
        self.mount_dev(at, &mut actions);
        actions.push(Action::Pivot(c_path(root)));
        actions
    }

    /// Shows what lies below the temporary directory, which is the build's own.
    fn show_below_tmp(&self, root: &Path, actions: &mut Vec<Action>) {
        let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let rec = libc::MS_BIND | libc::MS_REC;
        for (index, (path, shown)) in self.below_tmp() {
            let mut draft = Draft::new(root.to_owned(), Vec::new());
            match shown {
                Shown::Link(link) => draft.link(&path.target, link),
                Shown::Directory => draft.dir(&path.target),
                Shown::File => draft.file(&path.target, ""),
            }
            actions.extend(draft.actions);
            if !matches!(shown, Shown::Link(_)) {
                let source = Path::new("/aside")
                    .join(aside_path(index).strip_prefix("/").unwrap_or(Path::new("")));
                actions.push(Action::mount(
                    Some(&source),
                    at(&path.target),
                    None,
                    rec,
                    None,
                ));
            }
        }
    }

    /// Mounts `/proc`, limits how many processes there can be, and closes what root could misuse.
    fn mount_proc(&self, proc_dir: &Path, proc: Proc, actions: &mut Vec<Action>) {
        let proc_at;
        match proc {
            Proc::Waiting => {
                let waiting = Some(Path::new("/proc"));
                let rec = libc::MS_BIND | libc::MS_REC;
                actions.push(Action::mount(waiting, proc_dir, None, rec, None));
                proc_at = actions.len();
            }
            Proc::Fresh { guarded } => {
                actions.push(self.proc(proc_dir));
                proc_at = actions.len();
                for name in self.guarded.iter().filter(|_| guarded) {
                    let path = proc_dir.join(name);
                    actions.push(Action::bind(&path, &path));
                    actions.push(Action::Restrict {
                        target: c_path(path),
                        read_only: true,
                        devices: false,
                    });
                }
            }
        }
        if let Some(count) = self.max_processes {
            let path = c_path(proc_dir.join("sys/kernel/pid_max"));
            actions.insert(
                proc_at,
                Action::Write {
                    path,
                    contents: c_path(count.to_string()),
                    needed: false,
                },
            );
        }
    }

    /// Mounts the build's own shared memory and terminals, unless `/dev` is the machine's.
    fn mount_dev(&self, at: impl Fn(&Path) -> PathBuf, actions: &mut Vec<Action>) {
        let dev = Path::new("/dev");
        if !self.paths.iter().any(|(path, _)| path.target == dev) {
            let none = Some(Path::new("none"));
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            let size = format!("mode=1777,size={}", self.dev_shm_size);
            let shm = at(Path::new("/dev/shm"));
            actions.push(Action::mount(none, shm, Some(c"tmpfs"), flags, Some(&size)));
            let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
            let options = Some("newinstance,mode=0620,ptmxmode=0666");
            let pts = at(Path::new("/dev/pts"));
            actions.push(Action::mount(none, pts, Some(c"devpts"), flags, options));
        }
    }

    fn proc(&self, target: &Path) -> Action {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let none = Some(Path::new("none"));
        Action::mount(none, target, Some(c"proc"), flags, None)
    }
}

fn is_device(path: &SandboxPath) -> bool {
    path.source.starts_with("/dev")
}

fn aside_path(index: usize) -> PathBuf {
    Path::new("/").join(index.to_string())
}

fn tmpfs(target: &Path, options: &str) -> Action {
    let flags = libc::MS_NOSUID;
    let none = Some(Path::new("none"));
    Action::mount(none, target, Some(c"tmpfs"), flags, Some(options))
}

#[cfg(test)]
mod tests;
