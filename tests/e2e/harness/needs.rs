//! What a test needs of the machine, and how it says that something is absent.
//! Looks only; what it brings lies beside what cargo builds.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Whether all of these programs can be found.
pub(crate) fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .any(|dir| PathBuf::from(dir).join(program).exists())
    })
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// The workload that the benchmarks use, if it is there.
pub(crate) fn layered_nix() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/bench/layered.nix"
    ));
    path.exists()
        .then(|| path.canonicalize().expect("a path that exists"))
}

/// A program of a newer Nix than the machine's own, if it can be brought: `nix`, `nix-store` and
/// what else there is.
pub(crate) fn newer_nix(program: &str) -> Option<String> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let bring = || {
        let bring = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tools/newer-nix");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("newer-nix");
        let brought = Command::new(bring)
            .arg("sid")
            .arg(&directory)
            .stdin(Stdio::null())
            .output();
        brought
            .is_ok_and(|output| output.status.success())
            .then(|| directory.join("bin"))
    };
    let programs = PROGRAMS.get_or_init(bring).as_ref()?;
    let path = programs.join(program).to_str()?.to_owned();
    Path::new(&path).exists().then_some(path)
}

/// Says that the running test is skipped, past the capture of the test runner.
#[expect(clippy::disallowed_methods, reason = "the texts are the tests' own")]
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// The path of a program of a newer Nix; leaves the test, saying why, if there is none.
macro_rules! need_newer {
    ($program:literal) => {
        match $crate::harness::newer_nix($program) {
            Some(path) => path,
            None => return $crate::harness::skip("needs a Nix newer than this machine's"),
        }
    };
}
pub(crate) use need_newer;

/// Leaves the test, saying why, unless the condition holds: `need!(nix)`, `need!(root)`,
/// `need!("prog", …)`.
macro_rules! need {
    (nix) => {
        $crate::harness::need!("nix-store", "nix-instantiate")
    };
    (root) => {
        if !$crate::harness::is_root() {
            return $crate::harness::skip("needs root");
        }
    };
    ($($program:literal),+) => {
        if !$crate::harness::have(&[$($program),+]) {
            return $crate::harness::skip(concat!("needs", $(" ", $program),+));
        }
    };
}
pub(crate) use need;

macro_rules! need_usual_place {
    () => {
        if !std::path::Path::new("/nix/store").is_dir() {
            return $crate::harness::skip("needs a directory /nix/store to mount on");
        }
    };
}
pub(crate) use need_usual_place;
