//! A live line on a terminal: how many builds run, are done, failed and wait, how long it has
//! taken, and what runs longest; other lines scroll by above it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use windrow_systems::report::{Counts, Event, Level, Reporter};

use super::Style;
use super::lines::Wording;
use crate::terminal::{Line, Screen, complain, is_behind, stderr_is_terminal, visible};

/// How often the line is redrawn.
const REFRESH: Duration = Duration::from_millis(100);
/// How often it is drawn at most when much happens.
const FRAMES_PER_SECOND: u8 = 20;
/// How many names of running builds are shown.
const NAMES: usize = 4;
/// How much of a phase's name is shown, in characters.
const PHASE_LEN: usize = 24;

pub(super) struct Bar {
    style: Style,
    text: Wording,
    bar: ProgressBar,
    /// Running builds, the longest first, as they were started, with what they are called on the
    /// line.
    running: Vec<(u64, String)>,
}

impl Bar {
    pub(super) fn new(style: Style) -> Self {
        let bar = live_line();
        bar.set_prefix(numbers(Counts::default(), style.copying));
        let text = Wording::new(Style {
            verbosity: style.verbosity - 1,
            ..style
        });
        Self {
            style,
            text,
            bar,
            running: Vec::new(),
        }
    }
}

/// A line with a prefix, the time it has taken and a message; hidden where it can't be drawn.
pub(super) fn live_line() -> ProgressBar {
    let target = if can_draw() {
        ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), FRAMES_PER_SECOND)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(template) = ProgressStyle::with_template("{prefix} {elapsed}: {wide_msg}") {
        bar.set_style(template);
    }
    // Drawn by a thread of its own, so that the time goes on while nothing else happens.
    bar.enable_steady_tick(REFRESH);
    bar
}

/// Whether standard error is a terminal on which lines can be drawn anew.
fn can_draw() -> bool {
    stderr_is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn numbers(counts: Counts, copying: bool) -> String {
    if copying {
        return match counts.fetched {
            1 => "[1 path copied]".to_owned(),
            count => format!("[{count} paths copied]"),
        };
    }
    let done = counts.built + counts.failed + counts.running;
    let waiting = counts.expected.saturating_sub(done);
    let fetched = match counts.fetched {
        0 => String::new(),
        count => format!(", {count} fetched"),
    };
    format!(
        "[{} running, {} done, {} failed, {waiting} waiting{fetched}]",
        counts.running, counts.built, counts.failed
    )
}

fn names(running: &[(u64, String)]) -> String {
    let mut names: Vec<&str> = running
        .iter()
        .take(NAMES)
        .map(|(_, name)| name.as_str())
        .collect();
    if running.len() > NAMES {
        names.push("…");
    }
    names.join(", ")
}

/// What a build is called that has come to a phase.
fn with_phase(label: &str, phase: &str) -> String {
    let name = label.split_once(" (").map_or(label, |(name, _)| name);
    let phase: String = phase.chars().take(PHASE_LEN).collect();
    format!("{name} ({})", visible(&phase).replace(['\n', '\t'], " "))
}

impl Reporter for Bar {
    fn is_behind(&self) -> bool {
        is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        match *event {
            Event::Progress(counts) => self.bar.set_prefix(numbers(counts, self.style.copying)),
            Event::Started { build, .. } | Event::FetchStarted { build, .. } => {
                let label = visible(build.name).into_owned();
                self.running.push((build.id, label));
                self.bar.set_message(names(&self.running));
            }
            Event::Succeeded { build, .. }
            | Event::Failed { build, .. }
            | Event::Cancelled { build, .. }
            | Event::FetchSucceeded { build, .. }
            | Event::FetchFailed { build, .. } => {
                self.running.retain(|(id, _)| *id != build.id);
                self.bar.set_message(names(&self.running));
            }
            Event::Message { .. }
            | Event::Output { .. }
            | Event::HelperOutput { .. }
            | Event::SecondPassed
            | Event::Exited { .. } => {}
        }
        let lines = self.text.lines(event);
        if !lines.is_empty() {
            self.bar.suspend(|| lines.into_iter().for_each(Line::write));
        }
        if let Some((id, phase)) = self.text.take_phase()
            && let Some((_, label)) = self.running.iter_mut().find(|(it, _)| *it == id)
        {
            *label = with_phase(label, &phase);
            self.bar.set_message(names(&self.running));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.style.shows(Level::Info)
            && let Some(line) = self.text.summary()
        {
            complain(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_where_everything_is() {
        let counts = Counts {
            expected: 20,
            running: 2,
            built: 5,
            fetched: 3,
            failed: 1,
        };
        assert_eq!(
            numbers(counts, false),
            "[2 running, 5 done, 1 failed, 12 waiting, 3 fetched]"
        );
        assert_eq!(numbers(counts, true), "[3 paths copied]");
        let running: Vec<_> = (1..7).map(|id| (id, format!("n{id}"))).collect();
        assert_eq!(names(&running[..2]), "n1, n2");
        assert_eq!(names(&running), "n1, n2, n3, n4, …");
        let phase = with_phase("hello-1.0", "unpack\x1b[2J\nPhase");
        assert_eq!(phase, "hello-1.0 (unpack\\x1b[2J Phase)");
        let next = with_phase(&phase, &"x".repeat(100));
        assert_eq!(next, format!("hello-1.0 ({})", "x".repeat(PHASE_LEN)));
    }
}
