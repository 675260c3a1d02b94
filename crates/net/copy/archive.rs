//! The archive of a path as something that is read: a thread makes it while it is sent, a few
//! pieces ahead, so that it is never in memory as a whole.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, sync_channel};

use windrow_store::nar::{self, Tee};
use windrow_store::text::transfer::modified;
use windrow_store::{Error, PathInfo, Result};
use windrow_sys::threads::spawn;

use crate::pieces::PieceReader;

/// How large pieces are, in bytes. An archive that is no larger needs no thread.
const PIECE: usize = 256 << 10;

/// How many pieces wait at most.
const WAITING: usize = 3;

/// Why an archive could not be made, once somebody has met that as the end of it.
pub(super) type Failure = Rc<RefCell<Option<Error>>>;

/// Opens the archive of the path that lies at `real`. Its last piece comes only if all of it is
/// what was registered. What fails later is in `failure`.
///
/// # Errors
/// When no thread can be started.
pub(super) fn open(info: &PathInfo, real: PathBuf, failure: &Failure) -> io::Result<Box<dyn Read>> {
    let (to, pieces) = sync_channel(WAITING);
    let (path, nar_hash, nar_size) = (info.path.clone(), info.nar_hash, info.nar_size);
    let make = move || {
        if let Err(error) = dump(&path, &real, (&nar_hash, nar_size), &to) {
            // Whoever has left does not want to know.
            let _ = to.send(Err(error));
        }
    };
    if nar_size <= PIECE as u64 {
        make();
    } else {
        spawn("archive", make)?;
    }
    let failure = Rc::clone(failure);
    Ok(Box::new(PieceReader::new(move |_| match pieces.recv() {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => {
            let text = error.to_string();
            *failure.borrow_mut() = Some(error);
            Err(io::Error::other(text))
        }
        Err(_) => Ok(Vec::new()),
    })))
}

/// Hands on the archive of the path, if it has that hash and size.
fn dump(
    path: &str,
    real: &Path,
    (nar_hash, nar_size): (&[u8; 32], u64),
    to: &SyncSender<Result<Vec<u8>>>,
) -> Result<()> {
    let mut tee = Tee::new(Pieces {
        to,
        waiting: Vec::new(),
        left: nar_size,
    });
    nar::dump(real, &mut tee)?;
    let (mut pieces, found, _) = tee.finish();
    if found != *nar_hash {
        return Err(modified(path, nar_hash, &found));
    }
    // Nobody is there any more who could be told.
    let _ = pieces.hand_on();
    Ok(())
}

/// Cuts what is written into pieces. The last one waits.
struct Pieces<'a> {
    to: &'a SyncSender<Result<Vec<u8>>>,
    waiting: Vec<u8>,
    /// How much there should still be, in bytes. What comes beyond it is not handed on.
    left: u64,
}

impl Pieces<'_> {
    fn hand_on(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.waiting);
        let sent = self.to.send(Ok(piece));
        sent.map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(bytes.len());
        }
        if self.waiting.len() == PIECE {
            self.hand_on()?;
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = bytes.len().min(PIECE - self.waiting.len()).min(left);
        self.waiting.extend_from_slice(&bytes[..count]);
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file of that length with what is known of it, and what it holds afterwards.
    fn read(length: usize, then: &[u8]) -> (PathInfo, io::Result<Vec<u8>>, Option<Error>) {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("x");
        fs::write(&real, vec![7; length]).unwrap();
        let (nar_hash, nar_size) = nar::digest::hash_nar(&real).unwrap();
        let info = PathInfo {
            path: "/s/x".to_owned(),
            nar_hash,
            nar_size,
            registration_time: 0,
            deriver: None,
            references: Vec::new(),
            ultimate: false,
            sigs: Vec::new(),
            ca: None,
        };
        if !then.is_empty() {
            fs::write(&real, then).unwrap();
        }
        let failure = Failure::default();
        let mut archive = open(&info, real, &failure).unwrap();
        let mut bytes = Vec::new();
        let read = archive.read_to_end(&mut bytes).map(|_| bytes);
        (info, read, failure.take())
    }

    #[test]
    fn an_archive_is_read_whatever_its_length() {
        for length in [0, 1, PIECE - 200, PIECE, 5 * PIECE + 1] {
            let (info, bytes, failure) = read(length, &[]);
            let mut tee = Tee::new(io::sink());
            tee.write_all(&bytes.unwrap()).unwrap();
            let (_, hash, size) = tee.finish();
            assert_eq!((hash, size), (info.nar_hash, info.nar_size));
            assert!(failure.is_none());
        }
    }

    #[test]
    fn what_has_changed_never_ends() {
        for length in [10, 5 * PIECE] {
            for then in [vec![8; length], vec![7; length / 2], vec![7; 3 * length]] {
                let (info, bytes, failure) = read(length, &then);
                let error = bytes.unwrap_err().to_string();
                assert!(error.contains("'/s/x' was modified"), "{error}");
                assert_eq!(failure.unwrap().to_string(), error);
                assert!(info.nar_size > 0);
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("x");
        fs::write(&real, vec![7; 9 * PIECE]).unwrap();
        let (to, pieces) = sync_channel(WAITING);
        drop(pieces);
        let (nar_hash, nar_size) = nar::digest::hash_nar(&real).unwrap();
        assert!(dump("/s/x", &real, (&nar_hash, nar_size), &to).is_err());
    }
}
