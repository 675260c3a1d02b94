//! Events as Nix's `internal-json` lines: activities that start and stop, their results, and messages.

use std::io::Write as _;

use hashbrown::HashMap;
use serde_json::{Value, json};
use windrow_systems::report::{Event, Level, Reporter};

use super::Style;
use super::lines::{failure, started};

/// The activity of one build.
const BUILD: u32 = 105;
/// The activity of fetching one path from a substituter.
const SUBSTITUTE: u32 = 108;
/// The activity of all builds, which carries the counts.
const BUILDS: u32 = 104;
/// The result that is one line of a builder's output.
const BUILD_LOG_LINE: u32 = 101;
/// The result that is where an activity stands: done, expected, running, failed.
const PROGRESS: u32 = 105;

/// The id of the activity of all builds; those of builds are entity bits, which are larger.
const ALL: u64 = 1;

pub(super) struct Json {
    style: Style,
    partial: HashMap<u64, Vec<u8>>,
}

impl Json {
    pub(super) fn new(style: Style) -> Self {
        let start = json!({
            "action": "start", "id": ALL, "level": 5, "type": BUILDS, "text": "", "parent": 0, "fields": [],
        });
        write(&start);
        Self {
            style,
            partial: HashMap::new(),
        }
    }

    fn log_lines(&mut self, id: u64, bytes: &[u8], all: bool) {
        let partial = self.partial.entry(id).or_default();
        partial.extend_from_slice(bytes);
        let end = match partial.iter().rposition(|&byte| byte == b'\n') {
            _ if all => partial.len(),
            Some(end) => end + 1,
            None => return,
        };
        let rest = partial.split_off(end);
        let whole = std::mem::replace(partial, rest);
        for line in String::from_utf8_lossy(&whole).lines() {
            let fields = [line];
            write(&json!({"action": "result", "id": id, "type": BUILD_LOG_LINE, "fields": fields}));
        }
    }

    fn stop(&mut self, id: u64) {
        self.log_lines(id, b"", true);
        self.partial.remove(&id);
        write(&json!({"action": "stop", "id": id}));
    }
}

impl Reporter for Json {
    fn report(&mut self, event: &Event<'_>) {
        match *event {
            Event::Message { level, text } if self.style.shows(level) => message(level, text),
            Event::Started { build, mode, .. } => write(&json!({
                "action": "start", "id": build.id, "level": 3, "type": BUILD, "parent": ALL,
                "text": started(build, mode).trim_end_matches('.'),
                "fields": [build.drv_path, "", 1, 1],
            })),
            Event::Output { build, bytes } => self.log_lines(build.id, bytes, false),
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
            Event::Succeeded { build, .. } | Event::FetchSucceeded { build, .. } => {
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
                message(Level::Error, &failure(build, text, log_tail).join("\n"));
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

fn write(value: &Value) {
    let _ = writeln!(std::io::stderr(), "@nix {value}");
}
