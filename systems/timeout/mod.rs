//! The fifth system: what should have happened by now. Silence, total time, log size, and locks to try again.

pub mod hook;
pub mod kill;

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Query, Res, ResMut};
use windrow_components::building::{BuildLog, Deadlines};
use windrow_components::goal::Stage;

use crate::failure::FailureKind;
use crate::world::{
    Condemned, ForeignLock, HelperEvents, LockWaiters, NewlyReady, Now, Options, Running,
};

/// The next time after `now` at which this system has something to do, if nothing else happens before. What was due
/// by `now` has been done in the tick that came to know that time.
pub fn next_deadline<'a>(
    options: &Options,
    waiting: &LockWaiters,
    children: impl Iterator<Item = &'a Deadlines>,
    now: Duration,
) -> Option<Duration> {
    let of = |child: &Deadlines, seconds| limit(seconds).filter(|_| child.limited);
    let of_children = children.flat_map(|child| match child.linger {
        // Only a child that still runs can take too long.
        Some(linger) => [Some(linger), None],
        None => [
            of(child, options.max_silent_time_s).map(|limit| child.last_output + limit),
            of(child, options.timeout_s).map(|limit| child.started + limit),
        ],
    });
    of_children
        .flatten()
        .chain(waiting.foreign.iter().map(|lock| lock.retry_at))
        .filter(|&at| at > now)
        .min()
}

fn limit(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Forgets what helpers said that nobody took, and keeps what was not read to its end.
pub fn forget_events(mut events: ResMut<HelperEvents>) {
    events.turn();
}

/// Whether a child may be condemned.
pub fn is_watching(running: Res<Running>) -> bool {
    !running.0.is_empty()
}

/// Condemns children that took too long or said too much.
pub fn condemn(
    mut commands: Commands,
    children: Query<(&Deadlines, &BuildLog), bevy_ecs::query::Without<Condemned>>,
    running: Res<Running>,
    options: Res<Options>,
    now: Res<Now>,
) {
    for &goal in &running.0 {
        let Ok((deadlines, log)) = children.get(goal) else {
            continue;
        };
        // What it left behind may hold its log open, but it did not take too long itself.
        let runs = deadlines.limited && deadlines.linger.is_none();
        let over = |since: Duration, seconds: u64| {
            runs && limit(seconds).is_some_and(|limit| now.0.saturating_sub(since) >= limit)
        };
        let (kind, reason) = if over(deadlines.last_output, options.max_silent_time_s) {
            let seconds = options.max_silent_time_s;
            (
                FailureKind::TimedOut,
                format!("timed out after {seconds} seconds of silence"),
            )
        } else if over(deadlines.started, options.timeout_s) {
            (
                FailureKind::TimedOut,
                format!("timed out after {} seconds", options.timeout_s),
            )
        } else if options.max_log_size > 0 && log.size > options.max_log_size {
            let bytes = options.max_log_size;
            let reason = format!("was killed after writing more than {bytes} bytes of log output");
            (FailureKind::LogLimit, reason)
        } else {
            continue;
        };
        commands.entity(goal).insert(Condemned { reason, kind });
    }
}

/// Whether goals wait for locks of others.
pub fn is_waiting_for_locks(waiting: Res<LockWaiters>) -> bool {
    !waiting.foreign.is_empty()
}

/// Makes goals ready again whose locks are due for another try.
pub fn retry_locks(
    mut stages: Query<&mut Stage>,
    mut waiting: ResMut<LockWaiters>,
    mut ready: ResMut<NewlyReady>,
    now: Res<Now>,
) {
    let due = waiting
        .foreign
        .extract_if(.., |lock| lock.retry_at <= now.0);
    for ForeignLock { ready: due, .. } in due {
        if let Ok(mut stage) = stages.get_mut(due.goal) {
            *stage = Stage::Ready;
        }
        ready.0.push(due.drv);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_deadline_counts() {
        let seconds = Duration::from_secs;
        let mut options = crate::engine::default_options();
        let child = Deadlines {
            started: seconds(1),
            limited: true,
            last_output: seconds(5),
            exited: None,
            linger: None,
        };
        let waiting = LockWaiters::default();
        let after = |now, options: &Options, children: &[&Deadlines]| {
            next_deadline(options, &waiting, children.iter().copied(), seconds(now))
        };
        assert_eq!(after(5, &options, &[&child]), None);
        options.max_silent_time_s = 3;
        options.timeout_s = 10;
        assert_eq!(after(5, &options, &[&child]), Some(seconds(8)));
        // What is due has been done, and is nothing to stay awake for.
        assert_eq!(after(8, &options, &[&child]), Some(seconds(11)));
        assert_eq!(after(11, &options, &[&child]), None);
        let lingering = Deadlines {
            linger: Some(seconds(6)),
            ..child
        };
        assert_eq!(after(5, &options, &[&child, &lingering]), Some(seconds(6)));
        assert_eq!(after(6, &options, &[&lingering]), None);
    }
}
