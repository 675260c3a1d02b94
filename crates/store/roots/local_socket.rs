//! What the standard library lacks for sockets between processes of a machine: connecting without
//! waiting, who is at the other end, and waiting with an end.

use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use windrow_sys::interrupt;

/// How often somebody who waits looks whether the user wants an end, in milliseconds.
const SLICE_MS: u16 = 20;

/// Connects to a socket; what is sent and received then never waits either. The path of a socket
/// holds 107 bytes.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] if more are waiting to be connected already than the other side lets.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// The user at the other end, as it was when the connection was made.
pub(crate) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    // By hand, for in rustix a process id can't be 0, as that of a process of another PID namespace
    // is.
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, which is as large.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(peer.uid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until something can be done with a socket.
///
/// # Errors
/// [`ErrorKind::TimedOut`] after `until`; what [`check`] says.
pub(crate) fn wait(stream: &UnixStream, what: PollFlags, until: Instant) -> io::Result<()> {
    loop {
        let mut ready = [PollFd::new(stream.as_fd(), what)];
        match poll(&mut ready, PollTimeout::from(SLICE_MS)) {
            Ok(0) | Err(nix::Error::EINTR) => check(until)?,
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether waiting may go on.
///
/// # Errors
/// [`ErrorKind::TimedOut`] after `until`; what [`interrupt::ended`] makes if the wait is to end.
pub(crate) fn check(until: Instant) -> io::Result<()> {
    if interrupt::has_come() {
        return Err(interrupt::ended("the collector was waited for"));
    }
    if Instant::now() >= until {
        return Err(io::Error::new(
            ErrorKind::TimedOut,
            "it does not answer; end the collection that is stuck",
        ));
    }
    Ok(())
}

/// How long anybody is waited for who may be stuck. Deleting a single path takes minutes at worst.
pub(crate) const LIMIT: Duration = Duration::from_secs(60 * 60);
