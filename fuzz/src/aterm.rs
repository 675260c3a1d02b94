//! Derivations as `.drv` files hold them: what is read is written, and read again as the same.

use std::process::Command;

use windrow_components::derivation::attributes::Attributes;
use windrow_components::derivation::{Derivation, JsonVersion, from_json, to_json};

use crate::shared::{corpus, path, store};

/// A derivation is written canonically, and goes through JSON unchanged if JSON can hold it.
pub fn check(bytes: &[u8]) {
    let drv = match Derivation::parse(bytes) {
        Ok(drv) => drv,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let printed = drv.print();
    let again = Derivation::parse(&printed).expect("what was written is read");
    assert_eq!(drv, again);
    assert_eq!(again.print(), printed);
    let _ = drv.masked_modulo(|_| None);
    let store = store();
    let _ = drv.check_output_paths(&store, "x", |_| None);
    if let Ok(attributes) = Attributes::of(&drv) {
        let _ = attributes.special(&store);
    }
    let drvs = [(path("x.drv"), drv.clone().into_owned())];
    if let Ok(json) = to_json(&drvs, &store, JsonVersion::V2) {
        let (_, read) = from_json(&json, &store)
            .expect("the JSON is read")
            .remove(0);
        let _ = read.print();
    }
}

/// Small ones of every kind, and real ones of the corpus.
pub fn seeds() -> Vec<Vec<u8>> {
    let out = path("x");
    let mut seeds: Vec<Vec<u8>> = [
        format!(r#"Derive([("out","{out}","","")],[],[],"x","/bin/sh",["-c","x\n\"\\"],[("out","{out}")])"#),
        format!(
            r#"Derive([("out","{out}","r:sha256","00")],[("{0}.drv",["dev","out"])],["{0}"],"s","b",[],[("a","\t\r"),("b","")])"#,
            path("y")
        ),
        format!(r#"Derive([("dev","{out}-dev","",""),("out","{out}","","")],[],[],"s","b",[],[("__json","{{\"a\":1}}")])"#),
        r#"DrvWithVersion("xp-dyn-drv",[],[],[],"","",[],[])"#.to_owned(),
    ]
    .map(String::into_bytes)
    .into();
    seeds.extend(real());
    seeds
}

/// The smallest derivations of nixpkgs that the tests read, if they are there.
fn real() -> Vec<Vec<u8>> {
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/corpus/nixpkgs-drvs.tar.xz"
    );
    let Ok(directory) = tempfile::tempdir() else {
        return corpus("", ".drv");
    };
    let tar = Command::new("tar")
        .args(["-xJf", archive, "-C"])
        .arg(directory.path())
        .stderr(std::process::Stdio::null())
        .status();
    let unpacked = directory.path().join("nixpkgs-drvs");
    let Ok(entries) = std::fs::read_dir(unpacked) else {
        return Vec::new();
    };
    if !tar.is_ok_and(|status| status.success()) {
        return Vec::new();
    }
    let files = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<Vec<u8>> = files.flat_map(std::fs::read).collect();
    found.sort_by_key(Vec::len);
    found.truncate(100);
    found
}
