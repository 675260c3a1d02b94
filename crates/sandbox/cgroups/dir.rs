//! The directory of one cgroup: its files are read and written, its processes killed, and it is
//! removed. Works by its descriptor, so that it can be done where the path is not to be seen.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

/// How deep cgroups inside of one another are looked for.
const DEPTH_MAX: u32 = 64;

/// How often the processes of a cgroup that does not become empty are killed again: before Linux
/// 5.14 a new one may get away.
const AGAIN_MS: u32 = 20;

/// The open directory of a cgroup.
#[derive(Debug)]
pub(super) struct Dir(File);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::open_at(CWD, path)
    }

    /// The cgroup of that name in this one.
    pub(super) fn child(&self, name: &str) -> io::Result<Self> {
        Self::open_at(&self.0, Path::new(name))
    }

    fn open_at(at: impl std::os::fd::AsFd, path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(at, path, flags, Mode::empty())?.into()))
    }

    /// The directory as what can be locked.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Makes a cgroup in this one, for nobody else to look into.
    pub(super) fn make_child(&self, name: &str) -> io::Result<()> {
        Ok(mkdirat(&self.0, name, Mode::RWXU)?)
    }

    pub(super) fn open_to_write(&self, file: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(openat(&self.0, file, flags, Mode::empty())?.into())
    }

    pub(super) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        self.open_to_write(file)?.write_all(text.as_bytes())
    }

    pub(super) fn read(&self, file: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut opened = File::from(openat(&self.0, file, flags, Mode::empty())?);
        let mut text = String::new();
        opened.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Whether this word is on the only line of a file.
    pub(super) fn lists(&self, file: &str, word: &str) -> bool {
        let text = self.read(file).unwrap_or_default();
        text.split_ascii_whitespace().any(|listed| listed == word)
    }

    /// Kills every process in it and in those below it.
    pub(super) fn kill(&self) {
        if self.write("cgroup.kill", "1").is_err() {
            self.kill_one_by_one(DEPTH_MAX);
        }
    }

    /// The same before Linux 5.14.
    fn kill_one_by_one(&self, depth: u32) {
        let listed = self.read("cgroup.procs").unwrap_or_default();
        let listed = listed.lines().filter_map(|line| line.parse::<i32>().ok());
        // One that can't be seen from this PID namespace is listed as 0.
        for pid in listed.filter(|&pid| pid > 1) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for name in self.names().unwrap_or_default() {
            if let (Ok(below), Some(depth)) = (self.child(&name), depth.checked_sub(1)) {
                below.kill_one_by_one(depth);
            }
        }
    }

    /// Kills what is in it, if anything, and waits that long until it is gone. Tells whether it is.
    pub(super) fn empty(&self, patience: Duration) -> bool {
        self.wait_until_empty(patience, || self.kill())
    }

    /// Waits that long until nothing is in it any more, and does something again and again until
    /// then. Tells whether it is empty.
    pub(super) fn wait_until_empty(&self, patience: Duration, again: impl Fn()) -> bool {
        let until = Instant::now() + patience;
        loop {
            // Opened anew, for the kernel tells of a change only whoever has read before it.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let Ok(events) = openat(&self.0, "cgroup.events", flags, Mode::empty()) else {
                return true;
            };
            let mut events = File::from(events);
            let mut text = String::new();
            if events.read_to_string(&mut text).is_err() || !is_populated(&text) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            again();
            let time = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(AGAIN_MS) * 1_000_000,
            };
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&time));
        }
    }

    /// Removes the cgroup of that name in this one and those below it, where nothing runs.
    pub(super) fn remove_child(&self, name: &str) -> io::Result<()> {
        self.remove(name, DEPTH_MAX)
    }

    fn remove(&self, name: &str, depth: u32) -> io::Result<()> {
        let remove = || unlinkat(&self.0, name, AtFlags::REMOVEDIR);
        match (remove(), depth.checked_sub(1)) {
            (Err(Errno::BUSY), Some(depth)) => {
                let dir = self.child(name)?;
                for below in dir.names()? {
                    dir.remove(&below, depth)?;
                }
                Ok(remove()?)
            }
            (removed, _) => Ok(removed?),
        }
    }

    /// The names of the cgroups in it.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == rustix::fs::FileType::Directory && !name.starts_with('.') {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }
}

/// Whether `cgroup.events` says that there are processes.
fn is_populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_processes_is_understood() {
        assert!(is_populated("populated 1\nfrozen 0\n"));
        assert!(!is_populated("populated 0\nfrozen 1\n"));
        assert!(!is_populated(""));
    }

    /// A cgroup with another one in it, where a process runs that ends by itself in five minutes.
    fn with_a_process(name: &str) -> Option<(Dir, std::process::Child)> {
        let home = super::super::place::home().ok()?;
        let home = Dir::open(&home).ok()?;
        home.make_child(name).ok()?;
        let dir = home.child(name).unwrap();
        dir.make_child("below").unwrap();
        let mut child = std::process::Command::new("sleep");
        let mut child = child.arg("300").spawn().unwrap();
        let entered = dir.write("below/cgroup.procs", &child.id().to_string());
        if entered.is_err() {
            child.kill().unwrap();
            child.wait().unwrap();
            home.remove_child(name).unwrap();
            return None;
        }
        Some((home, child))
    }

    #[test]
    fn all_that_runs_in_it_is_killed_with_and_without_the_kernels_help() {
        for (kind, one_by_one) in [("one", true), ("whole", false)] {
            let name = format!("windrow-test-{}-{kind}", std::process::id());
            let Some((home, mut child)) = with_a_process(&name) else {
                eprintln!("skipped: needs a cgroup that is delegated");
                return;
            };
            let dir = home.child(&name).unwrap();
            match one_by_one {
                true => dir.kill_one_by_one(DEPTH_MAX),
                false => dir.kill(),
            }
            assert!(!child.wait().unwrap().success());
            assert!(dir.empty(Duration::from_secs(60)));
            assert!(home.remove_child(&name).is_ok());
            assert!(home.child(&name).is_err());
        }
    }
}
