//! Why a builder failed, or a hook: what failed there and what on the way.

use windrow_components::building::BuildLog;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_sandbox::BuildEnv;
use windrow_sandbox::cgroups::Exceeded;
use windrow_sandbox::ids::barred::barred;

use crate::failure::{Failure, FailureKind, describe_status, why_perhaps};
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
    (drv, log): (DrvId, &BuildLog),
    env: Option<&BuildEnv>,
) -> Failure {
    if let Some(exec_error) = reaped.exec_error {
        return exec_error;
    }
    let path = graph.full_path(graph.drv_path(drv));
    let shortage = config.places_of(env).shortage();
    // A sandbox has directories of its own above its store.
    let user = env.filter(|env| !env.is_sandbox());
    let kept_out = user.and_then(|env| barred(&config.layout.real_store_dir, env.owner()));
    let (kind, what) = match reaped.condemned {
        Some(Condemned { reason, kind }) => (kind, reason),
        None => {
            let kind = match (&shortage, &kept_out, reaped.exceeded) {
                (None, None, None) => kind_of_failed(graph, drv),
                _ => FailureKind::Other,
            };
            (kind, describe_status(reaped.status))
        }
    };
    let note = match (reaped.exceeded, shortage, kept_out) {
        (Some(exceeded), ..) => format!("; {}", met(exceeded)),
        (None, Some(shortage), _) => why_perhaps(&shortage),
        (None, None, Some(barred)) => format!("; {barred}"),
        (None, None, None) => String::new(),
    };
    Failure {
        kind,
        message: format!("builder for '{path}' {what}{note}"),
        log_tail: log.last_lines(config.log_lines),
        kept: None,
    }
}

/// Which limit of its cgroup a builder met, and what to do about it.
fn met(exceeded: Exceeded) -> String {
    match exceeded {
        Exceeded::Memory(Some(most)) => format!(
            "the kernel killed it, for it needed more memory than the {most} bytes that the setting 'cgroup-memory-max' \
             allows a build"
        ),
        Exceeded::Memory(None) => {
            "the kernel killed processes of it for want of memory; try again with fewer 'max-jobs'"
                .to_owned()
        }
        Exceeded::Processes(most) => format!(
            "it wanted more processes than the {most} that the setting 'cgroup-pids-max' allows a build, which may be \
             the reason"
        ),
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
        kept: None,
    }
}

/// Fixed outputs often fail for want of a network, and may go better another time.
fn kind_of_failed(graph: &BuildGraph, drv: DrvId) -> FailureKind {
    match graph.traits(drv).fixed {
        true => FailureKind::Other,
        false => FailureKind::Permanent,
    }
}
