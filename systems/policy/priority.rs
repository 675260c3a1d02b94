//! `priority`: what its file says matters the most comes first.

use std::sync::Arc;

use bevy_ecs::prelude::{Res, ResMut, Resource, World};

use super::names::rank_of;
use super::{PolicyPlugin, PolicySystems};
use crate::error::Error;
use crate::world::Scheduler;

pub(super) const NAME: &str = "priority";

/// How much each task of a simulation matters, as its graph says; the largest number the most.
#[derive(Debug, Default, Resource)]
pub struct TaskPriorities(pub(crate) Vec<f64>);

#[derive(Debug)]
struct ByPriority;

pub(super) fn parse(parameters: &str) -> Result<Arc<dyn PolicyPlugin>, String> {
    match parameters {
        "" => Ok(Arc::new(ByPriority)),
        _ => Err(format!("the policy {NAME} has no parameters")),
    }
}

impl PolicyPlugin for ByPriority {
    fn name(&self) -> &str {
        NAME
    }

    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems) {
        if !world.contains_resource::<TaskPriorities>() {
            world.init_resource::<TaskPriorities>();
            let error = Error::Policy {
                what: NAME.to_owned(),
                reason: "nothing has a priority; give tasks of a graph in JSON a `priority`, or \
                         use file:ranks.csv"
                    .to_owned(),
            };
            world.resource_mut::<Scheduler>().abort(error);
        }
        systems.add_to_rank(rank);
    }
}

fn rank(mut scheduler: ResMut<Scheduler>, priorities: Res<TaskPriorities>) {
    let priorities = &priorities.0;
    scheduler.rank(|drv| rank_of(-priorities.get(drv.index()).copied().unwrap_or(0.0)));
}
