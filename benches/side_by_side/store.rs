//! Large stores: closures, verification and garbage collection, windrow's nix-store beside Nix's,
//! on stores alike.
//!
//!     cargo bench --bench side_by_side -- store [N]

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{Cost, Scratch, have, measuring, median, numbers, ratio, row, run};
use windrow::components::hash::sha256;
use windrow::components::store_path::StoreDir;
use windrow_store::{Database, DatabaseOptions, Layout, PathInfo, Registration};

pub(crate) fn run_all() {
    if !have("nix-store") {
        println!("skipped: needs nix-store");
        return;
    }
    for count in numbers(&[if measuring() { 100_000 } else { 300 }]) {
        measure(count);
    }
}

fn measure(count: usize) {
    let rounds = if measuring() { 5 } else { 1 };
    let scratch = Scratch::new();
    let top = fill(&scratch, count);
    for (what, args, bound) in [
        ("-qR, half of the store", &["-qR", &top][..], "at least 3"),
        ("--gc --print-dead", &["--gc", "--print-dead"], "at least 3"),
        ("--verify", &["--verify"], "at least 1"),
    ] {
        let (mut ours, mut nix) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(run(windrow(&scratch).args(args)));
            nix.push(run(scratch.command("nix-store").args(args)));
        }
        compare(what, count, ours, nix, bound);
    }
    // Each needs a store to empty.
    let (mut ours, mut nix) = (Vec::new(), Vec::new());
    for _ in 0..if measuring() { 3 } else { 1 } {
        for (costs, is_ours) in [(&mut ours, true), (&mut nix, false)] {
            let scratch = Scratch::new();
            fill(&scratch, count);
            let mut command = if is_ours {
                windrow(&scratch)
            } else {
                scratch.command("nix-store")
            };
            costs.push(run(command.arg("--gc")));
            let left = std::fs::read_dir(scratch.path().join("store"))
                .expect("the store")
                .count();
            assert_eq!(left, count / 2 + 1, "half of the store and the links");
        }
    }
    compare("--gc, of half the store", count, ours, nix, "at least 1");
}

fn compare(what: &str, count: usize, ours: Vec<Cost>, nix: Vec<Cost>, bound: &str) {
    let (ours, nix) = (median(ours), median(nix));
    row(&format!("windrow nix-store {what}"), count, ours);
    row(&format!("nix-store {what}"), count, nix);
    ratio("nix-store / windrow", nix, ours, bound);
}

fn windrow(scratch: &Scratch) -> Command {
    let mut command = scratch.command(env!("CARGO_BIN_EXE_windrow"));
    command.arg("nix-store");
    command
}

/// Fills a store with small files that refer to four others each. Those with even numbers are
/// alive; returns the path that refers to all of them.
fn fill(scratch: &Scratch, count: usize) -> String {
    let text = |name: &str| scratch.path().join(name).to_str().expect("text").to_owned();
    let layout = Layout {
        store_dir: text("store"),
        real_store_dir: scratch.path().join("store"),
        state_dir: scratch.path().join("state"),
        log_dir: scratch.path().join("log"),
    };
    layout.create_directories(None, false).expect("a store");
    let store_dir = StoreDir::new(&layout.store_dir);
    let path = |number: usize| {
        let hash = sha256(&number.to_le_bytes());
        let path = store_dir
            .text_path(&format!("path{number}"), &hash, [])
            .expect("a path");
        store_dir.display(&path)
    };
    let paths: Vec<String> = (0..count).map(path).collect();
    let mut batch = Vec::with_capacity(count);
    for (number, path) in paths.iter().enumerate() {
        std::fs::write(path, format!("file {number}")).expect("a file");
        // The one before it of its kind, and three that are spread below it.
        let below = [
            number.wrapping_sub(2),
            number / 4 * 2,
            number / 8 * 2,
            number / 32 * 2,
        ];
        let below = below.map(|other| other / 2 * 2 + number % 2);
        let mut references: Vec<String> = below
            .into_iter()
            .filter(|&other| other < number)
            .map(|other| paths[other].clone())
            .collect();
        references.sort();
        references.dedup();
        let info = PathInfo {
            path: path.clone(),
            nar_hash: [0; 32],
            nar_size: 120,
            registration_time: 1,
            deriver: None,
            references,
            ultimate: false,
            sigs: Vec::new(),
            ca: None,
        };
        batch.push(Registration {
            info,
            outputs: Vec::new(),
        });
    }
    let mut database = Database::open(&layout, &DatabaseOptions::default()).expect("a database");
    database.register(&batch).expect("registered");
    let top = &paths[(count - 1) / 2 * 2];
    symlink(top, layout.gcroots_dir().join("top")).expect("a root");
    top.clone()
}
