//! Substituters and the build hook as parts of the real world.

use std::sync::Arc;

use bevy_ecs::prelude::World;
use windrow_components::building::ChildKind;
use windrow_net::asker::PartialDir;
use windrow_sandbox::process::launch::Spawned;
use windrow_sys::limits;

use crate::error::{Error, Result};
use crate::helpers::caches::Caches;
use crate::helpers::downloads::Downloads;
use crate::helpers::hook::talk::HookHandle;
use crate::helpers::querier::Queriers;
use crate::helpers::{FetchEnv, HelperConfig, Speeds, Substituters};
use crate::plan::Learnt;
use crate::world::{HookDesk, Host, Parts, Scheduler};

/// Which share of the descriptors that are left the files may take that are downloaded into.
const FILES_SHARE: usize = 8;

/// Adds the helpers to a run in the real world, if there are any. What a plan with the same
/// configuration has learnt of binary caches need not be asked again.
///
/// # Errors
/// When there are no threads left.
pub fn plug_in(world: &mut World, config: HelperConfig, learnt: Option<Learnt>) -> Result<()> {
    let waker = world.non_send::<Host>().reactor.waker();
    // Should the kernel refuse to wake, the next event or heartbeat brings the news.
    let wake = move || drop(waker.wake());
    let caches = &config.caches;
    let (known, opened, speeds) = match learnt.map(Learnt::take) {
        Some((known, opened, speeds)) => (known, Some(opened), speeds),
        None => (
            Substituters::of_config(&config),
            None,
            Speeds::of_config(&config),
        ),
    };
    if !config.substituters.is_empty() || !caches.urls.is_empty() {
        world.resource_mut::<Parts>().substituters = true;
        world.insert_resource(known);
        world.insert_resource(speeds);
        let env = Arc::clone(&config.env);
        let programs = config.substituters.clone();
        let queriers = Queriers::new(programs, env, config.patience_s, wake.clone());
        world.insert_non_send(queriers);
        world.insert_non_send(FetchEnv(Arc::clone(&config.env)));
    }
    if !caches.urls.is_empty() {
        let opened = match opened {
            Some(opened) => {
                opened.wake_by(wake.clone());
                opened
            }
            None => {
                Caches::new(caches, wake.clone()).map_err(|source| Error::Threads { source })?
            }
        };
        world.insert_non_send(opened);
        world.resource_mut::<Parts>().caches = true;
        let at_once = limits::spare_descriptors() / caches.urls.len() / FILES_SHARE;
        world.resource_mut::<Downloads>().bound(at_once);
        let downloads = PartialDir(caches.asker.downloads_dir.clone());
        let host = world.non_send::<Host>();
        host.pool.1.run(move || downloads.clean());
    }
    if let Some(program) = config.hook {
        world.resource_mut::<Parts>().hook = true;
        world.resource_mut::<Scheduler>().desk = HookDesk::open();
        let hook = HookHandle::new(program, config.hook_args, config.env, wake);
        world.insert_non_send(hook);
    }
    Ok(())
}

/// Ends the substituters that are asked, when a run is over and the threads that start helpers have
/// ended; gives the hooks that have not accepted a build, to be ended with the children of goals.
pub(crate) fn clean_up(world: &mut World) -> Vec<(ChildKind, Spawned)> {
    drop(world.remove_non_send::<Queriers>());
    drop(world.remove_non_send::<Caches>());
    let Some(mut hook) = world.remove_non_send::<HookHandle>() else {
        return Vec::new();
    };
    let mut hooks: Vec<Spawned> = hook.take_child().into_iter().collect();
    while let Some(result) = hook.inbox.take() {
        hooks.extend(result.ok().map(|instance| instance.into_parts().0));
    }
    hooks
        .into_iter()
        .map(|process| (ChildKind::Hook, process))
        .collect()
}
