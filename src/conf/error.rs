//! What can be wrong with a setting, a configuration file or a variable that names a directory.
//! Each message names the thing, where it stands, and what to do about it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use windrow_components::settings::SettingError;

/// A line of a file, or of a variable that holds settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfLine {
    /// The file's path, or the variable's name.
    pub origin: PathBuf,
    /// The line, counted from 1.
    pub line: u32,
}

impl fmt::Display for ConfLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin.display(), self.line)
    }
}

/// A configuration that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// A line that is neither a setting nor an include.
    #[error("{place}: '{line}' is not a setting; write 'NAME = VALUE' with blanks around the '='")]
    Syntax {
        /// Where the line stands.
        place: ConfLine,
        /// The line, without its comment.
        line: String,
    },
    /// An include that doesn't name exactly one file.
    #[error("{place}: '{line}' must name one file; write 'include FILE' (no blanks in FILE)")]
    IncludeSyntax {
        /// Where the line stands.
        place: ConfLine,
        /// The line, without its comment.
        line: String,
    },
    /// A line in the `_NIX_OPTIONS` variable without `=`.
    #[error("{place}: '{line}' is not an option; write NAME=VALUE, one a line")]
    OptionSyntax {
        /// Where the line stands.
        place: ConfLine,
        /// The line.
        line: String,
    },
    /// Text that isn't UTF-8, outside a comment.
    #[error("{place}: not UTF-8 text; save the line as UTF-8")]
    NotUtf8 {
        /// Where the line stands.
        place: ConfLine,
    },
    /// An included file that isn't there.
    #[error(
        "{place}: the included file '{}' doesn't exist; create it, or write '!include' if it may \
         be missing",
        file.display()
    )]
    IncludeMissing {
        /// Where the include stands.
        place: ConfLine,
        /// The file it names.
        file: PathBuf,
    },
    /// A relative include in text that comes from no file.
    #[error(
        "{place}: '{}' is relative to no file; include it by its absolute path",
        file.display()
    )]
    IncludeRelative {
        /// Where the include stands.
        place: ConfLine,
        /// The file it names.
        file: PathBuf,
    },
    /// A file that includes itself, directly or through others.
    #[error("{place}: '{}' includes itself; remove one of these includes", file.display())]
    IncludeLoop {
        /// The include that closes the loop.
        place: ConfLine,
        /// The file that is being read already.
        file: PathBuf,
    },
    /// More includes than any sensible configuration has.
    #[error("{place}: more than {limit} files are included; put their settings into fewer files")]
    TooManyIncludes {
        /// The include that is one too many.
        place: ConfLine,
        /// How many are allowed.
        limit: u32,
    },
    /// A setting with a value it can't have.
    #[error("{place}: {source}")]
    Value {
        /// Where the setting stands.
        place: ConfLine,
        /// What is wrong with it.
        source: SettingError,
    },
    /// A variable that gives a setting its value, with something that can't be one.
    #[error("the environment variable {variable} is not UTF-8 text; set it to UTF-8 or unset it")]
    Variable {
        /// The variable's name.
        variable: &'static str,
    },
}

/// A directory in the environment that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A relative path.
    #[error(
        "{variable} is '{}', which is not an absolute path; set it to a path that starts with '/'",
        value.display()
    )]
    NotAbsolute {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        value: OsString,
    },
    /// The root directory as the store, whose owner and mode a store would change.
    #[error(
        "{variable} is '{}', but '/' can't be a store; name a directory of its own",
        value.display()
    )]
    StoreIsRoot {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        value: OsString,
    },
}
