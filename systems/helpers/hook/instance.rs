//! One process of the build hook and what is said between it and the engine (Nix 1.8:
//! `HookInstance` and the talk in `tryBuildHook`). Nothing here waits: what can't be read or
//! written now is left for later.
//!
//! Until it accepts a build it serves the engine, and is no child of a goal: it has a place of its
//! own in the event loop, and ends by [`dismiss`](crate::process::kill::dismiss). With what it
//! accepts it becomes a child as any other.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use windrow_components::count::count;
use windrow_sandbox::process::launch::Spawned;

use crate::failure::describe_status;
use crate::process::helper::Ends;
use crate::process::lines::{ShownLines, quotable};
use crate::process::side_channel::{READS_PER_TICK, Talk};
use crate::world::Reply;

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
    #[error("it did not reply within {}", count(*seconds, "second"))]
    Silent {
        /// How long that is.
        seconds: u64,
    },
    /// It does not read what it is told.
    #[error("it does not read its requests")]
    Deaf,
    /// It could not be started.
    #[error("{0}")]
    Start(#[from] windrow_sandbox::process::launch::SpawnError),
    /// Its pipes can't be used.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A hook's process that has not accepted a build yet.
///
/// Nix 1.8: `HookInstance::HookInstance`, `HookInstance::~HookInstance`.
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
    lines: ShownLines,
    /// Whether the end of its output has been reached.
    pub closed: bool,
    /// Whether it has ended and all that it wrote itself was read. What it left running may hold
    /// its output open.
    pub exited: bool,
    /// Whether there may be more to read than was read.
    pub unread: bool,
}

impl Instance {
    /// A process that has just been started with these pipes.
    pub fn new(child: Spawned, ends: Ends) -> Self {
        Self {
            child,
            to_hook: ends.stdin.expect("a hook has a standard input"),
            from_hook: ends.stdout,
            builder_out: ends.log,
            lines: ShownLines::default(),
            closed: false,
            exited: false,
            unread: false,
        }
    }

    /// Offers it a build; `willing` says whether the engine could begin with it now itself.
    ///
    /// # Errors
    /// When nothing can be sent to it.
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

    /// What it has said since it was last listened to, up to a bound: [`Instance::unread`] tells
    /// whether that was reached, [`Instance::closed`] whether that was its last.
    ///
    /// # Errors
    /// When it replied with nonsense, or its pipe can't be read.
    pub fn listen(&mut self, buffer: &mut [u8]) -> Result<Vec<Said>, HookError> {
        // Asked before: what it wrote before it ended is then there to be read.
        let has_exited = has_exited(&self.child);
        self.unread = true;
        for _ in 0..READS_PER_TICK {
            match nix::unistd::read(&self.from_hook, buffer) {
                Ok(0) => {
                    (self.closed, self.unread) = (true, false);
                    break;
                }
                Ok(count) => self.lines.feed(&buffer[..count]),
                Err(nix::Error::EAGAIN) => {
                    self.unread = false;
                    break;
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        self.exited = has_exited && !self.unread;
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

    /// What it has said to people of a line without ending it, when that is a second old. To be
    /// asked once a second.
    pub fn overdue(&mut self) -> Option<String> {
        self.lines.overdue(|partial| partial.starts_with(b"#"))
    }

    /// Takes it apart when it has accepted a build: what it was told is then in its own hands.
    pub fn into_parts(self) -> (Spawned, Talk, OwnedFd) {
        let from_hook = (!self.closed).then_some(self.from_hook);
        let talk = Talk::new(from_hook, self.lines, self.to_hook);
        (self.child, talk, self.builder_out)
    }
}

/// What a line means that a hook has written.
///
/// # Errors
/// When it is a reply that the protocol does not have.
#[doc(hidden)]
pub fn understand(line: String) -> Result<Said, HookError> {
    let Some(reply) = line.strip_prefix("# ") else {
        return Ok(Said::Line(line));
    };
    Ok(Said::Reply(match reply.trim_end() {
        "accept" => Reply::Accept,
        "decline" => Reply::Decline,
        "decline-permanently" => Reply::DeclinePermanently,
        "postpone" => Reply::Postpone,
        reply => {
            let reply = quotable(reply.to_owned());
            return Err(HookError::BadReply { reply });
        }
    }))
}

fn has_exited(child: &Spawned) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    nix::poll::poll(&mut ended, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::helper::{self, HelperEnv, Pipes};
    use crate::process::kill::{dismiss, end_all};
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    use std::path::Path;
    use std::sync::Arc;
    use windrow_components::building::ChildKind;

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
    fn one_that_talks_without_end_is_heard_in_parts() {
        let mut buffer = [0; 1000];
        let part = READS_PER_TICK * buffer.len();
        for endless in ["exec yes", "exec tr '\\0' x < /dev/zero"] {
            let mut instance = start(&format!("read x; echo '# accept'; {endless}"));
            instance.offer(true, "s", "/d", "").unwrap();
            while hear(&mut instance).unwrap().is_empty() {}
            // Each call returns, though there is always more.
            for _ in 0..20 {
                // Time enough to fill the pipe with more than a part.
                std::thread::sleep(std::time::Duration::from_millis(5));
                let said = instance.listen(&mut buffer).unwrap();
                // No line is shorter than two bytes.
                assert!(said.len() <= part / 2 + 1, "{}", said.len());
                assert!(!instance.closed);
            }
            let (child, mut talk, _) = instance.into_parts();
            for _ in 0..20 {
                std::thread::sleep(std::time::Duration::from_millis(5));
                assert!(talk.listen(&mut buffer).len() <= part / 2 + 1);
                assert!(talk.from_hook.is_some());
            }
            dismiss(&child);
        }
        let mut instance = start("printf '# '; exec tr '\\0' x < /dev/zero");
        let error = hear(&mut instance).unwrap_err().to_string();
        assert!(error.contains("xxx") && error.len() < 500, "{error}");
        dismiss(&instance.child);
    }

    #[test]
    fn what_one_that_died_left_running_is_not_listened_to() {
        // In a session of its own, where it is not killed with its parent.
        let mut instance = start("setsid sleep 20 & echo going; echo '# decline'; exit 3");
        let mut said = Vec::new();
        let mut buffer = [0; 1000];
        while !instance.exited {
            said.extend(instance.listen(&mut buffer).unwrap());
        }
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(!instance.closed);
        assert_eq!(dismiss(&instance.child), 3 << 8);
    }

    #[test]
    fn those_that_do_not_want_to_end_are_killed_together() {
        let instances: Vec<Instance> = (0..3)
            .map(|_| start("trap '' TERM; echo going; sleep 300; sleep 300"))
            .collect();
        let mut children = Vec::new();
        for mut instance in instances {
            hear(&mut instance).unwrap();
            children.push((ChildKind::Hook, instance.into_parts().0));
        }
        end_all(&children);
        for (_, child) in children {
            // SAFETY: signal 0 is sent to nobody.
            assert_eq!(unsafe { libc::kill(child.pid, 0) }, -1, "it was waited for");
        }
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
