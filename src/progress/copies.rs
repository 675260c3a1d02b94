//! A copy into another store as its user sees it: a line for each path that is begun and for each
//! that fails, a live line on a terminal, and one line about the whole.

use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use windrow_net::client::Notice;
use windrow_net::copy::{Event, Outcome};
use windrow_systems::report::Level;

use super::bar::live_line;
use super::lines::seconds;
use super::{LogFormat, NOTHING_NAMED, Style, say};
use crate::terminal::visible;

/// Says something about a copy, above what is shown of it; for any thread.
#[derive(Clone)]
struct Voice {
    style: Style,
    bar: Option<ProgressBar>,
}

impl Voice {
    fn say(&self, level: Level, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(self.style, level, text)),
            None => say(self.style, level, text),
        }
    }

    /// Tells of requests that failed and are made again.
    fn notice(self) -> Notice {
        Arc::new(move |error, pause| {
            let seconds = pause.as_secs_f64();
            let text = format!("warning: {error}; trying again in {seconds:.1} s");
            self.say(Level::Warn, &text);
        })
    }
}

/// Shows what becomes of a copy.
pub struct Copies {
    voice: Voice,
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
        let this = Self {
            voice: Voice {
                style,
                bar: is_live.then(live_line),
            },
            to: to.to_owned(),
            missing: 0,
            nar_size: 0,
            copied: 0,
            copied_size: 0,
            sent: 0,
            began: Instant::now(),
        };
        if let Some(bar) = &this.voice.bar {
            bar.set_prefix("[comparing]");
        }
        this
    }

    /// What says of requests that they are made again.
    pub fn notice(&self) -> Notice {
        self.voice.clone().notice()
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
                let level = match &self.voice.bar {
                    Some(_) => Level::Talkative,
                    None => Level::Info,
                };
                self.voice.say(level, &text);
                if let Some(bar) = &self.voice.bar {
                    let name = path.path.rsplit('/').next().unwrap_or_default();
                    bar.set_message(visible(name.get(33..).unwrap_or(name)).into_owned());
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
                self.voice.say(Level::Error, &text);
            }
            Event::Warning(text) => self.voice.say(Level::Warn, &format!("warning: {text}")),
        }
    }

    fn draw(&self) {
        if let Some(bar) = &self.voice.bar {
            bar.set_prefix(format!(
                "[{} of {} paths copied, {} of {}]",
                self.copied,
                self.missing,
                size(self.copied_size),
                size(self.nar_size)
            ));
        }
    }

    /// Says how it went, unless there was nothing to do but what failed.
    pub fn end(self, outcome: &Outcome) {
        if let Some(bar) = &self.voice.bar {
            bar.finish_and_clear();
        }
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
                self.voice.say(Level::Info, &there);
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
        self.voice.say(Level::Info, &text);
    }
}

/// Tells of requests that failed and are made again, where nothing is shown of a copy.
pub fn retries(style: Style) -> Notice {
    Voice { style, bar: None }.notice()
}

/// A size as it is written in messages.
fn size(bytes: u64) -> String {
    let whole = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", whole / 1024.0),
        _ => format!("{:.2} MiB", whole / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_that_fit() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.50 MiB"),
            (5 << 30, "5120.00 MiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
