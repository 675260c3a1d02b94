//! What the side-by-side runs share: commands in a scratch store, taking turns, and the ratio of
//! their medians.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Whether to measure (`cargo bench`), or only to see that everything works (`cargo test`).
pub(crate) fn measuring() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Whether that word is on the command line.
pub(crate) fn named(word: &str) -> bool {
    std::env::args().any(|arg| arg == word)
}

/// The numbers given on the command line, or these.
pub(crate) fn numbers(default: &[usize]) -> Vec<usize> {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    if given.is_empty() {
        default.to_vec()
    } else {
        given
    }
}

/// A file of the shared directory beside the checkout, if there is one.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared")
        .join(path);
    path.exists().then_some(path)
}

/// Whether a program can be started.
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A store of its own in a temporary directory.
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// Makes an empty one, with a configuration that switches off what is not measured.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["store", "state", "log", "conf", "tmp"] {
            std::fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        let settings = "sandbox = false\nbuild-users-group =\nsubstituters =\n";
        std::fs::write(directory.path().join("conf/nix.conf"), settings).expect("nix.conf");
        Self { directory }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command that uses this store.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let root = self.directory.path();
        for (name, directory) in [
            ("NIX_STORE_DIR", "store"),
            ("NIX_STATE_DIR", "state"),
            ("NIX_LOG_DIR", "log"),
            ("NIX_CONF_DIR", "conf"),
            ("TMPDIR", "tmp"),
        ] {
            command.env(name, root.join(directory));
        }
        command.env("NIX_REMOTE", "").stdin(Stdio::null());
        command
    }
}

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From start to end.
    pub(crate) wall: Duration,
    /// The most memory the process had, in KiB.
    pub(crate) peak_kib: u64,
}

/// Runs a command to its end. Its output is thrown away; that it fails ends the benchmark.
pub(crate) fn run(command: &mut Command) -> Cost {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let peak = PeakMemory::watch(child.id());
    let status = child.wait().expect("a child to wait for");
    let wall = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    Cost {
        wall,
        peak_kib: peak.stop(),
    }
}

/// Runs a command and gives what it printed.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

/// Reads a process's high-water mark of memory until it ends.
struct PeakMemory {
    thread: std::thread::JoinHandle<u64>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl PeakMemory {
    fn watch(pid: u32) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let over = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
                let line = status.iter().flat_map(|text| text.lines());
                let mark = line.filter_map(|line| line.strip_prefix("VmHWM:"));
                let kib = mark.filter_map(|rest| rest.split_whitespace().next()?.parse().ok());
                peak = kib.fold(peak, u64::max);
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        Self { thread, stop }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// The middle one.
pub(crate) fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.wall);
    costs[costs.len() / 2]
}

/// A row of a table: what, how long, how much memory.
pub(crate) fn row(what: &str, count: usize, cost: Cost) {
    let each = cost.wall.as_secs_f64() * 1e6 / count as f64;
    let wall = cost.wall.as_secs_f64();
    println!(
        "{what:<44} {wall:>9.3} s {each:>9.1} µs each {:>7.1} MB",
        cost.peak_kib as f64 / 1024.0
    );
}

/// A row that says how many times longer one took than the other.
pub(crate) fn ratio(what: &str, one: Cost, other: Cost, bound: &str) {
    println!(
        "{what:<44} {:>9.2}   ({bound})",
        one.wall.as_secs_f64() / other.wall.as_secs_f64()
    );
}
