//! Kills a child with its process group, and waits for it. The one place where the children of
//! builds end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use windrow_sys::raw::{self, Waited};

use crate::process::guard;

/// Kills a child and everything in its process group.
///
/// The child must not have been waited for: until then its number, and that of its group, are
/// nobody else's.
///
/// Nix 1.8: `Pid::kill`, `Pid::wait`.
pub fn kill_group(pid: i32) {
    let pid = Pid::from_raw(pid);
    // By its own number first: it may lead no group yet. Once killed it makes no more processes.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = killpg(pid, Signal::SIGKILL);
}

/// The status of a child of which it is not known how it ended: neither an exit nor a signal.
pub const UNKNOWN_STATUS: i32 = -1;

/// A child that was waited for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reaped {
    /// Its raw wait status.
    pub status: i32,
    /// Processor time of it and of the children it waited for.
    pub cpu: Duration,
    /// The most memory that it, or a child it waited for, had resident, in bytes; `None` if that
    /// was less than this process had itself, for then the kernel does not tell.
    pub peak_memory: Option<u64>,
}

/// Kills what is left of a child's process group, then takes the child's exit status: its raw wait
/// status.
///
/// Nix 1.8: `Pid::kill`, `Pid::wait`, `DerivationGoal::killChild`.
pub fn kill_and_reap(pid: i32) -> i32 {
    kill_and_measure(pid).status
}

/// The same, with what the child took.
pub fn kill_and_measure(pid: i32) -> Reaped {
    kill_group(pid);
    guard::strike(pid);
    // It is a child of ours that was not waited for, so that this can't fail unless the program
    // ignores SIGCHLD: the kernel does not tell how it ended then.
    let Ok(Waited { status, usage }) = raw::wait(pid, 0) else {
        return Reaped {
            status: UNKNOWN_STATUS,
            ..Reaped::default()
        };
    };
    let time = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Reaped {
        status,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_memory: is_its_own(usage.ru_maxrss).then(|| usage.ru_maxrss.unsigned_abs() * 1024),
    }
}

/// Whether a child had that many KiB resident by itself: it begins with its maker's memory, so the
/// kernel counts that as the child's own, though it lasts only until the child runs its program.
fn is_its_own(peak_kib: i64) -> bool {
    // Whether `getrusage` tells what this process has had itself. It counts what ran in the process
    // before its program, too, until the program has had more.
    static EXACT: AtomicBool = AtomicBool::new(false);
    // This fails only for another question.
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_or(i64::MAX, |usage| usage.max_rss());
    if peak_kib > usage || EXACT.load(Ordering::Relaxed) {
        return peak_kib > usage;
    }
    let own = own_peak_kib().unwrap_or(usage);
    EXACT.store(own >= usage, Ordering::Relaxed);
    peak_kib > own
}

/// The most memory that this process has had resident since it runs this program.
fn own_peak_kib() -> Option<i64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn high_water_mark(status: &str) -> Option<i64> {
    let row = status.lines().find_map(|row| row.strip_prefix("VmHWM:"))?;
    row.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_high_water_mark_is_found() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  123456 kB\nVmRSS:\t 7 kB\n";
        assert_eq!(high_water_mark(status), Some(123_456));
        assert_eq!(high_water_mark("Name:\tx\n"), None);
        assert!(own_peak_kib().unwrap() > 0);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is waited for by its number")]
    fn a_child_that_leads_no_group_yet_is_killed_too() {
        let child = Command::new("sleep").arg("300").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(kill_and_reap(pid), libc::SIGKILL);
    }
}
