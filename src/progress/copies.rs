//! A copy into another store as its user sees it: a line for each path that is begun and for each
//! that fails, a live line on a terminal, and one line about the whole.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use windrow_components::count::size;
use windrow_net::client::Notice;
use windrow_net::copy::{Event, Outcome};
use windrow_sys::mutex;
use windrow_systems::report::Level;

use super::summary::{seconds, whole_seconds};
use super::{LogFormat, NOTHING_NAMED, Style, say};
use crate::terminal::{Line, Live, Tone};

/// What the live line says of a copy, beside the time.
#[derive(Debug)]
struct Shown {
    numbers: String,
    /// The path begun last.
    name: String,
    began: Instant,
}

impl Shown {
    fn line(&self) -> Line {
        let time = Duration::from_secs(self.began.elapsed().as_secs());
        let time = format!(" {}", whole_seconds(time));
        Line::toned(&[
            (Tone::Strong, &self.numbers),
            (Tone::Plain, &time),
            (Tone::Plain, if self.name.is_empty() { "" } else { ": " }),
            (Tone::Plain, &self.name),
        ])
    }
}

/// A copy on the live line, on terminals.
fn live_line() -> Option<(Live, Arc<Mutex<Shown>>)> {
    let shown = Arc::new(Mutex::new(Shown {
        numbers: "[comparing]".to_owned(),
        name: String::new(),
        began: Instant::now(),
    }));
    let seen = Arc::clone(&shown);
    let live = Live::begin(move |_| vec![mutex::lock(&seen).line()])?;
    Some((live, shown))
}

/// Shows what becomes of a copy.
pub struct Copies {
    style: Style,
    live: Option<(Live, Arc<Mutex<Shown>>)>,
    to: String,
    missing: usize,
    nar_size: u64,
    copied: usize,
    copied_size: u64,
    sent: u64,
    began: Instant,
}

impl Copies {
    /// For a copy to the store of that name.
    pub fn new(style: Style, to: &str) -> Self {
        let is_live = matches!(style.format, LogFormat::Bar | LogFormat::BarWithLogs);
        Self {
            style,
            live: is_live.then(live_line).flatten(),
            to: to.to_owned(),
            missing: 0,
            nar_size: 0,
            copied: 0,
            copied_size: 0,
            sent: 0,
            began: Instant::now(),
        }
    }

    /// What says of requests that they are made again.
    pub fn notice(&self) -> Notice {
        retries(self.style.clone())
    }

    /// Shows an event.
    pub fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Compared {
                missing, nar_size, ..
            } => {
                (self.missing, self.nar_size) = (*missing, *nar_size);
                self.draw();
            }
            Event::Begun(path) => {
                let text = format!("copying path '{}' to '{}'...", path.path, self.to);
                // The live line says it.
                let level = match &self.live {
                    Some(_) => Level::Talkative,
                    None => Level::Info,
                };
                say(&self.style, level, &text);
                if let Some((live, shown)) = &self.live {
                    let name = path.path.rsplit('/').next().unwrap_or_default();
                    mutex::lock(shown).name = name.get(33..).unwrap_or(name).to_owned();
                    live.touch();
                }
            }
            Event::Copied { path, sent } => {
                self.copied += 1;
                self.copied_size += path.nar_size;
                self.sent += sent;
                self.draw();
            }
            Event::Failed { path, error } => {
                let text = format!("error: cannot copy '{}': {error}", path.path);
                say(&self.style, Level::Error, &text);
            }
            Event::Warning(text) => say(&self.style, Level::Warn, &format!("warning: {text}")),
        }
    }

    fn draw(&self) {
        if let Some((live, shown)) = &self.live {
            mutex::lock(shown).numbers = format!(
                "[{} of {} paths copied, {} of {}]",
                self.copied,
                self.missing,
                size(self.copied_size),
                size(self.nar_size)
            );
            live.touch();
        }
    }

    /// Says how it went, unless there was nothing to do but what failed.
    pub fn end(mut self, outcome: &Outcome) {
        drop(self.live.take());
        let paths = |count: usize| match count {
            1 => "1 path".to_owned(),
            count => format!("{count} paths"),
        };
        let to = &self.to;
        if self.copied == 0 {
            if outcome.left.is_empty() {
                let there = match outcome.there {
                    0 => NOTHING_NAMED.to_owned(),
                    1 => format!("nothing to copy: the path is in '{to}'"),
                    count => format!("nothing to copy: all {count} paths are in '{to}'"),
                };
                say(&self.style, Level::Info, &there);
            }
            return;
        }
        let there = match outcome.there {
            0 => String::new(),
            1 => "; 1 was there before".to_owned(),
            count => format!("; {count} were there before"),
        };
        let text = format!(
            "copied {} ({} unpacked, {} sent) to '{to}' in {}{there}",
            paths(self.copied),
            size(self.copied_size),
            size(self.sent),
            seconds(self.began.elapsed())
        );
        say(&self.style, Level::Info, &text);
    }
}

/// Tells of requests that failed and are made again.
pub fn retries(style: Style) -> Notice {
    Arc::new(move |error, pause| {
        let seconds = pause.as_secs_f64();
        let text = format!("warning: {error}; trying again in {seconds:.1} s");
        say(&style, Level::Warn, &text);
    })
}
