//! Paths that wait for each other in a circle.

use bevy_ecs::prelude::{Entity, Query, Res, ResMut};
use windrow_components::goal::{Stage, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::failure::{Failure, FailureKind};
use crate::helpers::Substituters;
use crate::world::Scheduler;

/// When nothing is left that could wake anyone, paths wait for each other in a circle: their
/// substituter's mistake, which one of them has to answer for.
///
/// Nix 1.8: `SubstitutionGoal::referencesValid`.
pub fn break_circle(
    mut scheduler: ResMut<Scheduler>,
    goals: Query<(Entity, &SubstitutionGoal, &Substitution)>,
    substituters: Res<Substituters>,
    graph: Res<BuildGraph>,
) {
    if !scheduler.run.is_stuck {
        return;
    }
    let waiting = |goal: Entity| {
        let (_, known, substitution) = goals.get(goal).ok()?;
        (scheduler.stage(goal) == Stage::Inputs).then_some((known.path, substitution))
    };
    let next = |goal: Entity| {
        let (path, substitution) = waiting(goal)?;
        let references = &substituters.info(substitution.sub, path)?.references;
        let goals = references.iter().filter(|reference| **reference != path);
        goals
            .filter_map(|&reference| scheduler.index.get(Target::Path(reference)))
            .find(|&goal| waiting(goal).is_some())
    };
    // Whoever waits for nobody that waits is not to blame; from anyone else the way leads into a
    // circle.
    let mut seen = hashbrown::HashSet::new();
    let Some(mut at) = goals
        .iter()
        .map(|(goal, ..)| goal)
        .find(|&goal| next(goal).is_some())
    else {
        return;
    };
    while seen.insert(at) {
        let Some(goal) = next(at) else { return };
        at = goal;
    }
    let Some((path, _)) = waiting(at) else { return };
    scheduler.run.is_stuck = false;
    let message = format!(
        "path '{}' can't be substituted: by what its substituter says, its references lead back to it",
        graph.full_path(path)
    );
    scheduler.fail(at, Failure::new(FailureKind::Other, message));
}
