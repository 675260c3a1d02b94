//! Hears what hooks say, and tells them what they did not take at once.

use bevy_ecs::prelude::{NonSend, NonSendMut, Query};

use crate::helpers::hook::talk::{HookBuild, HookHandle, Talking, say};
use crate::poll_io::goal_of;
use crate::process::reactor::Readable;
use crate::world::{Host, Services};

/// Hears what the hook has to say.
pub fn hear_hook(mut params: Talking<'_>) {
    if params.host.events.now.contains(&Readable::Hook) {
        if params.services.reporter.is_behind() {
            // That it can't be heard is our doing.
            params.hook.since = params.scheduler.now;
            params.host.events.held_back.push(Readable::Hook);
        } else if params.listen() {
            params.host.events.unread.push(Readable::Hook);
        }
    }
    while let Some(result) = params.hook.inbox.take() {
        params.scheduler.launched();
        params.hook.starting = false;
        match result {
            Ok(instance) => params.welcome(instance),
            Err(error) => params.broken(error),
        }
    }
}

/// Talks on with hooks that build: reads what they say, and tells them what they did not take at
/// once.
pub fn talk_on(
    mut builds: Query<&mut HookBuild>,
    hook: NonSend<HookHandle>,
    mut host: NonSendMut<Host>,
    mut services: NonSendMut<Services>,
) {
    let Host {
        events, reactor, ..
    } = &mut *host;
    for event in &events.now {
        let (Readable::Said(index) | Readable::Told(index)) = *event else {
            continue;
        };
        let Ok(mut build) = builds.get_mut(goal_of(index)) else {
            continue;
        };
        if matches!(event, Readable::Told(_)) {
            build.0.send();
            continue;
        }
        if services.reporter.is_behind() {
            events.held_back.push(*event);
            continue;
        }
        for line in build.0.listen(&mut reactor.buffer) {
            say(&mut services.reporter, &hook.program, &line);
        }
        if build.0.unread {
            events.unread.push(*event);
        }
    }
}
