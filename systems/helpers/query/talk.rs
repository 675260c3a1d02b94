//! How a question is sent to a substituter and its answer read, line by line, while what it says on
//! standard error is passed on; and how such a process ends.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use windrow_sandbox::process::kill::kill_and_reap;

use super::{Around, QueryError, QueryProcess};

/// How much an answer to one question may take in memory, in bytes: a hundred times what a thousand
/// paths with many references take.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a line costs beside its text.
const LINE_COST: usize = 48;

/// How long is slept at a time, so that it is noticed when that took much longer; and how often
/// what has come of a line is passed on.
const SLICE: Duration = Duration::from_secs(1);

/// A sleep that takes so much longer than it should was no sleep: this process was stopped.
const STOPPED: Duration = Duration::from_millis(500);

/// How long a process that has said its last may take to end before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(5);

impl QueryProcess {
    /// Sends `request`, all of it, and gives the next line of the answer. What comes on standard
    /// error until then is passed on.
    pub(super) fn line(
        &mut self,
        request: &[u8],
        around: &mut Around<'_>,
    ) -> Result<String, QueryError> {
        let mut unsent = request;
        let mut heard = Instant::now();
        loop {
            if unsent.is_empty()
                && let Some(line) = self.answers.next_line()
            {
                self.taken += line.len() + LINE_COST;
                if self.taken > ANSWER_BYTES_MAX {
                    let max = ANSWER_BYTES_MAX;
                    return Err(QueryError::Endless { max });
                }
                return Ok(line);
            }
            let patience = Duration::from_secs(around.patience_s);
            let left = patience.saturating_sub(heard.elapsed());
            let timeout = match around.patience_s {
                0 => poll_timeout(SLICE),
                _ => poll_timeout(left.min(SLICE)),
            };
            if self.asked.elapsed() >= SLICE {
                self.asked = Instant::now();
                if let Some(text) = self.complaints.overdue(|_| false) {
                    (around.say)(&text);
                }
            }
            let began = Instant::now();
            let ready = self.wait(!unsent.is_empty(), around.stop, timeout)?;
            if ready.stop {
                return Err(QueryError::Stopped);
            }
            if began.elapsed() > SLICE + STOPPED {
                // We were stopped, perhaps together with it: that is not its silence.
                heard = Instant::now();
            } else if around.patience_s > 0 && left.is_zero() && !ready.has_said() {
                let seconds = around.patience_s;
                return Err(QueryError::Silent { seconds });
            }
            if ready.log {
                heard = Instant::now();
                self.read_log(around.say);
            }
            if ready.stdin {
                match nix::unistd::write(&self.stdin, unsent) {
                    Ok(count) => unsent = &unsent[count..],
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                    Err(nix::Error::EPIPE) => return Err(self.died(around)),
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            }
            if ready.stdout {
                heard = Instant::now();
                let mut buffer = [0; 16 * 1024];
                match nix::unistd::read(&self.stdout, &mut buffer) {
                    Ok(0) => return Err(self.died(around)),
                    Ok(count) => self.answers.feed(&buffer[..count]),
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            } else if ready.exit {
                // All that it said has been read. What it left running may hold its output open.
                return Err(self.died(around));
            }
        }
    }

    fn wait(
        &self,
        sending: bool,
        stop: Option<BorrowedFd<'_>>,
        timeout: PollTimeout,
    ) -> Result<Ready, QueryError> {
        let mut fds = vec![PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        let mut place = |fd: Option<_>, flags| {
            fds.push(PollFd::new(fd?, flags));
            Some(fds.len() - 1)
        };
        let log = place(self.log.as_ref().map(|log| log.as_fd()), PollFlags::POLLIN);
        let stdin = place(sending.then(|| self.stdin.as_fd()), PollFlags::POLLOUT);
        let stop = place(stop, PollFlags::POLLIN);
        let pidfd = self.child.as_ref().map(|child| child.pidfd.as_fd());
        let exit = place(pidfd, PollFlags::POLLIN);
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => return Ok(Ready::default()),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let ready = |place: Option<usize>| {
            place.is_some_and(|place| {
                fds[place]
                    .revents()
                    .is_some_and(|events| !events.is_empty())
            })
        };
        Ok(Ready {
            stdout: ready(Some(0)),
            log: ready(log),
            stdin: ready(stdin),
            stop: ready(stop),
            exit: ready(exit),
        })
    }

    fn read_log(&mut self, say: &mut dyn FnMut(&str)) {
        let Some(log) = &self.log else { return };
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(log, &mut buffer) {
            Ok(0) => self.log = None,
            Ok(count) => {
                self.complaints.feed(&buffer[..count]);
                while let Some(line) = self.complaints.next_line() {
                    say(&line);
                }
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(_) => self.log = None,
        }
    }

    /// It has ended or closed its output: says what it still has to say, and how it ended.
    fn died(&mut self, around: &mut Around<'_>) -> QueryError {
        let Some(child) = self.child.take() else {
            return QueryError::Died { status: 0 };
        };
        let mut ended = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        ended.extend(around.stop.map(|stop| PollFd::new(stop, PollFlags::POLLIN)));
        let grace = poll_timeout(EXIT_GRACE);
        // Should it be interrupted, the process is killed a little early.
        let _ = nix::poll::poll(&mut ended, grace);
        let status = kill_and_reap(child.pid);
        for _ in 0..64 {
            self.read_log(around.say);
        }
        if let Some(rest) = self.complaints.rest() {
            (around.say)(&rest);
        }
        QueryError::Died { status }
    }
}

fn poll_timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

impl Drop for QueryProcess {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill_and_reap(child.pid);
        }
    }
}

#[derive(Debug, Default)]
struct Ready {
    stdout: bool,
    log: bool,
    stdin: bool,
    stop: bool,
    exit: bool,
}

impl Ready {
    /// Whether it has said something, or ended.
    fn has_said(&self) -> bool {
        self.stdout || self.log || self.exit
    }
}
