//! Real derivations, 3,529 of nixpkgs: what is read is printed again byte for byte, and every path
//! is recomputed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use windrow_components::derivation::{Derivation, DerivationError, ModuloMemo, name_from_base};
use windrow_components::hash::sha256;
use windrow_components::store_path::StoreDir;

fn corpus() -> Option<PathBuf> {
    let archive =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/nixpkgs-drvs.tar.xz");
    if archive.exists() {
        return Some(archive);
    }
    eprintln!("skipped: {} is not there", archive.display());
    None
}

fn unpack(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("-xJf")
        .arg(archive)
        .arg("-C")
        .arg(directory.path())
        .status();
    assert!(status.unwrap().success(), "tar and xz must be installed");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory.path().join("nixpkgs-drvs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".drv") {
            files.insert(format!("/nix/store/{name}"), std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn every_derivation_of_the_corpus_is_understood() {
    let Some(archive) = corpus() else { return };
    let files = unpack(&archive);
    assert_eq!(files.len(), 3529);
    let store = StoreDir::new("/nix/store");
    let mut memo = ModuloMemo::default();
    memo.complete::<DerivationError>(files.keys().map(String::as_str), |path| {
        let text: &'static [u8] = Box::leak(files[path].clone().into_boxed_slice());
        Derivation::parse(text)
    })
    .unwrap();

    for (path, text) in &files {
        let drv = Derivation::parse(text).unwrap();
        assert!(drv.print() == *text, "{path} is printed otherwise");

        let base = store.parse(path).unwrap();
        let name = name_from_base(base.base_name()).unwrap();
        drv.check_output_paths(&store, name, |input| memo.get(input))
            .unwrap_or_else(|error| panic!("{path}: {error}"));

        let references = drv.input_drvs.iter().map(|input| &*input.path);
        let references = references.chain(drv.input_srcs.iter().map(|path| &**path));
        let own = store
            .text_path(base.name(), &sha256(text), references)
            .unwrap();
        assert_eq!(own, base);
    }
}

#[test]
fn mutated_real_files_never_panic() {
    let Some(archive) = corpus() else { return };
    // A fixed sequence, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut refused = 0;
    for text in unpack(&archive).values().step_by(7) {
        for _ in 0..20 {
            let mut mutated = text.clone();
            match random(3) {
                0 => mutated.truncate(random(text.len())),
                1 => mutated[random(text.len())] = random(256) as u8,
                _ => {
                    let at = random(text.len());
                    mutated.drain(at..(at + random(40)).min(text.len()));
                }
            }
            match Derivation::parse(&mutated) {
                Ok(drv) => drop(drv.print()),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        refused > 1000,
        "mutations should hit the syntax, only {refused} did"
    );
}
