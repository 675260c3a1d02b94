//! A program that is talked to: its standard input and output are a [`Stream`], and the end of what
//! it writes to its standard error is kept, to be told when it fails. It ends with who started it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};

use crate::interrupt::SLICE;
use crate::limits::restore_in;
use crate::mutex::lock;
use crate::raw;
use crate::stream::Stream;
use crate::threads::spawn;

/// How much is kept of what it writes to its standard error, in bytes.
const KEPT: usize = 4 << 10;

/// Where a program belongs that is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// To the terminal's foreground, with this process: it may ask people something there.
    Ours,
    /// It is a process group of its own, so that it ends with all that it has started.
    Own,
}

/// A program that is talked to. Dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Program {
    child: Child,
    group: Group,
    /// It was killed and waited for, so its number may be another's.
    is_over: bool,
    said: Arc<Mutex<VecDeque<u8>>>,
    /// Has its end when all of the standard error was read.
    silent: Receiver<()>,
}

impl Program {
    /// Starts it. The stream is for the caller, who reads it to its end or does not.
    ///
    /// When the thread that calls this ends, so does the program, whatever has killed the thread:
    /// it is to keep the program, or to outlive it.
    ///
    /// # Errors
    /// When there is no such program, or there are no processes, threads or descriptors left.
    pub fn start(command: &mut Command, group: Group) -> io::Result<(Self, Stream)> {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if group == Group::Own {
            command.process_group(0);
        }
        let parent = getpid();
        let prepare = move || {
            raw::unblock_signals();
            set_parent_process_death_signal(Some(Signal::KILL))?;
            match getppid() {
                Some(pid) if pid == parent => Ok(()),
                // It died before that.
                _ => Err(Errno::SRCH.into()),
            }
        };
        // SAFETY: it makes system calls and nothing else; an error of the system is a number.
        unsafe { command.pre_exec(prepare) };
        let mut child = restore_in(command).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (over, silent) = channel();
        let this = Self {
            child,
            group,
            is_over: false,
            said: Arc::clone(&said),
            silent,
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("it has no pipes"));
        };
        spawn("standard error", move || {
            keep_end(stderr, &said);
            drop(over);
        })?;
        Ok((this, Stream::new(stdout.into(), stdin.into())?))
    }

    /// Ends it; the end of what it has written to its standard error, and how it has ended by
    /// itself. It is given so long for both, as when its output has ended.
    pub fn last_words(mut self, patience: Duration) -> (String, Option<ExitStatus>) {
        let begun = Instant::now();
        let mut has_ended = self.has_ended();
        while !has_ended && begun.elapsed() < patience {
            thread::sleep(SLICE / 4);
            has_ended = self.has_ended();
        }
        // What it has started may have its standard error still.
        let left = patience.saturating_sub(begun.elapsed());
        let _ = self.silent.recv_timeout(left);
        let said: Vec<u8> = lock(&self.said).iter().copied().collect();
        let status = self.end().ok().filter(|_| has_ended);
        (String::from_utf8_lossy(&said).trim().to_owned(), status)
    }

    /// Whether it has ended. It is not waited for: its number stays its own.
    fn has_ended(&self) -> bool {
        let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = self.pid().map(|pid| waitid(WaitId::Pid(pid), flags));
        ended.is_some_and(|ended| !matches!(ended, Ok(None)))
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Kills it, with all that it has started if that is a group, and waits for it.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.is_over {
            if let Some(pid) = self.pid().filter(|_| self.group == Group::Own) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = self.child.kill();
            self.is_over = true;
        }
        self.child.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Reads to the end, and keeps the last of it.
fn keep_end(mut from: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut chunk = [0; KEPT];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                let mut kept = lock(kept);
                kept.extend(&chunk[..count]);
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Program, Stream) {
        let mut command = Command::new("/bin/sh");
        Program::start(command.args(["-c", script]), Group::Own).unwrap()
    }

    #[test]
    fn it_is_talked_to_and_its_last_words_are_known() {
        let (program, mut stream) = shell(
            "read x; echo $x-$x; i=0; while [ $i -lt 9999 ]; do echo $i >&2; i=$((i+1)); done; exit 3",
        );
        stream.write_all(b"a\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a-a\n");
        let (said, status) = program.last_words(Duration::from_secs(60));
        assert!(said.ends_with("9998") && said.len() <= KEPT, "{said}");
        assert_eq!(status.unwrap().code(), Some(3));
    }

    #[test]
    fn it_ends_with_all_that_it_has_started() {
        let (program, mut stream) = shell("sleep 300 & echo $!; wait");
        let mut text = [0; 32];
        let count = stream.read(&mut text).unwrap();
        let pid = str::from_utf8(&text[..count]).unwrap().trim().to_owned();
        let ours = program.child.id();
        drop(program);
        let is_there = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let begun = Instant::now();
        while is_there(&pid) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{pid} lives on");
            thread::sleep(SLICE);
        }
        assert!(!std::path::Path::new(&format!("/proc/{ours}")).exists());
    }

    #[test]
    fn one_that_is_not_there_is_an_error() {
        let mut command = Command::new("/no/such/program");
        let error = Program::start(&mut command, Group::Ours).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
