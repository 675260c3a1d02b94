//! What command lines make of a run: the error that it ends with, and the names of its roots.

use std::path::{Path, PathBuf};

use windrow_components::goal::BuildMode;
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

/// The error that a run ends with in which something was not built.
pub(crate) fn failure(summary: &Summary, mode: BuildMode) -> Error {
    let quoted = |paths: &[String]| {
        paths
            .iter()
            .map(|path| format!("'{path}'"))
            .collect::<Vec<_>>()
            .join(", ")
    };
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
    Error::BuildFailed {
        message: parts.join("; "),
        status: summary.failures.exit_status(),
    }
}
