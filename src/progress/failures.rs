//! Builds that failed, in words: what and why, the end of the log, how to see all of it, and how to
//! get to where it failed.

use std::path::PathBuf;

use windrow_components::shell_word::quoted;
use windrow_systems::report::Event;

use super::Hints;

/// What stands before each line of a log that is shown below a message.
pub(super) const LOG_MARGIN: &str = "       > ";

/// The platform of what the engine builds itself, where there is no builder to get into.
const BUILTIN_SYSTEM: &str = "builtin";

/// A build that failed.
#[derive(Debug, Clone)]
pub(crate) struct FailedBuild {
    pub(crate) drv_path: String,
    pub(crate) message: String,
    pub(crate) log_tail: Vec<String>,
    /// Whether it has a builder that ran.
    ran: bool,
    /// The directory of its builder, if that stays.
    kept: Option<PathBuf>,
}

impl FailedBuild {
    /// The one that an event tells of, if it does.
    pub(super) fn of(event: &Event<'_>) -> Option<Self> {
        match *event {
            Event::Failed {
                build,
                started,
                system,
                message,
                log_tail,
                kept,
                ..
            } => Some(Self {
                drv_path: build.drv_path.to_owned(),
                message: message.to_owned(),
                log_tail: log_tail.to_vec(),
                ran: started && system != BUILTIN_SYSTEM,
                kept: kept.map(PathBuf::from),
            }),
            _ => None,
        }
    }

    /// Lines about it. `engine` makes those of the engine's text, `builder` those of the builder's,
    /// which stands after a margin.
    pub(super) fn lines<T>(
        &self,
        hints: &Hints,
        engine: impl Fn(&str) -> T,
        builder: impl Fn(&str, &str) -> T,
    ) -> Vec<T> {
        let Self {
            drv_path,
            message,
            log_tail,
            ..
        } = self;
        let Hints { store, settings } = hints;
        let mut lines = Vec::new();
        if log_tail.is_empty() {
            lines.push(engine(&format!("error: {message}")));
        } else {
            let count = match log_tail.len() {
                1 => "last log line:".to_owned(),
                count => format!("last {count} log lines:"),
            };
            lines.push(engine(&format!("error: {message};")));
            lines.push(engine(&format!("       {count}")));
            lines.extend(log_tail.iter().map(|line| builder(LOG_MARGIN, line)));
            lines.push(engine(&format!(
                "       For full logs, run 'windrow log {drv_path}{store}'."
            )));
        }
        if self.ran {
            let (what, kept) = match &self.kept {
                Some(kept) => {
                    let kept = quoted(&kept.to_string_lossy());
                    ("in its build directory", format!(" --in {kept}"))
                }
                None => ("in its environment", String::new()),
            };
            lines.push(engine(&format!(
                "       For a shell {what}, run 'windrow shell {drv_path}{kept}{store}{settings}'."
            )));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failed: &FailedBuild, hints: &Hints) -> String {
        let builder = |margin: &str, line: &str| format!("{margin}{line}");
        failed.lines(hints, str::to_owned, builder).join("\n")
    }

    #[test]
    fn a_failure_ends_with_how_to_see_more() {
        let failed = FailedBuild {
            drv_path: "/s/x.drv".to_owned(),
            message: "builder failed".to_owned(),
            log_tail: vec!["one".to_owned(), "two".to_owned()],
            ran: true,
            kept: None,
        };
        assert_eq!(
            text(&failed, &Hints::default()),
            "error: builder failed;\n       last 2 log lines:\n       > one\n       > two\n       \
             For full logs, run 'windrow log /s/x.drv'.\n       \
             For a shell in its environment, run 'windrow shell /s/x.drv'."
        );
        let option = |name: &str| (name.to_owned(), "false".to_owned());
        let settings = [option("keep-going"), option("sandbox")];
        let hints = Hints::new(Some("own"), &settings);
        let kept = FailedBuild {
            log_tail: Vec::new(),
            kept: Some("/tmp/a b".into()),
            ..failed
        };
        assert_eq!(
            text(&kept, &hints),
            "error: builder failed\n       For a shell in its build directory, run \
             'windrow shell /s/x.drv --in '/tmp/a b' --store own --option sandbox false'."
        );
        let never_ran = FailedBuild { ran: false, ..kept };
        assert_eq!(text(&never_ran, &hints), "error: builder failed");
    }
}
