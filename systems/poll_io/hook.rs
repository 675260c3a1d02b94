//! Hears the hook that has not accepted a build yet, which is no child of a goal.

use crate::helpers::hook::talk::Talking;
use crate::process::reactor::Readable;

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
    if params.host.second_passed {
        params.say_overdue();
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
