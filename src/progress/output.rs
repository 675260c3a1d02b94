//! What programs write while they run, taken apart: lines of text, and messages to the engine.

use hashbrown::HashMap;
use windrow_components::log_line::{LogMessage, last_start};
use windrow_systems::process::lines::ShownLines;
use windrow_systems::report::{BuildRef, Level};

/// The one kind of activity that a builder may report (Nix: `actFileTransfer`).
pub(super) const FILE_TRANSFER: u64 = 101;

/// A line.
pub(super) enum Said {
    /// Text, as it was written.
    Text(String),
    /// A message.
    Message(LogMessage),
}

impl Said {
    /// Reads a whole line.
    pub(super) fn new(line: &str) -> Self {
        let line = last_start(line);
        match LogMessage::parse(line) {
            Some(message) => Self::Message(message),
            None => Self::Text(line.to_owned()),
        }
    }
}

/// The output of all builds that run, by the build's id.
#[derive(Default)]
pub(super) struct Outputs(HashMap<u64, Output>);

/// The output of one build.
#[derive(Default)]
struct Output {
    name: String,
    lines: ShownLines,
}

impl Outputs {
    /// The lines that are whole now that a build has written more; where text is not wanted, some
    /// of it is left out.
    pub(super) fn feed(
        &mut self,
        build: BuildRef<'_>,
        bytes: &[u8],
        text_wanted: bool,
    ) -> Vec<Said> {
        let output = self.0.entry(build.id).or_insert_with(|| Output {
            name: build.name.to_owned(),
            ..Output::default()
        });
        output.lines.feed(bytes);
        let mut said = Vec::new();
        while let Some(line) = output.lines.next_raw() {
            if text_wanted || LogMessage::may_be_in(line) {
                said.push(Said::new(&String::from_utf8_lossy(line)));
            }
        }
        said
    }

    /// What has waited for the end of its line for a second or longer, with the id and the name of
    /// its build: questions, and progress that is written over itself. To be asked once a second.
    pub(super) fn overdue(&mut self) -> Vec<(u64, String, Said)> {
        let mut overdue = Vec::new();
        for (&id, output) in &mut self.0 {
            if let Some(text) = output.lines.overdue(|_| false) {
                overdue.push((id, output.name.clone(), Said::Text(text)));
            }
        }
        overdue.sort_unstable_by_key(|(id, ..)| *id);
        overdue
    }

    /// What is left of a build's output when it ends without a line's end.
    pub(super) fn end(&mut self, id: u64) -> Option<Said> {
        let rest = self.0.remove(&id)?.lines.rest()?;
        Some(Said::new(&rest))
    }
}

/// The level that Nix has a number for.
pub(super) fn level(number: u64) -> Level {
    match number {
        0 => Level::Error,
        1 => Level::Warn,
        2 | 3 => Level::Info,
        4 => Level::Talkative,
        5 => Level::Chatty,
        _ => Level::Debug,
    }
}
