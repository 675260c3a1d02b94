//! A live line on a terminal: how many builds run, are done, failed and wait, how long it has taken, and what runs
//! longest; other lines scroll by above it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use windrow_systems::report::{Counts, Event, Level, Reporter};

use super::Style;
use super::lines::Wording;

/// How often the line is drawn anew.
const REFRESH: Duration = Duration::from_millis(100);
/// How many names of running builds are shown.
const NAMES: usize = 4;

pub(super) struct Bar {
    style: Style,
    text: Wording,
    bar: ProgressBar,
    counts: Counts,
    /// Running builds, the longest first, as they were started.
    running: Vec<(u64, String)>,
    drawn: Option<Instant>,
}

impl Bar {
    pub(super) fn new(style: Style) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(template) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(template);
        }
        Self {
            style,
            text: Wording::new(Style {
                verbosity: style.verbosity - 1,
                ..style
            }),
            bar,
            counts: Counts::default(),
            running: Vec::new(),
            drawn: None,
        }
    }

    fn draw(&mut self) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < REFRESH) {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = live_line(&self.counts, self.bar.elapsed(), &self.running);
        self.bar.set_message(line);
        self.bar.tick();
    }
}

fn live_line(counts: &Counts, elapsed: Duration, running: &[(u64, String)]) -> String {
    let done = counts.built + counts.failed + counts.running;
    let waiting = counts.expected.saturating_sub(done);
    let mut names: Vec<&str> = running
        .iter()
        .take(NAMES)
        .map(|(_, name)| name.as_str())
        .collect();
    if running.len() > NAMES {
        names.push("…");
    }
    let elapsed = super::lines::seconds(Duration::from_secs(elapsed.as_secs()));
    format!(
        "[{} running, {} done, {} failed, {waiting} waiting] {elapsed}: {}",
        counts.running,
        counts.built,
        counts.failed,
        names.join(", ")
    )
}

/// Writes a line; that the terminal has gone away is no reason to stop building.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Reporter for Bar {
    fn report(&mut self, event: &Event<'_>) {
        match *event {
            Event::Progress(counts) => self.counts = counts,
            Event::Started { build, .. } => self.running.push((build.id, build.name.to_owned())),
            Event::Succeeded { build, .. } | Event::Failed { build, .. } => {
                self.running.retain(|(id, _)| *id != build.id);
            }
            Event::Message { .. } | Event::Output { .. } => {}
        }
        for line in self.text.lines(event) {
            self.bar.suspend(|| say(&line));
        }
        self.draw();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.style.shows(Level::Info)
            && let Some(line) = self.text.summary()
        {
            say(&line);
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
            failed: 1,
        };
        let running = [(1, "gcc".to_owned()), (2, "bash".to_owned())];
        assert_eq!(
            live_line(&counts, Duration::from_secs(75), &running),
            "[2 running, 5 done, 1 failed, 12 waiting] 1 min 15 s: gcc, bash"
        );
    }
}
