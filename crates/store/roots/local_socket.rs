//! What the standard library lacks for sockets between processes of a machine: connecting without
//! waiting, who is at the other end, and waiting with an end.

use std::io::{self, ErrorKind};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use windrow_sys::interrupt;

/// How often somebody who waits looks whether the user wants an end, in milliseconds.
const SLICE_MS: u16 = 100;

/// Connects to a socket; what is sent and received then never waits either. The path of a socket holds 107 bytes.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] if more are waiting to be connected already than the other side lets.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    // SAFETY: all zeros is an address, an empty one.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(ErrorKind::InvalidInput.into());
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address lives until the call returns, and is as long as is said.
    let done = unsafe { libc::connect(fd, (&raw const address).cast(), length) };
    match done {
        0 => Ok(UnixStream::from(socket)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user at the other end, as it was when the connection was made.
pub(crate) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    // SAFETY: all zeros is a value of this type, which has numbers only.
    let mut peer: libc::ucred = unsafe { zeroed() };
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
/// [`ErrorKind::TimedOut`] after `until`; [`ErrorKind::Interrupted`] if the user has asked for an end with a signal that
/// is blocked here, and so would not end the wait by itself.
pub(crate) fn check(until: Instant) -> io::Result<()> {
    if interrupt::is_pending() {
        return Err(io::Error::new(
            ErrorKind::Interrupted,
            "interrupted by a signal",
        ));
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
