//! Events in words, for plain lines and for what stands above the live region.

use std::time::Duration;

use windrow_components::log_line::LogMessage;
use windrow_systems::failure::FailureKind;
use windrow_systems::report::{BuildRef, Event, Level};

use super::Style;
use super::failures::{FailedBuild, LOG_MARGIN};
use super::lines::started;
use super::output::{FILE_TRANSFER, Outputs, Said, level};
use super::summary::{Tally, seconds};
use crate::outcome::quoted;
use crate::terminal::{Line, Tone};

/// How events are put into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As nix-store does.
    Plain,
    /// Starts and ends of builds, with how many are done with.
    Numbered,
    /// Ends of builds, above a region that says what runs.
    Live,
}

/// How many failures are shown in full at the end of a run.
const FAILURES_SHOWN: usize = 20;

/// Puts events into words.
pub(super) struct Wording {
    style: Style,
    form: Form,
    tally: Tally,
    outputs: Outputs,
    /// The build that has come to another phase since it was last asked for, and the phase.
    phase: Option<(u64, String)>,
    /// What builders have written since it was last asked for, as far as a live region shows it.
    news: Vec<(u64, String)>,
}

impl Wording {
    pub(super) fn new(style: Style, form: Form) -> Self {
        Self {
            style,
            form,
            tally: Tally::default(),
            outputs: Outputs::new(form == Form::Live),
            phase: None,
            news: Vec::new(),
        }
    }

    /// The lines for an event; most have none.
    pub(super) fn lines(&mut self, event: &Event<'_>) -> Vec<Line> {
        let took = self.tally.note(event);
        match *event {
            Event::Message { level, text } => self.message(level, text),
            Event::Started { build, mode, .. } => {
                let number = self.number();
                self.only(self.start_level(), || {
                    format!("{number}{}", started(build, mode))
                })
            }
            Event::Output { build, bytes } => self.output(build, bytes),
            Event::SecondPassed => self.overdue(),
            Event::HelperOutput { name, line } => self.helper_said(name, line),
            Event::FetchStarted { build, .. } => {
                let doing = match self.style.copying {
                    true => "copying",
                    false => "fetching",
                };
                self.only(self.start_level(), || {
                    format!("{doing} path '{}'...", build.drv_path)
                })
            }
            Event::Succeeded { build, .. } => {
                let mut lines = self.rest(build);
                lines.extend(self.end_of(build, ("built", Level::Talkative), took));
                lines
            }
            Event::FetchSucceeded { build, .. } => {
                let mut lines = self.rest(build);
                let verb = match self.style.copying {
                    true => "copied",
                    false => "fetched",
                };
                lines.extend(self.end_of(build, (verb, Level::Chatty), took));
                lines
            }
            Event::FetchFailed {
                build,
                message,
                log_tail,
                ..
            } => {
                let mut lines = self.rest(build);
                if self.style.shows(Level::Warn) {
                    lines.push(Line::message(&format!("warning: {message}")));
                    lines.extend(log_tail.iter().map(|line| Line::log(LOG_MARGIN, line)));
                }
                lines
            }
            Event::Failed { build, kind, .. } => {
                let mut lines = self.rest(build);
                if let Some(failed) = FailedBuild::of(event) {
                    lines.extend(self.failure(build.name, kind, failed, took));
                }
                lines
            }
            Event::Cancelled { build, .. } => self.rest(build),
            Event::LockAwaited { build, what } => self.lock_awaited(build, what),
            Event::Exited { .. } | Event::Progress(_) | Event::Used { .. } | Event::Over => {
                Vec::new()
            }
        }
    }

    /// Whether a message is shown. Above the live region only what is worth more than a line is.
    fn shows(&self, level: Level) -> bool {
        let level = match (self.form, level) {
            (Form::Live, Level::Info) => Level::Talkative,
            (_, level) => level,
        };
        self.style.shows(level)
    }

    fn message(&self, level: Level, text: &str) -> Vec<Line> {
        match (self.shows(level), level) {
            (false, _) => Vec::new(),
            (true, Level::Warn) => vec![Line::message(&format!("warning: {text}"))],
            (true, _) => vec![Line::message(text)],
        }
    }

    /// That a lock is waited for; the live region says it by itself.
    fn lock_awaited(&self, build: BuildRef<'_>, what: Option<&str>) -> Vec<Line> {
        let level = match self.form {
            Form::Plain | Form::Numbered => Level::Info,
            Form::Live => Level::Talkative,
        };
        self.only(level, || match (what, self.form) {
            (Some(what), Form::Plain) => format!("waiting for {what}..."),
            (None, Form::Plain) => "waiting for locks or build slots...".to_owned(),
            (Some(what), _) => format!("{} is waiting for {what}...", build.name),
            (None, _) => format!(
                "'{}' is waiting for locks or build slots...",
                build.drv_path
            ),
        })
    }

    /// Which level the starts of builds and fetches have.
    fn start_level(&self) -> Level {
        match self.form {
            Form::Plain | Form::Numbered => Level::Info,
            Form::Live => Level::Talkative,
        }
    }

    /// How many derivations are done with, if that is said.
    fn number(&self) -> String {
        match (self.form, self.tally.done()) {
            (Form::Plain | Form::Live, _) | (Form::Numbered, (_, 0)) => String::new(),
            (Form::Numbered, (done, all)) => format!("[{done}/{all}] "),
        }
    }

    /// That something was made valid, where nix-store says it at that level.
    fn end_of(
        &self,
        build: BuildRef<'_>,
        (verb, level): (&'static str, Level),
        took: Option<Duration>,
    ) -> Vec<Line> {
        let time = took.map_or_else(String::new, |took| format!(" in {}", seconds(took)));
        let path = build.drv_path;
        match self.form {
            Form::Plain if verb == "built" => self.only(level, || format!("built '{path}'")),
            Form::Plain => self.only(level, || format!("substitution of path '{path}' succeeded")),
            Form::Numbered => {
                let level = match verb {
                    "built" => Level::Info,
                    _ => level,
                };
                let number = self.number();
                self.only(level, || format!("{number}{verb} '{path}'{time}"))
            }
            Form::Live if self.style.shows(Level::Info) => {
                let rest = format!(" {}{time}", build.name);
                vec![Line::toned(&[(Tone::Good, verb), (Tone::Plain, &rest)])]
            }
            Form::Live => Vec::new(),
        }
    }

    /// That a build failed. What could not be built for that has a line where all lines stay; at
    /// the end of a live region it is named.
    fn failure(
        &mut self,
        name: &str,
        kind: FailureKind,
        mut failed: FailedBuild,
        took: Option<Duration>,
    ) -> Vec<Line> {
        if self.style.build_logs {
            // What was shown when it was written is not shown again.
            failed.log_tail.clear();
        }
        if self.form != Form::Live {
            return failed.lines(&self.style.hints, Line::message, Line::log);
        }
        if kind == FailureKind::Dependency {
            return Vec::new();
        }
        let time = took.map_or_else(String::new, |took| format!(" after {}", seconds(took)));
        let rest = format!(" {name}{time}: {}", failed.message);
        self.tally.failures.push(failed);
        vec![Line::toned(&[(Tone::Bad, "failed"), (Tone::Plain, &rest)])]
    }

    /// The lines for the end of a run: what failed, what was not built for that, what took long,
    /// and how much was done.
    pub(super) fn end(&mut self) -> Vec<Line> {
        let failures = std::mem::take(&mut self.tally.failures);
        let mut lines = Vec::new();
        for failed in failures.iter().take(FAILURES_SHOWN) {
            lines.extend(failed.lines(&self.style.hints, Line::message, Line::log));
        }
        let more = failures.iter().skip(FAILURES_SHOWN);
        let more: Vec<String> = more.map(|failed| failed.drv_path.clone()).collect();
        if !more.is_empty() {
            lines.push(Line::message(&format!("also failed: {}", quoted(&more))));
        }
        // Whoever makes a copy sums it up.
        if self.style.shows(Level::Info) && !self.style.copying {
            let said = match self.form {
                Form::Plain => [None, None],
                Form::Numbered | Form::Live => [self.tally.dependents(), self.tally.slowest()],
            };
            let said = said.into_iter().chain([self.tally.summary()]).flatten();
            lines.extend(said.map(|line| Line::message(&line)));
        }
        lines
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
        let last = self.outputs.take_last(build.id);
        self.news.extend(last.map(|line| (build.id, line)));
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
            Said::Text(text) => {
                if self.form == Form::Live {
                    self.news.push((id, text.clone()));
                }
                (text, self.style.build_logs)
            }
            Said::Message(LogMessage::Msg { level: of, msg }) => (msg, self.shows(level(of))),
            Said::Message(LogMessage::Start {
                level: of,
                kind: FILE_TRANSFER,
                text,
                ..
            }) if !text.is_empty() => (format!("{text}..."), self.shows(level(of))),
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
        if self.shows(level) {
            prefixed(&format!("{name}: "), &text)
        } else {
            Vec::new()
        }
    }

    /// The build that has come to another phase since this was last asked, and the phase.
    pub(super) fn take_phase(&mut self) -> Option<(u64, String)> {
        self.phase.take()
    }

    /// Lines that builders have written since this was last asked, the last of each among them.
    pub(super) fn take_news(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.news)
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

#[cfg(test)]
mod tests;
