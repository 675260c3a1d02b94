//! Reading a directory's names in one go, together with what the file system says of their types.
//! Goes below `opendir` so that the handle stays ours and nothing is allocated per directory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::node::Kind;

/// Size of the kernel's batches in bytes; some thousand names each.
const BATCH: usize = 32 * 1024;
/// Where the fields of `struct linux_dirent64` lie.
const RECLEN_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// One name in a directory.
pub(super) struct Entry {
    pub(super) name: CString,
    /// What the file system said it is; `None` where it keeps no types in directories.
    pub(super) hint: Option<Kind>,
}

/// Reads directories, with a buffer that is made at the first one and kept.
#[derive(Default)]
pub(super) struct Lister {
    batch: Vec<u8>,
}

impl Lister {
    /// All entries of `directory` but `.` and `..`, in no particular order.
    pub(super) fn list(&mut self, directory: BorrowedFd<'_>) -> Result<Vec<Entry>, Errno> {
        self.batch.resize(BATCH, 0);
        let mut entries = Vec::new();
        loop {
            let batch = match read_batch(directory, &mut self.batch)? {
                [] => return Ok(entries),
                batch => batch,
            };
            parse_batch(batch, &mut entries).ok_or(Errno::EBADMSG)?;
        }
    }
}

fn read_batch<'b>(directory: BorrowedFd<'_>, batch: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    // SAFETY: the kernel writes at most `batch.len()` bytes to the start of `batch`, which is
    // exclusively borrowed, and the descriptor is open for as long as it is borrowed.
    let size = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            batch.as_mut_ptr(),
            batch.len(),
        )
    };
    let size = Errno::result(size)?;
    Ok(&batch[..usize::try_from(size).unwrap_or(0)])
}

/// Appends the records of one batch to `entries`; `None` if the batch makes no sense.
fn parse_batch(mut batch: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
    while !batch.is_empty() {
        let length = batch.get(RECLEN_AT..TYPE_AT)?;
        let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
        let record = batch.get(..length)?;
        let name = CStr::from_bytes_until_nul(record.get(NAME_AT..)?).ok()?;
        if name != c"." && name != c".." {
            entries.push(Entry {
                name: name.to_owned(),
                hint: Kind::from_dirent(record[TYPE_AT]),
            });
        }
        batch = &batch[length..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn more_names_than_one_batch_holds_are_all_found() {
        let folder = tempfile::tempdir().unwrap();
        let expected: BTreeSet<String> = (0..1500)
            .map(|number| format!("a-rather-long-name-{number}"))
            .collect();
        for name in &expected {
            File::create(folder.path().join(name)).unwrap();
        }
        let handle = File::open(folder.path()).unwrap();
        let entries = Lister::default().list(handle.as_fd()).unwrap();
        assert_eq!(entries.len(), 1500);
        let found: BTreeSet<String> = entries
            .into_iter()
            .map(|entry| entry.name.into_string().unwrap())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_record_cut_short_is_refused() {
        let mut record = vec![0; 24];
        record[RECLEN_AT..TYPE_AT].copy_from_slice(&24_u16.to_ne_bytes());
        record[NAME_AT] = b'x';
        let mut entries = Vec::new();
        assert!(parse_batch(&record, &mut entries).is_some());
        assert_eq!(entries[0].name.as_c_str(), c"x");
        for cut in 1..24 {
            assert!(
                parse_batch(&record[..cut], &mut Vec::new()).is_none(),
                "cut at {cut}"
            );
        }
        record[NAME_AT..].fill(b'x');
        assert!(parse_batch(&record, &mut entries).is_none());
        record[RECLEN_AT..TYPE_AT].fill(0);
        assert!(parse_batch(&record, &mut entries).is_none());
    }
}
