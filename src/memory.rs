//! How much memory this process has, had, and may have: what the kernel says in /proc and in its
//! control group. For refusing what would not fit, and for saying what a simulation needed.

use std::path::Path;

/// What is left for more, in bytes: nine tenths of the least that the machine, the control groups
/// of this process and its own limit (`ulimit -v`) have to spare.
pub(crate) fn available() -> u64 {
    let machine = kib(&read("/proc/meminfo"), "MemAvailable:").unwrap_or(u64::MAX);
    let spare = machine.min(group_spare()).min(own_spare());
    spare / 10 * 9
}

/// What is resident now, in bytes; 0 if the kernel does not tell.
pub(crate) fn resident() -> u64 {
    kib(&read("/proc/self/status"), "VmRSS:").unwrap_or(0)
}

/// The most that was resident since the last [`forget_peak`], in bytes.
pub(crate) fn peak() -> u64 {
    kib(&read("/proc/self/status"), "VmHWM:").unwrap_or(0)
}

/// Resets the peak. Where the kernel does not allow that, it stays that of the
/// whole process.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn read(file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// The bytes on the line of a file in /proc that begins so, and is in KiB.
fn kib(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// What the control groups of this process, version 2, leave: the least of all from its own up.
fn group_spare() -> u64 {
    let groups = read("/proc/self/cgroup");
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return u64::MAX;
    };
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(group);
    let spare = own
        .ancestors()
        .take_while(|directory| directory.starts_with(root))
        .map(|directory| {
            let figure = |name: &str| read(directory.join(name)).trim().parse::<u64>().ok();
            // The word "max" is no number, and stands for no limit.
            match (figure("memory.max"), figure("memory.current")) {
                (Some(limit), Some(used)) => limit.saturating_sub(used),
                _ => u64::MAX,
            }
        });
    spare.min().unwrap_or(u64::MAX)
}

/// What the limit on this process's address space leaves.
fn own_spare() -> u64 {
    let limits = read("/proc/self/limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"));
    let limit = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let used = kib(&read("/proc/self/status"), "VmSize:").unwrap_or(0);
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        assert_eq!(
            kib("A: 1 kB\nMemAvailable:   12 kB\n", "MemAvailable:"),
            Some(12 * 1024)
        );
        assert_eq!(kib("MemAvailable: x", "MemAvailable:"), None);
        assert!(resident() > 0 && peak() >= resident() / 2);
        assert!(
            available() < 1 << 50,
            "this machine tells what it has to spare"
        );
    }
}
