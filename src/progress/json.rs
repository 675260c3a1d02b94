//! Events as Nix's `internal-json` lines: activities that start and stop, their results, and
//! messages. Text of others is passed on as they wrote it, for it is the reader who shows it.

use hashbrown::HashMap;
use serde_json::json;
use windrow_components::log_line::LogMessage;
use windrow_systems::report::{BuildRef, Event, Level, Reporter};

use super::Style;
use super::lines::{failure, started};
use super::output::{FILE_TRANSFER, Outputs, Said};
use crate::terminal::write_json as write;

/// The activity of one build.
const BUILD: u32 = 105;
/// The activity of fetching one path from a substituter.
const SUBSTITUTE: u32 = 108;
/// The activity of all builds, which carries the counts.
const BUILDS: u32 = 104;
/// The result that is one line of a builder's output.
const BUILD_LOG_LINE: u32 = 101;
/// The result that is the phase a build has come to.
const SET_PHASE: u32 = 104;
/// The result that is where an activity stands: done, expected, running, failed.
const PROGRESS: u32 = 105;

/// The id of the activity of all builds; those of builds are entity bits, which are larger.
const ALL: u64 = 1;
/// The first id of what builders report; entity bits do not reach it before an entity's place was
/// used a million times.
const FIRST_INNER: u64 = 1 << 52;
/// How many activities of a builder are kept at a time.
const INNER_MAX: usize = 256;

pub(super) struct Json {
    style: Style,
    outputs: Outputs,
    /// The activities of builders that have not ended, by the build and the builder's own number:
    /// their ids.
    inner: HashMap<u64, HashMap<u64, u64>>,
    next_inner: u64,
}

impl Json {
    pub(super) fn new(style: Style) -> Self {
        let start = json!({
            "action": "start", "id": ALL, "level": 5, "type": BUILDS, "text": "", "parent": 0, "fields": [],
        });
        write(&start);
        Self {
            style,
            outputs: Outputs::default(),
            inner: HashMap::new(),
            next_inner: FIRST_INNER,
        }
    }

    fn output(&mut self, build: BuildRef<'_>, bytes: &[u8]) {
        let said = self.outputs.feed(build, bytes, true);
        said.into_iter().for_each(|said| self.said(build.id, said));
    }

    fn said(&mut self, build: u64, said: Said) {
        let result = |id: u64, kind: u64, fields: serde_json::Value| {
            write(&json!({"action": "result", "id": id, "type": kind, "fields": fields}));
        };
        match said {
            Said::Text(line) => result(build, BUILD_LOG_LINE.into(), json!([line])),
            Said::Message(LogMessage::SetPhase { phase }) => {
                result(build, SET_PHASE.into(), json!([phase]));
            }
            Said::Message(LogMessage::Msg { level, msg }) => {
                if self.style.shows(super::output::level(level)) {
                    let level = level.min(7);
                    write(&json!({"action": "msg", "level": level, "msg": msg}));
                }
            }
            Said::Message(LogMessage::Start {
                id,
                level,
                kind: FILE_TRANSFER,
                text,
                fields,
            }) => {
                let inner = self.inner.entry(build).or_default();
                if inner.len() == INNER_MAX || inner.contains_key(&id) {
                    return;
                }
                inner.insert(id, self.next_inner);
                write(&json!({
                    "action": "start", "id": self.next_inner, "level": level.min(7), "type": FILE_TRANSFER,
                    "text": text, "parent": build, "fields": fields.unwrap_or_default(),
                }));
                self.next_inner += 1;
            }
            Said::Message(LogMessage::Stop { id }) => {
                let ended = self.inner.get_mut(&build).and_then(|it| it.remove(&id));
                if let Some(id) = ended {
                    write(&json!({"action": "stop", "id": id}));
                }
            }
            Said::Message(LogMessage::Result { id, kind, fields }) => {
                if let Some(&id) = self.inner.get(&build).and_then(|it| it.get(&id)) {
                    result(id, kind, json!(fields.unwrap_or_default()));
                }
            }
            // What else there may be is not a builder's to report.
            Said::Message(LogMessage::Start { .. } | LogMessage::Unknown) => {}
        }
    }

    fn helper_said(&self, name: &str, line: &str) {
        let (level, text) = match Said::new(line) {
            Said::Text(text) => (Level::Info, text),
            Said::Message(LogMessage::Msg { level, msg }) => (super::output::level(level), msg),
            Said::Message(_) => return,
        };
        if self.style.shows(level) {
            message(level, &format!("{name}: {text}"));
        }
    }

    fn stop(&mut self, id: u64) {
        if let Some(rest) = self.outputs.end(id) {
            self.said(id, rest);
        }
        let inner = self.inner.remove(&id).unwrap_or_default();
        for id in inner.into_values().chain([id]) {
            write(&json!({"action": "stop", "id": id}));
        }
    }
}

impl Reporter for Json {
    fn is_behind(&self) -> bool {
        crate::terminal::is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        match *event {
            Event::Message { level, text } if self.style.shows(level) => message(level, text),
            Event::Started { build, mode, .. } => write(&json!({
                "action": "start", "id": build.id, "level": 3, "type": BUILD, "parent": ALL,
                "text": started(build, mode).trim_end_matches('.'),
                "fields": [build.drv_path, "", 1, 1],
            })),
            Event::Output { build, bytes } => self.output(build, bytes),
            Event::SecondPassed => {
                for (id, _, said) in self.outputs.overdue() {
                    self.said(id, said);
                }
            }
            Event::HelperOutput { name, line } => self.helper_said(name, line),
            Event::FetchStarted { build, program, .. } => write(&json!({
                "action": "start", "id": build.id, "level": 3, "type": SUBSTITUTE, "parent": ALL,
                "text": format!("fetching path '{}'", build.drv_path),
                "fields": [build.drv_path, program],
            })),
            Event::FetchFailed {
                build,
                message: text,
                ..
            } => {
                self.stop(build.id);
                message(Level::Warn, text);
            }
            Event::Succeeded { build, .. }
            | Event::FetchSucceeded { build, .. }
            | Event::Cancelled { build, .. } => {
                self.stop(build.id);
            }
            Event::Failed {
                build,
                started,
                message: text,
                log_tail,
                ..
            } => {
                if started {
                    self.stop(build.id);
                }
                let log = |margin: &str, line: &str| format!("{margin}{line}");
                let lines = failure(build, text, log_tail, str::to_owned, log);
                message(Level::Error, &lines.join("\n"));
            }
            Event::Progress(counts) => {
                let fields = [counts.built, counts.expected, counts.running, counts.failed];
                write(&json!({"action": "result", "id": ALL, "type": PROGRESS, "fields": fields}));
            }
            Event::Message { .. } | Event::Exited { .. } => {}
        }
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        write(&json!({"action": "stop", "id": ALL}));
    }
}

pub(super) fn message(level: Level, text: &str) {
    // Nix has a level between warnings and information.
    let level = match level {
        Level::Error => 0,
        Level::Warn => 1,
        Level::Info => 3,
        Level::Talkative => 4,
        Level::Chatty => 5,
        Level::Debug => 6,
    };
    write(&json!({"action": "msg", "level": level, "msg": text}));
}
