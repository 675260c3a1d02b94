//! The conversation with a collector that is running: a root a line, one byte back for each.
//! Knows the socket only; who must be told, and what if nobody listens, is the caller's.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::poll::PollFlags;

use crate::error::{Error, Result};
use crate::roots::local_socket::{self, wait};

/// How many roots are sent before their answers are read: the answers of this many wait in the
/// socket without blocking the collector, and as many lines without blocking us.
const ROOTS_AT_ONCE: usize = 64;
/// Longer socket paths don't fit into an address, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Tells the collector the roots; says whether it has confirmed all of them. If not, it has ended,
/// or doesn't listen yet. Waits for as long as the deletion of one of the roots takes, but not
/// beyond `until` nor after a signal that asks for an end: those are errors, and none of the roots
/// may be relied on.
pub(super) fn tell(socket: &Path, store_paths: &[&str], until: Instant) -> Result<bool> {
    match converse(socket, store_paths, until) {
        Ok(()) => Ok(true),
        Err(error) if is_absence(error.kind()) => Ok(false),
        Err(error) => Err(Error::io(
            "tell temporary roots to the collector at",
            socket,
        )(error)),
    }
}

fn converse(socket: &Path, store_paths: &[&str], until: Instant) -> io::Result<()> {
    let mut stream = connect(socket)?;
    for some in store_paths.chunks(ROOTS_AT_ONCE) {
        let lines: String = some.iter().flat_map(|path| [*path, "\n"]).collect();
        let mut left = lines.as_bytes();
        while !left.is_empty() {
            match stream.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&stream, PollFlags::POLLOUT, until)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut left = some.len();
        while left > 0 {
            let mut answers = [0; ROOTS_AT_ONCE];
            match stream.read(&mut answers[..left]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) if answers[..count].iter().any(|&answer| answer != b'1') => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "unexpected answer"));
                }
                Ok(count) => left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&stream, PollFlags::POLLIN, until)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= MAX_SOCKET_PATH {
        return local_socket::connect(socket);
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    local_socket::connect(
        &Path::new("/proc/self/fd")
            .join(directory.as_raw_fd().to_string())
            .join(name),
    )
}

/// What a collector that is ending, or just starting, answers.
fn is_absence(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            // So many others want to be connected that it has to be tried again.
            | ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use std::time::Duration;

    use super::*;

    fn tell(socket: &Path, store_paths: &[&str]) -> Result<bool> {
        super::tell(
            socket,
            store_paths,
            Instant::now() + Duration::from_secs(600),
        )
    }

    #[test]
    fn a_collector_that_never_answers_or_reads_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let long = "x".repeat(1 << 20);
        for path in ["a", &long] {
            let error = super::tell(&socket, &[path], Instant::now()).unwrap_err();
            assert!(error.to_string().contains("does not answer"), "{error}");
        }
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let stop = windrow_sys::interrupt::Stop::default();
        let _entered = stop.enter();
        stop.set();
        let error = tell(&socket, &["a"]).unwrap_err();
        assert!(windrow_sys::interrupt::is_cause_of(&error), "{error}");
    }

    #[test]
    fn nobody_there_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        assert!(!tell(&socket, &["a"]).unwrap());
        drop(UnixListener::bind(&socket).unwrap());
        assert!(!tell(&socket, &["a"]).unwrap());
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"0").unwrap();
                let _ = stream.read(&mut [0; 2]);
            });
            let error = tell(&socket, &["a"]).unwrap_err().to_string();
            assert!(error.contains("unexpected answer"), "{error}");
        });
    }

    #[test]
    fn a_long_socket_path_is_reached() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let short = directory.path().join("socket");
        let listener = UnixListener::bind(&short).unwrap();
        std::fs::rename(&short, deep.join("socket")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 2]).unwrap();
                stream.write_all(b"1").unwrap();
            });
            assert!(tell(&deep.join("socket"), &["a"]).unwrap());
        });
    }
}
