//! The outputs of one build, one by one: made canonical, out of its builder's reach, hashed,
//! scanned for references, compared with a hash known beforehand.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;
use windrow_components::derivation::FixedOutput;
use windrow_components::hash::Hash;
use windrow_components::ids::PathId;
use windrow_components::store_path::{HashMode, StoreDir};
use windrow_store::files::beside::unique_beside;
use windrow_store::files::canonical::{InodesSeen, canonicalise};
use windrow_store::files::copy::copy_tree;
use windrow_store::files::replace::move_tree;
use windrow_store::nar::digest::{Digest, digest as hash_and_scan, feed_flat, feed_nar};
use windrow_store::nar::rewrite::{Rewrite, rewrite_hashes};
use windrow_store::nar::scan::Candidates;
use windrow_sys::interrupt::Grace;
use windrow_sys::space::Places;
use windrow_sys::tree::delete_path;

use super::{CopyPlace, Expected, Flawed, MismatchedOutput, SCRATCH, ScanJob, suspicious};
use crate::failure::{Failure, FailureKind, why_perhaps};
use crate::world::BuiltOutput;
/// Looks at all outputs of a build.
///
/// # Errors
/// The failure of the build: an output is missing, of a wrong kind, ownership or hash, not as its
/// derivation asks, or can't be read.
///
/// Nix 1.8: `DerivationGoal::registerOutputs`.
pub fn scan_outputs(job: &ScanJob) -> Result<Vec<BuiltOutput>, Box<Flawed>> {
    let store = StoreDir::new(&job.reader.layout().store_dir);
    let scratch = (SCRATCH..)
        .zip(&job.scratch)
        .map(|(index, ((hash, _), _))| (*hash, index));
    let candidates: Candidates = job
        .candidates
        .iter()
        .map(|(hash, path)| (*hash, path.index() as u32))
        .chain(scratch)
        .collect();
    let mut seen = InodesSeen::default();
    let mut mismatched = None;
    let mut differing = Vec::new();
    let scanned = job.expectations(&store).and_then(|expected| {
        let outputs = (job.outputs.iter())
            .map(|output| {
                let fixed = expected.fixed(&output.store_path);
                let mut built = scan_output(job, output, fixed, &candidates, &mut seen)?;
                if let Some(fixed) = fixed {
                    match_hash(job, output, &fixed, &built, &store, &mut mismatched)?;
                }
                if expected.checks(&output.store_path).discard_references {
                    built.references.clear();
                }
                Ok(built)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        if expected.has_checks() {
            job.check(&outputs, &expected)?;
        }
        if let Some(check) = &job.check {
            return check.compare(&job.drv_path, &job.outputs, &outputs, &mut differing);
        }
        put_in_place(job)?;
        Ok(outputs)
    });
    if let Some(mismatched) = &mut mismatched {
        // The environment that it lies in will be gone before it is looked at.
        let own = job.outputs.iter();
        let mut own = own.filter(|output| output.real_path == mismatched.real_path);
        if let Some(place) = own.next().and_then(|output| output.place.as_ref())
            && move_tree(&mismatched.real_path, place).is_ok()
        {
            mismatched.real_path.clone_from(place);
        }
    }
    // What can't be written can't be kept.
    mismatched = mismatched.filter(|it| job.durability.write_out(&[&it.real_path]).is_ok());
    // Looked at while all that the builder wrote is there still.
    let scanned = scanned.map_err(|failure| excused(failure, &job.written));
    job.discard_scratch();
    scanned.map_err(|failure| {
        Box::new(Flawed {
            failure,
            mismatched,
            differing,
        })
    })
}

/// Many programs don't notice that they could not write.
fn excused(mut failure: Failure, places: &Places) -> Failure {
    if failure.kind == FailureKind::Rejected
        && let Some(shortage) = places.shortage()
    {
        failure.kind = FailureKind::Other;
        failure.message.push_str(&why_perhaps(&shortage));
    }
    failure
}

/// Puts outputs that were built elsewhere where they belong, perhaps in place of corrupt ones, and
/// sees to it that all are on disk if they are to be.
fn put_in_place(job: &ScanJob) -> Result<(), Failure> {
    for output in &job.outputs {
        if let Some(place) = &output.place {
            let replaced = job.durability.replace(place, &output.real_path);
            replaced.map_err(|error| {
                let path = &output.store_path;
                let text = format!("cannot replace output '{path}': {error}");
                Failure::new(FailureKind::Other, text)
            })?;
        }
    }
    job.durability.write_out(&job.places()).map_err(|error| {
        let text = format!("cannot register the outputs of '{}': {error}", job.drv_path);
        Failure::new(FailureKind::Other, text)
    })
}

fn scan_output(
    job: &ScanJob,
    output: &Expected,
    fixed: Option<FixedOutput>,
    candidates: &Candidates,
    seen: &mut InodesSeen,
) -> Result<BuiltOutput, Failure> {
    let other = |message: String| Failure::new(FailureKind::Other, message);
    let rejected = |message: String| Failure::new(FailureKind::Rejected, message);
    let (drv_path, path) = (&job.drv_path, &output.store_path);
    let metadata = match std::fs::symlink_metadata(&output.real_path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(rejected(format!(
                "builder for '{drv_path}' failed to produce output path '{path}'"
            )));
        }
        Err(error) => return Err(other(format!("cannot look at output '{path}': {error}"))),
    };
    // Others may have had their hands in what others could write (Nix 1.8: check).
    let writable_by_others = metadata.permissions().mode() & 0o022 != 0;
    if (!metadata.is_symlink() && writable_by_others) || metadata.uid() != job.builder_uid {
        let what = suspicious::describe(&output.real_path, &metadata, job.builder_uid);
        return Err(rejected(format!(
            "suspicious ownership or permission on '{path}': {what}; rejecting this build output"
        )));
    }
    if fixed.is_some_and(|fixed| fixed.mode == HashMode::Flat)
        && !(metadata.is_file() && metadata.mode() & 0o100 == 0)
    {
        return Err(rejected(format!(
            "output path '{path}' should be a non-executable regular file, for its hash is a flat one"
        )));
    }
    let is_fixed = fixed.is_some();
    let digest = settle_and_scan(job, output, is_fixed, candidates, seen).map_err(|error| {
        let error = crate::Error::from(error);
        let kind = FailureKind::of_outputs(&error);
        Failure::new(kind, format!("cannot register output '{path}': {error}"))
    })?;
    Ok(BuiltOutput {
        path: output.path,
        deriver: Some(job.deriver),
        nar_hash: digest.nar_hash,
        nar_size: digest.nar_size,
        references: digest
            .references
            .iter()
            .map(|&i| PathId::from_index(i as usize))
            .collect(),
        ultimate: true,
        content_address: fixed.map(|fixed| fixed.content_address()),
        sigs: Vec::new(),
        drv_outputs: Vec::new(),
    })
}

/// Makes an output canonical, out of its builder's reach and free of scratch names; its hash, size
/// and references then.
fn settle_and_scan(
    job: &ScanJob,
    output: &Expected,
    is_fixed: bool,
    candidates: &Candidates,
    seen: &mut InodesSeen,
) -> windrow_store::Result<Digest> {
    let foreign = (job.builder_uid != geteuid().as_raw()).then_some(job.builder_uid);
    canonicalise(&output.real_path, foreign, seen)?;
    if let Some(place) = &job.copies
        && (job.copies_all || is_fixed)
    {
        replace_by_copy(output, place, seen)?;
    }
    let digest = hash_and_scan(&output.real_path, candidates)?;
    if digest.references.iter().all(|&index| index < SCRATCH) {
        return Ok(digest);
    }
    let rewrites: Vec<Rewrite> = job.scratch.iter().map(|(rewrite, _)| *rewrite).collect();
    rewrite_hashes(&output.real_path, &rewrites)?;
    canonicalise(&output.real_path, None, seen)?;
    hash_and_scan(&output.real_path, candidates)
}

/// Puts a copy in an output's place: its builder could reach processes outside, and may have handed
/// an open file to one. Nobody else has the files of the copy.
fn replace_by_copy(
    output: &Expected,
    place: &CopyPlace,
    seen: &mut InodesSeen,
) -> windrow_store::Result<()> {
    let mut copy_into = |dir: &Path| {
        let copy = dir.join("copy");
        copy_tree(&output.real_path, &copy)?;
        delete_path(&output.real_path)?;
        canonicalise(&copy, None, seen)?;
        move_tree(&copy, &output.real_path)
    };
    match place {
        CopyPlace::BuildEnv(dir) => copy_into(dir),
        CopyPlace::Beside => {
            // Build users may write to the store directory: one that exists already is somebody
            // else's.
            let dir = unique_beside(&output.real_path, "copy");
            let created = DirBuilder::new().mode(0o700).create(&dir);
            created.map_err(windrow_store::Error::io("create the directory", &dir))?;
            let copied = copy_into(&dir);
            let _grace = Grace::new();
            let _ = delete_path(&dir);
            copied
        }
    }
}

/// Whether a fixed output has the hash it should have, and no references, which its path could not
/// account for.
fn match_hash(
    job: &ScanJob,
    output: &Expected,
    fixed: &FixedOutput,
    built: &BuiltOutput,
    store: &StoreDir,
    mismatched: &mut Option<Box<MismatchedOutput>>,
) -> Result<(), Failure> {
    let other = |message: String| Failure::new(FailureKind::Other, message);
    let (drv_path, path) = (&job.drv_path, &output.store_path);
    let about =
        |error: windrow_store::Error| other(format!("cannot register output '{path}': {error}"));
    let got = fixed_hash(fixed, output, &built.nar_hash).map_err(about)?;
    if got != fixed.hash {
        let real = FixedOutput {
            mode: fixed.mode,
            hash: got,
        };
        let place = (store.parse(path))
            .and_then(|path| store.fixed_path(path.name(), real.mode, &real.hash));
        if let (Ok(place), true) = (place, built.references.is_empty()) {
            *mismatched = Some(Box::new(MismatchedOutput {
                store_path: store.display(&place),
                real_path: output.real_path.clone(),
                output: BuiltOutput {
                    content_address: Some(real.content_address()),
                    ..built.clone()
                },
            }));
        }
        return Err(Failure::new(
            FailureKind::HashMismatch,
            format!(
                "hash mismatch in fixed-output derivation '{drv_path}':\n  specified: {}\n     got:    {}",
                fixed.hash.sri(),
                got.sri()
            ),
        ));
    }
    if !built.references.is_empty() {
        let text =
            format!("fixed output '{path}' refers to store paths, which a fixed output must not");
        return Err(Failure::new(FailureKind::Rejected, text));
    }
    Ok(())
}

/// The hash that the contents of a fixed output really have.
fn fixed_hash(
    fixed: &FixedOutput,
    output: &Expected,
    nar_hash: &[u8; 32],
) -> windrow_store::Result<Hash> {
    use windrow_components::hash::HashAlgo;
    if fixed.mode == HashMode::Recursive && fixed.hash.algo() == HashAlgo::Sha256 {
        return Ok(Hash::sha256(nar_hash));
    }
    let mut hasher = fixed.hash.algo().hasher();
    match fixed.mode {
        HashMode::Flat => feed_flat(&output.real_path, |bytes| hasher.update(bytes))?,
        HashMode::Recursive => feed_nar(&output.real_path, |bytes| hasher.update(bytes))?,
    };
    Ok(hasher.finish())
}
