//! A sealed world: a store, its state, logs, configuration and temporary directory below one
//! scratch directory. Nothing in it sees the machine's own store or the caller's environment.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::Cmd;
use super::{is_root, leftovers, wait_until};

/// What every world's nix.conf says: no sandbox, no build users, nothing from the network, and one
/// build at a time, whatever the machine.
const NIX_CONF: &str = "max-jobs = 1\nsandbox = false\nbuild-users-group =\nsubstitute = false\nsubstituters =\n\
                        experimental-features = nix-command\n";

/// A world of one test. Set `WINDROW_E2E_KEEP` to keep its directory.
pub(crate) struct World {
    root: PathBuf,
}

impl World {
    /// An empty world.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("windrow-e2e-")
            .tempdir()
            .expect("a scratch directory");
        let root = dir.keep().canonicalize().expect("the scratch directory");
        // Others must get at the store in the tests that become somebody else.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("a directory of ours");
        let world = Self { root };
        for dir in ["conf", "tmp", "home", "files"] {
            fs::create_dir(world.root.join(dir)).expect("an empty directory");
        }
        world.conf("");
        world
    }

    /// Lets every user work in it.
    pub(crate) fn open_to_all(&self) {
        for dir in ["", "tmp", "home", "files"] {
            let open = fs::Permissions::from_mode(0o777);
            fs::set_permissions(self.at(dir), open).expect("a directory of ours");
        }
    }

    /// A file or directory below the world's.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A file outside the store, for builders to write to and tests to look at.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join("files").join(name)
    }

    /// Writes a file outside the store.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, contents).expect("a writable file");
        path
    }

    /// Writes a shell script that can be run, and gives its path.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        path
    }

    /// Writes nix.conf: what all worlds have, and `more`.
    pub(crate) fn conf(&self, more: &str) {
        fs::write(self.root.join("conf/nix.conf"), format!("{NIX_CONF}{more}")).expect("nix.conf");
    }

    /// The store directory.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.state().join("db/db.sqlite")
    }

    /// The variables that make the world, by name.
    pub(crate) fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("NIX_STORE_DIR", self.store()),
            ("NIX_STATE_DIR", self.state()),
            ("NIX_LOG_DIR", self.root.join("log")),
            ("NIX_CONF_DIR", self.root.join("conf")),
            ("WINDROW_CONF_DIR", self.root.join("conf")),
            ("NIX_LOCALSTATE_DIR", self.root.join("var")),
            ("TMPDIR", self.root.join("tmp")),
            ("HOME", self.root.join("home")),
            ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin".into()),
        ]
    }

    /// Any program in this world.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Cmd {
        let cmd = Cmd::new(program, &self.root.join("files"));
        self.variables()
            .into_iter()
            .fold(cmd, |cmd, (name, value)| cmd.env(name, value))
    }

    /// windrow in this world.
    pub(crate) fn windrow(&self, subcommand: &str) -> Cmd {
        self.program(env!("CARGO_BIN_EXE_windrow")).arg(subcommand)
    }

    /// Writes a JSON graph, and gives the file.
    pub(crate) fn graph(&self, name: &str, graph: &Value) -> PathBuf {
        self.write(name, serde_json::to_vec_pretty(graph).expect("JSON"))
    }

    /// Adds a graph to the store, and gives the .drv of its one target.
    #[track_caller]
    pub(crate) fn add(&self, graph: &Value) -> String {
        let file = self.graph("graph.json", graph);
        self.windrow("add").arg(file).ok().line()
    }

    /// Adds a graph with one derivation "x", and gives its .drv.
    #[track_caller]
    pub(crate) fn add_one(&self, name: &str, derivation: Value) -> String {
        self.add(&super::graph_of([(name, derivation)]))
    }

    /// Instantiates a Nix expression, and gives the .drv files.
    #[track_caller]
    pub(crate) fn instantiate(&self, expression: &str) -> Vec<String> {
        let file = self.write("expression.nix", expression);
        self.program("nix-instantiate").arg(file).ok().lines()
    }

    /// What a query of the database prints.
    #[track_caller]
    pub(crate) fn sql(&self, query: &str) -> Vec<String> {
        self.program("sqlite3")
            .arg(self.database())
            .arg(query)
            .ok()
            .lines()
    }

    /// Expects Nix to find the whole store in order, contents and all.
    #[track_caller]
    pub(crate) fn verifies(&self) {
        self.verifies_with(&[]);
    }

    /// The same of the store that these arguments name.
    #[track_caller]
    pub(crate) fn verifies_with(&self, store: &[&str]) {
        let verify = self
            .program("nix-store")
            .args(["--verify", "--check-contents"]);
        let ran = verify.args(store).run();
        let healthy = ran.status.success()
            && !["error", "disappeared", "modified", "warning"]
                .iter()
                .any(|bad| ran.stderr.contains(bad));
        assert!(healthy, "Nix finds the store in disorder\n{ran}");
    }

    /// Expects the store to be in order, as far as the installed programs can tell.
    #[track_caller]
    pub(crate) fn stays_valid(&self) {
        if super::have(&["nix-store"]) {
            self.verifies();
        } else if super::have(&["sqlite3"]) {
            assert_eq!(self.sql("pragma integrity_check"), ["ok"]);
        }
    }

    /// Whether the database has the path.
    #[track_caller]
    pub(crate) fn is_valid(&self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref().to_str().expect("a path in UTF-8");
        if super::have(&["sqlite3"]) {
            let query = format!("select count(*) from ValidPaths where path = '{path}'");
            return self.sql(&query) == ["1"];
        }
        self.windrow("build")
            .arg(path)
            .arg("--dry-run")
            .run()
            .status
            .success()
    }

    /// What lies in the store, without what the store itself needs.
    pub(crate) fn store_entries(&self) -> Vec<PathBuf> {
        let mut entries = leftovers::entries(&self.store());
        entries.retain(|path| !path.ends_with(".links"));
        entries
    }

    /// What lies in the temporary directory: build directories above all.
    pub(crate) fn temporary(&self) -> Vec<PathBuf> {
        leftovers::entries(&self.root.join("tmp"))
    }

    /// The processes of runs in this world that live.
    pub(crate) fn processes(&self) -> Vec<u32> {
        leftovers::processes(&self.root)
    }

    /// The log file of a derivation, under Nix's directory scheme, compressed.
    #[track_caller]
    pub(crate) fn log_file(&self, drv: &str) -> PathBuf {
        let name = Path::new(drv)
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        self.root
            .join(format!("log/drvs/{}/{}.bz2", &name[..2], &name[2..]))
    }

    /// Expects nothing to be left of any run: no process, build directory, held lock or temporary
    /// root.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        self.is_clean_but_for(&[]);
    }

    /// The same, with these files left in the temporary directory.
    #[track_caller]
    pub(crate) fn is_clean_but_for(&self, kept: &[PathBuf]) {
        let processes = || leftovers::processes(&self.root);
        // A killed process takes a moment to vanish from /proc; one that was not killed stays.
        if !processes().is_empty() {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        let describe = |pid: &u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!(
                "{pid}: {}",
                String::from_utf8_lossy(&words).replace('\0', " ")
            )
        };
        let left: Vec<String> = processes().iter().map(describe).collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
        let mut temporary = self.temporary();
        temporary.retain(|path| !kept.contains(path));
        assert!(
            temporary.is_empty(),
            "temporary files are left: {temporary:?}"
        );
        let locks = leftovers::held_locks(&self.store());
        assert!(locks.is_empty(), "locks are held: {locks:?}");
        let roots = leftovers::entries(&self.state().join("temproots"));
        assert!(roots.is_empty(), "temporary roots are left: {roots:?}");
        let runs = leftovers::entries(&self.state().join("windrow/runs"));
        assert!(runs.is_empty(), "files of runs are left: {runs:?}");
    }

    /// Moves the store, its state and logs away, to `NAME.store` and so on, so that the paths are
    /// free again.
    pub(crate) fn set_aside(&self, name: &str) {
        for dir in ["store", "state", "log"] {
            if self.at(dir).exists() {
                fs::rename(self.at(dir), self.at(format!("{name}.{dir}")))
                    .expect("a directory to move");
            }
        }
    }

    /// Moves them back.
    pub(crate) fn bring_back(&self, name: &str) {
        for dir in ["store", "state", "log"] {
            let from = self.at(format!("{name}.{dir}"));
            if from.exists() {
                fs::rename(from, self.at(dir)).expect("a directory to move");
            }
        }
    }

    /// Waits until a builder has made this file outside the store.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str) {
        let path = self.file(name);
        wait_until(&format!("{} is there", path.display()), || path.exists());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Only processes that work in this world, and only what a failed test left of them.
        for pid in leftovers::processes(&self.root) {
            let _ = std::process::Command::new("/bin/sh")
                .args(["-c", &format!("kill -9 {pid}")])
                .status();
        }
        if std::env::var_os("WINDROW_E2E_KEEP").is_some() {
            return;
        }
        if !is_root() {
            let _ = std::process::Command::new("chmod")
                .args(["-R", "u+w"])
                .arg(&self.root)
                .status();
        }
        if fs::remove_dir_all(&self.root).is_err() {
            let _ = std::process::Command::new("rm")
                .arg("-rf")
                .arg(&self.root)
                .status();
        }
    }
}
