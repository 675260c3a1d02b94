//! Plain lines on standard error: what is built, what failed and why. Also the wording that the
//! live line shares.

use std::time::Duration;

use hashbrown::HashMap;
use windrow_components::goal::BuildMode;
use windrow_components::log_line::LogMessage;
use windrow_systems::report::{BuildRef, Event, Level, Reporter};

use super::Style;
use super::output::{FILE_TRANSFER, Outputs, Said, level};
use crate::terminal::{Line, complain, is_behind};

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
    fn is_behind(&self) -> bool {
        is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        self.text.lines(event).into_iter().for_each(Line::write);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.style.shows(Level::Info)
            && let Some(line) = self.text.summary()
        {
            complain(&line);
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
    last: Duration,
    /// Builds that run for another reason than that their outputs are missing.
    modes: HashMap<u64, BuildMode>,
    outputs: Outputs,
    /// The build that has come to another phase since it was last asked for, and the phase.
    phase: Option<(u64, String)>,
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
            last: Duration::ZERO,
            modes: HashMap::new(),
            outputs: Outputs::default(),
            phase: None,
        }
    }

    /// The lines for an event; most have none.
    pub(super) fn lines(&mut self, event: &Event<'_>) -> Vec<Line> {
        match *event {
            Event::Message { level, text } if self.style.shows(level) => {
                vec![if level == Level::Warn {
                    Line::message(&format!("warning: {text}"))
                } else {
                    Line::message(text)
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
            Event::Output { build, bytes } => self.output(build, bytes),
            Event::SecondPassed => self.overdue(),
            Event::HelperOutput { name, line } => self.helper_said(name, line),
            Event::FetchStarted { .. }
            | Event::FetchSucceeded { .. }
            | Event::FetchFailed { .. } => self.fetch(event),
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
                lines.extend(failure(build, message, log_tail, Line::message, Line::log));
                lines
            }
            Event::Cancelled { build, at } => {
                self.last = at;
                self.modes.remove(&build.id);
                self.rest(build)
            }
            Event::Message { .. } | Event::Exited { .. } | Event::Progress(_) => Vec::new(),
        }
    }

    fn fetch(&mut self, event: &Event<'_>) -> Vec<Line> {
        match *event {
            Event::FetchStarted { build, at, .. } => {
                self.last = at;
                let doing = if self.style.copying {
                    "copying"
                } else {
                    "fetching"
                };
                self.only(Level::Info, || {
                    format!("{doing} path '{}'...", build.drv_path)
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
                    lines.push(Line::message(&format!("warning: {message}")));
                    lines.extend(log_tail.iter().map(|line| Line::log(LOG_MARGIN, line)));
                }
                lines
            }
            _ => Vec::new(),
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
        if self.style.copying || done.iter().all(|(count, _)| *count == 0) {
            return None;
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

    fn only(&self, level: Level, line: impl FnOnce() -> String) -> Vec<Line> {
        if self.style.shows(level) {
            vec![Line::message(&line())]
        } else {
            Vec::new()
        }
    }

    fn output(&mut self, build: BuildRef<'_>, bytes: &[u8]) -> Vec<Line> {
        let said = self.outputs.feed(build, bytes, self.style.build_logs);
        let mut lines = Vec::new();
        for said in said {
            lines.extend(self.said(build.id, build.name, said));
        }
        lines
    }

    fn overdue(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (id, name, said) in self.outputs.overdue() {
            lines.extend(self.said(id, &name, said));
        }
        lines
    }

    /// The lines for a line of a builder's output. All bear its name, so that a builder can't
    /// pass for the engine, unless lines are wanted as nix-store writes them.
    fn said(&mut self, id: u64, name: &str, said: Said) -> Vec<Line> {
        let (text, wanted) = match said {
            Said::Text(text) => (text, self.style.build_logs),
            Said::Message(LogMessage::Msg { level: of, msg }) => (msg, self.style.shows(level(of))),
            Said::Message(LogMessage::Start {
                level: of,
                kind: FILE_TRANSFER,
                text,
                ..
            }) if !text.is_empty() => (format!("{text}..."), self.style.shows(level(of))),
            Said::Message(LogMessage::SetPhase { phase }) => {
                self.phase = Some((id, phase));
                return Vec::new();
            }
            Said::Message(_) => return Vec::new(),
        };
        match (wanted, self.style.names) {
            (true, true) => prefixed(&format!("{name}> "), &text),
            (true, false) => prefixed("", &text),
            (false, _) => Vec::new(),
        }
    }

    fn helper_said(&self, name: &str, line: &str) -> Vec<Line> {
        let (level, text) = match Said::new(line) {
            Said::Text(text) => (Level::Info, text),
            Said::Message(LogMessage::Msg { level: of, msg }) => (level(of), msg),
            Said::Message(_) => return Vec::new(),
        };
        if self.style.shows(level) {
            prefixed(&format!("{name}: "), &text)
        } else {
            Vec::new()
        }
    }

    /// The build that has come to another phase since this was last asked, and the phase.
    pub(super) fn take_phase(&mut self) -> Option<(u64, String)> {
        self.phase.take()
    }

    /// What is left of a build's output when it ends without a line's end.
    fn rest(&mut self, build: BuildRef<'_>) -> Vec<Line> {
        let rest = self.outputs.end(build.id);
        rest.map_or_else(Vec::new, |rest| self.said(build.id, build.name, rest))
    }
}

/// Text of somebody's, each line after the same prefix.
fn prefixed(prefix: &str, text: &str) -> Vec<Line> {
    text.split('\n')
        .map(|line| Line::log(prefix, line))
        .collect()
}

/// What stands before each line of a log that is shown below a message.
const LOG_MARGIN: &str = "       > ";

/// What is being done, as Nix says it.
pub(super) fn started(build: BuildRef<'_>, mode: BuildMode) -> String {
    let path = build.drv_path;
    match mode {
        BuildMode::Normal => format!("building '{path}'..."),
        BuildMode::Check => format!("checking outputs of '{path}'..."),
        BuildMode::Repair => format!("repairing outputs of '{path}'..."),
    }
}

/// A failure in words: what and why, the end of the log, and how to see all of it. `engine` makes
/// lines of the engine's text, `builder` of the builder's, which stands after a margin.
pub(super) fn failure<T>(
    build: BuildRef<'_>,
    message: &str,
    log_tail: &[String],
    engine: impl Fn(&str) -> T,
    builder: impl Fn(&str, &str) -> T,
) -> Vec<T> {
    if log_tail.is_empty() {
        return vec![engine(&format!("error: {message}"))];
    }
    let count = match log_tail.len() {
        1 => "last log line:".to_owned(),
        count => format!("last {count} log lines:"),
    };
    let mut lines = vec![
        engine(&format!("error: {message};")),
        engine(&format!("       {count}")),
    ];
    lines.extend(log_tail.iter().map(|line| builder(LOG_MARGIN, line)));
    lines.push(engine(&format!(
        "       For full logs, run 'windrow log {}'.",
        build.drv_path
    )));
    lines
}

/// A time in the unit people think in.
pub fn seconds(time: Duration) -> String {
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
    use crate::progress::LogFormat;

    fn style(build_logs: bool) -> Style {
        Style {
            format: LogFormat::Raw,
            verbosity: 0,
            build_logs,
            names: true,
            trace: false,
            copying: false,
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
            str::to_owned,
            |margin, line| format!("{margin}{line}"),
        );
        assert_eq!(
            lines.join("\n"),
            "error: builder failed;\n       last 2 log lines:\n       > one\n       > two\n       \
             For full logs, run 'windrow log /s/x.drv'."
        );
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(Line::as_str).collect()
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
        assert_eq!(texts(&said(b"b\nc\nd")), ["x> ab", "x> c"]);
        let end = wording.lines(&Event::Succeeded {
            build: BUILD,
            at: Duration::from_secs(1),
        });
        assert_eq!(texts(&end), ["x> d"]);
        assert_eq!(wording.summary().unwrap(), "1 derivation built in 1.0 s");
    }

    #[test]
    fn a_line_without_end_is_shown_when_a_second_has_passed() {
        let mut wording = Wording::new(style(true));
        let mut report = |event: &Event<'_>| {
            let lines = wording.lines(event);
            let texts = lines.iter().map(|line| line.as_str().to_owned());
            texts.collect::<Vec<_>>()
        };
        let said = |bytes| Event::Output {
            build: BUILD,
            bytes,
        };
        let nothing = Vec::<String>::new();
        assert_eq!(report(&said(b"10 %\r20 %\r")), nothing);
        assert_eq!(report(&Event::SecondPassed), nothing, "not a second yet");
        assert_eq!(report(&said(b"30 %\r")), nothing);
        assert_eq!(report(&Event::SecondPassed), ["x> 30 %"]);
        assert_eq!(report(&Event::SecondPassed), nothing);
        assert_eq!(report(&said(b"40 %\r")), nothing);
        assert_eq!(report(&Event::SecondPassed), ["x> 40 %"]);
        assert_eq!(report(&said(b"done\nmore? ")), ["x> done"]);
        assert_eq!(report(&Event::SecondPassed), nothing);
        assert_eq!(report(&Event::SecondPassed), ["x> more? "]);
        // What may become a message waits for its end.
        assert_eq!(report(&said(b"\n@nix {\"action\":")), nothing);
        assert_eq!(report(&Event::SecondPassed), nothing);
        assert_eq!(report(&Event::SecondPassed), nothing);
        assert_eq!(
            report(&said(b"\"msg\",\"level\":0,\"msg\":\"m\"}\n")),
            ["x> m"]
        );
    }

    #[test]
    fn messages_are_shown_without_the_log_and_bear_the_builds_name() {
        let mut wording = Wording::new(style(false));
        let mut said = |text: &str| {
            let bytes = text.as_bytes();
            let build = BUILD;
            let lines = wording.lines(&Event::Output { build, bytes });
            (lines, wording.take_phase())
        };
        let (lines, phase) = said(
            "text\n@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"error:\\u001b[2J a\\nerror: b\"}\n\
             @nix {\"action\":\"msg\",\"level\":5,\"msg\":\"too much\"}\n@nix {nothing\n",
        );
        assert_eq!(texts(&lines), ["x> error: a", "x> error: b"]);
        assert_eq!(phase, None);
        let (lines, phase) = said("@nix {\"action\":\"setPhase\",\"phase\":\"p\"}\n");
        assert_eq!((lines, phase), (Vec::new(), Some((7, "p".to_owned()))));
        let (lines, _) = said(
            "@nix {\"action\":\"start\",\"id\":1,\"level\":3,\"type\":101,\"text\":\"downloading\"}\n\
             @nix {\"action\":\"start\",\"id\":2,\"level\":0,\"type\":105,\"text\":\"forged\"}\n",
        );
        assert_eq!(texts(&lines), ["x> downloading..."]);
    }

    #[test]
    fn helpers_are_named_and_their_lines_filtered() {
        let mut wording = Wording::new(style(false));
        let mut said = |line: &str| wording.lines(&Event::HelperOutput { name: "hook", line });
        assert_eq!(texts(&said("1 %\r\u{1b}]0;t\u{7}2 %")), ["hook: 2 %"]);
        let message = "@nix {\"action\":\"msg\",\"level\":1,\"msg\":\"hm\"}";
        assert_eq!(texts(&said(message)), ["hook: hm"]);
        assert!(said("@nix {\"action\":\"stop\",\"id\":1}").is_empty());
    }

    #[test]
    fn a_copy_fetches_nothing_and_sums_up_by_itself() {
        for (copying, doing, summary) in [
            (true, "copying", None),
            (
                false,
                "fetching",
                Some("0 derivations built, 1 path fetched in 2.0 s"),
            ),
        ] {
            let mut wording = Wording::new(Style {
                copying,
                ..style(false)
            });
            let at = Duration::from_secs(2);
            let (build, program) = (BUILD, "x");
            let begun = wording.lines(&Event::FetchStarted { build, program, at });
            assert_eq!(texts(&begun), [format!("{doing} path '/s/x.drv'...")]);
            wording.lines(&Event::FetchSucceeded { build, at });
            assert_eq!(wording.summary().as_deref(), summary);
        }
    }

    #[test]
    fn lines_bear_no_names_where_none_are_wanted() {
        let mut wording = Wording::new(Style {
            names: false,
            ..style(true)
        });
        let mut said = |bytes: &[u8]| {
            wording.lines(&Event::Output {
                build: BUILD,
                bytes,
            })
        };
        assert_eq!(texts(&said(b"a\n\n b\n")), ["a", "", " b"]);
        let end = wording.lines(&Event::Cancelled {
            build: BUILD,
            at: Duration::ZERO,
        });
        assert!(end.is_empty());
        assert_eq!(wording.summary(), None);
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(75)), "1 min 15 s");
        assert_eq!(seconds(Duration::from_secs(3700)), "1 h 01 min");
    }
}
