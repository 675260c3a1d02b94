//! Why a builder failed, or a hook: what failed there and what on the way.

use windrow_components::building::{BuildDir, BuildLog};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use crate::failure::{Failure, FailureKind, describe_status};
use crate::world::BuilderConfig;
use crate::world::children::{Condemned, ReapedChild};

/// The exit code of a hook whose build failed.
const BUILD_FAILED: i32 = 100;
/// The exit code of a hook whose build took too long.
const TIMED_OUT: i32 = 101;

/// Why a builder on this machine failed.
pub(super) fn why_build_failed(
    graph: &BuildGraph,
    config: &BuilderConfig,
    reaped: ReapedChild,
    (drv, dir, log): (DrvId, &BuildDir, &BuildLog),
) -> Failure {
    if let Some(exec_error) = reaped.exec_error {
        return exec_error;
    }
    let path = graph.full_path(graph.drv_path(drv));
    let disk_full = is_disk_nearly_full(config, &dir.0);
    let (kind, what) = match reaped.condemned {
        Some(Condemned { reason, kind }) => (kind, reason),
        None => {
            let kind = match disk_full {
                true => FailureKind::Other,
                false => kind_of_failed(graph, drv),
            };
            (kind, describe_status(reaped.status))
        }
    };
    let note = if disk_full {
        "; the disk is nearly full, which may be the reason: free some space and try again"
    } else {
        ""
    };
    Failure {
        kind,
        message: format!("builder for '{path}' {what}{note}"),
        log_tail: log.last_lines(config.log_lines),
    }
}

/// Why a hook that had accepted a build failed (the hook's share of `buildDone` in Nix 1.8).
pub(super) fn why_hook_failed(
    graph: &BuildGraph,
    reaped: &ReapedChild,
    drv: DrvId,
    log_tail: Vec<String>,
) -> Failure {
    let path = graph.full_path(graph.drv_path(drv));
    let status = reaped.status;
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    let how = describe_status(status);
    let (kind, message) = match (&reaped.condemned, code) {
        (Some(Condemned { reason, kind }), _) => (*kind, format!("builder for '{path}' {reason}")),
        (None, Some(BUILD_FAILED)) => (
            kind_of_failed(graph, drv),
            format!("builder for '{path}' {how}"),
        ),
        (None, Some(TIMED_OUT)) => (
            FailureKind::TimedOut,
            format!("builder for '{path}' timed out, as the build hook says"),
        ),
        (None, _) => (
            FailureKind::Hook { status },
            format!("the build hook for '{path}' {how}"),
        ),
    };
    Failure {
        kind,
        message,
        log_tail,
    }
}

/// Fixed outputs often fail for want of a network, and may go better another time.
fn kind_of_failed(graph: &BuildGraph, drv: DrvId) -> FailureKind {
    match graph.traits(drv).fixed {
        true => FailureKind::Other,
        false => FailureKind::Permanent,
    }
}

/// Whether a failed build may have failed for want of space (as Nix 1.8 guesses: less than 8 MiB).
pub(super) fn is_disk_nearly_full(config: &BuilderConfig, build_dir: &std::path::Path) -> bool {
    const REQUIRED_BYTES: u64 = 8 * 1024 * 1024;
    [config.layout.real_store_dir.as_path(), build_dir]
        .into_iter()
        .any(|path| {
            nix::sys::statvfs::statvfs(path)
                .is_ok_and(|stat| stat.blocks_available() * stat.fragment_size() < REQUIRED_BYTES)
        })
}
