//! A store on this machine, open: its database, its temporary roots, and the derivations that lie
//! in it.

use windrow_components::derivation::{Derivation, Modulo, ModuloMemo, name_from_base};
use windrow_components::hash::sha256;
use windrow_components::store_path::StoreDir;
use windrow_sys::bounded;

use crate::db::{Database, DatabaseOptions, Registration};
use crate::drafts::Drafts;
use crate::error::{Error, Result};
use crate::files::durable::Durability;
use crate::layout::Layout;
use crate::own::failed_paths::FailedPaths;
use crate::roots::temporary::TempRoots;
use crate::signer::Signer;

/// Hears of paths that are built, on the thread that registers them. What it makes of that is its
/// own business, and so is what fails there.
pub trait Built: Send {
    /// Full paths are about to be registered, or may be, by somebody who was told to build them.
    fn about_to_be_valid(&mut self, paths: &[String]);

    /// These were, and are valid now.
    fn are_valid(&mut self, paths: &[String]);

    /// These were not, and won't be unless that is announced once more.
    fn are_not_valid(&mut self, paths: &[String]);
}

/// A store on this machine, open.
pub struct LocalStore {
    layout: Layout,
    store_dir: StoreDir,
    /// The database, shared with every other program that uses the store.
    pub database: Database,
    temp_roots: Option<TempRoots>,
    failed_paths: Option<FailedPaths>,
    /// Who hears of paths that are built.
    pub built: Option<Box<dyn Built>>,
    /// What signs the paths that are built here.
    pub signer: Signer,
    /// What is written to disk before paths are registered.
    pub durability: Durability,
    modulo: ModuloMemo,
    pub(crate) drafts: Drafts,
}

impl LocalStore {
    /// Opens the store for building, and makes it first if there is none.
    ///
    /// # Errors
    /// When its directories or its database can't be made, opened or written.
    pub fn open(layout: Layout, options: &DatabaseOptions) -> Result<Self> {
        let database = Database::open(&layout, options)?;
        let temp_roots = Some(TempRoots::open(&layout)?);
        Ok(Self::with(layout, database, temp_roots))
    }

    /// Opens the store for looking only, as a dry run does. Nothing is locked or kept from
    /// collection.
    ///
    /// # Errors
    /// When there is no database, or it can't be read.
    pub fn open_read_only(layout: Layout) -> Result<Self> {
        let database = Database::open_read_only(&layout)?;
        Ok(Self::with(layout, database, None))
    }

    /// The same, without even the files that SQLite makes beside a database that it reads.
    ///
    /// # Errors
    /// As [`LocalStore::open_read_only`].
    pub fn open_untouched(layout: Layout) -> Result<Self> {
        let database = Database::open_untouched(&layout)?;
        Ok(Self::with(layout, database, None))
    }

    /// The same for a store that is not there yet: one that has nothing.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn empty(layout: Layout) -> Result<Self> {
        let database = Database::in_memory(&layout)?;
        Ok(Self::with(layout, database, None))
    }

    fn with(layout: Layout, database: Database, temp_roots: Option<TempRoots>) -> Self {
        let store_dir = StoreDir::new(&layout.store_dir);
        Self {
            layout,
            store_dir,
            database,
            temp_roots,
            failed_paths: None,
            built: None,
            signer: Signer::default(),
            durability: Durability::default(),
            modulo: ModuloMemo::default(),
            drafts: Drafts::default(),
        }
    }

    /// From now on failures are remembered there, and what is known to fail is not tried again.
    pub fn remember_failures(&mut self, failed_paths: FailedPaths) {
        self.failed_paths = Some(failed_paths);
    }

    /// Registers paths whose files are in place, after these were written to disk, if that is
    /// wanted.
    ///
    /// # Errors
    /// When they can't be written, or those of [`Database::register`].
    pub fn register(&mut self, batch: &[Registration]) -> Result<()> {
        if self.durability.is_wanted() {
            let real = |new: &Registration| self.layout.real_path(&new.info.path);
            let places: Vec<_> = batch.iter().map(real).collect();
            self.durability.write_out(&places)?;
        }
        self.database.register(batch)
    }

    /// Where the store lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The logical store directory.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// Keeps full paths from being collected as long as this process lives.
    ///
    /// # Errors
    /// When the roots can't be written.
    pub fn keep(&mut self, paths: &[&str]) -> Result<()> {
        match &mut self.temp_roots {
            Some(roots) => roots.add(paths),
            None => Ok(()),
        }
    }

    /// As [`LocalStore::keep`], for paths that this store has not kept yet.
    ///
    /// # Errors
    /// When the roots can't be written.
    pub fn keep_once(&mut self, paths: &[&str]) -> Result<()> {
        match &mut self.temp_roots {
            Some(roots) => roots.add_once(paths),
            None => Ok(()),
        }
    }

    /// Whether it was opened for looking only, so that nothing is kept from collection.
    pub fn is_read_only(&self) -> bool {
        self.temp_roots.is_none()
    }

    /// What would be in a store that was opened for looking only.
    pub fn drafts(&self) -> &Drafts {
        &self.drafts
    }

    /// Whether a full path is valid, or would be if this store were written.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn has(&self, path: &str) -> Result<bool> {
        Ok(self.drafts.contains(path) || self.database.is_valid(path)?)
    }

    /// The failures that are remembered, after [`LocalStore::remember_failures`].
    pub fn failed_paths(&self) -> Option<&FailedPaths> {
        self.failed_paths.as_ref()
    }

    /// The bytes of the derivation at a full path.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read_derivation(&self, path: &str) -> Result<Vec<u8>> {
        if let Some(draft) = self.drafts.derivation(path) {
            return Ok(draft.to_owned());
        }
        let file = self.layout.real_path(path);
        let read = bounded::read_derivation(&file);
        read.map_err(Error::io("read derivation", file))
    }

    /// Reads a derivation and makes sure that its contents are the ones its path was made of.
    ///
    /// # Errors
    /// When it can't be read, parsed, or is not what it was when it was registered.
    pub fn with_derivation<T>(
        &self,
        path: &str,
        use_it: impl FnOnce(&Derivation<'_>) -> Result<T>,
    ) -> Result<T> {
        let text = self.read_derivation(path)?;
        let drv = Derivation::parse(&text).map_err(|source| Error::Derivation {
            path: path.to_owned(),
            source,
        })?;
        let own = self.store_dir.parse(path)?;
        let inputs = drv.input_drvs.iter().map(|input| &*input.path);
        let references = inputs.chain(drv.input_srcs.iter().map(|source| &**source));
        let expected = self
            .store_dir
            .text_path(own.name(), &sha256(&text), references)?;
        if expected != own {
            let expected = self.store_dir.display(&expected);
            return Err(Error::DerivationCorrupt {
                path: path.to_owned(),
                expected,
            });
        }
        use_it(&drv)
    }

    /// Checks that a derivation states the output paths that its contents give
    /// (`checkDerivationOutputs`).
    ///
    /// # Errors
    /// When it does not, or an input derivation can't be read.
    pub fn check_derivation(&mut self, path: &str, drv: &Derivation<'_>) -> Result<()> {
        let wrong = |source| Error::Derivation {
            path: path.to_owned(),
            source,
        };
        let base = self.store_dir.strip(path).unwrap_or(path);
        let name = name_from_base(base).map_err(wrong)?;
        let inputs = if drv.is_fixed() {
            &[][..]
        } else {
            &drv.input_drvs[..]
        };
        self.complete_modulo(&inputs.iter().map(|input| &*input.path).collect::<Vec<_>>())?;
        drv.check_output_paths(&self.store_dir, name, |input| self.modulo.get(input))
            .map_err(wrong)
    }

    /// Makes known the hashes modulo fixed outputs of the derivations at full paths, reading what
    /// that takes.
    ///
    /// # Errors
    /// When a derivation below them can't be read, or they form a circle.
    pub fn complete_modulo(&mut self, paths: &[&str]) -> Result<()> {
        let mut memo = std::mem::take(&mut self.modulo);
        let completed = memo.complete(paths.iter().copied(), |input| {
            let text = self.read_derivation(input)?;
            let owned = Derivation::parse(&text).map(Derivation::into_owned);
            owned.map_err(|source| Error::Derivation {
                path: input.to_owned(),
                source,
            })
        });
        self.modulo = memo;
        completed
    }

    /// The hash modulo fixed outputs of a derivation that [`LocalStore::complete_modulo`] made
    /// known.
    pub fn modulo(&self, path: &str) -> Option<Modulo> {
        self.modulo.get(path)
    }
}
