//! The one place where text goes to standard error, and to standard output where people read it.
//! What others wrote can't do more to a terminal than show text there: names are shown with their
//! control characters spelt out, logs lose all but their colours.

mod filter;
mod live;
mod out;
mod stderr;
mod visible;

use std::io::{IsTerminal as _, Stderr, Stdout};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use windrow_sys::interrupt;

use crate::error::Error;

pub use filter::log_text;
pub use live::{Live, Size};
pub use out::Out;
pub use stderr::is_behind;
pub use visible::{is_visible, visible};

/// Makes the signals that ask for an end the program's own matter from here on: a run ends in good
/// order, and what owes nothing to anybody ends at once, with a message and a status of its own.
///
/// # Errors
/// When there are no threads left.
pub fn take_over_signals() -> crate::error::Result<()> {
    let threads = |source| Error::from(windrow_systems::Error::Threads { source });
    interrupt::take_over(say_last_words).map_err(threads)?;
    stderr::start().map_err(threads)
}

/// Whether errors are told as programs that read `internal-json` expect it.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on errors are told as programs that read `internal-json` expect it.
pub fn tell_errors_as_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// Says why the program ends without success.
pub fn tell_error(error: &Error) {
    let text = format!("error: {error}");
    match AS_JSON.load(Ordering::Relaxed) {
        true => crate::progress::json_error(&text),
        false => complain(&text),
    }
}

/// Waits until all is written that was said on standard error. A signal ends the wait, unless the
/// reader still reads.
pub fn flush() {
    live::flush();
    stderr::flush();
}

fn say_last_words(signal: i32) {
    live::leave();
    tell_error(&Error::Interrupted { signal });
    flush();
}

/// Whether standard error shows colours.
static COLOURS_ON_STDERR: LazyLock<bool> = LazyLock::new(|| has_colours(stderr_is_terminal()));

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn stderr() -> Stderr {
    std::io::stderr()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn stdout() -> Stdout {
    std::io::stdout()
}

/// Whether people read standard error.
pub fn stderr_is_terminal() -> bool {
    stderr().is_terminal()
}

/// Whether people read standard output.
pub fn stdout_is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether colours are for what is, or is not, a terminal (Nix: `isTTY`).
fn has_colours(is_terminal: bool) -> bool {
    let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if value("NO_COLOR").is_some() || value("NOCOLOR").is_some() {
        return false;
    }
    if value("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let is_dumb = value("TERM").is_none_or(|term| term == "dumb");
    is_terminal && !is_dumb && value("CLICOLOR").is_none_or(|value| value != "0")
}

/// How a part of a line stands out, where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// It is what matters.
    Strong,
    /// It is beside the point.
    Faint,
    /// It has gone well.
    Good,
    /// It has gone wrong.
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// A line for standard error, or several that belong together, safe for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// A message of windrow's own, with names of anybody's making in it. All lines of it but the
    /// first are indented, so that a name with a line's end in it can't be taken for another
    /// message.
    pub fn message(text: &str) -> Self {
        let text = visible(text);
        let Some((first, more)) = text.split_once('\n') else {
            return Self(text.into_owned());
        };
        let mut shown = first.to_owned();
        for line in more.split('\n') {
            let margin = if line.is_empty() || line.starts_with(' ') {
                "\n"
            } else {
                "\n  "
            };
            shown.push_str(margin);
            shown.push_str(line);
        }
        Self(shown)
    }

    /// One line for programs to read, whatever is in it.
    pub fn for_programs(text: &str) -> Self {
        Self(visible(text).replace('\n', "\\n"))
    }

    /// A line of somebody's output, after a prefix of windrow's.
    pub fn log(prefix: &str, text: &str) -> Self {
        let mut line = visible(prefix).into_owned();
        line.push_str(&log_text(text, *COLOURS_ON_STDERR));
        Self(line)
    }

    /// One line of windrow's own, whatever is in it.
    pub fn toned(parts: &[(Tone, &str)]) -> Self {
        let mut line = String::new();
        for &(tone, text) in parts {
            let code = if *COLOURS_ON_STDERR { tone.code() } else { "" };
            line.push_str(code);
            line.push_str(&visible(text).replace(['\n', '\t'], " "));
            if !code.is_empty() {
                line.push_str("\x1b[0m");
            }
        }
        Self(line)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes it to standard error. That nobody reads it is no reason to stop.
    pub fn write(mut self) {
        self.0.push('\n');
        live::write(&self.0);
    }
}

/// Writes a message to standard error.
pub fn complain(text: &str) {
    Line::message(text).write();
}

/// Writes an object to standard error as a line `@nix {…}`. What is no plain text is escaped in it
/// as JSON allows, so that programs read the same and a terminal does nothing.
pub fn write_json(value: &serde_json::Value) {
    Line(format!("@nix {}", visible::visible_json(value.to_string()))).write();
}

/// Writes what the command line's parser has to say to standard error. It puts arguments into its
/// text as they are.
pub fn usage_error(error: &clap::Error) {
    let text = error.render();
    let text = if *COLOURS_ON_STDERR {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    for line in text.lines() {
        Line::log("", line).write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_spell_out_what_is_no_text() {
        let line = Line::message("error: 'a\x1b]0;x\x07\r\u{9b}2Jb\u{202e}c' is\tbad");
        assert_eq!(
            line.as_str(),
            "error: 'a\\x1b]0;x\\x07\\r\\u{9b}2Jb\\u{202e}c' is\tbad"
        );
    }

    #[test]
    fn only_the_first_line_of_a_message_stands_at_the_margin() {
        let line = Line::message("error: it's 'a\nerror: forged\n\n   own');");
        assert_eq!(
            line.as_str(),
            "error: it's 'a\n  error: forged\n\n   own');"
        );
        assert_eq!(
            Line::for_programs("@ a\n@ b\x1b").as_str(),
            "@ a\\n@ b\\x1b"
        );
    }
}
