//! Hears what hooks say, and tells them what they did not take at once.

use bevy_ecs::prelude::{NonSendMut, Query, Res, ResMut};
use windrow_components::goal::DerivationGoal;

use crate::helpers::hook::talk::{HookBuild, HookHandle, Talking, say};
use crate::process::reactor::{Reactor, Readable};
use crate::world::{HelperEvents, ReporterHandle, Running};

/// Hears what the hook has to say.
pub fn hear_hook(mut params: Talking<'_, '_>, mut events: ResMut<HelperEvents>) {
    let before = events.0.len();
    events.0.retain(|event| *event != Readable::Hook);
    if events.0.len() < before {
        params.listen();
    }
    while let Some(result) = params.news.take_hook() {
        params.background.launching -= 1;
        params.hook.starting = false;
        match result {
            Ok(instance) => params.welcome(instance),
            Err(error) => params.broken(error),
        }
    }
}

/// Talks on with hooks that build: reads what they say, and tells them what they did not take at once.
pub fn talk_on(
    events: Res<HelperEvents>,
    running: Res<Running>,
    mut builds: Query<(&DerivationGoal, &mut HookBuild)>,
    hook: NonSendMut<HookHandle>,
    mut reactor: NonSendMut<Reactor>,
    mut reporter: NonSendMut<ReporterHandle>,
) {
    for event in &events.0 {
        let (Readable::Said(index) | Readable::Told(index)) = *event else {
            continue;
        };
        let Some(&goal) = running.0.iter().find(|goal| goal.index_u32() == index) else {
            continue;
        };
        let Ok((_, mut build)) = builds.get_mut(goal) else {
            continue;
        };
        if matches!(event, Readable::Told(_)) {
            build.0.send();
            continue;
        }
        for line in build.0.listen(&mut reactor.buffer) {
            say(&mut *reporter.0, &hook.program, &line);
        }
    }
}
