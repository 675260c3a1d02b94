//! Plain lines on standard error: what is built, what failed and why. Also the wording that the live line shares.

use std::io::Write as _;
use std::time::Duration;

use hashbrown::HashMap;
use windrow_components::goal::BuildMode;
use windrow_systems::report::{BuildRef, Event, Level, Reporter};

use super::Style;

/// Writes each event as it comes.
pub(super) struct Lines {
    style: Style,
    text: Wording,
}

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            text: Wording::new(style),
        }
    }
}

impl Reporter for Lines {
    fn report(&mut self, event: &Event<'_>) {
        for line in self.text.lines(event) {
            // Nobody reads standard error any more: no reason to stop building.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.style.shows(Level::Info)
            && let Some(line) = self.text.summary()
        {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// Puts events into words.
pub(super) struct Wording {
    style: Style,
    built: u32,
    fetched: u32,
    checked: u32,
    repaired: u32,
    failed: u32,
    /// How many builds there are to be, once it is known.
    expected: Option<u32>,
    last: Duration,
    /// Builds that run for another reason than that their outputs are missing.
    modes: HashMap<u64, BuildMode>,
    /// What a builder has written since its last line ended, by build.
    partial: HashMap<u64, Vec<u8>>,
}

impl Wording {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            built: 0,
            fetched: 0,
            checked: 0,
            repaired: 0,
            failed: 0,
            expected: None,
            last: Duration::ZERO,
            modes: HashMap::new(),
            partial: HashMap::new(),
        }
    }

    /// The lines that an event is worth, none for most.
    pub(super) fn lines(&mut self, event: &Event<'_>) -> Vec<String> {
        match *event {
            Event::Message { level, text } if self.style.shows(level) => {
                vec![if level == Level::Warn {
                    format!("warning: {text}")
                } else {
                    text.to_owned()
                }]
            }
            Event::Started {
                build, at, mode, ..
            } => {
                self.last = at;
                if mode != BuildMode::Normal {
                    self.modes.insert(build.id, mode);
                }
                self.only(Level::Info, || started(build, mode))
            }
            Event::Output { build, bytes } if self.style.build_logs => self.output(build, bytes),
            Event::Succeeded { build, at } => {
                self.last = at;
                match self.modes.remove(&build.id) {
                    None | Some(BuildMode::Normal) => self.built += 1,
                    Some(BuildMode::Check) => self.checked += 1,
                    Some(BuildMode::Repair) => self.repaired += 1,
                }
                let mut lines = self.rest(build);
                lines.extend(self.only(Level::Talkative, || format!("built '{}'", build.drv_path)));
                lines
            }
            Event::Failed {
                build,
                message,
                log_tail,
                at,
                ..
            } => {
                (self.failed, self.last) = (self.failed + 1, at);
                let mut lines = self.rest(build);
                lines.extend(failure(build, message, log_tail));
                lines
            }
            Event::FetchStarted { build, at, .. } => {
                self.last = at;
                self.only(Level::Info, || {
                    format!("fetching path '{}'...", build.drv_path)
                })
            }
            Event::FetchSucceeded { build, at } => {
                (self.fetched, self.last) = (self.fetched + 1, at);
                let mut lines = self.rest(build);
                lines.extend(self.only(Level::Chatty, || {
                    format!("substitution of path '{}' succeeded", build.drv_path)
                }));
                lines
            }
            Event::FetchFailed {
                build,
                message,
                log_tail,
                at,
                ..
            } => {
                self.last = at;
                let mut lines = self.rest(build);
                if self.style.shows(Level::Warn) {
                    lines.push(format!("warning: {message}"));
                    lines.extend(log_tail.iter().map(|line| format!("       > {line}")));
                }
                lines
            }
            Event::Progress(counts) => {
                self.expected = Some(counts.expected);
                Vec::new()
            }
            Event::Message { .. } | Event::Output { .. } | Event::Exited { .. } => Vec::new(),
        }
    }

    /// One line about the whole run, if there is anything to say.
    pub(super) fn summary(&self) -> Option<String> {
        let done = [
            (self.built, "built"),
            (self.checked, "built again and found the same"),
            (self.repaired, "repaired"),
            (self.fetched, "fetched"),
            (self.failed, "failed"),
        ];
        if done.iter().all(|(count, _)| *count == 0) {
            // A run that ended before it began, or before anything came of it, has not found that.
            let text = "nothing to build: everything asked for is valid";
            return (self.expected == Some(0)).then(|| text.to_owned());
        }
        let mut parts = Vec::new();
        for (count, what) in done {
            let nothing_else = what == "built" && self.checked + self.repaired == 0;
            if count == 0 && !nothing_else {
                continue;
            }
            // Beside numbers of derivations, the noun stands once.
            let noun = match (what, parts.is_empty(), count) {
                ("fetched", _, 1) => " path",
                ("fetched", _, _) => " paths",
                (_, false, _) => "",
                (_, true, 1) => " derivation",
                (_, true, _) => " derivations",
            };
            parts.push(format!("{count}{noun} {what}"));
        }
        Some(format!("{} in {}", parts.join(", "), seconds(self.last)))
    }

    fn only(&self, level: Level, line: impl FnOnce() -> String) -> Vec<String> {
        if self.style.shows(level) {
            vec![line()]
        } else {
            Vec::new()
        }
    }

    fn output(&mut self, build: BuildRef<'_>, bytes: &[u8]) -> Vec<String> {
        let partial = self.partial.entry(build.id).or_default();
        partial.extend_from_slice(bytes);
        let Some(end) = partial.iter().rposition(|&byte| byte == b'\n') else {
            return Vec::new();
        };
        let rest = partial.split_off(end + 1);
        let whole = std::mem::replace(partial, rest);
        let text = String::from_utf8_lossy(&whole);
        text.lines()
            .map(|line| format!("{}> {line}", build.name))
            .collect()
    }

    /// What is left of a build's output when it ends without a line's end.
    fn rest(&mut self, build: BuildRef<'_>) -> Vec<String> {
        match self.partial.remove(&build.id) {
            Some(rest) if !rest.is_empty() => {
                vec![format!(
                    "{}> {}",
                    build.name,
                    String::from_utf8_lossy(&rest)
                )]
            }
            _ => Vec::new(),
        }
    }
}

/// What is being done, as Nix says it.
pub(super) fn started(build: BuildRef<'_>, mode: BuildMode) -> String {
    let path = build.drv_path;
    match mode {
        BuildMode::Normal => format!("building '{path}'..."),
        BuildMode::Check => format!("checking outputs of '{path}'..."),
        BuildMode::Repair => format!("repairing outputs of '{path}'..."),
    }
}

/// A failure in words: what and why, the end of the log, and how to see all of it.
pub(super) fn failure(build: BuildRef<'_>, message: &str, log_tail: &[String]) -> Vec<String> {
    if log_tail.is_empty() {
        return vec![format!("error: {message}")];
    }
    let count = match log_tail.len() {
        1 => "last log line:".to_owned(),
        count => format!("last {count} log lines:"),
    };
    let mut lines = vec![format!("error: {message};"), format!("       {count}")];
    lines.extend(log_tail.iter().map(|line| format!("       > {line}")));
    lines.push(format!(
        "       For full logs, run 'windrow log {}'.",
        build.drv_path
    ));
    lines
}

/// A time in the unit people think in.
pub(super) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LogFormat;
    use windrow_systems::report::Counts;

    fn style(build_logs: bool) -> Style {
        Style {
            format: LogFormat::Raw,
            verbosity: 0,
            build_logs,
            trace: false,
        }
    }

    const BUILD: BuildRef<'static> = BuildRef {
        id: 7,
        drv_path: "/s/x.drv",
        name: "x",
    };

    #[test]
    fn a_failure_ends_with_how_to_see_more() {
        let lines = failure(
            BUILD,
            "builder failed",
            &["one".to_owned(), "two".to_owned()],
        );
        assert_eq!(
            lines.join("\n"),
            "error: builder failed;\n       last 2 log lines:\n       > one\n       > two\n       \
             For full logs, run 'windrow log /s/x.drv'."
        );
    }

    #[test]
    fn output_is_shown_line_by_line() {
        let mut wording = Wording::new(style(true));
        let mut said = |bytes: &[u8]| {
            wording.lines(&Event::Output {
                build: BUILD,
                bytes,
            })
        };
        assert!(said(b"a").is_empty());
        assert_eq!(said(b"b\nc\nd"), ["x> ab", "x> c"]);
        let end = wording.lines(&Event::Succeeded {
            build: BUILD,
            at: Duration::from_secs(1),
        });
        assert_eq!(end, ["x> d"]);
        assert_eq!(wording.summary().unwrap(), "1 derivation built in 1.0 s");
    }

    #[test]
    fn that_there_is_nothing_to_build_is_said_only_once_it_is_known() {
        let mut wording = Wording::new(style(true));
        assert_eq!(wording.summary(), None);
        let mut counted = |expected: u32| {
            wording.lines(&Event::Progress(Counts {
                expected,
                ..Counts::default()
            }));
            wording.summary()
        };
        assert_eq!(counted(3), None);
        assert!(counted(0).unwrap().starts_with("nothing to build"));
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(75)), "1 min 15 s");
        assert_eq!(seconds(Duration::from_secs(3700)), "1 h 01 min");
    }
}
