//! Waits for a program that a person uses at the terminal, in the place of the engine: signals of
//! the terminal's keys are the program's, and when it stops, so does this process.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, getpgrp, getpid, kill_process, kill_process_group,
    waitid,
};
use windrow_sys::interrupt::{Relay, Told};
use windrow_sys::mutex;
use windrow_sys::terminal::Foreground;

use crate::process::kill::{kill_and_reap, kill_group};
use crate::process::launch::{Session, Spawned};

/// What is known of the program, for the thread that takes the signals.
#[derive(Debug)]
struct Charge {
    state: Mutex<State>,
    /// Whether the terminal's keys reach it and this process alike. It is the first process of a
    /// PID namespace then.
    shares_keys: bool,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until it is known.
    pid: Option<i32>,
    /// Whether a key that it shares came before that.
    has_early_key: bool,
    /// The first signal for which it is to be killed.
    ended_by: Option<i32>,
}

/// Looks after a program at the terminal. To be made before the program is started, so that no
/// signal comes between.
#[derive(Debug)]
pub struct Attendant {
    charge: Arc<Charge>,
    relay: Relay,
    terminal: Option<Foreground>,
    session: Session,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attended {
    /// Its raw wait status.
    pub status: i32,
    /// The signal to this process that it was killed for, if it was.
    pub ended_by: Option<i32>,
}

impl Attendant {
    /// For a program that is typed to or not, and is the first process of a PID namespace or not.
    ///
    /// At a terminal it has the foreground. The kernel keeps from a first process what that does
    /// not handle, so that keys would not end it: this process must hear of them as well, unless
    /// the program is a shell, which handles them. All of a PID namespace ends with its first
    /// process; other programs have a group of their own, which can be killed as a whole.
    pub fn new(is_typed_to: bool, is_first: bool) -> Self {
        let terminal = Foreground::of_stdin();
        let session = match terminal {
            None => Session::Own,
            Some(_) if is_first && !is_typed_to => Session::Callers,
            Some(_) => Session::Foreground,
        };
        let charge = Arc::new(Charge {
            state: Mutex::default(),
            shares_keys: session == Session::Callers,
        });
        let told = Arc::clone(&charge);
        Self {
            charge,
            relay: Relay::new(move |it| told.hear(it)),
            terminal,
            session,
        }
    }

    /// The session that the program is to be started in.
    pub fn session(&self) -> Session {
        self.session
    }

    /// Whether standard input is a terminal of which this process has the foreground, which the
    /// program can have.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Waits for the program, and gives the terminal back to this process. What is left of its
    /// process group is killed.
    pub fn attend(self, child: &Spawned) -> Attended {
        self.charge.watch(child.pid);
        if let Some(pid) = Pid::from_raw(child.pid) {
            wait_for_end(pid, self.terminal.as_ref());
        }
        // From here on its number may be another's.
        drop(self.relay);
        let status = kill_and_reap(child.pid);
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
        }
        // Else it had ended by itself when the signal came.
        let was_killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
        let ended_by = mutex::lock(&self.charge.state).ended_by;
        Attended {
            status,
            ended_by: ended_by.filter(|_| was_killed),
        }
    }

    /// Gives the terminal back to this process: the program could not be started. Tells which
    /// signal came meanwhile, if any.
    pub fn give_up(self) -> Option<i32> {
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
        }
        let state = mutex::lock(&self.charge.state);
        let key = state.has_early_key.then_some(libc::SIGINT);
        state.ended_by.or(key)
    }
}

impl Charge {
    /// A signal has come. A key that the program has got as well, and handles, is its own matter;
    /// any other signal ends it.
    fn hear(&self, told: Told) {
        let mut state = mutex::lock(&self.state);
        let is_key = told.by_terminal && told.signal == libc::SIGINT;
        if is_key && self.shares_keys {
            match state.pid {
                None => state.has_early_key = true,
                Some(pid) => state.share_key(pid),
            }
            return;
        }
        state.end(told.signal);
    }

    /// The program runs; what has come before that is heard now.
    fn watch(&self, pid: i32) {
        let mut state = mutex::lock(&self.state);
        state.pid = Some(pid);
        if let Some(signal) = state.ended_by {
            state.end(signal);
        } else if state.has_early_key {
            state.share_key(pid);
        }
    }
}

impl State {
    /// Ends the program for a key that the kernel keeps from it because it does not handle it.
    fn share_key(&mut self, pid: i32) {
        if !handles(pid, libc::SIGINT) {
            self.end(libc::SIGINT);
        }
    }

    fn end(&mut self, signal: i32) {
        self.ended_by.get_or_insert(signal);
        if let Some(pid) = self.pid {
            kill_group(pid);
        }
    }
}

/// Whether a process catches or ignores a signal.
fn handles(pid: i32, signal: i32) -> bool {
    let file: PathBuf = format!("/proc/{pid}/status").into();
    let status = std::fs::read_to_string(file).unwrap_or_default();
    is_handled(&status, signal)
}

fn is_handled(status: &str, signal: i32) -> bool {
    let has = |name: &str| {
        let row = status.lines().find_map(|row| row.strip_prefix(name));
        let mask = row.and_then(|row| u64::from_str_radix(row.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    has("SigCgt:") || has("SigIgn:")
}

/// Waits until the program has ended; its status is not taken. When it stops and has the terminal,
/// this process stops as well, so that whoever started it can have the terminal meanwhile.
fn wait_for_end(pid: Pid, terminal: Option<&Foreground>) {
    let ends_and_stops = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), ends_and_stops) {
            Err(Errno::INTR) | Ok(None) => {}
            Ok(Some(status)) if status.stopped() => {
                // Taken, so that it is not told again.
                let stop = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                let _ = waitid(WaitId::Pid(pid), stop);
                if let (Some(terminal), Ok(group)) = (terminal, getpgid(Some(pid))) {
                    stop_with(group, terminal);
                }
            }
            // It has ended, or is no child of ours.
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

/// Stops this process until it is to go on with the program, which has stopped and is in that
/// group. One of this process's own group is stopped with it, by the same key.
fn stop_with(group: Pid, terminal: &Foreground) {
    if group == getpgrp() {
        return;
    }
    // Else it has not had the terminal, and whoever has it is to keep it.
    if terminal.is_lent_to(group) {
        terminal.take_back();
    }
    let _ = kill_process(getpid(), Signal::STOP);
    terminal.lend(group);
    let _ = kill_process_group(group, Signal::CONT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_signals_are_read() {
        let status = "Name:\tsh\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000010002\n";
        for (signal, handled) in [
            (libc::SIGINT, true),
            (libc::SIGQUIT, true),
            (libc::SIGCHLD, true),
            (libc::SIGTERM, false),
            (libc::SIGHUP, false),
        ] {
            assert_eq!(is_handled(status, signal), handled, "{signal}");
        }
        assert!(!is_handled("", libc::SIGINT));
    }
}
