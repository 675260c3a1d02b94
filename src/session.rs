//! What every command starts from: settings, and which of the three kinds of store to use.

use std::ffi::{CStr, OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use windrow_components::goal::BuildMode;
use windrow_components::request::ChildLimits;
use windrow_components::settings::{Effect, Known, Settings, nearest};
use windrow_components::store_path::StoreDir;
use windrow_store::db::reader::Reader;
use windrow_store::files::optimise::Optimiser;
use windrow_store::local::LocalStore;
use windrow_store::own::OwnDatabase;
use windrow_store::own::failed_paths::FailedPaths;
use windrow_store::signer::Signer;
use windrow_store::{DatabaseOptions, Layout};
use windrow_systems::builtin::{Builtins, ThisProgram};
use windrow_systems::policy::Policy;
use windrow_systems::world::BuilderConfig;
use windrow_systems::world::Options;

use crate::conf::locations::{Locations, Remote};
use crate::conf::nix_conf;
use crate::error::{Error, Result};
use crate::isolation::{Isolated, builds_dir, isolation};

/// The word for a store under the user's data directory.
const OWN: &str = "own";

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
    /// Whether builds are offered to the build hook, if there is one.
    pub build_hook: bool,
    /// Whether this program can be started once more as a builder that comes with the engine.
    pub has_builtins: bool,
    /// What to warn of before anything else.
    pub warnings: Vec<String>,
    allow_symlinked_store: bool,
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl Session {
    /// Reads settings from nix.conf, the environment and `options` (names and values, in order),
    /// and settles on a store: `store` if given, else what the environment says, else the system's
    /// if there is one, else the user's own.
    ///
    /// # Errors
    /// When a configuration or a setting is malformed, or the store is not on this machine.
    pub fn new(options: &[(String, String)], store: Option<&str>) -> Result<Self> {
        Self::with(options, |locations, settings| {
            let chosen = store.map_or_else(|| settings.store.clone().into(), OsString::from);
            choose_layout(locations, &chosen)
        })
    }

    /// The same with a store of one's own in that directory.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn in_directory(options: &[(String, String)], dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let dir = std::fs::canonicalize(dir).map_err(Error::io("find", dir))?;
        Self::with(options, |_, _| Ok(layout_in(&dir)))
    }

    fn with(
        options: &[(String, String)],
        layout: impl FnOnce(&Locations, &Settings) -> Result<Layout>,
    ) -> Result<Self> {
        let locations = Locations::from_env(&env)?;
        let read = |own_store| {
            let (mut settings, warnings) = nix_conf::load(&env, &locations.conf_dir, own_store)?;
            for (name, value) in options {
                match settings.set(name, value)? {
                    Known::Yes | Known::Ignored => {}
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
        let layout = layout(&locations, &settings)?;
        if Path::new(&layout.store_dir) == layout.real_store_dir
            && layout.real_store_dir != locations.store_dir
        {
            // Which store it is depends on settings, and what is the default of others on the
            // store.
            (settings, _) = read(true)?;
        }
        let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        warnings.extend(options_without_effect(options, &settings));
        warnings.extend(crate::helpers::warnings(&settings));
        Ok(Self {
            settings,
            layout,
            policy: Policy::default(),
            mode: BuildMode::Normal,
            build_hook: true,
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
    /// When that fails.
    pub fn open(&self) -> Result<LocalStore> {
        self.open_or_create().map_err(|error| match &error {
            windrow_store::Error::File(windrow_sys::Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                let store = self.layout.real_store_dir.display().to_string();
                Error::StoreForbidden {
                    store,
                    source: Box::new(error),
                }
            }
            _ => error.into(),
        })
    }

    fn open_or_create(&self) -> windrow_store::Result<LocalStore> {
        let group = self.build_users_gid();
        self.layout
            .create_directories(group, self.allow_symlinked_store)?;
        let options = self.database_options();
        let mut store = LocalStore::open(self.layout.clone(), &options)?;
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
        let database = OwnDatabase::open_read_only(&self.layout)?;
        let database = match (database, to_change) {
            (Some(_), true) => Some(OwnDatabase::open(&self.layout, &self.database_options())?),
            (database, _) => database,
        };
        Ok(database.map(FailedPaths::new))
    }

    /// Opens the store read-only.
    ///
    /// # Errors
    /// When it does not exist, or can't be read.
    pub fn open_read_only(&self) -> Result<LocalStore> {
        Ok(LocalStore::open_read_only(self.layout.clone())?)
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
            fallback: settings.fallback,
            always_allow_substitutes: settings.always_allow_substitutes,
            platforms: self.platforms(),
            limits: ChildLimits {
                max_silent_time_s: settings.max_silent_time_s,
                timeout_s: settings.timeout_s,
                max_log_size: settings.max_build_log_size,
            },
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
            notice,
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
            notice,
            users,
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

/// What to say of options of the command line that nothing acts on: unlike in a file that serves
/// Nix as well, they were meant for this run.
fn options_without_effect(options: &[(String, String)], settings: &Settings) -> Vec<String> {
    let mut warned = Vec::new();
    let mut warnings = Vec::new();
    for (name, _) in options {
        let Some(setting) = Settings::todays_name(name) else {
            continue;
        };
        let without = match Settings::effect(setting) {
            // These two have warnings of their own, by what they are set to.
            _ if matches!(setting, "substituters" | "build-hook") => continue,
            Some(Effect::None) => "",
            Some(Effect::Helpers) if !crate::helpers::are_set(settings) => {
                " without a substituter program or a build hook program"
            }
            _ => continue,
        };
        let default = Settings::default().get(setting);
        if settings.get(setting) != default && !warned.contains(&setting) {
            warned.push(setting);
            warnings.push(format!(
                "the option '{name}' of the command line has no effect{without}"
            ));
        }
    }
    warnings
}

fn choose_layout(locations: &Locations, store: &OsStr) -> Result<Layout> {
    if store == OWN {
        return own_layout();
    }
    match Remote::parse(store.to_owned()) {
        Remote::Root(dir) => Ok(Layout {
            store_dir: text(&locations.store_dir),
            real_store_dir: below(&dir, &locations.store_dir),
            state_dir: below(&dir, Path::new("/nix/var/nix")),
            log_dir: below(&dir, Path::new("/nix/var/log/nix")),
        }),
        Remote::Local => {
            let said = ["NIX_STORE_DIR", "NIX_STORE", "NIX_STATE_DIR"];
            let said = said
                .iter()
                .any(|name| env(name).is_some_and(|value| !value.is_empty()));
            if !said && !locations.store_dir.is_dir() {
                return own_layout();
            }
            Ok(Layout {
                store_dir: text(&locations.store_dir),
                real_store_dir: locations.store_dir.clone(),
                state_dir: locations.state_dir.clone(),
                log_dir: locations.log_dir.clone(),
            })
        }
        Remote::Other(store) => Err(Error::ForeignStore {
            store: store.to_string_lossy().into_owned(),
        }),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A store under the user's data directory, whose paths are real paths.
fn own_layout() -> Result<Layout> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let data = env("XDG_DATA_HOME")
        .map(PathBuf::from)
        .and_then(absolute)
        .or_else(|| Some(absolute(env("HOME")?.into())?.join(".local/share")))
        .ok_or(Error::NoHome)?;
    // A path into a store must be the same however it is reached.
    let data = std::fs::canonicalize(&data).unwrap_or(data);
    Ok(layout_in(&data.join("windrow")))
}

/// A store in a directory, whose paths are real paths.
fn layout_in(dir: &Path) -> Layout {
    let store = dir.join("store");
    Layout {
        store_dir: text(&store),
        real_store_dir: store,
        state_dir: dir.join("state"),
        log_dir: dir.join("log"),
    }
}
