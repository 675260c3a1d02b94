//! What the tests stand on: worlds, commands with time limits, and graphs in short.
//! Knows the command line and Nix's directories, nothing of windrow's insides.

mod binary_cache;
mod cache;
mod cgroup;
mod command;
pub(crate) mod forbidden;
mod graphs;
mod held;
mod https;
mod leftovers;
mod mounts;
mod needs;
mod other_machine;
mod sealed;
mod terminal;
mod world;

pub(crate) use binary_cache::{BinaryCache, Key};
pub(crate) use cache::{Cache, Known};
pub(crate) use cgroup::{Cgroup, cgroup2};
pub(crate) use command::{Cmd, Ran, Running, TOO_DEEP};
pub(crate) use graphs::{graph_of, runs_until_go, sh, sh_with, step};
pub(crate) use held::HeldDatabase;
pub(crate) use https::HttpsServer;
pub(crate) use mounts::{may_loop, may_mount, may_overlay, need_ext4, need_mounts, need_overlays};
pub(crate) use needs::{
    have, is_root, layered_nix, need, need_newer, need_usual_place, newer_nix, skip,
};
pub(crate) use other_machine::OtherMachine;
pub(crate) use sealed::{Caller, SEALED, busybox, busybox_with, for_each_caller};
pub(crate) use terminal::{Terminal, masked};
pub(crate) use world::World;

use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take before a test calls it stuck.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `done` holds; fails with `what` after the limit.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < LIMIT,
            "waited {LIMIT:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text of a file, which must be there.
#[track_caller]
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => panic!("cannot read {}: {error}", path.display()),
    }
}

/// The lines of a file, sorted; none if it is not there.
pub(crate) fn sorted_lines(path: impl AsRef<Path>) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
