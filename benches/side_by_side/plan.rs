//! Planning the build of real derivations, 3,529 of nixpkgs: windrow beside nix-store's dry run, on
//! one store.
//!
//!     cargo bench --bench side_by_side -- plan

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::common::{have, measuring, median, ratio, row, run, shared};
use windrow::components::derivation::Derivation;
use windrow_store::{Database, DatabaseOptions, Layout, PathInfo, Registration};

pub(crate) fn run_all() {
    let Some(archive) = shared("corpus/nixpkgs-drvs.tar.xz") else {
        println!("skipped: ../shared/corpus/nixpkgs-drvs.tar.xz is not there");
        return;
    };
    if !have("nix-store") || !have("xz") {
        println!("skipped: needs nix-store and xz");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let (count, roots) = fill(root, &archive);
    let rounds = if measuring() { 9 } else { 1 };
    let (mut ours, mut nix) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut windrow = plain(env!("CARGO_BIN_EXE_windrow"));
        ours.push(run(windrow
            .args(["plan", "-q", "--store"])
            .arg(root)
            .args(&roots)));
        let mut dry_run = plain("nix-store");
        dry_run.args(["--realise", "--dry-run", "--option", "substitute", "false"]);
        nix.push(run(dry_run.arg("--store").arg(root).args(&roots)));
    }
    let (ours, nix) = (median(ours), median(nix));
    row("windrow plan, nixpkgs corpus", count, ours);
    row("nix-store --realise --dry-run", count, nix);
    ratio("nix-store / windrow", nix, ours, "at least 4");
}

fn plain(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        "NIX_STORE_DIR",
        "NIX_STATE_DIR",
        "NIX_LOG_DIR",
        "NIX_REMOTE",
    ] {
        command.env_remove(name);
    }
    command
}

/// Makes a store below `root` in which every derivation of the corpus is valid, and nothing is
/// built. Returns how many there are, and those that no other one needs.
fn fill(root: &Path, archive: &Path) -> (usize, Vec<String>) {
    let layout = Layout {
        store_dir: "/nix/store".to_owned(),
        real_store_dir: root.join("nix/store"),
        state_dir: root.join("nix/var/nix"),
        log_dir: root.join("nix/var/log/nix"),
    };
    layout.create_directories(None, false).expect("a store");
    let mut tar = Command::new("tar");
    tar.arg("-xJf")
        .arg(archive)
        .args(["--strip-components=1", "-C"])
        .arg(&layout.real_store_dir);
    assert!(tar.status().expect("tar").success());

    let mut drvs: BTreeMap<String, (BTreeSet<String>, Registration)> = BTreeMap::new();
    let mut sources = BTreeSet::new();
    for entry in std::fs::read_dir(&layout.real_store_dir).expect("a directory") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("a name");
        if !name.ends_with(".drv") {
            continue;
        }
        let path = format!("/nix/store/{name}");
        let text = std::fs::read(layout.real_path(&path)).expect("a derivation");
        let drv = Derivation::parse(&text).expect("a derivation");
        let inputs: BTreeSet<String> = drv.input_drvs.iter().map(|i| i.path.to_string()).collect();
        sources.extend(drv.input_srcs.iter().map(|source| source.to_string()));
        let references = inputs
            .iter()
            .cloned()
            .chain(drv.input_srcs.iter().map(|s| s.to_string()));
        let outputs = drv
            .outputs
            .iter()
            .map(|o| (o.name.to_string(), o.path.to_string()));
        let mut registration = registration(path.clone(), references.collect());
        registration.outputs = outputs.collect();
        drvs.insert(path, (inputs, registration));
    }
    let count = drvs.len();
    let needed: BTreeSet<&String> = drvs.values().flat_map(|(inputs, _)| inputs).collect();
    let roots = drvs
        .keys()
        .filter(|path| !needed.contains(path))
        .cloned()
        .collect();
    let mut database = Database::open(&layout, &DatabaseOptions::default()).expect("a database");
    let mut batch: Vec<Registration> = sources
        .into_iter()
        .map(|path| registration(path, Vec::new()))
        .collect();
    batch.extend(drvs.into_values().map(|(_, registration)| registration));
    database.register(&batch).expect("registered");
    (count, roots)
}

fn registration(path: String, references: Vec<String>) -> Registration {
    let info = PathInfo {
        path,
        nar_hash: [0; 32],
        nar_size: 1,
        registration_time: 1,
        deriver: None,
        references,
        ultimate: false,
        sigs: Vec::new(),
        ca: None,
    };
    Registration {
        info,
        outputs: Vec::new(),
    }
}
