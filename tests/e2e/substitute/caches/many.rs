//! Many paths from caches behind HTTP, that no Nix has written: how they are waited for, and what
//! that takes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use windrow::components::hash::HashAlgo;
use windrow::components::store_path::{StoreDir, StorePath};
use windrow_net::compression::Compression;
use windrow_net::narinfo::NarInfo;
use windrow_net::testing::{Behaviour, Server};

use crate::harness::{Cmd, World, need, wait_until};

/// A cache with paths of a world, each a file with its number.
struct Numbered {
    world: World,
    server: Server,
    dir: PathBuf,
    store_dir: StoreDir,
}

impl Numbered {
    /// So many paths; `references` says to which others each refers.
    fn new(count: usize, references: impl Fn(usize) -> Vec<usize>) -> Self {
        let world = World::new();
        let dir = world.file("numbered");
        fs::create_dir_all(dir.join("nar")).unwrap();
        fs::write(dir.join("nix-cache-info"), "Priority: 1\n").unwrap();
        let store_dir = StoreDir::new(&world.store().display().to_string());
        let server = Server::start(&dir);
        let cache = Self {
            world,
            server,
            dir,
            store_dir,
        };
        for n in 0..count {
            cache.write(n, references(n));
        }
        cache
    }

    fn path(n: usize) -> StorePath {
        StorePath::from_base_name(&format!("{n:032}-x{n}")).unwrap()
    }

    fn full(&self, n: usize) -> String {
        self.store_dir.display(&Self::path(n))
    }

    fn write(&self, n: usize, references: Vec<usize>) {
        let file = self.world.write(&format!("n{n}"), n.to_string());
        let mut nar = Vec::new();
        windrow_store::nar::dump(&file, &mut nar).unwrap();
        fs::write(self.dir.join(format!("nar/{n}")), &nar).unwrap();
        let hash = HashAlgo::Sha256.hash(&nar);
        let info = NarInfo {
            store_path: Self::path(n),
            url: format!("nar/{n}"),
            compression: Compression::None,
            file_hash: Some(hash),
            file_size: Some(nar.len() as u64),
            nar_hash: hash,
            nar_size: nar.len() as u64,
            references: references.into_iter().map(Self::path).collect(),
            deriver: None,
            sigs: Vec::new(),
            ca: None,
        };
        let name = format!("{}.narinfo", info.store_path.hash_part());
        fs::write(self.dir.join(name), info.to_text(&self.store_dir)).unwrap();
    }

    fn fetch(&self, paths: &[usize]) -> Cmd {
        let url = format!("{}?trusted=true", self.server.url());
        let cmd = self.world.windrow("build").args(["--option", "substitute"]);
        let cmd = cmd.args(["true", "--option", "substituters", &url]);
        cmd.args(paths.iter().map(|&n| self.full(n)))
    }
}

#[test]
fn five_hundred_paths_that_wait_for_the_last_come_with_64_descriptors() {
    need!("bash", "nix-store", "sqlite3");
    // Each but the last refers to the next one.
    let chain = |n: usize| if n < 499 { vec![n + 1] } else { Vec::new() };
    let cache = Numbered::new(500, chain);
    let late = Behaviour::Latency(Duration::from_secs(2));
    cache.server.behave("/nar/499", late);
    let limited = "ulimit -n 64 || exit 9; exec \"$@\"";
    let fetch = cache.fetch(&[0]);
    let ran = fetch.through("/bin/bash", &["-c", limited, "sh"]).ok();
    ran.says("500 paths fetched").never_says("failed");
    cache.world.is_clean();
    cache.world.stays_valid();
}

#[test]
fn an_archive_that_does_not_come_keeps_no_other_from_being_unpacked() {
    need!("nix-store", "sqlite3");
    let cache = Numbered::new(6, |n| if n == 5 { vec![4] } else { Vec::new() });
    for late in 0..3 {
        let archive = format!("/nar/{late}");
        cache.server.behave(&archive, Behaviour::Hang);
    }
    let fetch = cache.fetch(&[0, 1, 2, 3, 5]);
    let running = fetch
        .args(["--option", "max-substitution-jobs", "1"])
        .start();
    let is_there = |&n: &usize| fs::exists(cache.full(n)).unwrap();
    wait_until("what has come is unpacked", || {
        [3, 4, 5].iter().all(is_there)
    });
    running.signal("INT");
    running.wait().exits(130).no_panic();
    cache.world.is_clean();
    cache.world.stays_valid();
}

#[test]
fn a_cache_that_delivers_nothing_is_left_out_in_the_end() {
    need!("nix-store", "sqlite3");
    let count = 12;
    let cache = Numbered::new(count, |_| Vec::new());
    cache.server.behave("/nar/*", Behaviour::Status(404));
    let all: Vec<usize> = (0..count).collect();
    let ran = cache.fetch(&all).arg("--keep-going").run().exits(1);
    let url = format!("{}?trusted=true", cache.server.url());
    ran.says(format!("warning: binary cache '{url}' is left out for 60"))
        .says("it has paths and delivers none")
        .no_panic();
    cache.world.is_clean();
}
