//! Store paths as one stream, as `nix-store --export` writes it and `--import` reads it.
//! Each path is checked against its hash on the way out, and has its references on the way in.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::path::Path;

use windrow_components::hash::Hash;
use windrow_components::nix32;

use crate::db::{Edges, PathInfo, WalkRoot};
use crate::error::{Error, Result};
use crate::files::canonical::{InodesSeen, canonicalise};
use crate::local::LocalStore;
use crate::nar::{self, Tee};
use crate::ops::add::{lock, release};
use crate::wire::{self, WireError, push_number, push_text, push_texts};
use windrow_sys::interrupt::{Grace, Owing};
use windrow_sys::tree::delete_path;

/// What follows the NAR of each path ("NIXE").
pub const MAGIC: u64 = 0x4558_494e;
/// Longer strings than this are none of ours, in bytes.
const STRING_MAX: u64 = 4096;
/// More references than this has no path.
const REFERENCES_MAX: u64 = 10_000_000;

/// Writes valid paths to `out`, those referred to first (Nix's `exportPaths`).
///
/// # Errors
/// [`Error::PathNotValid`]; [`Error::PathModified`] for a path that is not what it was, which is
/// then not completely written; [`Error::File`] when it can't be read or `out` not be written.
pub fn export(store: &LocalStore, paths: &[String], out: &mut impl Write) -> Result<()> {
    let failed = || Error::io("write", Path::new("the export"));
    let seeds: Vec<WalkRoot<'_>> = paths.iter().map(|path| WalkRoot::Path(path)).collect();
    let graph = store.database.walk(&seeds, Edges::default())?;
    for at in graph.sorted()? {
        let path = graph.path(at);
        let info = store.database.path_info(path)?;
        let info = info.ok_or_else(|| Error::PathNotValid {
            path: path.to_owned(),
        })?;
        out.write_all(&1_u64.to_le_bytes()).map_err(failed())?;
        let mut tee = Tee::new(&mut *out);
        nar::dump(&store.layout().real_path(path), &mut tee)?;
        let (_, found, _) = tee.finish();
        if found != info.nar_hash && info.nar_hash != [0; 32] {
            return Err(modified(path, &info.nar_hash, &found));
        }
        let mut trailer = Vec::new();
        push_number(&mut trailer, MAGIC);
        push_text(&mut trailer, path);
        push_texts(&mut trailer, &info.references);
        push_text(&mut trailer, info.deriver.as_deref().unwrap_or_default());
        push_number(&mut trailer, 0);
        out.write_all(&trailer).map_err(failed())?;
    }
    out.write_all(&0_u64.to_le_bytes()).map_err(failed())
}

/// The error for a path whose NAR has another hash than the registered one.
pub fn modified(path: &str, expected: &[u8; 32], found: &[u8; 32]) -> Error {
    Error::PathModified {
        path: path.to_owned(),
        expected: Hash::sha256(expected).prefixed_base32(),
        found: Hash::sha256(found).prefixed_base32(),
    }
}

/// Adds the paths of an export that are not valid yet, one after the other; each is handed to
/// `done` when it is valid (Nix's `importPaths`). Signatures are not asked for.
///
/// # Errors
/// [`Error::BadExport`], [`Error::NarDamaged`] for what is no export; [`Error::ReferenceNotValid`]
/// when something is missing. What came before stays.
pub fn import(
    store: &mut LocalStore,
    source: &mut impl Read,
    mut done: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    for number in 1.. {
        let bad = |reason: &str| Error::BadExport {
            number,
            reason: reason.to_owned(),
        };
        let mut fields = Fields { source, number };
        match fields.number()? {
            0 => return Ok(()),
            1 => {}
            _ => {
                return Err(bad(
                    "it doesn't look like something that 'nix-store --export' made",
                ));
            }
        }
        // The name comes after the contents, so these are put where nobody looks for them and the
        // collector knows of them.
        let scratch = scratch_path(store)?;
        let real = store.layout().real_path(&scratch);
        let _owing = Owing::new();
        let _cleanup = Cleanup(&real);
        let mut tee = Tee::new(&mut *fields.source);
        nar::restore(&mut tee, &real)?;
        let (_, nar_hash, nar_size) = tee.finish();
        if fields.number()? != MAGIC {
            return Err(bad("the mark after its contents is missing"));
        }
        let path = fields.path(store)?.ok_or_else(|| bad("it has no name"))?;
        let count = fields.number()?;
        if count > REFERENCES_MAX {
            return Err(bad("it has more references than any path can"));
        }
        let mut references = Vec::new();
        for _ in 0..count {
            references.extend(fields.path(store)?);
        }
        references.sort_unstable();
        references.dedup();
        let deriver = fields.path(store)?;
        if fields.number()? == 1 {
            fields.string()?;
        }
        let info = PathInfo {
            deriver,
            references,
            ..PathInfo::of(path, nar_hash, nar_size)
        };
        let path = info.path.clone();
        adopt(store, &real, info)?;
        done(&path)?;
    }
    Ok(())
}

/// Moves a restored tree to its path and makes that valid, unless it is.
fn adopt(store: &mut LocalStore, restored: &Path, info: PathInfo) -> Result<()> {
    store.keep(&[&info.path])?;
    if store.database.is_valid(&info.path)? {
        return Ok(());
    }
    let real = store.layout().real_path(&info.path);
    let locks = lock(&[&real])?;
    if !store.database.is_valid(&info.path)? {
        delete_path(&real)?;
        canonicalise(restored, None, &mut InodesSeen::default())?;
        std::fs::rename(restored, &real).map_err(Error::io("rename a restored tree to", &real))?;
        let unregistered = Cleanup(&real);
        store.register_paths(vec![info])?;
        std::mem::forget(unregistered);
    }
    release(locks);
    Ok(())
}

/// A path that nothing else has, kept from collection.
fn scratch_path(store: &mut LocalStore) -> Result<String> {
    loop {
        let mut random = [0; 20];
        for chunk in random.chunks_mut(8) {
            let bytes = RandomState::new()
                .hash_one(std::process::id())
                .to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        let path = store
            .store_dir()
            .join(&format!("{}-import", nix32::encode(&random)));
        store.keep(&[&path])?;
        if store.layout().real_path(&path).symlink_metadata().is_err() {
            return Ok(path);
        }
    }
}

/// Deletes a scratch tree on every way out. Where that fails, a collector does it.
struct Cleanup<'a>(&'a Path);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let _grace = Grace::new();
        let _ = delete_path(self.0);
    }
}

/// The fields of an export, each read as it should be.
struct Fields<'a, R> {
    source: &'a mut R,
    number: u64,
}

impl<R: Read> Fields<'_, R> {
    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::BadExport {
            number: self.number,
            reason: reason.into(),
        }
    }

    fn failed(&self, error: WireError) -> Error {
        match error {
            WireError::Ended => self.bad("the export ends too early"),
            WireError::TooLong { length, .. } => {
                self.bad(format!("a text of {length} bytes is longer than any path"))
            }
            WireError::Io(error) => Error::io("read", Path::new("the export"))(error),
            WireError::Padding | WireError::NotText => self.bad(error.to_string()),
        }
    }

    fn number(&mut self) -> Result<u64> {
        wire::number(self.source).map_err(|error| self.failed(error))
    }

    fn string(&mut self) -> Result<String> {
        wire::text(self.source, STRING_MAX).map_err(|error| self.failed(error))
    }

    /// A path of this store, or none where the text is empty.
    fn path(&mut self, store: &LocalStore) -> Result<Option<String>> {
        let text = self.string()?;
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = store.store_dir().parse(&text);
        parsed.map_err(|error| self.bad(error.to_string()))?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseOptions;
    use crate::layout::tests::{scratch, store_path};

    #[test]
    fn what_can_t_be_registered_is_not_left_in_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let mut store = LocalStore::open(layout, &DatabaseOptions::default()).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "contents").unwrap();
        let mut text = 1_u64.to_le_bytes().to_vec();
        nar::dump(&file, &mut text).unwrap();
        push_number(&mut text, MAGIC);
        push_text(&mut text, &store_path(1));
        push_number(&mut text, 1);
        push_text(&mut text, &store_path(2));
        push_text(&mut text, "");
        text.extend([0; 16]);
        let error = import(&mut store, &mut &text[..], |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("path2"), "{error}");
        let real = store.layout().real_path(&store_path(1));
        assert!(real.symlink_metadata().is_err(), "it is not valid");
    }
}
