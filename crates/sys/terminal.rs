//! The controlling terminal: which process group is in its foreground, so that it may read what is
//! typed and is sent the signals of keys.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::io::Errno;
use rustix::process::{Pid, getpgrp, getpid, setpgid};
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// Standard input, output and error of this process, which are always open.
pub fn standard_streams() -> [BorrowedFd<'static>; 3] {
    [stdio::stdin(), stdio::stdout(), stdio::stderr()]
}

/// A terminal that this process's group had the foreground of, to be lent to another one.
#[derive(Debug)]
pub struct Foreground {
    terminal: OwnedFd,
    ours: Pid,
    /// How it was set.
    modes: Termios,
}

impl Foreground {
    /// That of standard input, if that is the controlling terminal and this process is in its
    /// foreground.
    pub fn of_stdin() -> Option<Self> {
        let [stdin, ..] = standard_streams();
        let terminal = stdin.try_clone_to_owned().ok()?;
        let ours = getpgrp();
        let modes = tcgetattr(&terminal).ok()?;
        (tcgetpgrp(&terminal) == Ok(ours)).then_some(Self {
            terminal,
            ours,
            modes,
        })
    }

    /// Whether that group is in the foreground.
    pub fn is_lent_to(&self, group: Pid) -> bool {
        tcgetpgrp(&self.terminal) == Ok(group)
    }

    /// Takes the foreground back, whoever has it, and sets the terminal as it was.
    pub fn take_back(&self) {
        without_being_stopped(|| {
            // A terminal that has hung up has nothing to be taken back.
            let _ = tcsetpgrp(&self.terminal, self.ours);
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.modes);
        });
    }

    /// Lends the foreground to a group of this session, if this process has it.
    pub fn lend(&self, group: Pid) {
        if self.is_lent_to(self.ours) {
            without_being_stopped(|| {
                // The group may have ended.
                let _ = tcsetpgrp(&self.terminal, group);
            });
        }
    }
}

/// Does something for which the terminal stops those who are not in its foreground.
fn without_being_stopped(deed: impl FnOnce()) {
    let set: SigSet = [Signal::SIGTTOU].into_iter().collect();
    let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    deed();
    if let Ok(before) = before {
        // It fails for another way of setting it only.
        let _ = before.thread_set_mask();
    }
}

/// Makes this process the leader of a group of its own, and that the foreground of the terminal.
/// For a process that is to execute a program, and that has SIGTTOU blocked: allocates nothing and
/// leaves `errno` alone.
///
/// # Errors
/// When it leads a session, or that is not its controlling terminal.
pub fn come_to_foreground(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    setpgid(None, None)?;
    tcsetpgrp(terminal, getpid())
}
