//! What a graph asks of the file system while it is read: answered by whoever reads it.

use std::rc::Rc;

use crate::includes::Includes;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something that is no directory.
    File,
    /// A directory, with the paths of all that lies in it or below it and is no directory: relative
    /// to it, with `/` between their parts. In no particular order.
    Directory(Vec<String>),
}

/// The files that a graph's sources are. Paths are as the graph spells them, so relative ones are
/// to be taken from where the graph lies; errors are told to the user with the graph's place.
pub trait Files {
    /// What lies at `path`; of a directory what ignore files in it leave, if `obey_ignore_files`.
    ///
    /// # Errors
    /// When there is nothing, it can't be read, or something in it has a name that is not UTF-8.
    fn find(&mut self, path: &str, obey_ignore_files: bool) -> Result<Found, String>;

    /// What the file at `path` includes.
    ///
    /// # Errors
    /// When it can't be read.
    fn includes(&mut self, path: &str) -> Result<Rc<Includes>, String>;
}

/// No files at all, for graphs that are only looked at.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl Files for NoFiles {
    fn find(&mut self, path: &str, _obey_ignore_files: bool) -> Result<Found, String> {
        Err(format!("cannot look at '{path}': there are no files here"))
    }

    fn includes(&mut self, path: &str) -> Result<Rc<Includes>, String> {
        Err(format!("cannot read '{path}': there are no files here"))
    }
}
