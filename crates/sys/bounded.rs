//! Reading what may have no end: up to a bound, with memory taken as the bytes come.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// How many bytes a text may have that must be in memory as a whole: graphs, lists.
pub const TEXT_MAX: u64 = 1 << 30;

/// How many bytes a derivation may have: more than any that can be built, for its variables must
/// fit into an environment or a few files.
pub const DERIVATION_MAX: u64 = 256 << 20;

/// How many bytes a file may have that a setting names, such as one of certificates.
pub const NAMED_FILE_MAX: u64 = 64 << 20;

/// Reads a file. One that is known to be too large is not read at all.
///
/// # Errors
/// As [`read_to_end`].
pub fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > most {
        return Err(too_large(most));
    }
    read_to_end(file, most)
}

/// Reads the file of a derivation.
///
/// # Errors
/// As [`read_to_end`], when it has more than [`DERIVATION_MAX`] bytes.
pub fn read_derivation(file: &Path) -> io::Result<Vec<u8>> {
    read_file(file, DERIVATION_MAX)
}

/// Reads all that `source` gives.
///
/// # Errors
/// When it gives more than `most` bytes, there is no memory for what it gives, or it can't be read.
pub fn read_to_end(mut source: impl Read, most: u64) -> io::Result<Vec<u8>> {
    const CHUNK: usize = 64 << 10;
    let mut bytes = Vec::new();
    loop {
        // At once no more than what has come already: what a source says of its size is no promise.
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let left = most.saturating_add(1) - bytes.len();
        bytes.try_reserve_exact(bytes.len().max(CHUNK).min(left))?;
        let room = bytes.capacity() - bytes.len();
        let read = source.by_ref().take(room as u64).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            return Err(too_large(most as u64));
        }
        if read < room {
            return Ok(bytes);
        }
    }
}

/// Why so much is not read.
pub fn too_large(most: u64) -> io::Error {
    let text = format!("it has more than {most} bytes, which is the most that is read");
    io::Error::new(ErrorKind::FileTooLarge, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused_and_the_rest_is_read_whole() {
        for length in [0, 1, 65_535, 65_536, 65_537, 300_000] {
            let text = vec![b'x'; length];
            assert_eq!(read_to_end(&text[..], length as u64).unwrap(), text);
            if length > 0 {
                assert!(read_to_end(&text[..], length as u64 - 1).is_err());
            }
        }
        let error = read_to_end(io::repeat(0), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("1048576 bytes"));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let read = |most| read_file(file.path(), most);
        assert!(
            read(1 << 20)
                .unwrap_err()
                .to_string()
                .contains("1048576 bytes")
        );
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(read(1 << 20).unwrap().len(), 1 << 20);
    }
}
