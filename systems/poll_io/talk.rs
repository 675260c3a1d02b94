//! Talks on with children of goals beside their logs: hears what a substituter says of the path
//! that it fetched, and hears and tells hooks that build.

use bevy_ecs::prelude::{NonSend, NonSendMut, Query};

use crate::helpers::hook::talk::{HookHandle, say};
use crate::poll_io::goal_of;
use crate::process::reactor::Readable;
use crate::process::side_channel::SideChannel;
use crate::world::{Host, Services};

/// Reads what children say beside their logs, and tells hooks what they did not take at once.
///
/// Nix 1.8: `SubstitutionGoal::handleChildOutput`, `SubstitutionGoal::handleEOF`.
pub fn talk_on(
    mut channels: Query<&mut SideChannel>,
    hook: Option<NonSend<HookHandle>>,
    mut host: NonSendMut<Host>,
    mut services: NonSendMut<Services>,
) {
    if host.second_passed
        && let Some(hook) = &hook
    {
        for mut channel in &mut channels {
            if let SideChannel::Hook(talk) = &mut *channel
                && let Some(line) = talk.overdue()
            {
                say(&mut services.reporter, hook.program(), &line);
            }
        }
    }
    let Host {
        events, reactor, ..
    } = &mut *host;
    for event in &events.now {
        let (Readable::Said(index) | Readable::Told(index)) = *event else {
            continue;
        };
        let Ok(mut channel) = channels.get_mut(goal_of(index)) else {
            continue;
        };
        let unread = match (&mut *channel, event) {
            (SideChannel::Fetch(pipe), _) => pipe.read(&mut reactor.buffer),
            (SideChannel::Hook(talk), Readable::Told(_)) => {
                talk.send();
                false
            }
            (SideChannel::Hook(_), _) if services.reporter.is_behind() => {
                events.held_back.push(*event);
                false
            }
            (SideChannel::Hook(talk), _) => {
                let lines = talk.listen(&mut reactor.buffer);
                if let Some(hook) = &hook {
                    let program = hook.program();
                    lines
                        .iter()
                        .for_each(|line| say(&mut services.reporter, program, line));
                }
                talk.unread
            }
        };
        if unread {
            events.unread.push(*event);
        }
    }
}
