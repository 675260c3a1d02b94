//! Looks at what a builder made: checks it, makes it canonical, hashes and scans it (Nix 1.8:
//! `registerOutputs`).
//!
//! Runs in the pool, on plain values; the scheduler registers the result.

pub mod checks;
pub mod compare;
pub mod fetched;
pub mod receive;
mod scan;
mod suspicious;
pub mod unpack;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashMap;
use nix::unistd::geteuid;
use windrow_components::building::HashRewrites;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::store_path::StoreDir;
use windrow_sandbox::BuildEnv;
use windrow_store::db::reader::Reader;
use windrow_store::files::canonical::{InodesSeen, canonicalise};
use windrow_store::files::durable::Durability;
use windrow_store::files::replace::move_tree;
use windrow_store::nar::rewrite::Rewrite;
use windrow_sys::harmless::make_harmless;
use windrow_sys::interrupt::Grace;
use windrow_sys::space::Places;
use windrow_sys::tree::delete_path;

use checks::Expectations;
use compare::{Check, Differing};
pub use scan::scan_outputs;

use crate::failure::{Failure, FailureKind};
use crate::world::{BuilderConfig, BuiltOutput};

/// An output to look at.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) path: PathId,
    pub(super) store_path: String,
    /// Where the builder was to put it.
    pub(super) real_path: PathBuf,
    /// Where it belongs, if that is not the same.
    pub(super) place: Option<PathBuf>,
}

/// What the pool needs to know to look at the outputs of one build.
#[derive(Debug)]
pub struct ScanJob {
    drv_path: String,
    drv_file: Option<PathBuf>,
    deriver: PathId,
    outputs: Vec<Expected>,
    /// Everything the outputs may refer to.
    candidates: Vec<([u8; 32], PathId)>,
    /// What outputs that were valid already were called, and where they lie.
    scratch: Vec<(Rewrite, PathBuf)>,
    reader: Arc<Reader>,
    check: Option<Check>,
    /// Whom everything must belong to.
    builder_uid: u32,
    /// Where copies of outputs are made that their builder can't reach, if it could reach the
    /// outputs.
    copies: Option<CopyPlace>,
    /// What is written to disk when all is well.
    durability: Durability,
    /// Where the builder wrote.
    written: Places,
    /// Whether every output is copied, and not only what was made with the machine's network: a
    /// build user without a sandbox may have handed an open file to another process.
    copies_all: bool,
}

/// Where an output is copied.
#[derive(Debug)]
enum CopyPlace {
    /// In the build's own directory, which nobody else may enter.
    BuildEnv(PathBuf),
    /// In a new directory beside the output.
    Beside,
}

/// A fixed output with another hash than it should have, which is good at the path of the hash that
/// it has.
#[derive(Debug)]
pub struct MismatchedOutput {
    /// The store path of the hash that it has.
    pub store_path: String,
    /// Where it lies.
    pub real_path: PathBuf,
    /// What to register, except the path: there it says where it should have been.
    pub output: BuiltOutput,
}

/// Outputs that can't be registered.
#[derive(Debug)]
pub struct Flawed {
    /// Why.
    pub failure: Failure,
    /// One that can be kept although it is not the one that was to be made.
    pub mismatched: Option<Box<MismatchedOutput>>,
    /// Those that came out different from valid ones, and were kept.
    pub differing: Vec<Differing>,
}

/// How large a file may be at most to be hashed beside the pool.
const SMALL_BYTES: u64 = 16 * 1024;
/// How many hash parts may be looked for at most beside the pool.
const SMALL_CANDIDATES: usize = 256;

/// Beyond every path's index: that of the first scratch name among the candidates.
const SCRATCH: u32 = 1 << 31;

impl ScanJob {
    /// A job for the outputs `missing` of `drv`, whose inputs' closure is `closure`.
    pub fn new(
        graph: &BuildGraph,
        config: &BuilderConfig,
        drv: DrvId,
        missing: &[PathId],
        closure: &[PathId],
        rewrites: Option<&HashRewrites>,
        env: Option<&BuildEnv>,
    ) -> Self {
        let private_store = env.and_then(BuildEnv::store);
        let deriver = graph.drv_path(drv);
        let drv_path = graph.full_path(deriver);
        let outputs = missing
            .iter()
            .map(|&path| {
                let store_path = graph.full_path(path);
                let place = config.layout.real_path(&store_path);
                let hash = graph.paths.hash_part(path);
                let mut scratch = rewrites.into_iter().flat_map(|rewrites| &rewrites.scratch);
                let scratch = scratch.find(|scratch| scratch.hash == hash);
                let (real_path, place) = match (scratch, &private_store) {
                    (_, Some(store)) => (store.join(graph.paths.base_name(path)), Some(place)),
                    (Some(scratch), _) => {
                        (config.layout.real_path(&scratch.scratch_path), Some(place))
                    }
                    (None, None) => (place, None),
                };
                Expected {
                    path,
                    store_path,
                    real_path,
                    place,
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
        // Only the derivation itself says what the hash of a fixed output, or what any output
        // should be.
        let traits = graph.traits(drv);
        let drv_file =
            (traits.fixed || traits.checks_outputs).then(|| config.layout.real_path(&drv_path));
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
            reader: Arc::clone(&config.reader),
            check: None,
            durability: config.durability,
            written: config.places_of(env),
            copies_all: env.is_some_and(|env| !env.is_sandbox()),
            builder_uid: env.map_or_else(|| geteuid().as_raw(), BuildEnv::builder_uid),
            copies: env.map(|env| env.private().map_or(CopyPlace::Beside, CopyPlace::BuildEnv)),
        }
    }

    /// Deletes what was made under scratch names.
    pub fn discard_scratch(&self) {
        let _grace = Grace::new();
        for (_, path) in &self.scratch {
            // What stays has no name that anyone would look for, and collectors delete it.
            let _ = delete_path(path);
        }
    }

    /// Moves what a failed builder made in its sandbox to where it belongs, for somebody to look
    /// at. It is not valid, and it is made harmless first; what can't be stays behind, or if it
    /// lies in the store already, is deleted.
    pub fn keep_outputs(&self) {
        let mut seen = InodesSeen::default();
        for Expected {
            real_path, place, ..
        } in &self.outputs
        {
            match place {
                Some(place) if place.symlink_metadata().is_err() => {
                    if canonicalise(real_path, Some(self.builder_uid), &mut seen).is_ok() {
                        let _ = move_tree(real_path, place);
                    }
                }
                Some(_) => {}
                None => {
                    if real_path.symlink_metadata().is_ok()
                        && make_harmless(real_path, self.builder_uid).is_err()
                    {
                        let _ = delete_path(real_path);
                    }
                }
            }
        }
    }

    /// What the outputs are called in the sandbox they were made in.
    pub fn sandboxed_names(&self) -> Vec<OsString> {
        let own = self.outputs.iter().filter(|output| output.place.is_some());
        let names = own.filter_map(|output| output.real_path.file_name());
        names.map(OsString::from).collect()
    }

    fn expectations(&self, store: &StoreDir) -> Result<Expectations, Failure> {
        let Some(file) = &self.drv_file else {
            return Ok(Expectations::default());
        };
        Expectations::read(file, store).map_err(|problem| {
            let text = format!(
                "cannot register the outputs of '{}': {problem}",
                self.drv_path
            );
            Failure::new(FailureKind::Other, text)
        })
    }

    /// Checks what concerns all outputs together, and paths by name.
    fn check(&self, outputs: &[BuiltOutput], expected: &Expectations) -> Result<(), Failure> {
        let other = |message: String| Failure::new(FailureKind::Other, message);
        let about = |error: windrow_store::Error| {
            other(format!(
                "cannot check the outputs of '{}': {error}",
                self.drv_path
            ))
        };
        let own = self.outputs.iter();
        let mut names: HashMap<PathId, String> = own
            .map(|output| (output.path, output.store_path.clone()))
            .collect();
        let met = |path: &PathId| {
            outputs
                .iter()
                .any(|output| output.references.contains(path))
        };
        for (hash, path) in self.candidates.iter().filter(|(_, path)| met(path)) {
            if !names.contains_key(path) {
                let hash = String::from_utf8_lossy(hash);
                let name = self
                    .reader
                    .ask(|database| database.path_from_hash_part(&hash));
                names.extend(name.map_err(about)?.map(|name| (*path, name)));
            }
        }
        let mut candidates: Vec<checks::Candidate> = outputs
            .iter()
            .map(|output| checks::Candidate {
                path: names[&output.path].clone(),
                nar_size: output.nar_size,
                references: (output.references.iter())
                    .filter_map(|path| names.get(path).cloned())
                    .collect(),
            })
            .collect();
        // The same output is told of whatever its path is.
        candidates.sort_by_key(|output| expected.place(&output.path));
        let checks: Vec<_> = candidates
            .iter()
            .map(|output| expected.checks(&output.path))
            .collect();
        match checks::check(&candidates, &checks, &self.drv_path, &self.reader) {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(Failure::new(FailureKind::Rejected, problem)),
            Err(error) => Err(about(error)),
        }
    }

    /// Whether looking at the outputs takes no longer than handing them to another thread.
    pub fn is_small(&self) -> bool {
        let small = |output: &Expected| match output.real_path.symlink_metadata() {
            Ok(metadata) => !metadata.is_dir() && metadata.len() <= SMALL_BYTES,
            Err(_) => true,
        };
        self.drv_file.is_none()
            && !self.durability.is_wanted()
            && self.check.is_none()
            && self.copies.is_none()
            && self.scratch.is_empty()
            && self.candidates.len() <= SMALL_CANDIDATES
            && self.outputs.iter().all(small)
    }

    /// Where the outputs will lie.
    pub fn places(&self) -> Vec<PathBuf> {
        let outputs = self.outputs.iter();
        let places = outputs.map(|output| output.place.as_ref().unwrap_or(&output.real_path));
        places.cloned().collect()
    }

    /// Makes it a comparison with what is valid instead of a replacement.
    pub fn comparing(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }
}
