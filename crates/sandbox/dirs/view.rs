//! Where the directories of builds lie for those who look at them, and what is shown in them.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where the two directories of the run lie for whoever makes what is in them.
#[derive(Debug, Clone)]
pub struct View {
    /// The one in the store.
    pub store: PathBuf,
    /// The one beside the build directories.
    pub builds: PathBuf,
}

/// What an input of a build is, which decides how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// A directory, shown by a mount on another.
    Directory,
    /// A file, shown by a mount on another.
    File,
    /// A symbolic link, which can only be made anew.
    Link(OsString),
}

/// Where the directories of one build are, as the template sees them.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its part of the store.
    pub store: PathBuf,
    /// What it sees as its build directory.
    pub build: PathBuf,
    /// What it sees as /tmp.
    pub tmp: PathBuf,
}
