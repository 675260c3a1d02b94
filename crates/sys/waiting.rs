//! Waits for what others hold: they end when they are asked to, and say for what and for whom they
//! wait when that takes long.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::interrupt;

/// From when on a wait is worth a word.
pub const LONG: Duration = Duration::from_secs(1);

static TELLER: OnceLock<fn(&str)> = OnceLock::new();

/// Has long waits told by this function, one line each. To be called by a program that has people
/// to tell.
pub fn tell_by(teller: fn(&str)) {
    let _ = TELLER.set(teller);
}

/// A wait for one thing.
#[derive(Debug)]
pub struct Wait {
    began: Instant,
    told: bool,
}

impl Wait {
    /// One that begins now.
    #[expect(clippy::new_without_default, reason = "it begins with the call")]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            told: false,
        }
    }

    /// Sleeps for `slice`, since the thing can't be had yet. After a second, `what` says once what
    /// is waited for and who has it.
    ///
    /// # Errors
    /// When the wait is to end.
    pub fn sleep(&mut self, slice: Duration, what: impl FnOnce() -> String) -> io::Result<()> {
        if interrupt::has_come() {
            return Err(interrupt::ended("somebody else was waited for"));
        }
        if !self.told && self.began.elapsed() >= LONG {
            self.told = true;
            if let Some(tell) = TELLER.get() {
                tell(&format!("waiting for {}...", what()));
            }
        }
        std::thread::sleep(slice);
        Ok(())
    }
}

/// What to say of a wait for the lock on a file.
pub fn lock_on(path: &Path) -> String {
    let holder = match holder(path) {
        Some(holder) => format!("held by {holder}"),
        None => "whose holder cannot be seen from here".to_owned(),
    };
    format!("the lock on '{}', {holder}", path.display())
}

/// Who holds a lock on a file, for people; none if nobody does, or the kernel does not show it, as
/// of other PID namespaces and of some file systems.
pub fn holder(path: &Path) -> Option<String> {
    find_holder(path, |_| true)
}

/// The same without this process: for locks of databases, of which each user has some.
pub fn holder_elsewhere(path: &Path) -> Option<String> {
    find_holder(path, |pid| pid != std::process::id())
}

/// How often the kernel's table is read before a lock counts as one that it does not show: it gives
/// the table in pieces, and while others give up their locks rows fall between two of them.
const READS: usize = 5;

/// The locks that the kernel shows at one moment.
#[derive(Debug, Default)]
pub struct LockTable(String);

impl LockTable {
    /// Reads it. Nothing is in it where the kernel does not show locks.
    pub fn read() -> Self {
        // More than once: see `READS`.
        let reads = (0..2).filter_map(|_| std::fs::read_to_string("/proc/locks").ok());
        Self(reads.collect())
    }

    /// The process that holds a lock on a file, if that can be seen from here.
    pub fn holder(&self, metadata: &Metadata) -> Option<u32> {
        find(&self.0, (metadata.dev(), metadata.ino()), |_| true)
    }
}

fn find_holder(path: &Path, counts: impl Fn(u32) -> bool) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let inode = (metadata.dev(), metadata.ino());
    let look = || {
        find(
            &std::fs::read_to_string("/proc/locks").ok()?,
            inode,
            &counts,
        )
    };
    let pid = (0..READS).find_map(|_| look())?;
    if pid == std::process::id() {
        return Some("this process itself".to_owned());
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(match name.trim_end() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    })
}

/// The process that holds a lock on that inode, one for itself alone if there is one.
fn find(table: &str, (device, inode): (u64, u64), counts: impl Fn(u32) -> bool) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
    let on_device = find_where(table, inode, |there, pid| there == device && counts(pid));
    // Some file systems give their files another device than the table has.
    on_device.or_else(|| find_where(table, inode, |_, pid| counts(pid)))
}

fn find_where(table: &str, inode: u64, is_it: impl Fn(&str, u32) -> bool) -> Option<u32> {
    let mut shared = None;
    for row in table.lines() {
        // "1: FLOCK  ADVISORY  WRITE 3541 08:01:2113 0 EOF"; who only waits stands after "->".
        let mut words = row.split_ascii_whitespace().skip(3);
        let (Some(kind), Some(pid), Some(place)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some((there, number)) = place.rsplit_once(':') else {
            continue;
        };
        // One that can't be seen from here has the number 0 or -1.
        let pid = pid.parse().ok().filter(|&pid: &u32| pid > 0);
        let Some(pid) = pid.filter(|&pid| number.parse() == Ok(inode) && is_it(there, pid)) else {
            continue;
        };
        match kind {
            "WRITE" => return Some(pid),
            _ => shared = Some(pid),
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_lock_is_found_and_who_waits_is_not() {
        let table = "1: POSIX  ADVISORY  READ  17 08:01:300000 128 128\n\
                     2: FLOCK  ADVISORY  WRITE 41 08:01:300000 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 42 08:01:300000 0 EOF\n\
                     3: OFDLCK ADVISORY  WRITE -1 08:01:300001 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 43 08:02:9 0 EOF\n";
        let device = |minor| libc::makedev(8, minor);
        let find = |table, inode| super::find(table, inode, |_| true);
        assert_eq!(find(table, (device(1), 300_000)), Some(41));
        assert_eq!(find(table, (device(1), 300_001)), None);
        assert_eq!(find(table, (device(2), 9)), Some(43));
        let elsewhere = super::find(table, (device(1), 300_000), |pid| pid != 41);
        assert_eq!(elsewhere, Some(17));
        // A file system that gives its files a device of its own.
        assert_eq!(find(table, (device(7), 9)), Some(43));
    }

    #[test]
    fn this_process_is_told_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let file = std::fs::File::create(&path).unwrap();
        file.lock().unwrap();
        assert_eq!(holder(&path).as_deref(), Some("this process itself"));
        let (table, metadata) = (LockTable::read(), file.metadata().unwrap());
        assert_eq!(table.holder(&metadata), Some(std::process::id()));
        assert!(lock_on(&path).contains("held by this process itself"));
    }
}
