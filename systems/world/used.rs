//! Reports which store paths a run has used, for whoever decides by their last use what may go.
//! Nothing is looked up for that: it is what goals found valid on their way.

use bevy_ecs::prelude::World;
use windrow_components::bit_set::PathSet;
use windrow_components::goal::Target;
use windrow_components::graph::BuildGraph;
use windrow_components::outputs::OutputSet;

use crate::report::Event;
use crate::world::Services;

/// Reports what was used since this was called last, and what was asked for. What was registered in
/// that time is left out, for the store knows when that was; so are derivations that nobody asked
/// for: what they build leads to them.
pub(crate) fn tell(world: &mut World, asked: &[(Target, OutputSet)]) {
    let Some(used) = world.non_send_mut::<Services>().store.take_used() else {
        return;
    };
    let graph = world.resource::<BuildGraph>();
    let mut paths = PathSet::default();
    let is_derivation = |&path: &_| graph.paths.name(path).ends_with(".drv");
    for path in used.found.iter().filter(|path| !is_derivation(path)) {
        paths.insert(path);
    }
    for &(target, wanted) in asked {
        match target {
            Target::Path(path) | Target::Repair(path) => {
                paths.insert(path);
            }
            Target::Derivation(drv) => {
                paths.insert(graph.drv_path(drv));
                let rows = graph.outputs(drv).iter();
                for row in rows.filter(|row| graph.output_sets.wants(wanted, row.name)) {
                    paths.insert(row.path);
                }
            }
        }
    }
    let paths = paths.iter().filter(|&path| !used.made.contains(path));
    let paths: Vec<String> = paths.map(|path| graph.full_path(path)).collect();
    if !paths.is_empty() {
        let mut services = world.non_send_mut::<Services>();
        services.reporter.report(&Event::Used { paths: &paths });
    }
}
