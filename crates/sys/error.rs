//! What can go wrong with files: what failed, on which path, and why.

use std::io;
use std::path::PathBuf;

use crate::told::with_remedy;

/// Everything that can go wrong with files and trees of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a path failed.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried, as an infinitive: "open", "set the mode of".
        action: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// Something in a tree is neither a regular file, a directory nor a symbolic link.
    #[error(
        "file '{}' has an unsupported type; the store holds only regular files, directories and \
         symbolic links",
        path.display()
    )]
    UnsupportedFileType {
        /// The socket, device or fifo.
        path: PathBuf,
    },

    /// A file's bare contents were asked for, but it has none.
    #[error(
        "'{}' is not a regular file; a flat hash needs one, so make it a single file or ask for a \
         recursive hash",
        path.display()
    )]
    NotRegularFile {
        /// The directory, link or special file.
        path: PathBuf,
    },

    /// A tree was changed by someone else while it was being walked.
    #[error(
        "'{}' was replaced or moved while it was being processed; make sure that nothing else \
         writes to it and try again",
        path.display()
    )]
    TreeChanged {
        /// The file or directory that is no longer what it was.
        path: PathBuf,
    },

    /// A file grew or shrank between the announcement of its size and its last byte.
    #[error(
        "file '{}' changed its size from {size} bytes while it was being read; make sure that \
         nothing else writes to it and try again",
        path.display()
    )]
    FileSizeChanged {
        /// The file.
        path: PathBuf,
        /// Its size in bytes when it was opened.
        size: u64,
    },

    /// A path that must be created or deleted has no last name: `/`, or one that ends in `..`.
    #[error("'{}' does not name a file within a directory; give a path that does", path.display())]
    NoFileName {
        /// The path as given.
        path: PathBuf,
    },

    /// An output holds a file that the build user does not own.
    #[error(
        "invalid ownership on file '{}': it belongs to user {owner}, not to the build user \
         {build_uid}; the builder must not link or move files of others into its outputs",
        path.display()
    )]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
        /// The user id it should belong to.
        build_uid: u32,
    },
}

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error with what was being done and to which path.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            source: with_remedy(source, &path),
            path,
        }
    }
}
