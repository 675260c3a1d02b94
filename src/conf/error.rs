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
    /// A windrow.toml that isn't TOML.
    #[error("{place}: this is not TOML: {reason}; write 'NAME = VALUE' with texts in quotes")]
    Toml {
        /// Where the mistake is.
        place: ConfLine,
        /// What is wrong there.
        reason: String,
    },
    /// A value in windrow.toml that no setting can have.
    #[error(
        "{place}: '{name}' has a value that no setting has; write a text in quotes, a whole number, true or \
         false, or a list or table of these without blanks in them"
    )]
    TomlValue {
        /// Where the setting stands.
        place: ConfLine,
        /// Its name.
        name: String,
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

/// A store's name that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreNameError {
    /// A store that a daemon has.
    #[error(
        "cannot open store '{store}': windrow works on a store's files, not through a daemon; give \
         'local' for the machine's own if you may write it, or './DIR', or 'own'"
    )]
    Daemon {
        /// The name as given.
        store: String,
    },
    /// A store on another machine, or of another kind.
    #[error(
        "cannot open store '{store}': stores of the kind '{scheme}' are not supported; give './DIR', \
         'local', 'local?root=DIR', 'auto' or 'own'"
    )]
    Scheme {
        /// The name as given.
        store: String,
        /// The kind, which stands before `://`.
        scheme: String,
    },
    /// A word that is no store.
    #[error(
        "cannot open store '{store}': that is no store's name; if it is a directory, write './{}', \
         else 'local', 'auto' or 'own'", store.split('?').next().unwrap_or_default()
    )]
    Unknown {
        /// The name as given.
        store: String,
    },
    /// A relative directory, while the current one is not to be found.
    #[error(
        "cannot open store '{store}': the current directory can't be found ({reason}); give the \
         store's absolute path"
    )]
    Relative {
        /// The name as given.
        store: String,
        /// The system's answer.
        reason: String,
    },
    /// A parameter that is not encoded as in a URL.
    #[error(
        "cannot open store '{store}': '{part}' is not encoded as in a URL; write '%25' for '%' and \
         '%23' for '#'"
    )]
    Encoding {
        /// The name as given.
        store: String,
        /// The parameter.
        part: String,
    },
    /// A parameter that must be a path.
    #[error("cannot open store '{store}': its {parameter} is empty, but must be an absolute path")]
    EmptyPath {
        /// The name as given.
        store: String,
        /// The parameter.
        parameter: &'static str,
    },
    /// A relative path in a parameter.
    #[error(
        "cannot open store '{store}': its {parameter} is '{}', which is not an absolute path; write \
         one that starts with '/'",
        value.display()
    )]
    NotAbsolute {
        /// The name as given.
        store: String,
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: OsString,
    },
    /// A parameter that must be true or false.
    #[error(
        "cannot open store '{store}': read-only must be 'true' or 'false', not '{}'",
        value.display()
    )]
    NotABoolean {
        /// The name as given.
        store: String,
        /// The parameter's value.
        value: OsString,
    },
    /// The root directory as the store directory.
    #[error(
        "cannot open store '{store}': '/' can't be a store directory; name a directory of its own"
    )]
    StoreIsRoot {
        /// The name as given.
        store: String,
    },
    /// A store directory that can't stand in derivations.
    #[error(
        "cannot use the store directory '{}': it is not UTF-8 text, which all store paths are",
        store.display()
    )]
    NotUtf8 {
        /// The directory.
        store: PathBuf,
    },
}
