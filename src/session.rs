//! What every command starts from: settings, and a store.

mod choice;

use std::ffi::{CStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use windrow_components::goal::BuildMode;
use windrow_components::request::ChildLimits;
use windrow_components::settings::{Known, Settings, nearest};
use windrow_components::store_path::StoreDir;
use windrow_net::store_url::StoreUrl;
use windrow_store::db::reader::Reader;
use windrow_store::files::durable::Durability;
use windrow_store::files::optimise::Optimiser;
use windrow_store::gc;
use windrow_store::local::LocalStore;
use windrow_store::own::OwnDatabase;
use windrow_store::own::failed_paths::FailedPaths;
use windrow_store::signer::Signer;
use windrow_store::{Database, DatabaseOptions, Layout};
use windrow_systems::builtin::{Builtins, ThisProgram};
use windrow_systems::policy::Policy;
use windrow_systems::world::BuilderConfig;
use windrow_systems::world::Options;

use crate::conf::locations::Locations;
use crate::conf::nix_conf;
use crate::conf::store_name::StoreName;
use crate::error::{Error, Result};
use crate::isolation::{Isolated, builds_dir, isolation};
use crate::option_warnings::{options_without_effect, unknown_options};
pub(crate) use choice::Usual;
use choice::{Chosen, choose, layout_in, named, store_elsewhere};

/// The command that runs a builder which comes with the engine, in its process.
pub const BUILTIN: &CStr = c"__builtin";

/// Settings and store of one command.
#[derive(Debug, Clone)]
pub struct Session {
    /// All settings.
    pub settings: Settings,
    /// Where the store lies.
    pub layout: Layout,
    /// Which ready goal is built first.
    pub policy: Policy,
    /// What to do about outputs that are there.
    pub mode: BuildMode,
    /// Whether the first signal lets the builds end that run.
    pub finish_running: bool,
    /// Whether builds are offered to the build hook, if there is one.
    pub build_hook: bool,
    /// Whether substituter programs are asked, if there are any.
    pub substituter_programs: bool,
    /// Whether this program can be started once more as a builder that comes with the engine.
    pub has_builtins: bool,
    /// What to warn of before anything else.
    pub warnings: Vec<String>,
    /// What to tell before anything else that is no warning.
    pub notes: Vec<String>,
    /// Whether the store was named as one that is not to be written.
    pub read_only: bool,
    /// Whether the store is the user's own.
    own: bool,
    allow_symlinked_store: bool,
}

/// What becomes of options that are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    WarnedOf,
}

/// The policy of a name, if builds can have it, which run in slots.
///
/// # Errors
/// When there is none, or it chooses machines.
pub fn build_policy(name: &str) -> std::result::Result<Policy, String> {
    let policy: Policy = name.parse()?;
    match policy.places() {
        true => Err("it chooses machines, which only 'windrow simulate' has".to_owned()),
        false => Ok(policy),
    }
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl Session {
    /// Reads settings from nix.conf, the environment and `options` (names and values, in order),
    /// and settles on a store: `store` if given, else what the environment says, else the system's
    /// if there is one that may be written, else the user's own.
    ///
    /// # Errors
    /// When a configuration or a setting is malformed, or the store is not on this machine.
    pub fn new(options: &[(String, String)], store: Option<&str>) -> Result<Self> {
        Self::with_usual(options, store, |_| Usual::Writable)
    }

    /// The same, with what `usual` says of the store where none is named; it is asked with the
    /// directory of the machine's.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub(crate) fn with_usual(
        options: &[(String, String)],
        store: Option<&str>,
        usual: impl FnOnce(&Path) -> Usual,
    ) -> Result<Self> {
        Self::with(options, Unknown::Refused, |locations, settings| {
            let name = named(store, settings)?;
            choose(locations, name, usual(&locations.store_dir))
        })
    }

    /// The same as nix-store has it: options that are no settings are only warned of, and there may
    /// be another store that is not opened by its directory. The session's is the machine's then.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub(crate) fn of_nix_store(
        options: &[(String, String)],
        store: Option<&str>,
    ) -> Result<(Self, Option<StoreUrl>)> {
        let mut other = None;
        let session = Self::with(options, Unknown::WarnedOf, |locations, settings| {
            let name = store.unwrap_or(&settings.store);
            other = store_elsewhere(name)?;
            let here = match &other {
                Some(_) => StoreName::parse("local")?,
                None => named(store, settings)?,
            };
            choose(locations, here, Usual::OfMachine)
        })?;
        Ok((session, other))
    }

    /// The same with the store kept below that directory, as `--store DIR` means it.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn below(options: &[(String, String)], root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::io("find", root))?;
        Self::with(options, Unknown::Refused, |locations, _| {
            choose(locations, StoreName::below(root), Usual::OfMachine)
        })
    }

    /// The same with a store of one's own in that directory.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn in_directory(options: &[(String, String)], dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let dir = std::fs::canonicalize(dir).map_err(Error::io("find", dir))?;
        Self::with(options, Unknown::Refused, |_, _| {
            Ok(Chosen {
                layout: layout_in(&dir)?,
                own: true,
                read_only: false,
                warnings: Vec::new(),
                notes: Vec::new(),
            })
        })
    }

    fn with(
        options: &[(String, String)],
        unknown: Unknown,
        choose: impl FnOnce(&Locations, &Settings) -> Result<Chosen>,
    ) -> Result<Self> {
        let locations = Locations::from_env(&env)?;
        let read = |own_store| {
            let kind = (own_store, unknown == Unknown::WarnedOf);
            let (mut settings, warnings) = nix_conf::load(&env, &locations.conf_dir, kind)?;
            for (name, value) in options {
                match settings.set(name, value)? {
                    Known::Yes | Known::Ignored => {}
                    Known::No if unknown == Unknown::WarnedOf => {}
                    Known::No => {
                        return Err(Error::UnknownSetting {
                            name: name.clone(),
                            nearest: nearest(name),
                        });
                    }
                }
            }
            Ok((settings, warnings))
        };
        let (mut settings, warnings) = read(false)?;
        let chosen = choose(&locations, &settings)?;
        if chosen.own {
            // Which store it is depends on settings, and what is the default of others on the
            // store.
            (settings, _) = read(true)?;
        }
        let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        warnings.extend(chosen.warnings);
        warnings.extend(unknown_options(options));
        warnings.extend(options_without_effect(options, &settings));
        warnings.extend(crate::helpers::warnings(&settings));
        let policy = build_policy(&settings.policy);
        let policy = policy.map_err(|reason| Error::Policy { reason })?;
        Ok(Self {
            settings,
            layout: chosen.layout,
            notes: chosen.notes,
            read_only: chosen.read_only,
            own: chosen.own,
            policy,
            mode: BuildMode::Normal,
            finish_running: false,
            build_hook: true,
            substituter_programs: true,
            has_builtins: true,
            warnings,
            allow_symlinked_store: env("NIX_IGNORE_SYMLINK_STORE").is_some_and(|v| v == "1"),
        })
    }

    /// The logical store directory.
    pub fn store_dir(&self) -> StoreDir {
        StoreDir::new(&self.layout.store_dir)
    }

    /// Opens the store for building; creates it if it does not exist.
    ///
    /// # Errors
    /// When that fails; [`Error::StoreReadOnly`] and [`Error::StoreForbidden`] if it can't be
    /// written, though perhaps be read.
    pub fn open(&self) -> Result<LocalStore> {
        self.may_write()?;
        self.open_or_create()
            .map_err(|error| self.why_unwritable(error))
    }

    /// Refuses to write a store that was named as read-only.
    fn may_write(&self) -> Result<()> {
        match self.read_only {
            false => Ok(()),
            true => Err(Error::StoreReadOnly {
                store: self.layout.real_store_dir.display().to_string(),
                reason: "its name says 'read-only=true', which must go before it can be written"
                    .to_owned(),
            }),
        }
    }

    /// What keeps a store from being written that could not be opened for that.
    pub(crate) fn why_unwritable(&self, error: windrow_store::Error) -> Error {
        use windrow_store::Error as Cause;
        let store = self.layout.real_store_dir.display().to_string();
        let kind = match &error {
            Cause::File(windrow_sys::Error::Io { source, .. }) => Some(source.kind()),
            Cause::DatabaseReadOnly { .. } => Some(std::io::ErrorKind::ReadOnlyFilesystem),
            _ => None,
        };
        match kind {
            Some(std::io::ErrorKind::ReadOnlyFilesystem) => Error::StoreReadOnly {
                store,
                reason: error.to_string(),
            },
            Some(std::io::ErrorKind::PermissionDenied) => Error::StoreForbidden {
                remedy: match self.own {
                    true => {
                        "change whose that directory is, or name another one by XDG_DATA_HOME or \
                         '--store ./DIR'"
                            .to_owned()
                    }
                    false => format!(
                        "run as the owner of the store '{store}', or give '--store own' for a store of your own"
                    ),
                },
                source: Box::new(error),
            },
            _ => error.into(),
        }
    }

    /// Opens the database for a collection that deletes, which must be possible on a full disk.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_to_collect(&self) -> Result<Database> {
        self.may_write()?;
        let options = self.database_options();
        self.create_directories()
            .and_then(|()| gc::open_database(&self.layout, &options))
            .map_err(|error| self.why_unwritable(error))
    }

    fn create_directories(&self) -> windrow_store::Result<()> {
        let group = self.build_users_gid();
        self.layout
            .create_directories(group, self.allow_symlinked_store)
    }

    fn open_or_create(&self) -> windrow_store::Result<LocalStore> {
        self.create_directories()?;
        let options = self.database_options();
        let mut store = LocalStore::open(self.layout.clone(), &options)?;
        store.durability = self.durability();
        store.signer = Signer::new(&self.settings.secret_key_files);
        if self.settings.build_cache_failure {
            store.remember_failures(FailedPaths::new(OwnDatabase::open(&self.layout, &options)?));
        }
        Ok(store)
    }

    /// What is remembered of failed builds; `None` if that is nothing and it is not to be changed
    /// either.
    ///
    /// # Errors
    /// When the memory can't be opened.
    pub fn failed_paths(&self, to_change: bool) -> Result<Option<FailedPaths>> {
        let database = self.own_database(to_change)?;
        Ok(database.map(FailedPaths::new))
    }

    /// The store's own database, if there is one.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn own_database(&self, to_change: bool) -> Result<Option<OwnDatabase>> {
        let database = OwnDatabase::open_read_only(&self.layout)?;
        if database.is_none() || !to_change {
            return Ok(database);
        }
        self.may_write()?;
        let opened = OwnDatabase::open(&self.layout, &self.database_options());
        Ok(Some(opened.map_err(|error| self.why_unwritable(error))?))
    }

    /// Opens the store read-only.
    ///
    /// # Errors
    /// When it does not exist, or can't be read.
    pub fn open_read_only(&self) -> Result<LocalStore> {
        let layout = self.layout.clone();
        Ok(match self.read_only {
            true => LocalStore::open_untouched(layout)?,
            false => LocalStore::open_read_only(layout)?,
        })
    }

    /// Opens the store for looking at what a graph is in it: nothing is written, and a store that
    /// does not exist yet has nothing.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn open_for_drafts(&self) -> Result<LocalStore> {
        match self.open_read_only() {
            Err(Error::Store(windrow_store::Error::DatabaseMissing { .. })) => {
                Ok(LocalStore::empty(self.layout.clone())?)
            }
            opened => opened,
        }
    }

    /// What is written to disk before paths are registered.
    fn durability(&self) -> Durability {
        Durability {
            store_paths: self.settings.fsync_store_paths,
            file_system: self.settings.sync_before_registering,
        }
    }

    /// How databases of the store are opened.
    pub fn database_options(&self) -> DatabaseOptions {
        DatabaseOptions {
            fsync_metadata: self.settings.fsync_metadata,
            use_wal: self.settings.use_sqlite_wal,
            gc_reserved_space: self.settings.gc_reserved_space,
        }
    }

    /// Builders that come with the engine are this very program, started once more.
    fn builtins(&self) -> Builtins {
        let settings = &self.settings;
        Builtins {
            invocation: vec![BUILTIN.to_owned()],
            mirrors: settings.hashed_mirrors.clone(),
            certificates: settings.ssl_cert_file.clone(),
            netrc: settings.netrc_file.clone(),
            connect_timeout_s: settings.connect_timeout,
            stalled_timeout_s: settings.stalled_download_timeout,
            program: ThisProgram::default(),
        }
    }

    /// Only the system's store is shared with a group of build users; others belong to one user.
    fn build_users_gid(&self) -> Option<u32> {
        let group = self.settings.build_users_group.as_str();
        if group.is_empty() || !nix::unistd::geteuid().is_root() {
            return None;
        }
        nix::unistd::Group::from_name(group)
            .ok()
            .flatten()
            .map(|group| group.gid.as_raw())
    }

    /// The platforms whose builders run here, the machine's own first.
    fn platforms(&self) -> Vec<String> {
        let more = self.settings.extra_platforms.iter().cloned();
        std::iter::once(self.settings.system.clone())
            .chain(more)
            .collect()
    }

    /// What the systems look at.
    pub fn engine_options(&self) -> Options {
        let settings = &self.settings;
        Options {
            max_jobs: settings.max_jobs,
            max_substitution_jobs: settings.max_substitution_jobs,
            fallback: settings.fallback,
            always_allow_substitutes: settings.always_allow_substitutes,
            platforms: self.platforms(),
            system_features: settings.system_features.iter().cloned().collect(),
            limits: ChildLimits {
                max_silent_time_s: settings.max_silent_time_s,
                timeout_s: settings.timeout_s,
                max_log_size: settings.max_build_log_size,
            },
            finish_running: self.finish_running,
            lock_poll_interval: Duration::from_secs(settings.build_poll_interval_s.max(1)),
        }
    }

    /// How builders run on this machine.
    ///
    /// # Errors
    /// When there can be no sandbox although there must be one, or the store can't be shown to
    /// builders.
    pub fn builder_config(
        &self,
        store: &mut LocalStore,
        report_output: bool,
    ) -> Result<BuilderConfig> {
        let settings = &self.settings;
        let Isolated {
            limits,
            sandbox,
            cgroups,
            notices,
            users,
        } = isolation(settings, &self.layout, store)?;
        let store_mount = match BuilderConfig::store_mount_for(&self.layout) {
            Ok(mount) => mount,
            // A sandbox shows the store wherever it must.
            Err(_) if sandbox.is_some() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(BuilderConfig {
            store_mount,
            limits,
            sandbox,
            cgroups,
            notices,
            users,
            hooks: crate::helpers::hooks(settings, &self.layout),
            platforms: self.platforms(),
            system_features: settings.system_features.iter().cloned().collect(),
            builtins: self.has_builtins.then(|| Arc::new(self.builtins())),
            impersonate_linux_26: settings.impersonate_linux_26,
            impure_env: Arc::new(settings.impure_env.clone()),
            reader: Arc::new(Reader::new(self.layout.clone(), self.database_options())),
            cores: if settings.cores == 0 {
                settings.cpus
            } else {
                settings.cores
            },
            builds_dir: builds_dir(settings),
            log_dir: settings.keep_build_log.then(|| self.layout.log_dir.clone()),
            compress_log: settings.compress_build_log,
            keep_failed: settings.keep_failed,
            durability: self.durability(),
            optimiser: match settings.auto_optimise_store {
                false => None,
                // Where something is corrupt, what is linked to it is corrupt as well.
                true if self.mode == BuildMode::Repair => {
                    Some(Arc::new(Optimiser::open_for_all(&self.layout, true)?))
                }
                true => Some(Arc::new(Optimiser::open(&self.layout)?)),
            },
            log_lines: usize::try_from(settings.log_lines).unwrap_or(usize::MAX),
            report_output,
            layout: self.layout.clone(),
        })
    }
}
