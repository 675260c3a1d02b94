//! The conversation with a collector that is running: a root a line, one byte back for each.
//! Knows the socket only; who must be told, and what if nobody listens, is the caller's.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::error::{Error, Result};

/// How many roots are sent before their answers are read: the answers of so many wait in the
/// socket without blocking the collector, and so many lines without blocking us.
const ROOTS_AT_ONCE: usize = 64;
/// Longer socket paths don't fit into an address, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Tells the collector the roots; says whether it has confirmed all of them. If not, it has
/// ended, or doesn't listen yet. Waits for as long as the deletion of one of the roots takes.
pub(super) fn tell(socket: &Path, store_paths: &[&str]) -> Result<bool> {
    match converse(socket, store_paths) {
        Ok(()) => Ok(true),
        Err(error) if is_absence(error.kind()) => Ok(false),
        Err(error) => Err(Error::io(
            "tell temporary roots to the collector at",
            socket,
        )(error)),
    }
}

fn converse(socket: &Path, store_paths: &[&str]) -> io::Result<()> {
    let mut stream = connect(socket)?;
    for some in store_paths.chunks(ROOTS_AT_ONCE) {
        let lines: String = some.iter().flat_map(|path| [*path, "\n"]).collect();
        stream.write_all(lines.as_bytes())?;
        let mut answers = [0; ROOTS_AT_ONCE];
        let answers = &mut answers[..some.len()];
        stream.read_exact(answers)?;
        if answers.iter().any(|&answer| answer != b'1') {
            return Err(io::Error::new(ErrorKind::InvalidData, "unexpected answer"));
        }
    }
    Ok(())
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(socket);
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    UnixStream::connect(
        Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
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
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn nobody_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        assert!(!tell(&socket, &["a"]).unwrap());
        drop(UnixListener::bind(&socket).unwrap());
        assert!(!tell(&socket, &["a"]).unwrap());
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
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
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let short = folder.path().join("socket");
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
