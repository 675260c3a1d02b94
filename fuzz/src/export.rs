//! Streams of store paths, as `nix-store --import` reads them.

use tempfile::TempDir;
use windrow_store::local::LocalStore;
use windrow_store::text::transfer::{export, import};
use windrow_store::wire::{push_text, push_texts};
use windrow_store::{DatabaseOptions, Layout};

use crate::shared::path;

fn open(directory: &TempDir) -> LocalStore {
    let root = directory.path();
    let layout = Layout {
        store_dir: "/nix/store".to_owned(),
        real_store_dir: root.join("store"),
        state_dir: root.join("var"),
        log_dir: root.join("log"),
    };
    layout.create_directories(None, false).expect("directories");
    let options = DatabaseOptions {
        fsync_metadata: false,
        gc_reserved_space: 0,
        ..DatabaseOptions::default()
    };
    LocalStore::open(layout, &options).expect("a store")
}

/// What is imported is valid, can be exported, and is the same then; nothing else is left.
pub fn check(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = open(&directory);
    let mut done = Vec::new();
    let result = import(&mut store, &mut &bytes[..], |path| {
        done.push(path.to_owned());
        Ok(())
    });
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
    }
    let entries = std::fs::read_dir(&store.layout().real_store_dir).expect("it is a directory");
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().expect("names are text");
        if name != ".links" && !name.ends_with(".lock") {
            assert!(done.contains(&format!("/nix/store/{name}")), "{name}");
        }
    }
    if done.is_empty() {
        return;
    }
    done.sort_unstable();
    done.dedup();
    let valid = store.database.all_valid_paths().expect("the database answers");
    assert_eq!(valid, done);
    let mut text = Vec::new();
    export(&store, &done, &mut text).expect("what is valid can be exported");
    let other = tempfile::tempdir().expect("a directory");
    let mut other = open(&other);
    import(&mut other, &mut &text[..], |_| Ok(())).expect("what was exported is imported");
    for path in &done {
        let of = |store: &LocalStore| {
            let info = store.database.path_info(path).expect("it answers");
            let info = info.expect("it is valid");
            (info.nar_hash, info.nar_size, info.references, info.deriver)
        };
        assert_eq!(of(&store), of(&other), "{path}");
    }
}

/// One path, and two of which one refers to the other and to itself.
pub fn seeds() -> Vec<Vec<u8>> {
    let one = |out: &mut Vec<u8>, nar: &[u8], path: &str, references: &[&str]| {
        out.extend(1_u64.to_le_bytes());
        out.extend(nar);
        out.extend(0x4558_494e_u64.to_le_bytes());
        push_text(out, path);
        push_texts(out, references);
        push_text(out, "");
        out.extend(0_u64.to_le_bytes());
    };
    let (a, b) = (path("a"), path("b").replace("8rhh", "9rhh"));
    let mut seeds = Vec::new();
    for nar in crate::nar::seeds() {
        let mut text = Vec::new();
        one(&mut text, &nar, &a, &[]);
        one(&mut text, &nar, &b, &[&a, &b]);
        text.extend(0_u64.to_le_bytes());
        seeds.push(text);
    }
    seeds
}
