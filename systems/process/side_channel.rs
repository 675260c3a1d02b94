//! What is said between the engine and a child of a goal beside its log: what a substituter says of
//! the path that it fetched, and the talk with a hook that builds. Nothing here waits: what can't
//! be read or written now is left for later.

use std::os::fd::OwnedFd;

use bevy_ecs::prelude::Component;

use crate::process::lines::ShownLines;

/// How much of a child's standard output is kept. Of a substituter two lines are expected, of a
/// pre-build hook a line for each path.
pub const SAID_MAX: usize = 64 * 1024;

/// How many reads of a pipe a tick makes, so that who writes without end takes neither the
/// scheduler's time nor its memory.
pub const READS_PER_TICK: usize = 16;
/// With more lines than this in it, a read is the last one of a tick.
const LINES_AT_ONCE: usize = 2048;

/// The pipes of a child beside its log.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub enum SideChannel {
    /// A substituter's, or that of a pre-build hook.
    Fetch(FetchPipe),
    /// A hook's.
    Hook(Talk),
}

impl SideChannel {
    /// What the child says.
    pub fn from_child(&self) -> Option<&OwnedFd> {
        match self {
            Self::Fetch(pipe) => pipe.out.as_ref(),
            Self::Hook(talk) => talk.from_hook.as_ref(),
        }
    }

    /// What the child is told.
    pub fn to_child(&self) -> Option<&OwnedFd> {
        match self {
            Self::Fetch(_) => None,
            Self::Hook(talk) => talk.to_hook.as_ref(),
        }
    }
}

/// What a substituter (Nix 1.8: `outPipe`) or a pre-build hook says on its standard output.
#[derive(Debug)]
pub struct FetchPipe {
    /// The pipe; `None` after its end.
    pub out: Option<OwnedFd>,
    /// What has come through it.
    pub said: Vec<u8>,
    /// Whether it is closed when more comes than is kept.
    pub hangs_up: bool,
}

impl FetchPipe {
    /// Reads what there is to read now, up to a bound; tells whether there may be more.
    pub fn read(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_PER_TICK {
            let Some(pipe) = &self.out else { return false };
            match nix::unistd::read(pipe, buffer) {
                Ok(count) if count > 0 => {
                    let room = SAID_MAX.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..count.min(room)]);
                    if self.hangs_up && self.said.len() == SAID_MAX {
                        self.out = None;
                    }
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return false,
                Ok(_) | Err(_) => self.out = None,
            }
        }
        self.out.is_some()
    }
}

/// What is still to be said to and heard from a hook that builds.
#[derive(Debug)]
pub struct Talk {
    /// What it says to people; `None` after its end.
    pub from_hook: Option<OwnedFd>,
    lines: ShownLines,
    /// Where it reads; `None` once it has been told everything.
    pub to_hook: Option<OwnedFd>,
    unsent: Vec<u8>,
    sent: usize,
    /// Whether there may be more to read than was read.
    pub unread: bool,
}

impl Talk {
    /// The talk with a hook that has accepted a build. It says more through `from_hook`, of which
    /// `lines` has come already.
    pub fn new(from_hook: Option<OwnedFd>, lines: ShownLines, to_hook: OwnedFd) -> Self {
        Self {
            from_hook,
            lines,
            to_hook: Some(to_hook),
            unsent: Vec::new(),
            sent: 0,
            unread: false,
        }
    }

    /// Adds a line of paths to what it is to be told, a blank after each.
    pub fn tell(&mut self, paths: impl IntoIterator<Item = String>) {
        for path in paths {
            self.unsent.extend_from_slice(path.as_bytes());
            self.unsent.push(b' ');
        }
        self.unsent.push(b'\n');
    }

    /// Writes as much as the hook takes now, and closes the pipe after the last byte. A hook that
    /// closes its end early has its reasons: how it ends tells.
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

    /// What it has said of a line without ending it, when that is a second old. To be asked once a
    /// second.
    pub fn overdue(&mut self) -> Option<String> {
        self.lines.overdue(|_| false)
    }

    /// The lines it has said since it was last listened to, up to a bound: [`Talk::unread`] tells
    /// whether that was reached.
    pub fn listen(&mut self, buffer: &mut [u8]) -> Vec<String> {
        let mut ended = false;
        self.unread = self.from_hook.is_some();
        for _ in 0..READS_PER_TICK {
            let Some(pipe) = &self.from_hook else { break };
            match nix::unistd::read(pipe, buffer) {
                Ok(count) if count > 0 => {
                    let said = &buffer[..count];
                    self.lines.feed(said);
                    // Many short lines take longer to show than to read.
                    if memchr::memchr_iter(b'\n', said).count() > LINES_AT_ONCE {
                        break;
                    }
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => {
                    self.unread = false;
                    break;
                }
                Ok(_) | Err(_) => {
                    (ended, self.unread) = (true, false);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_talks_without_end_is_heard_in_parts_and_not_kept() {
        let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let mut pipe = FetchPipe {
            out: Some(ours),
            said: Vec::new(),
            hangs_up: false,
        };
        let mut buffer = [0; 1000];
        let mut heard = 0;
        for _ in 0..8 {
            while nix::unistd::write(&theirs, &[b'x'; 4096]).is_ok() {}
            assert!(pipe.read(&mut buffer), "there is more");
            heard += READS_PER_TICK * buffer.len();
            assert_eq!(pipe.said.len(), heard.min(SAID_MAX));
        }
        drop(theirs);
        while pipe.read(&mut buffer) {}
        assert!(pipe.out.is_none());
    }
}
