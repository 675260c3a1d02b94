//! One process of the build hook and what is said between it and the engine (the seed's `HookInstance` and the talk in
//! `tryBuildHook`). Nothing here waits: what can't be read or written now is left for later.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::failure::describe_status;
use crate::process::helper::Ends;
use crate::process::launch::Spawned;
use crate::process::lines::LineBuffer;

/// How a hook stands to a build that it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It does it.
    Accept,
    /// It does not; the engine may.
    Decline,
    /// It does not, and won't do any other (since Nix 2.0).
    DeclinePermanently,
    /// Not now, perhaps later.
    Postpone,
}

/// Something that a hook said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A line for people.
    Line(String),
    /// An answer to the build it was offered last.
    Reply(Reply),
}

/// Why a hook is of no use.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It ended or closed its output before it had answered.
    #[error("it died unexpectedly: it {}", describe_status(*status))]
    Died {
        /// Its raw wait status.
        status: i32,
    },
    /// It closed its output before it had answered, and went on running.
    #[error("it closed its standard error without a reply")]
    HungUp,
    /// It said something that the protocol does not have.
    #[error("it replied '{reply}', which is none of accept, decline and postpone")]
    BadReply {
        /// What it said.
        reply: String,
    },
    /// It did not reply for too long.
    #[error("it did not reply within {seconds} seconds")]
    Silent {
        /// How long that is.
        seconds: u64,
    },
    /// It does not read what it is told.
    #[error("it does not read its requests")]
    Deaf,
    /// It could not be started.
    #[error("{0}")]
    Start(#[from] crate::process::launch::SpawnError),
    /// Its pipes can't be used.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A hook's process that has not accepted a build yet.
#[derive(Debug)]
pub struct Instance {
    /// The process.
    pub child: Spawned,
    /// Where it reads.
    pub to_hook: OwnedFd,
    /// What it says, to the engine and to people.
    pub from_hook: OwnedFd,
    /// Where it will write the builder's log (its descriptor 4).
    pub builder_out: OwnedFd,
    lines: LineBuffer,
    /// Whether the end of its output has been reached.
    pub closed: bool,
}

impl Instance {
    /// A process that has just been started with these pipes.
    pub fn new(child: Spawned, ends: Ends) -> Self {
        Self {
            child,
            to_hook: ends.stdin.expect("a hook has a standard input"),
            from_hook: ends.stdout,
            builder_out: ends.log,
            lines: LineBuffer::default(),
            closed: false,
        }
    }

    /// Offers it a build; `willing` says whether the engine could begin with it now itself.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn offer(
        &self,
        willing: bool,
        system: &str,
        drv_path: &str,
        features: &str,
    ) -> Result<(), HookError> {
        let line = format!("{} {system} {drv_path} {features}\n", u8::from(willing));
        match nix::unistd::write(&self.to_hook, line.as_bytes()) {
            Ok(count) if count == line.len() => Ok(()),
            Ok(_) | Err(nix::Error::EAGAIN) => Err(HookError::Deaf),
            // Its end of the pipe tells the same, together with how it ended.
            Err(nix::Error::EPIPE) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// What it has said since it was last listened to. [`Instance::closed`] tells whether that was its last.
    ///
    /// # Errors
    /// When it replied with nonsense, or its pipe can't be read.
    pub fn listen(&mut self, buffer: &mut [u8]) -> Result<Vec<Said>, HookError> {
        while !self.closed {
            match nix::unistd::read(&self.from_hook, buffer) {
                Ok(0) => self.closed = true,
                Ok(count) => self.lines.feed(&buffer[..count]),
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        let mut said = Vec::new();
        while let Some(line) = self.lines.next_line() {
            said.push(understand(line)?);
        }
        if self.closed
            && let Some(rest) = self.lines.rest()
        {
            said.push(understand(rest)?);
        }
        Ok(said)
    }

    /// Takes it apart when it has accepted a build: what it was told is then in its own hands.
    pub fn into_parts(self) -> (Spawned, Talk, OwnedFd) {
        let talk = Talk {
            from_hook: (!self.closed).then_some(self.from_hook),
            lines: self.lines,
            to_hook: Some(self.to_hook),
            unsent: Vec::new(),
            sent: 0,
        };
        (self.child, talk, self.builder_out)
    }
}

fn understand(line: String) -> Result<Said, HookError> {
    let Some(reply) = line.strip_prefix("# ") else {
        return Ok(Said::Line(line));
    };
    Ok(Said::Reply(match reply.trim_end() {
        "accept" => Reply::Accept,
        "decline" => Reply::Decline,
        "decline-permanently" => Reply::DeclinePermanently,
        "postpone" => Reply::Postpone,
        reply => {
            let reply = reply.to_owned();
            return Err(HookError::BadReply { reply });
        }
    }))
}

/// What is still to be said to and heard from a hook that builds.
#[derive(Debug)]
pub struct Talk {
    /// What it says to people; `None` after its end.
    pub from_hook: Option<OwnedFd>,
    lines: LineBuffer,
    /// Where it reads; `None` once it has been told everything.
    pub to_hook: Option<OwnedFd>,
    unsent: Vec<u8>,
    sent: usize,
}

impl Talk {
    /// Adds a line of paths to what it is to be told, a blank after each.
    pub fn tell(&mut self, paths: impl IntoIterator<Item = String>) {
        for path in paths {
            self.unsent.extend_from_slice(path.as_bytes());
            self.unsent.push(b' ');
        }
        self.unsent.push(b'\n');
    }

    /// Writes as much as the hook takes now, and closes the pipe after the last byte. A hook that closes its end
    /// early has its reasons: how it ends tells.
    pub fn send(&mut self) {
        while let Some(pipe) = &self.to_hook {
            if self.sent == self.unsent.len() {
                self.hang_up();
                return;
            }
            match nix::unistd::write(pipe, &self.unsent[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return,
                Err(_) => {
                    self.hang_up();
                    return;
                }
            }
        }
    }

    fn hang_up(&mut self) {
        self.to_hook = None;
        self.unsent = Vec::new();
        self.sent = 0;
    }

    /// The lines it has said since it was last listened to.
    pub fn listen(&mut self, buffer: &mut [u8]) -> Vec<String> {
        let mut ended = false;
        while let Some(pipe) = &self.from_hook {
            match nix::unistd::read(pipe, buffer) {
                Ok(count) if count > 0 => self.lines.feed(&buffer[..count]),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => break,
                Ok(_) | Err(_) => {
                    ended = true;
                    self.from_hook = None;
                }
            }
        }
        let mut lines: Vec<String> = std::iter::from_fn(|| self.lines.next_line()).collect();
        if ended {
            lines.extend(self.lines.rest());
        }
        lines
    }
}

/// How long a process may take to end of itself after it was asked to.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Asks a helper's process group to end, waits a moment for it, and makes sure (the seed's `Pid::kill` with SIGTERM).
/// Returns its raw wait status.
pub fn dismiss(child: &Spawned) -> i32 {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    // SAFETY: a plain system call; the child was not waited for, so its number is still its own.
    unsafe { libc::kill(-child.pid, libc::SIGTERM) };
    let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    let grace = PollTimeout::try_from(GRACE.as_millis()).unwrap_or(PollTimeout::MAX);
    // Should it be interrupted, the process is killed a little early.
    let _ = nix::poll::poll(&mut ended, grace);
    crate::sandbox::process::kill::kill_and_reap(child.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::helper::{self, HelperEnv, Pipes};
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    use std::path::Path;
    use std::sync::Arc;

    fn start(script: &str) -> Instance {
        let env: HelperEnv = Arc::new([c"PATH=/usr/bin:/bin".to_owned()]);
        let args = ["-c", script, "hook", "x86_64-linux", "0", "0", "0"];
        let (launch, ends) =
            helper::prepare(Path::new("/bin/sh"), &args, &env, Pipes::Hook).unwrap();
        Instance::new(launch.run().unwrap(), ends)
    }

    /// Listens until something was said or the hook has ended.
    fn hear(instance: &mut Instance) -> Result<Vec<Said>, HookError> {
        let mut said = Vec::new();
        let mut buffer = [0; 1000];
        while said.is_empty() && !instance.closed {
            let mut fds = [PollFd::new(instance.from_hook.as_fd(), PollFlags::POLLIN)];
            nix::poll::poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap();
            said = instance.listen(&mut buffer)?;
        }
        Ok(said)
    }

    #[test]
    fn replies_are_told_from_talk() {
        let mut instance = start(
            "while read willing system drv features; do echo \"$willing $system $drv $features\"; \
             printf '# '; sleep 0.05; case $drv in *a) echo decline;; *b) echo postpone;; *) echo accept;; esac; done",
        );
        let mut said = Vec::new();
        for (drv, replies) in [("/s/a", 1), ("/s/b", 2), ("/s/c", 3)] {
            instance.offer(true, "sys", drv, "kvm,big").unwrap();
            while said
                .iter()
                .filter(|said| matches!(said, Said::Reply(_)))
                .count()
                < replies
            {
                said.extend(hear(&mut instance).unwrap());
            }
        }
        let line = |drv| Said::Line(format!("1 sys /s/{drv} kvm,big"));
        assert_eq!(
            said,
            [
                line("a"),
                Said::Reply(Reply::Decline),
                line("b"),
                Said::Reply(Reply::Postpone),
                line("c"),
                Said::Reply(Reply::Accept),
            ]
        );
        dismiss(&instance.child);
    }

    #[test]
    fn nonsense_and_death_are_noticed() {
        let mut instance = start("read x; echo '# perhaps'; sleep 60");
        instance.offer(false, "s", "/d", "").unwrap();
        let error = hear(&mut instance).unwrap_err();
        assert!(error.to_string().contains("'perhaps'"), "{error}");
        assert_eq!(dismiss(&instance.child), libc::SIGTERM);

        let mut instance = start("echo going; exit 3");
        let mut said = Vec::new();
        while !instance.closed {
            said.extend(hear(&mut instance).unwrap());
        }
        assert_eq!(said, [Said::Line("going".to_owned())]);
        assert_eq!(dismiss(&instance.child), 3 << 8);
        assert!(instance.offer(true, "s", "/d", "").is_ok());
    }

    #[test]
    fn more_paths_than_a_pipe_holds_reach_it() {
        let mut instance = start(
            "read x; echo '# accept'; sleep 0.2; read inputs; read outputs; read more && exit 9; \
             echo $inputs | wc -w; echo $outputs; echo log >&4",
        );
        instance.offer(true, "s", "/d", "").unwrap();
        assert_eq!(hear(&mut instance).unwrap(), [Said::Reply(Reply::Accept)]);
        let (child, mut talk, builder_out) = instance.into_parts();
        talk.tell((0..5000).map(|n| format!("/s/{n:0>60}")));
        talk.tell(["/s/out".to_owned(), "/s/dev".to_owned()]);
        let (mut lines, mut buffer) = (Vec::new(), [0; 1000]);
        while talk.from_hook.is_some() {
            talk.send();
            lines.extend(talk.listen(&mut buffer));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(lines, ["5000", "/s/out /s/dev"]);
        let count = nix::unistd::read(&builder_out, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"log\n");
        assert_eq!(dismiss(&child), 0);
    }
}
