//! Files in memory.

use std::rc::Rc;

use super::super::*;
use crate::includes::{Includes, scan};

/// What lies where most tests look.
pub(super) const FILES: &[(&str, &str)] = &[
    ("src/main.c", "#include \"b.h\"\n#include <stdio.h>\n"),
    ("src/b.c", "#include \"b.h\"\n"),
    ("src/b.h", "#include \"deep/c.h\"\n"),
    ("src/deep/c.h", ""),
    ("src/deep/unused.h", ""),
    ("src/old/x.c", ""),
    ("src/s.c", ""),
];

/// Paths and contents of files.
pub(super) struct Disk<'t>(&'t [(&'t str, &'t str)]);

impl<'t> Disk<'t> {
    pub(super) fn of(files: &'t [(&'t str, &'t str)]) -> Self {
        Self(files)
    }
}

impl Files for Disk<'_> {
    fn find(&mut self, path: &str, _obey_ignore_files: bool) -> Result<Found, String> {
        if self.0.iter().any(|(file, _)| *file == path) {
            return Ok(Found::File);
        }
        let path = path.trim_end_matches('/');
        let inside = |(file, _): &(&str, &str)| {
            file.strip_prefix(path)?
                .strip_prefix('/')
                .map(str::to_owned)
        };
        let paths: Vec<String> = self.0.iter().filter_map(inside).collect();
        match paths.is_empty() {
            true => Err(format!("cannot read '{path}': there is no such file")),
            false => Ok(Found::Directory(paths)),
        }
    }

    fn includes(&mut self, path: &str) -> Result<Rc<Includes>, String> {
        let text = self.0.iter().find(|(file, _)| *file == path);
        let (_, text) = text.ok_or_else(|| format!("cannot read '{path}'"))?;
        Ok(Rc::new(scan(text.as_bytes())))
    }
}
