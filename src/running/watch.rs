//! Waits until something happens in directories: the kernel tells, or, where it does not, they are
//! looked at now and then.

use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use windrow_sys::interrupt;

use crate::error::{Error, Result};
use crate::terminal::Out;

/// How often is looked, in milliseconds: where the kernel tells nothing, and where it does, for
/// what another machine has done on a file system that both have.
const UNTOLD_MS: u16 = 500;
const TOLD_MS: u16 = 10_000;

/// Directories that are watched.
pub(super) struct Watch {
    inotify: Option<Inotify>,
    /// Whether all that was to be watched is.
    is_whole: bool,
}

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something may have happened.
    Look,
    /// Nobody reads standard output any more.
    Unread,
}

impl Watch {
    /// One of nothing yet.
    pub(super) fn new() -> Self {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).ok();
        Self {
            is_whole: inotify.is_some(),
            inotify,
        }
    }

    /// Watches the files in a directory from now on.
    pub(super) fn add(&mut self, dir: &Path) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            // The end of a process, too.
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE;
        let added = self.inotify.as_ref().map(|it| it.add_watch(dir, flags));
        self.is_whole &= matches!(added, Some(Ok(_)));
    }

    /// Waits.
    ///
    /// # Errors
    /// When a signal asks for an end, or the system can't wait.
    pub(super) fn wait(&self, out: &Out) -> Result<Woken> {
        let (signals, reads) = (interrupt::event(), PollFlags::POLLIN);
        // Only that it is closed is told.
        let mut watched = vec![PollFd::new(out.as_fd(), PollFlags::empty())];
        watched.extend(signals.map(|fd| PollFd::new(fd, reads)));
        let inotify = self.inotify.as_ref();
        watched.extend(inotify.map(|it| PollFd::new(it.as_fd(), reads)));
        let timeout = match self.is_whole {
            true => PollTimeout::from(TOLD_MS),
            false => PollTimeout::from(UNTOLD_MS),
        };
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("wait for", "the log")(errno.into())),
        }
        let is_unread = watched[0].any().unwrap_or_default();
        if let Some(signal) = interrupt::signal() {
            return Err(Error::Interrupted { signal });
        }
        while self
            .inotify
            .as_ref()
            .is_some_and(|it| it.read_events().is_ok())
        {}
        Ok(match is_unread {
            true => Woken::Unread,
            false => Woken::Look,
        })
    }
}
