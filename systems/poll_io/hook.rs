//! Hears what hooks say, and tells them what they did not take at once.

use bevy_ecs::prelude::{NonSendMut, Query, Res, ResMut};
use windrow_components::goal::DerivationGoal;

use crate::helpers::hook::talk::{HookBuild, HookHandle, Talking, say};
use crate::process::reactor::{Reactor, Readable};
use crate::world::{HelperEvents, ReporterHandle, Running};

/// Hears what the hook has to say.
pub fn hear_hook(mut params: Talking<'_, '_>, mut events: ResMut<HelperEvents>) {
    let before = events.now.len();
    events.now.retain(|event| *event != Readable::Hook);
    if events.now.len() < before {
        if params.reporter.0.is_behind() {
            // That it can't be heard is our doing.
            params.hook.since = params.now.0;
            events.held_back.push(Readable::Hook);
        } else if params.listen() {
            events.unread.push(Readable::Hook);
        }
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
    mut events: ResMut<HelperEvents>,
    running: Res<Running>,
    mut builds: Query<(&DerivationGoal, &mut HookBuild)>,
    hook: NonSendMut<HookHandle>,
    mut reactor: NonSendMut<Reactor>,
    mut reporter: NonSendMut<ReporterHandle>,
) {
    let HelperEvents {
        now,
        unread,
        held_back,
    } = &mut *events;
    for event in now {
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
        if reporter.0.is_behind() {
            held_back.push(*event);
            continue;
        }
        for line in build.0.listen(&mut reactor.buffer) {
            say(&mut *reporter.0, &hook.program, &line);
        }
        if build.0.unread {
            unread.push(*event);
        }
    }
}
