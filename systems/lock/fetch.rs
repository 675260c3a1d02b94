//! Slots and locks for goals that fetch a path from a substituter (Nix 1.8: `tryToRun`). They come
//! before all builds, and at least one may run however few builds may, for no other machine can do
//! it.

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use windrow_components::goal::{Outcome, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use super::archives::Archives;
use super::wait_for_others;
use crate::error::Result;
use crate::failure::Failure;
use crate::world::{ReadyFetch, Scheduler, Services, Waiting};

/// Takes locks for as many paths to be fetched as there are free slots.
///
/// Nix 1.8: `SubstitutionGoal::tryToRun`.
pub fn lock_paths(
    mut commands: Commands,
    graph: Res<BuildGraph>,
    mut services: NonSendMut<Services>,
    mut scheduler: ResMut<Scheduler>,
    goals: Query<&SubstitutionGoal>,
    mut archives: Archives,
) {
    while !scheduler.run.has_stopped() {
        let asking = scheduler.take_ready_fetches();
        if asking.is_empty() {
            return;
        }
        let telling = (&*graph, &mut services.reporter);
        let asking = archives.set_aside(asking, &mut scheduler, telling);
        let repairs = |fetch: ReadyFetch| goals.get(fetch.goal).is_ok_and(|known| known.repair);
        let locked = lock_batch(
            &mut commands,
            &graph,
            &mut services,
            (&mut scheduler, &mut archives),
            asking,
            repairs,
        );
        if let Err(error) = locked {
            scheduler.abort(error);
        }
    }
}

fn lock_batch(
    commands: &mut Commands,
    graph: &BuildGraph,
    Services { store, reporter }: &mut Services,
    (scheduler, archives): (&mut Scheduler, &mut Archives),
    asking: Vec<ReadyFetch>,
    repairs: impl Fn(ReadyFetch) -> bool,
) -> Result<()> {
    // What is to be repaired was valid, and so need not have been a root yet.
    let paths: Vec<PathId> = asking.iter().map(|ready| ready.path).collect();
    store.add_temp_roots(graph, &paths)?;
    let mut locked = Vec::new();
    for next in asking {
        if !scheduler.hold(&[next.path]) {
            scheduler.wait_for_any_goal(Waiting::Fetch(next));
            continue;
        }
        match store.try_lock(graph, &[next.path]) {
            Ok(Some(locks)) => {
                scheduler.lock(next.goal);
                locked.push((next, locks));
                continue;
            }
            Ok(None) => {
                scheduler.release(&[next.path]);
                let services = (&**store, &mut *reporter);
                wait_for_others(scheduler, graph, services, Waiting::Fetch(next));
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                scheduler.release(&[next.path]);
                let failure = Failure::of_error(&error);
                scheduler.fail(next.goal, failure);
            }
        }
    }
    // Somebody else may have fetched or built it since.
    let paths: Vec<PathId> = locked.iter().map(|(ready, _)| ready.path).collect();
    let valid = store.valid(graph, &paths)?;
    for ((ready, locks), valid) in locked.into_iter().zip(valid) {
        if valid && !repairs(ready) {
            store.unlock(locks, true);
            archives.leave(ready, scheduler, (graph, &mut *reporter));
            scheduler.end(graph, ready.into(), Outcome::Success);
            continue;
        }
        commands.entity(ready.goal).insert(locks);
        scheduler.take_fetch_slot(ready);
    }
    Ok(())
}
