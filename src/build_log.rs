//! Logs of builds: where they lie, and how they are printed.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use windrow_store::logs::{find, is_marked_cut};

use crate::error::{Error, Result, print_failed};
use crate::terminal::{Out, complain};

/// A log that was found.
pub(crate) struct Log {
    pub(crate) reader: Box<dyn Read>,
    /// Whether its end is missing, as far as that is known before it is read.
    pub(crate) is_cut: bool,
}

/// Prints a log, and says so if its end is missing.
pub(crate) fn copy(log: &mut Log, of: &str, out: &mut Out) -> Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = match log.reader.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                log.is_cut = true;
                break;
            }
            read => read.map_err(Error::io("read the log of", of))?,
        };
        if read == 0 {
            break;
        }
        out.write_log(&chunk[..read]).map_err(print_failed)?;
    }
    out.end_log().map_err(print_failed)?;
    if log.is_cut {
        out.flush().map_err(print_failed)?;
        complain(&format!(
            "warning: the log of '{of}' is cut: its build still runs or was killed, or the end could not be written"
        ));
    }
    Ok(())
}

/// A log in an open file.
///
/// # Errors
/// When the system can't tell about the file.
pub(crate) fn readable(file: File, compressed: bool) -> io::Result<Log> {
    let metadata = file.metadata()?;
    // What is compressed has a beginning and an end, though nothing be in between.
    let is_cut = match compressed {
        true => metadata.len() == 0,
        false => is_marked_cut(metadata.permissions().mode()),
    };
    let reader: Box<dyn Read> = match compressed && !is_cut {
        true => Box::new(MultiBzDecoder::new(file)),
        false => Box::new(file),
    };
    Ok(Log { reader, is_cut })
}

/// The log of a derivation; none if there is none.
pub(crate) fn open(log_dir: &Path, base: &str) -> Result<Option<Log>> {
    let Some(found) = find(log_dir, base)? else {
        return Ok(None);
    };
    readable(found.file, found.is_compressed)
        .map(Some)
        .map_err(Error::io("read", found.path))
}
