//! How the engine ends its children: builders and substituters are killed, a hook is asked first,
//! for it may have something to tell a machine far away.
//!
//! Whoever ends a child of a goal does it by these. A child that took too long, wrote too much or
//! is not wanted any more ([`kill`], [`cancel`]) is reaped as any other afterwards; what is not
//! watched, or not any more, is reaped here ([`dismiss`], [`end_all`]).

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use windrow_components::building::{Child, ChildKind};
use windrow_sandbox::process::kill::{kill_and_reap, kill_group};
use windrow_sandbox::process::launch::Spawned;

/// How long a process may take to end of itself after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// Kills a child and what it left running. It was not waited for.
pub fn kill(child: &Child) {
    kill_group(child.pid);
}

/// Ends a child that nobody wants any more. One that is only asked to end is to be killed at the
/// instant that is returned, if it is still there.
pub fn cancel(child: &Child, now: Duration) -> Option<Duration> {
    if child.kind == ChildKind::Hook {
        ask_to_end(child.pid);
        return Some(now + GRACE);
    }
    kill(child);
    None
}

/// Asks a helper's process group to end, waits a moment for it, and makes sure (Nix 1.8:
/// `Pid::kill` with SIGTERM). Returns its raw wait status.
///
/// Nix 1.8: `HookInstance::HookInstance`, `HookInstance::~HookInstance`.
pub fn dismiss(child: &Spawned) -> i32 {
    ask_to_end(child.pid);
    wait_and_kill(child, Instant::now() + GRACE)
}

/// Ends several children, and waits for them. Hooks have one moment, all the same.
pub fn end_all(children: &[(ChildKind, Spawned)]) {
    for (kind, child) in children {
        match kind {
            ChildKind::Hook => ask_to_end(child.pid),
            ChildKind::Builder | ChildKind::Fetch => kill_group(child.pid),
        }
    }
    let until = Instant::now() + GRACE;
    for (kind, child) in children {
        match kind {
            ChildKind::Hook => wait_and_kill(child, until),
            ChildKind::Builder | ChildKind::Fetch => kill_and_reap(child.pid),
        };
    }
}

fn ask_to_end(pid: i32) {
    // The child was not waited for, so its number is still its own.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
}

fn wait_and_kill(child: &Spawned, until: Instant) -> i32 {
    let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    let left_ms = until.saturating_duration_since(Instant::now()).as_millis();
    // Should it be interrupted, the process is killed a little early.
    let _ = nix::poll::poll(
        &mut ended,
        PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX),
    );
    kill_and_reap(child.pid)
}
