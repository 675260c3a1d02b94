//! The real store as the systems see it: a [`LocalStore`], addressed by the ids of the run's graph.

use std::fs::File;
use std::num::NonZero;
use std::time::{SystemTime, UNIX_EPOCH};

use windrow_components::bit_set::PathSet;
use windrow_components::building::{HashRewrites, ScratchOutput};
use windrow_components::derivation::Derivation;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_store::local::LocalStore;
use windrow_store::locks::path_lock;
use windrow_store::own::failed_paths::FailedPaths;
use windrow_store::{Database, Error as StoreError, PathInfo, Registration};
use windrow_sys::threads::spawn_scoped;

use crate::error::Result;
use crate::world::{NewOutput, OutputLocks, Store, Used};

/// How many lock files are worth a thread to delete them.
const RETIRED_A_THREAD: usize = 50;

/// A store on this machine, and what a run remembers of it.
pub struct RealStore {
    /// The store.
    pub local: LocalStore,
    closures: ClosureCache,
    used: Used,
    /// Paths of the run's graph that are temporary roots.
    rooted: PathSet,
    /// Paths that are valid now, whose lock files are to be deleted when the run ends: file systems
    /// such as ext4 look for a new inode past every one that was freed in the last seconds, so a
    /// file deleted now makes all that are created next dearer.
    retired_locks: Vec<PathId>,
    prepared: Prepared,
}

/// What was done for builds that are next, before their inputs were valid.
#[derive(Default)]
struct Prepared {
    /// Derivations that name the right outputs.
    checked: Vec<DrvId>,
    /// Lock files of outputs.
    locks: Vec<(PathId, File)>,
}

/// How much is prepared at most. What is not used any more goes when the run ends.
const PREPARED_MAX: usize = 16;

impl From<LocalStore> for RealStore {
    fn from(local: LocalStore) -> Self {
        Self {
            local,
            closures: ClosureCache::default(),
            used: Used::default(),
            rooted: PathSet::default(),
            retired_locks: Vec::new(),
            prepared: Prepared::default(),
        }
    }
}

impl Prepared {
    fn take_lock(&mut self, path: PathId) -> Option<File> {
        let place = self.locks.iter().position(|(known, _)| *known == path)?;
        Some(self.locks.swap_remove(place).1)
    }
}

impl RealStore {
    /// Scratch names for all outputs of a derivation that nobody else has, nor ever will. `unique`
    /// is a number that nobody else has either.
    ///
    /// # Errors
    /// When they can't be kept from collection.
    pub fn outputs_to_throw_away(
        &mut self,
        graph: &BuildGraph,
        drv: DrvId,
        unique: [u8; 32],
    ) -> Result<HashRewrites> {
        let outputs = graph.outputs(drv).iter().map(|row| row.path);
        let outputs: Vec<PathId> = outputs.collect();
        self.scratch_names(graph, drv, (&outputs, "shell", unique))
    }

    fn scratch_names(
        &mut self,
        graph: &BuildGraph,
        drv: DrvId,
        (outputs, purpose, hash): (&[PathId], &str, [u8; 32]),
    ) -> Result<HashRewrites> {
        let drv_name = graph.paths.base_name(graph.drv_path(drv));
        let mut rewrites = HashRewrites::default();
        for &path in outputs {
            let kind = format!("{purpose}:{drv_name}:{}", graph.paths.base_name(path));
            let store_dir = self.local.store_dir();
            let scratch = store_dir.make_path(&kind, &hash, graph.paths.name(path))?;
            let mut scratch_hash = [0; 32];
            scratch_hash.copy_from_slice(scratch.hash_part().as_bytes());
            let scratch_path = self.local.store_dir().display(&scratch);
            self.local.keep(&[&scratch_path])?;
            let hash = graph.paths.hash_part(path);
            rewrites.scratch.push(ScratchOutput {
                hash,
                scratch_hash,
                scratch_path,
            });
        }
        Ok(rewrites)
    }
}

impl Store for RealStore {
    fn add_temp_roots(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<()> {
        if self.local.is_read_only() {
            return Ok(());
        }
        let new = paths.iter().copied();
        let new: Vec<PathId> = new.filter(|&path| !self.rooted.contains(path)).collect();
        let full: Vec<String> = new.iter().map(|&path| graph.full_path(path)).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        self.local.keep_once(&full)?;
        for path in new {
            self.rooted.insert(path);
        }
        Ok(())
    }

    fn valid(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        let full: Vec<String> = paths.iter().map(|&path| graph.full_path(path)).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let mut valid = self.local.database.valid_paths(&full)?;
        for (&path, _) in paths.iter().zip(&valid).filter(|(_, valid)| **valid) {
            self.used.found.insert(path);
        }
        let drafts = self.local.drafts();
        if !drafts.is_empty() {
            for (valid, path) in valid.iter_mut().zip(full) {
                *valid |= drafts.contains(path);
            }
        }
        Ok(valid)
    }

    fn load(&mut self, graph: &mut BuildGraph, drv: DrvId) -> Result<()> {
        let path = graph.full_path(graph.drv_path(drv));
        Ok(self
            .local
            .with_derivation(&path, |contents| Ok(graph.load(drv, contents)?))?)
    }

    fn check_output_paths(&mut self, graph: &BuildGraph, drv: DrvId) -> Result<()> {
        let checked = &mut self.prepared.checked;
        if let Some(place) = checked.iter().position(|&known| known == drv) {
            checked.swap_remove(place);
            return Ok(());
        }
        let path = graph.full_path(graph.drv_path(drv));
        // Whoever registered the derivation checked it and wrote down its outputs. Where that
        // record is missing or differs, its contents decide.
        let recorded = self.local.database.derivation_outputs(&path)?;
        let outputs = graph.outputs(drv);
        let agrees = |row: &windrow_components::graph::OutputRow| {
            let (name, output) = (graph.name_text(row.name), graph.full_path(row.path));
            recorded
                .iter()
                .any(|(known, path)| known == name && *path == output)
        };
        if recorded.len() == outputs.len() && outputs.iter().all(agrees) {
            return Ok(());
        }
        let text = self.local.read_derivation(&path)?;
        let contents = Derivation::parse(&text).map_err(|source| StoreError::Derivation {
            path: path.clone(),
            source,
        })?;
        Ok(self.local.check_derivation(&path, &contents)?)
    }

    fn nar_hash(&mut self, graph: &BuildGraph, path: PathId) -> Result<Option<[u8; 32]>> {
        let info = self.local.database.path_info(&graph.full_path(path))?;
        Ok(info.map(|info| info.nar_hash))
    }

    fn try_lock(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Option<OutputLocks>> {
        let each = paths.iter().map(|&path| {
            let real = self.local.layout().real_path(&graph.full_path(path));
            (real, self.prepared.take_lock(path))
        });
        let locks = path_lock::try_lock_all_opened(each.collect())?;
        let paths = paths.to_vec();
        Ok(locks.map(|locks| OutputLocks { locks, paths }))
    }

    fn prepare(&mut self, graph: &BuildGraph, drv: DrvId) {
        let outputs = graph.outputs(drv).iter().map(|row| row.path);
        let outputs: Vec<PathId> = outputs.collect();
        let Prepared { checked, locks } = &self.prepared;
        let has_room = checked.len() < PREPARED_MAX && locks.len() + outputs.len() < PREPARED_MAX;
        let is_known = checked.contains(&drv);
        // A collector deletes the lock files of what is no root.
        if !has_room || is_known || self.add_temp_roots(graph, &outputs).is_err() {
            return;
        }
        if self.check_output_paths(graph, drv).is_ok() {
            self.prepared.checked.push(drv);
        }
        for path in outputs {
            let real = self.local.layout().real_path(&graph.full_path(path));
            if let Ok(file) = path_lock::open_ahead(&real) {
                self.prepared.locks.push((path, file));
            }
        }
    }

    fn describe_lock(&self, graph: &BuildGraph, paths: &[PathId]) -> String {
        let layout = self.local.layout();
        let real = paths
            .iter()
            .map(|&path| layout.real_path(&graph.full_path(path)));
        path_lock::held_by_others(&real.collect::<Vec<_>>())
    }

    /// Outputs that are valid are built again under names of their own, made as in Nix 2.
    ///
    /// Nix 1.8: `DerivationGoal::addHashRewrite`.
    fn scratch_outputs(
        &mut self,
        graph: &BuildGraph,
        drv: DrvId,
        valid: &[PathId],
    ) -> Result<HashRewrites> {
        self.scratch_names(graph, drv, (valid, "rewrite", [0; 32]))
    }

    fn failed_paths(&mut self) -> Option<&FailedPaths> {
        self.local.failed_paths()
    }

    fn unlock(&mut self, held: OutputLocks, delete: bool) {
        if delete {
            self.retired_locks.extend(held.paths);
        }
    }

    fn take_used(&mut self) -> Option<Used> {
        Some(std::mem::take(&mut self.used))
    }

    fn close(&mut self, graph: &BuildGraph) {
        let mut retired = std::mem::take(&mut self.retired_locks);
        let unused = std::mem::take(&mut self.prepared);
        retired.extend(unused.locks.into_iter().map(|(path, _)| path));
        let layout = self.local.layout();
        let delete = |paths: &[PathId]| {
            for &path in paths {
                let place = layout.real_path(&graph.full_path(path));
                // A lock file that stays is only litter, which the collector sweeps up.
                let _ = path_lock::delete_retired(&place);
            }
        };
        // Nothing else is left to do until then, on any processor.
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let share = retired.len().div_ceil(threads).max(RETIRED_A_THREAD);
        std::thread::scope(|scope| {
            let mut shares = retired.chunks(share);
            let ours = shares.next().unwrap_or_default();
            for theirs in shares {
                if spawn_scoped(scope, || delete(theirs)).is_err() {
                    delete(theirs);
                }
            }
            delete(ours);
        });
    }

    /// From the closures that are known already, so that only new paths are looked up.
    ///
    /// Nix 1.8: `DerivationGoal::inputsRealised`.
    fn input_closure(&mut self, graph: &mut BuildGraph, drv: DrvId) -> Result<Vec<PathId>> {
        let roots: Vec<PathId> = graph.direct_inputs(drv).collect();
        self.closures.closure(&self.local.database, graph, &roots)
    }

    fn closure(&mut self, graph: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>> {
        self.closures.closure(&self.local.database, graph, paths)
    }

    fn may_build(&mut self) -> Result<()> {
        self.local.signer.load()?;
        Ok(())
    }

    fn trust(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<()> {
        let mut trusted = Vec::new();
        for &path in paths {
            let info = self.local.database.path_info(&graph.full_path(path))?;
            let Some(mut info) = info.filter(|info| !info.ultimate) else {
                continue;
            };
            info.ultimate = true;
            self.local.signer.sign(&mut info)?;
            trusted.push(Registration {
                info,
                outputs: Vec::new(),
            });
        }
        Ok(self.local.database.register(&trusted)?)
    }

    fn begin_by_hook(&mut self, graph: &BuildGraph, paths: &[PathId]) {
        if let Some(listener) = &mut self.local.built {
            listener.about_to_be_valid(&full_paths(graph, paths));
        }
    }

    fn end_by_hook(&mut self, graph: &BuildGraph, registered: &[PathId], others: &[PathId]) {
        if let Some(listener) = &mut self.local.built {
            listener.are_not_valid(&full_paths(graph, others));
            listener.are_valid(&full_paths(graph, registered));
        }
    }

    fn register(&mut self, graph: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        let outputs = || outputs.iter().filter_map(|output| output.built.as_deref());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut batch: Vec<Registration> = outputs()
            .map(|output| Registration {
                info: PathInfo {
                    path: graph.full_path(output.path),
                    nar_hash: output.nar_hash,
                    nar_size: output.nar_size,
                    registration_time: i64::try_from(now).unwrap_or(i64::MAX),
                    deriver: output.deriver.map(|deriver| graph.full_path(deriver)),
                    references: output
                        .references
                        .iter()
                        .map(|&p| graph.full_path(p))
                        .collect(),
                    ultimate: output.ultimate,
                    sigs: output.sigs.clone(),
                    ca: output.content_address.clone(),
                },
                outputs: output.drv_outputs.clone(),
            })
            .collect();
        let built = batch.iter_mut().map(|it| &mut it.info);
        for info in built.filter(|info| info.ultimate) {
            self.local.signer.sign(info)?;
        }
        let mut listener = self.local.built.as_mut();
        let built = match &mut listener {
            Some(listener) => {
                let built = batch.iter().filter(|new| new.info.ultimate);
                let built: Vec<String> = built.map(|new| new.info.path.clone()).collect();
                listener.about_to_be_valid(&built);
                built
            }
            None => Vec::new(),
        };
        // Where they are to be on disk by then, whoever scanned them has seen to it.
        self.local.database.register(&batch)?;
        if let Some(listener) = listener {
            listener.are_valid(&built);
        }
        for output in outputs() {
            self.used.made.insert(output.path);
            self.closures.remember(output.path, &output.references);
        }
        Ok(())
    }
}

fn full_paths(graph: &BuildGraph, paths: &[PathId]) -> Vec<String> {
    paths.iter().map(|&path| graph.full_path(path)).collect()
}

/// Stands for the place of references that there are none of.
const NO_REFERENCES: u32 = u32::MAX;

/// The references of valid paths, looked up once each, and a scratch pad for walking them.
#[derive(Default)]
struct ClosureCache {
    /// Where the references of each path begin in the list of all: their number, then they
    /// themselves. 0 for a path that was not looked up yet, [`NO_REFERENCES`] for one without any.
    starts: Vec<u32>,
    references: Vec<u32>,
    /// In which walk a path was last seen.
    seen: Vec<u32>,
    walk: u32,
}

impl ClosureCache {
    fn remember(&mut self, path: PathId, references: &[PathId]) {
        if self.starts.len() <= path.index() {
            self.starts.resize(path.index() + 1, 0);
        }
        let start = if references.is_empty() {
            NO_REFERENCES
        } else {
            let number = |count: usize| u32::try_from(count).expect("fewer than 2^32 references");
            self.references.push(number(references.len()));
            let start = number(self.references.len());
            let ids = references.iter().map(|path| path.index() as u32);
            self.references.extend(ids);
            start
        };
        self.starts[path.index()] = start;
    }

    /// The references of a path that was looked up.
    fn known(&self, path: PathId) -> Option<&[u32]> {
        match self.starts.get(path.index()).copied()? {
            0 => None,
            NO_REFERENCES => Some(&[]),
            start => {
                let start = start as usize;
                let count = self.references[start - 1] as usize;
                Some(&self.references[start..start + count])
            }
        }
    }

    fn closure(
        &mut self,
        database: &Database,
        graph: &mut BuildGraph,
        roots: &[PathId],
    ) -> Result<Vec<PathId>> {
        self.walk += 1;
        let mut found: Vec<PathId> = Vec::new();
        let mut next = 0;
        let mut pending: Vec<PathId> = roots.to_vec();
        loop {
            for path in pending.drain(..) {
                if self.seen.len() <= path.index() {
                    self.seen.resize(graph.paths.len().max(path.index() + 1), 0);
                }
                if self.seen[path.index()] != self.walk {
                    self.seen[path.index()] = self.walk;
                    found.push(path);
                }
            }
            let Some(&path) = found.get(next) else {
                return Ok(found);
            };
            next += 1;
            if self.known(path).is_none() {
                let full = graph.full_path(path);
                let mut references = Vec::new();
                for reference in database.references(&full)? {
                    references.push(graph.path(&reference)?);
                }
                self.remember(path, &references);
            }
            let references = self.known(path).unwrap_or_default();
            pending.extend(references.iter().map(|&id| PathId::from_index(id as usize)));
        }
    }
}
