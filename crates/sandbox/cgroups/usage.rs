//! What a cgroup took and where it met its limits: the figures that the kernel keeps in its files.
//! A file that is absent, for want of a controller or in an older kernel, tells nothing.

use std::time::Duration;

use super::BuildLimits;
use super::dir::Dir;

/// A limit that a build met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Processes were killed for want of memory: with the build's own limit, in bytes, if it was
    /// that one.
    Memory(Option<u64>),
    /// Processes or threads could not be made, for there were that many.
    Processes(u64),
}

/// What is known of a cgroup that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether all of its processes are gone.
    pub is_empty: bool,
    /// The processor time of all of them.
    pub cpu: Option<Duration>,
    /// The most memory that they had together at a time, in bytes, with the files that the kernel
    /// kept in memory for them.
    pub peak_memory: Option<u64>,
    /// A limit that it met.
    pub exceeded: Option<Exceeded>,
}

/// What is known of a cgroup in which nothing runs any more.
pub(super) fn of(dir: &Dir, limits: BuildLimits) -> Ended {
    let read = |file: &str| dir.read(file).unwrap_or_default();
    let cpu = figure(&read("cpu.stat"), "usage_usec");
    let memory_events = read("memory.events");
    let killed = figure(&memory_events, "oom_kill").is_some_and(|count| count > 0);
    // Counted where the limit is that was met: the machine's, or that of a cgroup above, is not.
    let by_its_own = figure(&memory_events, "oom").is_some_and(|count| count > 0);
    let refused = |most: &u64| *most > 0 && figure(&read("pids.events"), "max") > Some(0);
    let exceeded = match killed {
        true => Some(Exceeded::Memory(limits.memory.filter(|_| by_its_own))),
        false => limits.processes.filter(refused).map(Exceeded::Processes),
    };
    Ended {
        is_empty: true,
        cpu: cpu.map(Duration::from_micros),
        peak_memory: read("memory.peak").trim_end().parse().ok(),
        exceeded,
    }
}

/// The number beside a key.
fn figure(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_names() {
        let events = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(figure(events, "oom"), Some(1));
        assert_eq!(figure(events, "oom_kill"), Some(3));
        assert_eq!(figure(events, "oom_"), None);
        assert_eq!(figure("usage_usec x\n", "usage_usec"), None);
        assert_eq!(figure("", "usage_usec"), None);
    }
}
