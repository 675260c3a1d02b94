//! Standard input, or whatever a program reads, as a source that ends when work is to end: who
//! writes to it may take any time.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{ended, event, has_come};

/// Reads from `source`, and fails with what [`ended`] makes once work is to end.
#[derive(Debug)]
pub struct Input<R>(pub R);

impl<R: Read + AsFd> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_for(self.0.as_fd())?;
        self.0.read(buffer)
    }
}

/// Standard input, without a buffer.
///
/// # Errors
/// When it is closed, or there are no descriptors left.
pub fn stdin() -> io::Result<Input<File>> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Input(stdin.into()))
}

fn wait_for(fd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        if has_come() {
            return Err(ended("it was read"));
        }
        let mut fds = vec![PollFd::new(fd, PollFlags::POLLIN)];
        fds.extend(event().map(|event| PollFd::new(event, PollFlags::POLLIN)));
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().is_some_and(|events| !events.is_empty()) {
            return Ok(());
        }
    }
}
