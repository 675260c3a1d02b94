//! How a run looks to its user: plain lines, a live region, or JSON for programs; with trace lines
//! if wanted.

mod bar;
mod board;
mod copies;
mod failures;
mod json;
mod lines;
mod outlook;
pub(crate) mod output;
mod record;
mod spans;
mod steps;
mod summary;
mod trace;
mod tracing;
mod wording;

use std::sync::Arc;

use clap::ValueEnum;
pub(crate) use windrow_components::count::size;
use windrow_components::shell_word::quoted;
use windrow_systems::engine::Summary;
use windrow_systems::report::{Event, Level, Reporter};

use crate::terminal::complain;

pub use copies::{Copies, retries};
pub(crate) use record::Record;
pub(crate) use spans::{End, Place};
pub use steps::Steps;
pub use summary::seconds;
pub(crate) use summary::whole_seconds;
pub use tracing::Tracing;

/// How to report what goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain lines.
    Raw,
    /// One JSON object a line, as Nix writes them.
    InternalJson,
    /// A live region.
    Bar,
    /// A live region, and what builders write above it.
    BarWithLogs,
}

/// What the user wants to see.
#[derive(Debug, Clone)]
pub struct Style {
    /// In which form.
    pub format: LogFormat,
    /// How much more, or less if negative, than usual.
    pub verbosity: i16,
    /// Whether what builders write is shown.
    pub build_logs: bool,
    /// Whether each of these lines bears the name of its build.
    pub names: bool,
    /// Whether there are lines for programs about every start and end of a build.
    pub trace: bool,
    /// Whether what is fetched is a copy, whose end is told of by whoever makes it.
    pub copying: bool,
    /// What commands have that messages name.
    pub hints: Hints,
}

/// What commands have that messages name, beside what they are about: what makes them work on the
/// same store, and builds with the same settings. Each is text that begins with a blank, or none.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Of every command.
    pub store: Arc<str>,
    /// Of those that build.
    pub settings: Arc<str>,
}

/// Settings that concern a run, and not what one builder finds.
const OF_RUNS: [&str; 9] = [
    "fallback",
    "keep-failed",
    "keep-going",
    "log-lines",
    "max-jobs",
    "max-silent-time",
    "policy",
    "print-build-trace",
    "timeout",
];

impl Hints {
    /// Those after a command with this store, if one was named, and these settings, names and
    /// values in turn.
    pub fn new(store: Option<&str>, settings: &[(String, String)]) -> Self {
        let store = store.map_or_else(String::new, |store| format!(" --store {}", quoted(store)));
        let counts = |(name, _): &&(String, String)| !OF_RUNS.contains(&name.as_str());
        let settings = settings.iter().filter(counts);
        let settings =
            settings.map(|(name, value)| format!(" --option {} {}", quoted(name), quoted(value)));
        Self {
            store: store.into(),
            settings: settings.collect::<String>().into(),
        }
    }
}

impl Style {
    /// Whether messages of that level are shown.
    pub(crate) fn shows(&self, level: Level) -> bool {
        let usual = Level::Info as i16;
        level as i16 <= (usual + self.verbosity).max(Level::Error as i16)
    }
}

/// The reporter for a style.
pub fn reporter(style: Style) -> Box<dyn Reporter + Send> {
    let trace = style.trace;
    let main: Box<dyn Reporter + Send> = match style.format {
        LogFormat::Raw => Box::new(lines::Lines::new(style)),
        LogFormat::Bar | LogFormat::BarWithLogs => match bar::Bar::begin(style.clone()) {
            Some(bar) => Box::new(bar),
            None => Box::new(lines::Lines::new(style)),
        },
        LogFormat::InternalJson => Box::new(json::Json::new(style)),
    };
    if trace {
        Box::new(Both(trace::Trace, main))
    } else {
        main
    }
}

/// What is said of a copy for which nothing was named.
pub const NOTHING_NAMED: &str = "nothing to copy: nothing was named";

/// Says that a run has ended well without anything to do, if that is said in this style.
pub fn say_if_idle(style: &Style, summary: &Summary) {
    let for_people = style.format != LogFormat::InternalJson;
    if for_people && style.shows(Level::Info) && summary.built + summary.fetched == 0 {
        complain("nothing to build: everything asked for is valid");
    }
}

/// Writes a message while nothing else is shown, if that is said in this style.
pub fn say(style: &Style, level: Level, text: &str) {
    if style.shows(level) {
        match style.format {
            LogFormat::InternalJson => json::message(level, text),
            _ => complain(text),
        }
    }
}

/// Writes an error as programs that read `internal-json` expect it.
pub fn json_error(text: &str) {
    json::message(Level::Error, text);
}

struct Both(trace::Trace, Box<dyn Reporter + Send>);

impl Reporter for Both {
    fn wants_outlook(&self) -> bool {
        self.1.wants_outlook()
    }

    fn is_behind(&self) -> bool {
        self.1.is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        self.0.report(event);
        self.1.report(event);
    }
}
