//! Failures that are remembered (setting `build-cache-failure`): which ones, and what becomes of
//! goals whose outputs failed before (Nix 1.8: `pathFailed`, and the end of its `buildDone`).

use bevy_ecs::prelude::{NonSendMut, Query, Res, ResMut};
use windrow_components::goal::{BuildMode, DerivationGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::world::{Scheduler, Services, Store};

/// The failure of a goal that lacks outputs, if one of these failed to build before.
///
/// # Errors
/// When the memory can't be read.
///
/// Nix 1.8: `DerivationGoal::pathFailed`.
pub fn known_failure(
    store: &mut dyn Store,
    graph: &BuildGraph,
    missing: impl IntoIterator<Item = PathId>,
) -> Result<Option<Failure>> {
    let Some(failed_paths) = store.failed_paths() else {
        return Ok(None);
    };
    for path in missing {
        let path = graph.full_path(path);
        if failed_paths.has_failed(&path)? {
            let message = format!(
                "builder for '{path}' failed previously (cached); \
                 'windrow failed-paths --clear {path}' lets it be tried again"
            );
            return Ok(Some(Failure::new(FailureKind::Cached, message)));
        }
    }
    Ok(None)
}

/// Remembers the failures of this tick that would happen again. Those of fixed outputs, which often
/// fail for want of a network, whatever may go better another time, and those of outputs that are
/// there already are not among them.
///
/// Nix 1.8: `DerivationGoal::pathFailed`.
pub fn remember(
    goals: Query<&DerivationGoal>,
    graph: Res<BuildGraph>,
    mut services: NonSendMut<Services>,
    mut scheduler: ResMut<Scheduler>,
) {
    let Some(failed_paths) = services.store.failed_paths() else {
        return;
    };
    let mut paths = Vec::new();
    for (goal, failure) in scheduler.failures() {
        let lasting = matches!(failure.kind, FailureKind::Permanent | FailureKind::Rejected);
        if let Ok(known) = goals.get(*goal)
            && lasting
            && scheduler.mode_of(*goal) == BuildMode::Normal
            && !graph.traits(known.drv).fixed
        {
            let outputs = graph.outputs(known.drv).iter();
            paths.extend(outputs.map(|row| graph.full_path(row.path)));
        }
    }
    if paths.is_empty() {
        return;
    }
    if let Err(error) = failed_paths.register(&paths) {
        scheduler.abort(error.into());
    }
}
