//! The build graph as flat arrays: a row a derivation, its outputs and inputs as ranges. Holds no
//! whole derivation.

mod dependents;
mod inputs;
mod requirements;

use std::ops::Range;
use std::slice;
use std::sync::Arc;

use bevy_ecs::prelude::Resource;

use crate::derivation::Derivation;
use crate::derivation::attributes::Attributes;
use crate::ids::{DrvId, NameId, PathId, dense_id};
use crate::outputs::{OutputSet, OutputSets};
use crate::paths::{Interner, PathTable};
use crate::store_path::StoreDir;
use crate::task_graph::{Rows, TaskGraph};
use crate::{Error, Result};

use dependents::Dependents;
pub use inputs::Inputs;
use requirements::{RequirementTable, Requirements};

/// An output of a derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRow {
    /// What it is called.
    pub name: NameId,
    /// Where it will be.
    pub path: PathId,
}

/// An input derivation and what is needed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputRow {
    /// The derivation.
    pub drv: DrvId,
    /// Which of its outputs.
    pub wanted: OutputSet,
}

/// What the engine must know of a derivation before it builds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct BuildFlags {
    /// All outputs have a hash known beforehand.
    pub fixed: bool,
    /// `preferLocalBuild`: neither the hook nor a substituter is to be bothered.
    pub prefer_local: bool,
    /// `allowSubstitutes` is not false.
    pub allow_substitutes: bool,
    /// Its attributes say what its outputs must be like ([`Derivation::checks_outputs`]).
    pub checks_outputs: bool,
}

/// A derivation that has been met.
#[derive(Debug, Clone, Copy)]
struct DrvRow {
    path: PathId,
    /// Its place in the list of those that are loaded.
    loaded: Option<LoadedId>,
}

dense_id! {
    /// A place in the list of derivations that are loaded.
    pub(crate) LoadedId
}

/// A derivation that has been loaded: where its rows begin. They end where those of the one loaded
/// next begin, or will.
#[derive(Debug, Clone, Copy, Default)]
struct LoadedRow {
    outputs: u32,
    inputs: u32,
    sources: u32,
    /// Its place in the table of requirements.
    requirements: u32,
}

fn index(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than 2^32 rows")
}

/// Everything a run knows of paths and derivations.
#[derive(Debug, Resource)]
pub struct BuildGraph {
    /// The logical store directory all paths lie in.
    pub store_dir: StoreDir,
    /// All paths met.
    pub paths: PathTable,
    /// All sets of outputs met.
    pub output_sets: OutputSets,
    names: Interner,
    rows: Vec<DrvRow>,
    /// One more than there are, for the one loaded next.
    loaded: Vec<LoadedRow>,
    requirements: RequirementTable,
    /// The derivation stored at each path, by path id.
    by_path: Vec<Option<DrvId>>,
    /// If it was made of tasks, their edges; then it has none of the rows above, nor inputs below,
    /// for what these say of a task follows from its number.
    tasks: Option<Arc<Rows>>,
    outputs: Vec<OutputRow>,
    /// The derivation of each input.
    inputs: Vec<DrvId>,
    /// What is needed of each; inputs behind its end are needed whole.
    input_sets: Vec<OutputSet>,
    sources: Vec<PathId>,
    dependents: Dependents,
    in_order: bool,
}

impl BuildGraph {
    /// An empty graph over that store.
    pub fn new(store_dir: StoreDir) -> Self {
        Self {
            store_dir,
            paths: PathTable::default(),
            output_sets: OutputSets::default(),
            names: Interner::default(),
            rows: Vec::new(),
            loaded: vec![LoadedRow::default()],
            requirements: RequirementTable::default(),
            by_path: Vec::new(),
            tasks: None,
            outputs: Vec::new(),
            inputs: Vec::new(),
            input_sets: Vec::new(),
            sources: Vec::new(),
            dependents: Dependents::default(),
            in_order: false,
        }
    }

    /// A graph of tasks, each a derivation with one output and the same index. Its paths are
    /// numbers without text, derivations first, then outputs.
    pub fn from_tasks(tasks: &TaskGraph) -> Self {
        let mut graph = Self::new(StoreDir::new("/simulated"));
        let count = tasks.len();
        let out = graph.name("out");
        graph
            .outputs
            .extend((count..2 * count).map(|number| OutputRow {
                name: out,
                path: PathId::from_index(number),
            }));
        graph.tasks = Some(Arc::clone(tasks.rows()));
        graph.dependents = Dependents::of_tasks(tasks);
        graph.in_order = tasks.is_in_order();
        graph
    }

    /// Whether it was made of tasks, which have no files.
    #[inline]
    pub fn is_of_tasks(&self) -> bool {
        self.tasks.is_some()
    }

    /// The id of a full store path.
    ///
    /// # Errors
    /// [`Error::BadStorePath`] when it lies outside this store.
    pub fn path(&mut self, full: &str) -> Result<PathId> {
        match self.store_dir.strip(full) {
            Some(base) => self.paths.intern(base).map_err(|error| match error {
                Error::BadStorePath { reason, .. } => Error::BadStorePath {
                    path: full.to_owned(),
                    reason,
                },
                other => other,
            }),
            None => self
                .store_dir
                .parse(full)
                .map(|path| self.paths.intern_path(&path)),
        }
    }

    /// The full text of a path. One of a graph of tasks has none, and its number stands for it.
    pub fn full_path(&self, path: PathId) -> String {
        if path.index() >= self.paths.len() {
            return format!("task {}", path.index());
        }
        self.store_dir.join(self.paths.base_name(path))
    }

    /// The id of a short recurring text.
    pub fn name(&mut self, name: &str) -> NameId {
        NameId::from_index(self.names.intern(name))
    }

    /// The text of a name.
    pub fn name_text(&self, name: NameId) -> &str {
        self.names.text(name.index())
    }

    /// The derivation stored at `path`, a row of its own from now on; not loaded yet if it is new.
    ///
    /// # Panics
    /// In debug builds, in a graph of tasks, which is complete.
    pub fn drv(&mut self, path: PathId) -> DrvId {
        debug_assert!(self.tasks.is_none());
        if self.by_path.len() <= path.index() {
            self.by_path
                .resize(self.paths.len().max(path.index() + 1), None);
        }
        *self.by_path[path.index()].get_or_insert_with(|| {
            let id = DrvId::from_index(self.rows.len());
            self.rows.push(DrvRow { path, loaded: None });
            id
        })
    }

    /// How many derivations have a row.
    pub fn drv_count(&self) -> usize {
        match &self.tasks {
            Some(tasks) => tasks.starts.len() - 1,
            None => self.rows.len(),
        }
    }

    /// How many inputs all derivations have together, as far as they are loaded.
    pub fn edge_count(&self) -> usize {
        match &self.tasks {
            Some(tasks) => tasks.predecessors.len(),
            None => self.inputs.len(),
        }
    }

    /// Where the derivation is stored.
    #[inline]
    pub fn drv_path(&self, drv: DrvId) -> PathId {
        if self.tasks.is_some() {
            return PathId::from_index(drv.index());
        }
        self.rows[drv.index()].path
    }

    /// The derivation's name, without `.drv`.
    pub fn drv_name(&self, drv: DrvId) -> &str {
        let name = self.paths.name(self.drv_path(drv));
        name.strip_suffix(".drv").unwrap_or(name)
    }

    /// Whether its contents are loaded.
    #[inline]
    pub fn is_loaded(&self, drv: DrvId) -> bool {
        self.tasks.is_some() || self.rows[drv.index()].loaded.is_some()
    }

    fn loaded(&self, drv: DrvId) -> Option<&LoadedRow> {
        let row = self.rows.get(drv.index())?;
        self.loaded.get(row.loaded?.index())
    }

    /// The part of a list that belongs to `drv`: from where its rows begin to where the next ones
    /// do. A task has none.
    #[inline]
    fn part(&self, drv: DrvId, start: impl Fn(&LoadedRow) -> u32) -> Range<usize> {
        let Some(loaded) = self.rows.get(drv.index()).and_then(|row| row.loaded) else {
            return 0..0;
        };
        match self.loaded[loaded.index()..].first_chunk() {
            Some([row, next]) => start(row) as usize..start(next) as usize,
            None => 0..0,
        }
    }

    /// Its outputs, in the file's order; none before it is loaded.
    ///
    /// Nix 1.8: `outputPaths`.
    #[inline]
    pub fn outputs(&self, drv: DrvId) -> &[OutputRow] {
        if self.tasks.is_some() {
            return slice::from_ref(&self.outputs[drv.index()]);
        }
        &self.outputs[self.part(drv, |row| row.outputs)]
    }

    /// Its input derivations.
    #[inline]
    pub fn inputs(&self, drv: DrvId) -> Inputs<'_> {
        if let Some(tasks) = &self.tasks {
            return Inputs::of_task(tasks.of(drv.index()));
        }
        let part = self.part(drv, |row| row.inputs);
        Inputs::new(&self.inputs, &self.input_sets, part)
    }

    /// The same, and the sets of outputs beside them, to be added to.
    #[inline]
    pub fn inputs_and_sets(&mut self, drv: DrvId) -> (Inputs<'_>, &mut OutputSets) {
        let inputs = match &self.tasks {
            Some(tasks) => Inputs::of_task(tasks.of(drv.index())),
            None => {
                let part = self.part(drv, |row| row.inputs);
                Inputs::new(&self.inputs, &self.input_sets, part)
            }
        };
        (inputs, &mut self.output_sets)
    }

    /// Whether any derivation has sources.
    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether any derivation needs certain outputs of an input only.
    pub fn has_input_sets(&self) -> bool {
        !self.input_sets.is_empty()
    }

    /// The derivations that have it as an input, as far as they are loaded.
    #[inline]
    pub fn dependents(&self, drv: DrvId) -> impl Iterator<Item = DrvId> {
        self.dependents.of(drv)
    }

    /// Whether a derivation has it as an input, as far as they are loaded.
    pub fn is_needed(&self, drv: DrvId) -> bool {
        self.dependents(drv).next().is_some()
    }

    /// How many derivations have each as an input, by derivation id.
    pub fn count_dependents(&self) -> Vec<u32> {
        self.dependents.counts(self.drv_count())
    }

    /// Whether every derivation is known to have a greater id than its inputs.
    pub fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Its sources.
    pub fn sources(&self, drv: DrvId) -> &[PathId] {
        &self.sources[self.part(drv, |row| row.sources)]
    }

    fn requirements(&self, drv: DrvId) -> Requirements {
        let row = self.loaded(drv);
        row.map_or_else(Requirements::default, |row| {
            self.requirements.rows[row.requirements as usize]
        })
    }

    /// What its builder may refer to itself: its sources, and the outputs of its inputs that it
    /// needs.
    pub fn direct_inputs(&self, drv: DrvId) -> impl Iterator<Item = PathId> {
        let outputs = self.inputs(drv).flat_map(move |input| {
            let rows = self.outputs(input.drv).iter();
            rows.filter(move |row| self.output_sets.wants(input.wanted, row.name))
                .map(|row| row.path)
        });
        self.sources(drv).iter().copied().chain(outputs)
    }

    /// What must be known before it is built.
    pub fn traits(&self, drv: DrvId) -> BuildFlags {
        self.requirements(drv).flags
    }

    /// The platform it must be built on; `None` before it is loaded.
    pub fn system(&self, drv: DrvId) -> Option<&str> {
        self.requirements(drv)
            .system
            .map(|name| self.name_text(name))
    }

    /// The features it requires of its machine, beyond the platform, as the build hook is told:
    /// joined by commas.
    pub fn required_features(&self, drv: DrvId) -> &str {
        let features = self.requirements(drv).features;
        features.map_or("", |name| self.name_text(name))
    }

    /// Which kind of machine it needs: equal for derivations that the same machines can build.
    pub fn machine_kind(&self, drv: DrvId) -> (Option<NameId>, Option<NameId>) {
        let requirements = self.requirements(drv);
        (requirements.system, requirements.features)
    }

    /// Loads the contents of `drv`.
    ///
    /// # Errors
    /// [`Error::BadStorePath`] when it names a path outside this store; the row is then
    /// left unloaded.
    pub fn load(&mut self, drv: DrvId, contents: &Derivation<'_>) -> Result<()> {
        let starts = (self.outputs.len(), self.inputs.len(), self.sources.len());
        if let Err(error) = self.push_rows(contents) {
            self.outputs.truncate(starts.0);
            self.inputs.truncate(starts.1);
            self.input_sets.truncate(starts.1);
            self.sources.truncate(starts.2);
            return Err(error);
        }
        let system = self.name(&contents.system);
        // What is malformed is told when it is to be built; until then it is as if not given.
        let attributes = Attributes::of(contents).ok();
        let flag = |name| attributes.as_ref()?.flag(name).ok()?;
        let features = attributes.as_ref().and_then(|attributes| {
            let features = attributes.required_features().ok()?;
            (!features.is_empty()).then(|| self.name(&features.join(",")))
        });
        let flags = BuildFlags {
            fixed: contents.is_fixed(),
            prefer_local: flag("preferLocalBuild").unwrap_or(false),
            allow_substitutes: flag("allowSubstitutes").unwrap_or(true),
            checks_outputs: contents.checks_outputs(),
        };
        let requirements = self.requirements.intern(Requirements {
            system: Some(system),
            features,
            flags,
        });
        for input in &self.inputs[starts.1..] {
            self.dependents.add(*input, drv);
        }
        self.in_order = false;
        let place = self.loaded.len() - 1;
        self.rows[drv.index()].loaded = Some(LoadedId::from_index(place));
        self.loaded[place].requirements = requirements;
        self.loaded.push(LoadedRow {
            outputs: index(self.outputs.len()),
            inputs: index(self.inputs.len()),
            sources: index(self.sources.len()),
            requirements: 0,
        });
        Ok(())
    }

    fn push_rows(&mut self, contents: &Derivation<'_>) -> Result<()> {
        for output in &contents.outputs {
            let row = OutputRow {
                name: self.name(&output.name),
                path: self.path(&output.path)?,
            };
            self.outputs.push(row);
        }
        for input in &contents.input_drvs {
            let path = self.path(&input.path)?;
            let mut names = input.outputs.iter().map(|name| self.name(name)).collect();
            let wanted = self.output_sets.intern(&mut names);
            let drv = self.drv(path);
            if wanted != OutputSet::ALL || !self.input_sets.is_empty() {
                self.input_sets.resize(self.inputs.len(), OutputSet::ALL);
                self.input_sets.push(wanted);
            }
            self.inputs.push(drv);
        }
        for source in &contents.input_srcs {
            let path = self.path(source)?;
            self.sources.push(path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
