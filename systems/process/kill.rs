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
use windrow_sandbox::cgroups::Cgroup;
use windrow_sandbox::process::kill::{kill_and_reap, kill_group};
use windrow_sandbox::process::launch::Spawned;
use windrow_sys::interrupt;

/// How long a process may take to end of itself after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// The same when the user waits for the end of the run.
const SHORT_GRACE: Duration = Duration::from_millis(100);

/// How long whoever has other things to do waits.
const GLANCE: Duration = Duration::from_millis(20);

/// Kills a child, what it left running, and all that is in its cgroup if it has one. It was not
/// waited for.
pub fn kill(child: &Child, cgroup: Option<&Cgroup>) {
    kill_group(child.pid);
    if let Some(cgroup) = cgroup {
        cgroup.kill();
    }
}

/// Ends a child that nobody wants any more. One that is only asked to end is to be killed at the
/// instant that is returned, if it is still there.
pub fn cancel(child: &Child, cgroup: Option<&Cgroup>, now: Duration) -> Option<Duration> {
    if child.kind == ChildKind::Hook {
        ask_to_end(child.pid);
        return Some(now + GRACE);
    }
    kill(child, cgroup);
    None
}

/// Asks a helper's process group to end, waits a moment for it, and makes sure (Nix 1.8:
/// `Pid::kill` with SIGTERM). Returns its raw wait status.
///
/// Nix 1.8: `HookInstance::HookInstance`, `HookInstance::~HookInstance`.
pub fn dismiss(child: &Spawned) -> i32 {
    ask_to_end(child.pid);
    wait_and_kill(child, Instant::now())
}

/// The same for who can't wait: a process that has not ended soon comes back, and is to be
/// [dismissed](dismiss) by another thread.
pub fn dismiss_soon(child: Spawned) -> Result<i32, Spawned> {
    ask_to_end(child.pid);
    match has_ended(&child, GLANCE) {
        true => Ok(kill_and_reap(child.pid)),
        false => Err(child),
    }
}

/// Ends several children, and waits for them. Hooks have one moment, all the same.
pub fn end_all(children: &[(ChildKind, Spawned)]) {
    for (kind, child) in children {
        match kind {
            ChildKind::Hook => ask_to_end(child.pid),
            _ => kill_group(child.pid),
        }
    }
    let began = Instant::now();
    for (kind, child) in children {
        match kind {
            ChildKind::Hook => wait_and_kill(child, began),
            _ => kill_and_reap(child.pid),
        };
    }
}

fn ask_to_end(pid: i32) {
    // The child was not waited for, so its number is still its own.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
}

fn wait_and_kill(child: &Spawned, asked: Instant) -> i32 {
    let grace = || match interrupt::is_signalled() {
        true => SHORT_GRACE,
        false => GRACE,
    };
    while asked.elapsed() < grace() && !has_ended(child, GLANCE) {}
    kill_and_reap(child.pid)
}

/// Waits that long for the end of a child.
fn has_ended(child: &Spawned, time: Duration) -> bool {
    let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    let time = PollTimeout::try_from(time.as_millis()).unwrap_or(PollTimeout::MAX);
    nix::poll::poll(&mut ended, time).is_ok_and(|ready| ready > 0)
}
