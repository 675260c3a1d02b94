//! Where `windrow completions` and `windrow man` write what they make: for the user or for all.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::conf::user_dirs;
use crate::error::{Error, Result};

/// Options of commands that print what can be installed instead.
#[derive(Debug, Args)]
pub(super) struct Install {
    /// Write to your own directories instead, and print the paths
    #[arg(long)]
    pub(super) install: bool,

    /// Write below DIR/share instead, such as /usr/local, and print the paths
    #[arg(long, value_name = "DIR", conflicts_with = "install")]
    pub(super) prefix: Option<PathBuf>,
}

/// A file to be written.
#[derive(Debug)]
pub(super) struct NewFile {
    /// Its path.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) contents: Vec<u8>,
}

impl Install {
    /// Whether anything is to be written to files at all.
    pub(super) fn is_asked_for(&self) -> bool {
        self.install || self.prefix.is_some()
    }

    /// DIR/share, else the user's directory for data.
    ///
    /// # Errors
    /// When the user has none.
    pub(super) fn share(&self) -> Result<PathBuf> {
        match &self.prefix {
            Some(prefix) => Ok(prefix.join("share")),
            None => user_dirs::data().ok_or(Error::NoUserDirs),
        }
    }
}

/// Writes files with the directories that they lie in, and prints their paths.
///
/// # Errors
/// When one of them can't be written.
pub(super) fn write(files: &[NewFile]) -> Result<()> {
    for NewFile { path, contents } in files {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        std::fs::write(path, contents).map_err(Error::io("write", path))?;
    }
    super::print_lines(files.iter().map(|file| file.path.to_string_lossy()))
}
