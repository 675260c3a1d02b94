//! What programs write while they run, taken apart: lines of text, and messages to the engine.

use hashbrown::HashMap;
use windrow_components::log_line::{LogMessage, last_start};
use windrow_systems::process::lines::ShownLines;
use windrow_systems::report::{BuildRef, Level};

/// The one kind of activity that a builder may report (Nix: `actFileTransfer`).
pub(crate) const FILE_TRANSFER: u64 = 101;

/// A line.
pub(crate) enum Said {
    /// Text, as it was written.
    Text(String),
    /// A message.
    Message(LogMessage),
}

impl Said {
    /// Reads a whole line.
    pub(crate) fn new(line: &str) -> Self {
        let line = last_start(line);
        match LogMessage::parse(line) {
            Some(message) => Self::Message(message),
            None => Self::Text(line.to_owned()),
        }
    }
}

/// How much of a line is kept that is only the last one, in bytes.
const LAST_BYTES: usize = 1 << 10;

/// The output of all builds that run.
#[derive(Default)]
pub(crate) struct Outputs {
    /// By the build's id.
    builds: HashMap<u64, Output>,
    /// Whether the last line of each is kept, also where text is not wanted.
    keeps_last: bool,
}

/// The output of one build.
#[derive(Default)]
struct Output {
    name: String,
    lines: ShownLines,
    /// The last whole line that was left out, since it was asked for.
    last: Vec<u8>,
}

impl Outputs {
    /// With `keeps_last`, the last line of each build can be asked for.
    pub(crate) fn new(keeps_last: bool) -> Self {
        Self {
            builds: HashMap::new(),
            keeps_last,
        }
    }

    /// The last of the lines that were left out of what a build wrote, if there is a new one.
    pub(crate) fn take_last(&mut self, id: u64) -> Option<String> {
        let last = &mut self.builds.get_mut(&id)?.last;
        let line = (!last.is_empty()).then(|| String::from_utf8_lossy(last).into_owned());
        last.clear();
        line.map(|line| last_start(&line).to_owned())
    }

    /// The lines that are whole now that a build has written more; where text is not wanted, some
    /// of it is left out.
    pub(crate) fn feed(
        &mut self,
        build: BuildRef<'_>,
        bytes: &[u8],
        text_wanted: bool,
    ) -> Vec<Said> {
        let output = self.builds.entry(build.id).or_insert_with(|| Output {
            name: build.name.to_owned(),
            ..Output::default()
        });
        output.lines.feed(bytes);
        let mut said = Vec::new();
        while let Some(line) = output.lines.next_raw() {
            if text_wanted || LogMessage::may_be_in(line) {
                said.push(Said::new(&String::from_utf8_lossy(line)));
            } else if self.keeps_last {
                output.last.clear();
                output
                    .last
                    .extend_from_slice(&line[..line.len().min(LAST_BYTES)]);
            }
        }
        said
    }

    /// What has waited for the end of its line for a second or longer, with the id and the name of
    /// its build: questions, and progress that is written over itself. To be asked once a second.
    pub(crate) fn overdue(&mut self) -> Vec<(u64, String, Said)> {
        let mut overdue = Vec::new();
        for (&id, output) in &mut self.builds {
            if let Some(text) = output.lines.overdue(|_| false) {
                overdue.push((id, output.name.clone(), Said::Text(text)));
            }
        }
        overdue.sort_unstable_by_key(|(id, ..)| *id);
        overdue
    }

    /// What is left of a build's output when it ends without a line's end.
    pub(crate) fn end(&mut self, id: u64) -> Option<Said> {
        let rest = self.builds.remove(&id)?.lines.rest()?;
        Some(Said::new(&rest))
    }
}

/// The level that Nix has a number for.
pub(crate) fn level(number: u64) -> Level {
    match number {
        0 => Level::Error,
        1 => Level::Warn,
        2 | 3 => Level::Info,
        4 => Level::Talkative,
        5 => Level::Chatty,
        _ => Level::Debug,
    }
}
