//! Reading a directory's names in one go, together with what the file system says of their types.
//! Goes below `opendir` so that the handle stays ours and nothing is allocated per directory.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use rustix::fs::RawDir;

use super::node::Kind;

/// Size of the kernel's batches in bytes; some thousand names each.
const BATCH: usize = 32 * 1024;

/// One name in a directory.
pub(super) struct Entry {
    pub(super) name: CString,
    /// What the file system said it is; `None` where it keeps no types in directories.
    pub(super) hint: Option<Kind>,
}

/// Reads directories, with a buffer that is made at the first one and kept.
#[derive(Default)]
pub(super) struct Lister {
    /// Always empty: its capacity is the buffer.
    batch: Vec<u8>,
}

impl Lister {
    /// All entries of `directory` except `.` and `..`, in no particular order.
    pub(super) fn list(&mut self, directory: BorrowedFd<'_>) -> Result<Vec<Entry>, Errno> {
        self.batch.reserve_exact(BATCH);
        let mut entries = Vec::new();
        let mut names = RawDir::new(directory, self.batch.spare_capacity_mut());
        while let Some(entry) = names.next() {
            let entry = entry.map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                entries.push(Entry {
                    name: name.to_owned(),
                    hint: Kind::from_file_type(entry.file_type()),
                });
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn more_names_than_one_batch_holds_are_all_found() {
        let directory = tempfile::tempdir().unwrap();
        let expected: BTreeSet<String> = (0..1500)
            .map(|number| format!("a-rather-long-name-{number}"))
            .collect();
        for name in &expected {
            File::create(directory.path().join(name)).unwrap();
        }
        let handle = File::open(directory.path()).unwrap();
        let entries = Lister::default().list(handle.as_fd()).unwrap();
        assert_eq!(entries.len(), 1500);
        let found: BTreeSet<String> = entries
            .into_iter()
            .map(|entry| entry.name.into_string().unwrap())
            .collect();
        assert_eq!(found, expected);
    }
}
