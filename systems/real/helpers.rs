//! Substituters and the build hook as parts of the real world.

use std::sync::Arc;

use bevy_ecs::prelude::{Entity, With, World};
use windrow_sandbox::process::launch::Spawned;

use crate::helpers::hook::instance::dismiss_all;
use crate::helpers::hook::talk::{HookBuild, HookHandle};
use crate::helpers::querier::Queriers;
use crate::helpers::{FetchNews, Fetches, HelperConfig, Inbox, Substituters};
use crate::world::{HookDesk, Host, Parts, Scheduler};

/// Adds the helpers to a run in the real world, if there are any.
pub fn plug_in(world: &mut World, config: HelperConfig) {
    let waker = world.non_send::<Host>().reactor.waker();
    // Should the kernel refuse to wake, the next event or heartbeat brings the news.
    let wake = move || drop(waker.wake());
    if !config.substituters.is_empty() {
        let names = config.substituters.iter();
        let names = names.map(|program| program.to_string_lossy().into_owned());
        world.resource_mut::<Parts>().substituters = true;
        world.insert_resource(Substituters::new(names));
        let env = Arc::clone(&config.env);
        let queriers = Queriers::new(config.substituters, env, config.patience_s, wake.clone());
        world.insert_non_send(queriers);
        world.insert_non_send(Fetches {
            env: Arc::clone(&config.env),
            inbox: Inbox::new(wake.clone()),
            received: Vec::new(),
        });
    }
    if let Some(program) = config.hook {
        world.resource_mut::<Parts>().hook = true;
        world.resource_mut::<Scheduler>().desk = HookDesk::open();
        let hook = HookHandle::new(program, config.hook_args, config.env, wake);
        world.insert_non_send(hook);
    }
}

/// Ends the helpers that are left when a run is over, after the threads that start them have ended.
pub(crate) fn clean_up(world: &mut World) {
    use windrow_components::building::BuilderProcess;
    drop(world.remove_non_send::<Queriers>());
    let mut children = Vec::new();
    if let Some(mut hook) = world.remove_non_send::<HookHandle>() {
        children.extend(hook.take_child());
        while let Some(result) = hook.inbox.take() {
            children.extend(result.ok().map(|instance| instance.into_parts().0));
        }
    }
    if let Some(fetches) = world.remove_non_send::<Fetches>() {
        while let Some(news) = fetches.inbox.take() {
            if let FetchNews::Started {
                result: Ok(child), ..
            } = news
            {
                children.push(child);
            }
        }
    }
    // A hook has something to tell a machine far away before it ends.
    let mut hooks = world.query_filtered::<Entity, With<HookBuild>>();
    let hooks: Vec<Entity> = hooks.iter(world).collect();
    for goal in hooks {
        if let Some(BuilderProcess { pid, pidfd, .. }) = world.entity_mut(goal).take() {
            children.push(Spawned { pid, pidfd });
        }
    }
    dismiss_all(&children);
}
