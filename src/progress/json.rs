//! Events as Nix's `internal-json` lines: activities that start and stop, their results, and
//! messages. Text of others is passed on as they wrote it, for it is the reader who shows it.

use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use serde_json::json;
use windrow_components::log_line::LogMessage;
use windrow_systems::report::{BuildRef, Event, Level, Reporter, Transfer};

use super::Style;
use super::failures::FailedBuild;
use super::lines::started;
use super::output::{FILE_TRANSFER, Outputs, Said};
use crate::terminal::write_json as write;

/// The activity of one build.
const BUILD: u32 = 105;
/// The activity of fetching one path from a substituter.
const SUBSTITUTE: u32 = 108;
/// The activity of all builds, which carries the counts.
const BUILDS: u32 = 104;
/// The activity of all fetches, which carries theirs.
const COPY_PATHS: u32 = 103;
/// The activity of the bytes of one path on their way, below that of fetching it.
const COPY_PATH: u32 = 100;
/// The result that is one line of a builder's output.
const BUILD_LOG_LINE: u32 = 101;
/// The result that is the phase a build has come to.
const SET_PHASE: u32 = 104;
/// The result that is where an activity stands: done, expected, running, failed.
const PROGRESS: u32 = 105;
/// The result that is how much is expected of one kind of activities: the kind, how much.
const SET_EXPECTED: u32 = 106;

/// The id of the activity of all builds; those of builds are entity bits, which are larger.
const ALL: u64 = 1;
/// The id of the activity of all fetches.
const ALL_FETCHES: u64 = 2;
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
    fetches: Fetches,
}

/// A path that is being fetched, whose bytes can be seen.
struct Bytes {
    /// The id of their activity.
    id: u64,
    transfer: Transfer,
    /// How many there were when it was last told.
    told: u64,
}

/// All fetches of a run.
#[derive(Default)]
struct Fetches {
    done: u32,
    failed: u32,
    running: HashMap<u64, Option<Bytes>>,
    /// How many bytes those that were begun have together.
    bytes: u64,
}

impl Fetches {
    /// Tells how many there are.
    fn tell(&self) {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let all = self.done + self.failed + running;
        result(
            ALL_FETCHES,
            PROGRESS,
            json!([self.done, all, running, self.failed]),
        );
    }

    /// A fetch begins; `id` is for its bytes.
    fn start(
        &mut self,
        build: BuildRef<'_>,
        program: &str,
        (id, transfer): (u64, Option<&Transfer>),
    ) {
        let bytes = transfer.map(|transfer| {
            write(&json!({
                "action": "start", "id": id, "level": 3, "type": COPY_PATH, "parent": build.id,
                "text": format!("copying path '{}' from '{program}'", build.drv_path),
                "fields": [build.drv_path, program, ""],
            }));
            self.bytes += transfer.size;
            result(ALL_FETCHES, SET_EXPECTED, json!([COPY_PATH, self.bytes]));
            Bytes {
                id,
                transfer: transfer.clone(),
                told: 0,
            }
        });
        self.running.insert(build.id, bytes);
        self.tell();
    }

    /// A fetch ends, if it is one.
    fn end(&mut self, id: u64, well: bool) {
        let Some(bytes) = self.running.remove(&id) else {
            return;
        };
        if let Some(mut bytes) = bytes {
            bytes.tell();
            write(&json!({"action": "stop", "id": bytes.id}));
        }
        match well {
            true => self.done += 1,
            false => self.failed += 1,
        }
        self.tell();
    }
}

impl Bytes {
    /// Tells how many are here, if there are more.
    fn tell(&mut self) {
        let here = self.transfer.received.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.told, here) != here {
            result(self.id, PROGRESS, json!([here, self.transfer.size, 0, 0]));
        }
    }
}

fn result(id: u64, kind: u32, fields: serde_json::Value) {
    write(&json!({"action": "result", "id": id, "type": kind, "fields": fields}));
}

impl Json {
    pub(super) fn new(style: Style) -> Self {
        let start = json!({
            "action": "start", "id": ALL, "level": 5, "type": BUILDS, "text": "", "parent": 0, "fields": [],
        });
        write(&start);
        write(&json!({
            "action": "start", "id": ALL_FETCHES, "level": 5, "type": COPY_PATHS, "text": "",
            "parent": 0, "fields": [],
        }));
        Self {
            style,
            outputs: Outputs::default(),
            inner: HashMap::new(),
            next_inner: FIRST_INNER,
            fetches: Fetches::default(),
        }
    }

    fn failed(&self, event: &Event<'_>) {
        let log = |margin: &str, line: &str| format!("{margin}{line}");
        if let Some(failed) = FailedBuild::of(event) {
            let lines = failed.lines(&self.style.hints, str::to_owned, log);
            message(Level::Error, &lines.join("\n"));
        }
    }

    fn output(&mut self, build: BuildRef<'_>, bytes: &[u8]) {
        let said = self.outputs.feed(build, bytes, true);
        said.into_iter().for_each(|said| self.said(build.id, said));
    }

    fn said(&mut self, build: u64, said: Said) {
        match said {
            Said::Text(line) => result(build, BUILD_LOG_LINE, json!([line])),
            Said::Message(LogMessage::SetPhase { phase }) => {
                result(build, SET_PHASE, json!([phase]));
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
                    let fields = fields.unwrap_or_default();
                    write(&json!({"action": "result", "id": id, "type": kind, "fields": fields}));
                }
            }
            // What else there may be is not a builder's to report.
            Said::Message(LogMessage::Start { .. } | LogMessage::Unknown) => {}
        }
    }

    fn fetch(&mut self, build: BuildRef<'_>, program: &str, transfer: Option<&Transfer>) {
        write(&json!({
            "action": "start", "id": build.id, "level": 3, "type": SUBSTITUTE,
            "parent": ALL_FETCHES, "text": format!("fetching path '{}'", build.drv_path),
            "fields": [build.drv_path, program],
        }));
        let bytes = (self.next_inner, transfer);
        self.fetches.start(build, program, bytes);
        self.next_inner += 1;
    }

    fn lock_awaited(&self, build: BuildRef<'_>, what: Option<&str>) {
        if self.style.shows(Level::Info) {
            let what = what.unwrap_or("locks or build slots");
            message(
                Level::Info,
                &format!("'{}' is waiting for {what}...", build.drv_path),
            );
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
                let fetches = self.fetches.running.values_mut();
                fetches.flatten().for_each(Bytes::tell);
            }
            Event::HelperOutput { name, line } => self.helper_said(name, line),
            Event::FetchStarted {
                build,
                program,
                transfer,
                ..
            } => self.fetch(build, program, transfer),
            Event::FetchFailed {
                build,
                message: text,
                ..
            } => {
                self.fetches.end(build.id, false);
                self.stop(build.id);
                message(Level::Warn, text);
            }
            Event::FetchSucceeded { build, .. } => {
                self.fetches.end(build.id, true);
                self.stop(build.id);
            }
            Event::Succeeded { build, .. } | Event::Cancelled { build, .. } => {
                self.fetches.end(build.id, false);
                self.stop(build.id);
            }
            Event::Failed { build, started, .. } => {
                if started {
                    self.stop(build.id);
                }
                self.failed(event);
            }
            Event::LockAwaited { build, what } => self.lock_awaited(build, what),
            Event::Progress(counts) => {
                let fields = [counts.built, counts.expected, counts.running, counts.failed];
                result(ALL, PROGRESS, json!(fields));
            }
            Event::Message { .. } | Event::Exited { .. } | Event::Used { .. } | Event::Over => {}
        }
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        write(&json!({"action": "stop", "id": ALL_FETCHES}));
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
