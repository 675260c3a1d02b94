//! The files that a graph's sources are, as they lie on disk: found by walking directories, with
//! what ignore files say.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hashbrown::HashMap;
use ignore::WalkBuilder;
use windrow_formats::includes::{Includes, scan};
use windrow_formats::json_graph::{Files, Found};
use windrow_sys::interrupt;

/// The directory that the version control systems' own files lie in.
const VERSION_CONTROL: [&str; 5] = [".git", ".hg", ".svn", ".jj", ".pijul"];

/// The files below the directory that a graph lies in, and elsewhere.
pub(super) struct SourceFiles<'d> {
    dir: &'d Path,
    scanned: HashMap<String, Rc<Includes>>,
}

impl<'d> SourceFiles<'d> {
    /// Relative paths are taken from `dir`.
    pub(super) fn new(dir: &'d Path) -> Self {
        Self {
            dir,
            scanned: HashMap::new(),
        }
    }
}

impl Files for SourceFiles<'_> {
    fn find(&mut self, path: &str, obey_ignore_files: bool) -> Result<Found, String> {
        let root = self.dir.join(path);
        let failed = |error: io::Error| format!("cannot read '{}': {error}", root.display());
        if !std::fs::metadata(&root).map_err(failed)?.is_dir() {
            return Ok(Found::File);
        }
        // The walk would take a link for a file.
        let root = std::fs::canonicalize(&root).map_err(failed)?;
        let mut walk = WalkBuilder::new(&root);
        walk.standard_filters(false);
        if obey_ignore_files {
            // What this user has git ignore everywhere would make the graph another one for others.
            walk.git_ignore(true)
                .ignore(true)
                .parents(true)
                .require_git(false);
            walk.filter_entry(|entry| {
                let name = entry.file_name().to_str();
                !name.is_some_and(|name| VERSION_CONTROL.contains(&name))
            });
        }
        let mut paths = Vec::new();
        for entry in walk.build() {
            interrupt::check().map_err(failed)?;
            let entry =
                entry.map_err(|error| format!("cannot read '{}': {error}", root.display()))?;
            if entry.file_type().is_none_or(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path().strip_prefix(&root).unwrap_or(entry.path());
            let Some(text) = path.to_str() else {
                let path = entry.path().display();
                return Err(format!(
                    "the name of '{path}' is not UTF-8; exclude its directory"
                ));
            };
            paths.push(text.to_owned());
        }
        Ok(Found::Directory(paths))
    }

    fn includes(&mut self, path: &str) -> Result<Rc<Includes>, String> {
        if let Some(known) = self.scanned.get(path) {
            return Ok(Rc::clone(known));
        }
        let file = self.dir.join(path);
        let includes = Rc::new(match read(&file) {
            Ok(Some(text)) => scan(&text),
            Ok(None) => Includes::default(),
            Err(error) => return Err(format!("cannot read '{}': {error}", file.display())),
        });
        self.scanned.insert(path.to_owned(), Rc::clone(&includes));
        Ok(includes)
    }
}

/// All files in a directory and below, as paths from there.
///
/// # Errors
/// When it can't be read, or a name is not UTF-8.
pub fn files_below(directory: &Path) -> Result<Vec<String>, String> {
    match SourceFiles::new(directory).find(".", false)? {
        Found::Directory(files) => Ok(files),
        Found::File => Ok(Vec::new()),
    }
}

/// The contents of a file; `None` of what is a directory behind a link, or no file at all.
fn read(path: &PathBuf) -> io::Result<Option<Vec<u8>>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    interrupt::check()?;
    std::fs::read(path).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dir: &Path, obey: bool) -> Vec<String> {
        match SourceFiles::new(dir).find(".", obey).unwrap() {
            Found::Directory(mut paths) => {
                paths.sort();
                paths
            }
            Found::File => panic!("a directory"),
        }
    }

    #[test]
    fn ignore_files_are_obeyed_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(".gitignore", "*.o\n/out/\n!keep.o\n");
        write("sub/.ignore", "b.c\n");
        for file in [
            "a.c",
            "a.o",
            "keep.o",
            "out/x",
            "sub/b.c",
            "sub/c.c",
            ".git/config",
        ] {
            write(file, "");
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let left = [
            ".gitignore",
            "a.c",
            "keep.o",
            "link",
            "sub/.ignore",
            "sub/c.c",
        ];
        assert_eq!(found(dir.path(), true), left);
        assert_eq!(found(dir.path(), false).len(), left.len() + 4);
    }
}
