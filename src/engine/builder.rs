//! An engine, described step by step.

use std::path::PathBuf;

use windrow_systems::policy::Policy;
use windrow_systems::report::{Reporter, Silent};

use crate::engine::Engine;
use crate::error::Result;
use crate::session::Session;

/// Which store an engine is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Store {
    /// What settings and environment say, else that of the system if there is one, else the user's
    /// own.
    #[default]
    Default,
    /// The user's own, below the user's data directory; its paths are real paths.
    Own,
    /// A store like that, in this directory. It is created if it does not exist.
    In(PathBuf),
    /// The store `/nix/store` kept below this directory, as `--store DIR` means it.
    At(PathBuf),
}

/// Describes an [`Engine`].
#[must_use]
pub struct EngineBuilder {
    store: Store,
    options: Vec<(String, String)>,
    policy: Policy,
    has_builtins: bool,
    pub(super) reporter: Box<dyn Reporter + Send>,
}

impl EngineBuilder {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            options: Vec::new(),
            policy: Policy::default(),
            has_builtins: false,
            reporter: Box::new(Silent),
        }
    }

    /// Sets a setting, by its name in nix.conf, over what nix.conf says.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// How many builders may run at a time.
    pub fn max_jobs(self, count: u32) -> Self {
        self.option("max-jobs", count.to_string())
    }

    /// Which ready derivation is built first.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Who hears of all that happens, beside the reporters of requests. It is called on the
    /// engine's thread, so it should be quick.
    pub fn reporter(mut self, reporter: impl Reporter + Send + 'static) -> Self {
        self.reporter = Box::new(reporter);
        self
    }

    /// The program calls [`builtin_main`](crate::builtin_main) first of all, so that builders such
    /// as
    /// `builtin:fetchurl` can be run. Without that they fail.
    pub fn with_builtins(mut self) -> Self {
        self.has_builtins = true;
        self
    }

    /// Opens the store, creates it if need be, and starts the engine.
    ///
    /// # Errors
    /// When a setting is wrong, the store can't be opened, or there can be no sandbox although
    /// there must be one.
    pub fn build(self) -> Result<Engine> {
        let mut session = match &self.store {
            Store::Default => Session::new(&self.options, None)?,
            Store::Own => Session::new(&self.options, Some("own"))?,
            Store::In(dir) => Session::in_directory(&self.options, dir)?,
            Store::At(dir) => Session::below(&self.options, dir)?,
        };
        session.policy = self.policy.clone();
        session.has_builtins = self.has_builtins;
        Engine::start(session, self)
    }
}
