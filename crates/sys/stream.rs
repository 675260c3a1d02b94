//! A stream to another program and back, two pipes or a socket, for who can wait: each wait ends
//! when work is to end, and when nothing has moved for too long.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::interrupt::{SLICE, ended, has_come};

/// How much may come while something is written, in bytes. Who has more to say has to wait.
const EARLY_MAX: usize = 1 << 20;

/// How much is taken at once of what comes while something is written, in bytes.
const CHUNK: usize = 16 << 10;

/// A stream to another program and back.
#[derive(Debug)]
pub struct Stream {
    from: File,
    /// None after it was closed.
    to: Option<File>,
    /// How long nothing may move; none for ever.
    limit: Option<Duration>,
    /// What came while something was written.
    early: VecDeque<u8>,
}

impl Stream {
    /// What the other program writes to and reads from, which may be one socket twice.
    ///
    /// # Errors
    /// When the kernel doesn't let reads and writes return at once.
    pub fn new(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        for fd in [&from, &to] {
            let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
            fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        Ok(Self {
            from: from.into(),
            to: Some(to.into()),
            limit: None,
            early: VecDeque::new(),
        })
    }

    /// From now on a wait in which nothing moves for so long fails with [`ErrorKind::TimedOut`];
    /// with zero none does.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = (!limit.is_zero()).then_some(limit);
    }

    /// Whether something can be read without waiting, and be it that there will be nothing more.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn has_input(&self) -> io::Result<bool> {
        if !self.early.is_empty() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, PollTimeout::ZERO)?;
        Ok(has_event(&fds[0]))
    }

    /// Writes all of it. What the other program says meanwhile is taken in, so that it can go on
    /// and read.
    ///
    /// # Errors
    /// When the other program does not read any more, or the wait ends.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(to) = &mut self.to else {
                return Err(ErrorKind::BrokenPipe.into());
            };
            match to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let has_input = self.wait(true)?;
                    if has_input && !self.take_early()? {
                        // Who says no more may still read, but nobody who answers does.
                        return Err(ErrorKind::BrokenPipe.into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes the way there: the other program sees its end, unless this is a socket.
    pub fn close(&mut self) {
        self.to = None;
    }

    /// Takes in what comes while something is written; false at its end.
    fn take_early(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        match self.from.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.early.extend(&chunk[..count]);
                Ok(true)
            }
            Err(error) if is_passing(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Waits until something can be read or, with `to_write`, be written; whether something can be
    /// read.
    fn wait(&self, to_write: bool) -> io::Result<bool> {
        let begun = Instant::now();
        let slice = PollTimeout::try_from(SLICE).unwrap_or(PollTimeout::ZERO);
        loop {
            if has_come() {
                return Err(ended("another program was waited for"));
            }
            let mut fds = Vec::with_capacity(2);
            if let Some(to) = self.to.as_ref().filter(|_| to_write) {
                fds.push(PollFd::new(to.as_fd(), PollFlags::POLLOUT));
            }
            let is_full = to_write && self.early.len() >= EARLY_MAX;
            if !is_full {
                fds.push(PollFd::new(self.from.as_fd(), PollFlags::POLLIN));
            }
            match nix::poll::poll(&mut fds, slice) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(!is_full && fds.last().is_some_and(has_event)),
                Err(error) => return Err(error.into()),
            }
            if self.limit.is_some_and(|limit| begun.elapsed() >= limit) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            return self.early.read(into);
        }
        loop {
            match self.from.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(false)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn has_event(fd: &PollFd<'_>) -> bool {
    fd.revents().is_some_and(|events| !events.is_empty())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::interrupt::Stop;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let from = ours.try_clone().unwrap().into();
        (Stream::new(from, ours.into()).unwrap(), theirs)
    }

    #[test]
    fn what_comes_while_much_is_written_is_read_afterwards() {
        let (mut stream, mut theirs) = pair();
        let much = vec![7; 4 << 20];
        // It says more than a socket holds before it reads.
        let said = vec![8; 500_000];
        let expected = (much.clone(), said.clone());
        let other = std::thread::spawn(move || {
            theirs.write_all(&said).unwrap();
            let mut heard = vec![0; 4 << 20];
            theirs.read_exact(&mut heard).unwrap();
            heard
        });
        stream.write_all(&much).unwrap();
        let mut heard = vec![0; 500_000];
        assert!(stream.has_input().unwrap());
        stream.read_exact(&mut heard).unwrap();
        assert_eq!((other.join().unwrap(), heard), expected);
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "it is at its end");
    }

    #[test]
    fn silence_ends_a_wait_and_so_does_a_word() {
        let (mut stream, _theirs) = pair();
        stream.set_limit(Duration::from_millis(1));
        let error = stream.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = stream.write_all(&vec![0; 4 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        stream.set_limit(Duration::ZERO);
        let stop = Stop::default();
        let _entered = stop.enter();
        stop.set();
        let error = stream.read(&mut [0; 8]).unwrap_err();
        assert!(crate::interrupt::is_cause_of(&error));
    }

    #[test]
    fn who_is_gone_reads_nothing() {
        let (mut stream, theirs) = pair();
        drop(theirs);
        assert!(stream.has_input().unwrap());
        assert!(stream.write_all(&vec![0; 4 << 20]).is_err());
        stream.close();
        let error = stream.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
