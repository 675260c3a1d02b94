//! The ways in which an archive can be damaged, for messages and for callers that tell them apart.
//! Where in the archive it happened is kept by the crate's error.

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarFault {
    /// It ends too early.
    #[error("it ends here, in the middle of the archive")]
    Truncated,
    /// Another word was due.
    #[error("expected '{expected}', found '{found}'")]
    UnexpectedToken {
        /// The word, or words, that the format asks for.
        expected: &'static str,
        /// What stands there, with unprintable bytes escaped.
        found: String,
    },
    /// A length is beyond what the format or any file system allows.
    #[error("a {what} of {length} bytes is longer than {max}")]
    TooLong {
        /// "token", "file name" or "link target".
        what: &'static str,
        /// The length announced.
        length: u64,
        /// The longest allowed.
        max: u64,
    },
    /// The bytes that fill up a token are not zero.
    #[error("the padding is not zero")]
    Padding,
    /// A name cannot be that of a directory entry.
    #[error("'{name}' is not a valid file name")]
    InvalidName {
        /// The name, with unprintable bytes escaped.
        name: String,
    },
    /// A link target is empty or holds a NUL.
    #[error("'{target}' is not a valid link target")]
    InvalidTarget {
        /// The target, with unprintable bytes escaped.
        target: String,
    },
    /// Entries must ascend strictly.
    #[error("the entry '{name}' is out of order or appears twice")]
    Unsorted {
        /// The later name, with unprintable bytes escaped.
        name: String,
    },
}
