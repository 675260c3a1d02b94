//! What is asked of an engine, described step by step.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use windrow_components::goal::BuildMode;
use windrow_components::request::ChildLimits;
use windrow_systems::report::Reporter;

/// What is asked of an [`Engine`](crate::Engine).
#[derive(Default)]
#[must_use]
pub struct Request {
    pub(super) what: Vec<OsString>,
    pub(super) graphs: Vec<String>,
    pub(super) mode: BuildMode,
    pub(super) keep_going: Option<bool>,
    pub(super) limits: Option<ChildLimits>,
    pub(super) reporter: Option<Box<dyn Reporter + Send>>,
}

impl Request {
    /// Asks for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for what `windrow build` takes as an argument: `x.drv`, `x.drv^out,dev`, or a store
    /// path.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.what.push(target.into().into());
        self
    }

    /// Asks for the targets of a graph of derivations in a JSON file; sources lie beside it.
    pub fn graph_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.what.push(file.into().into());
        self
    }

    /// Asks for the targets of a graph of derivations in JSON. Sources are named by absolute paths.
    pub fn graph(mut self, json: impl Into<String>) -> Self {
        self.graphs.push(json.into());
        self
    }

    /// Builds valid outputs again and compares.
    pub fn check(mut self) -> Self {
        self.mode = BuildMode::Check;
        self
    }

    /// Looks at the contents of valid outputs, and fetches or builds again what is corrupt.
    pub fn repair(mut self) -> Self {
        self.mode = BuildMode::Repair;
        self
    }

    /// Whether to go on with what does not depend on a failure; else the setting `keep-going` says.
    pub fn keep_going(mut self, keep_going: bool) -> Self {
        self.keep_going = Some(keep_going);
        self
    }

    /// Kills builders that take longer than this, to the second, or are silent for `max_silence`;
    /// zero for never. Else the settings `timeout` and `max-silent-time` say when. What another
    /// request needs too may take as long as that one allows.
    pub fn timeout(mut self, timeout: Duration, max_silence: Duration) -> Self {
        self.limits = Some(ChildLimits {
            max_silent_time_s: max_silence.as_secs(),
            timeout_s: timeout.as_secs(),
            max_log_size: 0,
        });
        self
    }

    /// Who hears of what happens to the goals that this request needs. It is called on the engine's
    /// thread, so it should be quick.
    pub fn reporter(mut self, reporter: impl Reporter + Send + 'static) -> Self {
        self.reporter = Some(Box::new(reporter));
        self
    }
}
