//! Copies a graph's sources into the store: as they are, chosen files of directories, and trees of
//! links to single files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use windrow_formats::json_graph::{Contents, GraphFile, Source, Tree};
use windrow_store::local::LocalStore;
use windrow_sys::interrupt;

use super::Instantiation;
use crate::error::{Error, Result};

/// What all trees are called in the store: one that several derivations need is there once.
const TREE_NAME: &str = "tree";

impl Instantiation<'_> {
    /// Copies all sources and trees into the store.
    pub(super) fn add_sources(&mut self, store: &mut LocalStore, graph: &GraphFile) -> Result<()> {
        for source in graph
            .sources
            .iter()
            .filter(|it| it.contents == Contents::Whole)
        {
            let path = self.path_of(source);
            if let Err(error) = fs::symlink_metadata(&path) {
                let reason = format!("cannot read the source '{}': {error}", path.display());
                return Err(self.mistake(source.place, reason));
            }
        }
        for source in &graph.sources {
            let path = self.path_of(source);
            let added = match &source.contents {
                Contents::Whole => store.add_source(&path, &source.store_name)?,
                Contents::File => {
                    let path = fs::canonicalize(&path).map_err(Error::io("read", path))?;
                    store.add_source(&path, &source.store_name)?
                }
                Contents::Chosen(files) => {
                    let staged = staged_files(&path, files)?;
                    store.add_source(&staged.path().join("all"), &source.store_name)?
                }
                Contents::Unused => {
                    self.sources.push(String::new());
                    continue;
                }
            };
            self.sources.push(self.store_dir.display(&added));
        }
        for tree in &graph.trees {
            let staged = self.staged_links(tree)?;
            let references = tree.files.iter();
            let references = references.map(|(_, source)| self.sources[*source as usize].clone());
            let references = references.collect();
            let all = staged.path().join("all");
            let added = store.add_referring(&all, TREE_NAME, references)?;
            self.trees.push(self.store_dir.display(&added));
        }
        Ok(())
    }

    /// Where a source lies.
    fn path_of(&self, source: &Source) -> PathBuf {
        let dir = self.file.parent().unwrap_or(Path::new("."));
        dir.join(&source.path)
    }

    /// A tree as it will be in the store, in `all` of a temporary directory.
    fn staged_links(&self, tree: &Tree) -> Result<TempDir> {
        let (staging, root) = staging()?;
        for (place, source) in &tree.files {
            let link = root.join(place);
            make_parent(&link)?;
            symlink(&self.sources[*source as usize], &link)
                .map_err(Error::io("create the link", link))?;
        }
        Ok(staging)
    }
}

/// Copies of some files of a directory, in `all` of a temporary directory.
fn staged_files(directory: &Path, files: &[String]) -> Result<TempDir> {
    let (staging, root) = staging()?;
    for file in files {
        let (from, to) = (directory.join(file), root.join(file));
        interrupt::check().map_err(Error::io("copy", &from))?;
        make_parent(&to)?;
        windrow_store::files::copy::copy_tree(&from, &to)?;
    }
    Ok(staging)
}

/// A temporary directory, and an empty one in it.
fn staging() -> Result<(TempDir, PathBuf)> {
    let staging = tempfile::Builder::new().prefix("windrow-tree-").tempdir();
    let staging = staging.map_err(Error::io("create a directory in", std::env::temp_dir()))?;
    let root = staging.path().join("all");
    fs::create_dir(&root).map_err(Error::io("create", &root))?;
    Ok((staging, root))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))
}
