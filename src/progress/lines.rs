//! Plain lines on standard error: what is built, what failed and why.

use windrow_components::goal::BuildMode;
use windrow_systems::report::{BuildRef, Event, Reporter};

use super::Style;
use super::wording::{Form, Wording};
use crate::terminal::{Line, is_behind};

/// Writes each event as it comes.
pub(super) struct Lines(Wording);

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        let form = match style.names {
            true => Form::Numbered,
            false => Form::Plain,
        };
        Self(Wording::new(style, form))
    }
}

impl Reporter for Lines {
    fn is_behind(&self) -> bool {
        is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        self.0.lines(event).into_iter().for_each(Line::write);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.end().into_iter().for_each(Line::write);
    }
}

/// What stands before each line of a log that is shown below a message.
pub(super) const LOG_MARGIN: &str = "       > ";

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
    drv_path: &str,
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
        "       For full logs, run 'windrow log {drv_path}'."
    )));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_with_how_to_see_more() {
        let lines = failure(
            "/s/x.drv",
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
}
