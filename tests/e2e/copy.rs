//! `windrow copy`: what real Nix takes from caches that it wrote, byte for byte what Nix writes
//! itself, and the other way round.

mod caches;
mod machines;
mod stores;
mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::harness::{Cmd, Key, Ran, World, graph_of, sh};

/// A world with "b", which refers to "a", built, and a key.
struct Scene {
    world: World,
    key: Key,
    drv: String,
    a: String,
    b: String,
}

impl Scene {
    #[track_caller]
    fn new() -> Self {
        let world = World::new();
        let graph = graph_of([
            ("a", sh("echo hello > $out")),
            (
                "b",
                sh("mkdir -p $out/bin $out/lib/debug/.build-id/01; \
                    echo x > $out/lib/debug/.build-id/01/23456789abcdef0123456789abcdef01234567.debug; \
                    echo @{a} > $out/bin/x; chmod +x $out/bin/x; \
                    ln -s x $out/bin/y; : > $out/empty; echo more > $out/more"),
            ),
        ]);
        let drv = world.add(&graph);
        let b = world.windrow("build").arg(&drv).ok().line();
        let a = fs::read_to_string(Path::new(&b).join("bin/x")).expect("a script");
        let a = a.trim().to_owned();
        let key = Key::new(&world, "test.example-1");
        Self {
            world,
            key,
            drv,
            a,
            b,
        }
    }

    /// The URL of a cache in a directory of that name, to be signed.
    fn signed(&self, name: &str, more: &str) -> String {
        let (dir, key) = (self.world.file(name), &self.key.secret);
        format!(
            "file://{}?secret-key={}{more}",
            dir.display(),
            key.display()
        )
    }

    /// Forgets the store, after which all that was built is to be had from elsewhere only.
    fn forget(&self, name: &str) {
        self.world.set_aside(name);
        let _ = fs::remove_dir_all(self.world.at("home/.cache"));
    }

    /// A path of so many MiB, which can be compressed, but not by much.
    fn large(&self, size: usize) -> String {
        let big = self.world.file("big");
        let line = |n: u64| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let piece: String = (0..60_000).map(line).collect();
        let mut file = fs::File::create(&big).expect("a file");
        let mut written = 0;
        while written < size << 20 {
            file.write_all(piece.as_bytes()).expect("room");
            written += piece.len();
        }
        let path = self.world.ours(["--add"]).arg(&big).ok().line();
        fs::remove_file(&big).expect("a file");
        path
    }

    /// Has a Nix fetch "b" from a cache whose signatures it checks.
    #[track_caller]
    fn fetched_by(&self, nix: &str, url: &str) {
        let copy = self.world.program(nix).args(["copy", "--from", url]);
        let copy = copy.args(["--option", "trusted-public-keys", &self.key.public]);
        copy.arg(&self.b).ok();
        assert!(self.world.is_valid(&self.a) && self.world.is_valid(&self.b));
        self.world.verifies();
    }
}

/// Runs a copy, and expects it never to have much in memory.
#[track_caller]
fn copy_in_bounds(copy: Cmd) -> Ran {
    let mut running = copy.start();
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    while running.is_running() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = found.unwrap_or_default().max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let is_bounded = peak > 5 << 10 && peak < 150 << 10;
    assert!(is_bounded, "{peak} KiB were in memory");
    running.wait().exits(0)
}

/// All files below a directory with their contents.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path
                .strip_prefix(dir)
                .expect("a path below")
                .display()
                .to_string();
            files.insert(name, fs::read(&path).expect("a file"));
        }
    }
    files
}
