//! Looks at what a builder made: checks it, makes it canonical, hashes and scans it (the seed's `registerOutputs`).
//!
//! Runs in the pool, on plain values; registering the result is the scheduler's affair.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use windrow_components::building::HashRewrites;
use windrow_components::derivation::{Derivation, FixedOutput};
use windrow_components::graph::BuildGraph;
use windrow_components::hash::Hash;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::store_path::HashMode;

use super::canonical::{InodesSeen, canonicalise};
use super::digest::{digest as hash_and_scan, feed_flat, feed_nar};
use super::rewrite::{Rewrite, rewrite_hashes};
use super::scan::Candidates;
use super::tree::delete_path;
use crate::failure::{Failure, FailureKind};
use crate::real::BuilderConfig;
use crate::world::BuiltOutput;

/// An output to look at.
#[derive(Debug)]
struct Expected {
    path: PathId,
    store_path: String,
    real_path: PathBuf,
}

/// What the pool needs to know to look at the outputs of one build.
#[derive(Debug)]
pub struct CollectJob {
    drv_path: String,
    drv_file: Option<PathBuf>,
    deriver: PathId,
    outputs: Vec<Expected>,
    /// Everything the outputs may refer to.
    candidates: Vec<([u8; 32], PathId)>,
    /// What outputs that were valid already were called, and where they lie.
    scratch: Vec<(Rewrite, PathBuf)>,
}

/// Beyond every path's index: that of the first scratch name among the candidates.
const SCRATCH: u32 = 1 << 31;

impl CollectJob {
    /// A job for the outputs `missing` of `drv`, whose inputs' closure is `closure`.
    pub fn new(
        graph: &BuildGraph,
        config: &BuilderConfig,
        drv: DrvId,
        missing: &[PathId],
        closure: &[PathId],
        rewrites: Option<&HashRewrites>,
    ) -> Self {
        let deriver = graph.drv_path(drv);
        let drv_path = graph.full_path(deriver);
        let outputs = missing
            .iter()
            .map(|&path| {
                let store_path = graph.full_path(path);
                let real_path = config.layout.real_path(&store_path);
                Expected {
                    path,
                    store_path,
                    real_path,
                }
            })
            .collect();
        let own = graph.outputs(drv).iter().map(|row| row.path);
        let candidates = closure
            .iter()
            .copied()
            .chain(own)
            .map(|path| (graph.paths.hash_part(path), path))
            .collect();
        // Only a fixed output's own derivation says what its hash should be.
        let drv_file = graph
            .traits(drv)
            .fixed
            .then(|| config.layout.real_path(&drv_path));
        let scratch = rewrites.into_iter().flat_map(|rewrites| &rewrites.scratch);
        let scratch = scratch
            .map(|scratch| {
                let real_path = config.layout.real_path(&scratch.scratch_path);
                ((scratch.scratch_hash, scratch.hash), real_path)
            })
            .collect();
        Self {
            drv_path,
            drv_file,
            deriver,
            outputs,
            candidates,
            scratch,
        }
    }
}

/// Looks at all outputs of a build.
///
/// # Errors
/// The failure of the build: an output is missing, of a wrong kind, ownership or hash, or can't be read.
pub fn collect(job: CollectJob) -> Result<Vec<BuiltOutput>, Failure> {
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
    let outputs = job
        .outputs
        .iter()
        .map(|output| collect_one(&job, output, &candidates, &mut seen))
        .collect();
    for (_, path) in &job.scratch {
        // What stays has no name that anyone would look for, and collectors delete it.
        let _ = delete_path(path);
    }
    outputs
}

fn collect_one(
    job: &CollectJob,
    output: &Expected,
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
    // Others may have had their hands in what others could write (the seed's check).
    let writable_by_others = metadata.permissions().mode() & 0o022 != 0;
    if (!metadata.is_symlink() && writable_by_others)
        || metadata.uid() != nix::unistd::geteuid().as_raw()
    {
        return Err(rejected(format!(
            "suspicious ownership or permission on '{path}'; rejecting this build output"
        )));
    }
    let fixed = match &job.drv_file {
        Some(file) => fixed_output(file, path).map_err(&other)?,
        None => None,
    };
    if fixed.is_some_and(|fixed| fixed.mode == HashMode::Flat)
        && !(metadata.is_file() && metadata.mode() & 0o100 == 0)
    {
        return Err(rejected(format!(
            "output path '{path}' should be a non-executable regular file, for its hash is a flat one"
        )));
    }
    let about = |error: crate::Error| {
        let kind = FailureKind::of_outputs(&error);
        Failure::new(kind, format!("cannot register output '{path}': {error}"))
    };
    canonicalise(&output.real_path, None, seen).map_err(about)?;
    let mut digest = hash_and_scan(&output.real_path, candidates).map_err(about)?;
    if digest.references.iter().any(|&index| index >= SCRATCH) {
        let rewrites: Vec<Rewrite> = job.scratch.iter().map(|(rewrite, _)| *rewrite).collect();
        rewrite_hashes(&output.real_path, &rewrites).map_err(about)?;
        canonicalise(&output.real_path, None, seen).map_err(about)?;
        digest = hash_and_scan(&output.real_path, candidates).map_err(about)?;
    }
    if let Some(fixed) = fixed {
        let got = fixed_hash(&fixed, output, &digest.nar_hash).map_err(about)?;
        if got != fixed.hash {
            return Err(Failure::new(
                FailureKind::HashMismatch,
                format!(
                    "hash mismatch in fixed-output derivation '{drv_path}':\n  specified: {}\n     \
                     got:    {}",
                    fixed.hash.sri(),
                    got.sri()
                ),
            ));
        }
        if !digest.references.is_empty() {
            return Err(rejected(format!(
                "fixed output '{path}' refers to store paths, which a fixed output must not"
            )));
        }
    }
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
        drv_outputs: Vec::new(),
    })
}

fn fixed_output(drv_file: &std::path::Path, path: &str) -> Result<Option<FixedOutput>, String> {
    let text = std::fs::read(drv_file).map_err(|error| error.to_string())?;
    let drv = Derivation::parse(&text).map_err(|error| error.to_string())?;
    match drv.outputs.iter().find(|output| output.path == path) {
        Some(output) => output.fixed().map_err(|error| error.to_string()),
        None => Ok(None),
    }
}

/// The hash that the contents of a fixed output really have.
fn fixed_hash(fixed: &FixedOutput, output: &Expected, nar_hash: &[u8; 32]) -> crate::Result<Hash> {
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
