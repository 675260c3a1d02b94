//! What command lines make of a run: the error that it ends with, and the names of its roots.

use std::path::{Path, PathBuf};

use windrow_components::goal::BuildMode;
use windrow_net::copy;
use windrow_systems::engine::Summary;

use crate::error::Error;

/// As nix-store names roots: LINK for the first target, LINK-2 for the second; outputs but `out`
/// add their name.
pub(crate) fn root_name(link: &Path, index: usize, output: &str) -> PathBuf {
    let mut name = link.as_os_str().to_owned();
    if index > 0 {
        name.push(format!("-{}", index + 1));
    }
    if output != "out" {
        name.push(format!("-{output}"));
    }
    name.into()
}

/// How many paths stand in a message.
const NAMED_MAX: usize = 10;

/// Paths as a message lists them: of many, the first and how many more there are. Each has had a
/// message of its own.
pub(crate) fn quoted(paths: &[String]) -> String {
    let named: Vec<String> = paths
        .iter()
        .take(NAMED_MAX)
        .map(|path| format!("'{path}'"))
        .collect();
    let list = named.join(", ");
    match paths.len().saturating_sub(NAMED_MAX) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// The error that a run ends with in which something was not built.
pub(crate) fn failure(summary: &Summary, mode: BuildMode) -> Error {
    let mut parts = Vec::new();
    if !summary.failed.is_empty() {
        parts.push(format!("build of {} failed", quoted(&summary.failed)));
    }
    if !summary.missing.is_empty() && mode == BuildMode::Repair {
        parts.push(format!(
            "cannot repair {}: no substituter has what is needed, and no derivation with such an output is in the store",
            quoted(&summary.missing)
        ));
    } else if !summary.missing.is_empty() {
        parts.push(format!(
            "{} not in the store, and no substituter has {}",
            if summary.missing.len() == 1 {
                format!("path {} is", quoted(&summary.missing))
            } else {
                format!("paths {} are", quoted(&summary.missing))
            },
            if summary.missing.len() == 1 {
                "it"
            } else {
                "them"
            },
        ));
    }
    if !summary.incomplete.is_empty() {
        parts.push(format!(
            "cannot substitute {}: no substituter has all that {} to",
            quoted(&summary.incomplete),
            if summary.incomplete.len() == 1 {
                "it refers"
            } else {
                "they refer"
            },
        ));
    }
    if !summary.undelivered.is_empty() {
        parts.push(format!(
            "cannot fetch {}: no binary cache that has {} could deliver it",
            quoted(&summary.undelivered),
            if summary.undelivered.len() == 1 {
                "it"
            } else {
                "one of them"
            },
        ));
    }
    Error::BuildFailed {
        message: parts.join("; "),
        status: summary.failures.exit_status(),
    }
}

/// The error that a copy ends with that left something.
pub(crate) fn not_copied(outcome: copy::Outcome, to: &str) -> Error {
    let left = outcome.left.len();
    let were = if left == 1 { "path was" } else { "paths were" };
    let reason = match &outcome.ended_by {
        Some(error) => format!("{error}; "),
        None => String::new(),
    };
    Error::NotCopied {
        message: format!(
            "{reason}{left} {were} not copied to '{to}': {}; what has been sent is not sent again by \
             the same command",
            quoted(&outcome.left)
        ),
        cause: outcome.ended_by.map(Box::new),
    }
}

/// What could not be pushed to a cache.
#[derive(Debug)]
pub(crate) struct NotPushed {
    /// The cache.
    pub(crate) to: String,
    /// What waits on.
    pub(crate) left: Vec<String>,
    /// Why it ended before its time, if it did.
    pub(crate) ended_by: Option<copy::CopyError>,
}

/// The error that a push ends with that left something; there is one problem or more.
pub(crate) fn not_pushed(problems: Vec<NotPushed>) -> Error {
    let mut parts = Vec::new();
    let mut cause = None;
    for NotPushed { to, left, ended_by } in problems {
        let reason = match &ended_by {
            Some(error) => format!("{error}; "),
            None => String::new(),
        };
        let were = match left.len() {
            1 => "1 path was",
            count => &format!("{count} paths were"),
        };
        let left = quoted(&left);
        parts.push(format!("{reason}{were} not pushed to '{to}': {left}"));
        // One that tells of a signal decides how the program ends.
        let is_signal = |error: &copy::CopyError| windrow_sys::interrupt::is_cause_of(error);
        if cause.is_none() || ended_by.as_ref().is_some_and(is_signal) {
            cause = ended_by.or(cause);
        }
    }
    Error::NotCopied {
        message: format!("{}; the next 'windrow push' tries again", parts.join("; ")),
        cause: cause.map(Box::new),
    }
}

/// The error that a copy from a store ends with that could not be fetched from whole.
pub(crate) fn not_fetched(summary: &Summary, from: &str, require_sigs: bool) -> Error {
    let mut parts = Vec::new();
    if !summary.missing.is_empty() {
        let may = match require_sigs {
            true => {
                ", or it may not be taken from there: with --no-check-sigs nobody need have signed it"
            }
            false => "",
        };
        let paths = quoted(&summary.missing);
        parts.push(format!("'{from}' does not have {paths}{may}"));
    }
    if !summary.incomplete.is_empty() {
        let paths = quoted(&summary.incomplete);
        parts.push(format!("'{from}' lacks something that {paths} refers to"));
    }
    let failed = [&summary.failed[..], &summary.undelivered].concat();
    if !failed.is_empty() {
        parts.push(format!("cannot fetch {} from '{from}'", quoted(&failed)));
    }
    Error::NotCopied {
        message: parts.join("; "),
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_failures_a_message_names_some() {
        let paths = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(quoted(&paths(2)), "'0', '1'");
        assert!(quoted(&paths(NAMED_MAX)).ends_with("'8', '9'"));
        assert!(quoted(&paths(373)).ends_with("'8', '9' and 363 more"));
    }
}
