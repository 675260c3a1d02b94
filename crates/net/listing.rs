//! What a NAR holds, file by file, with the place of each file's contents in it: the `.ls` file
//! beside a narinfo, by which one file can be fetched out of a cache. Made while the NAR is
//! written, or from the NAR; read for those who serve it.

mod json;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::io::{Read, Write};
use std::path::Path;

use windrow_store::Result;
use windrow_store::nar::{self, Contents, Handler, Observer};

pub use json::ListingError;

/// What a NAR holds: a file, a link, or a directory and all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The root, which there always is, and behind each directory what is in it, in the order of
    /// the archive.
    nodes: Vec<Node>,
}

/// One of the things that a NAR holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// How many directories it is in; 0 for the root.
    pub depth: usize,
    /// Its name in the directory around it; empty for the root.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
}

/// What a thing in a NAR is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// Its size, in bytes.
        size: u64,
        /// Whether it may be executed.
        executable: bool,
        /// Where in the NAR its contents begin, in bytes, if that is known.
        offset: Option<u64>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: Vec<u8>,
    },
}

impl Listing {
    /// What is behind a hash part to give the name of a listing in a cache.
    pub const EXTENSION: &str = ".ls";

    /// Lists an archive, of which exactly its bytes are read.
    ///
    /// # Errors
    /// Those of [`nar::parse`].
    pub fn of_nar(source: &mut impl Read) -> Result<Self> {
        let mut lister = Lister::default();
        nar::parse(source, &mut lister)?;
        Ok(Self {
            nodes: lister.nodes,
        })
    }

    /// Writes the archive of `path` to `sink`, and lists it.
    ///
    /// # Errors
    /// Those of [`nar::dump`].
    pub fn dump(path: &Path, sink: &mut impl Write) -> Result<Self> {
        let mut lister = Lister::default();
        nar::dump_observed(path, sink, &mut lister)?;
        Ok(Self {
            nodes: lister.nodes,
        })
    }

    /// Lists the archive of `path`, of which no file is read.
    ///
    /// # Errors
    /// Those of [`nar::outline`].
    pub fn of_tree(path: &Path) -> Result<Self> {
        let mut lister = Lister::default();
        nar::outline(path, &mut lister)?;
        Ok(Self {
            nodes: lister.nodes,
        })
    }

    /// All that there is, the root first, each directory before what is in it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What is at a path in the tree, given as names between slashes; the empty one is the root's.
    /// Links are not followed.
    pub fn find(&self, path: &[u8]) -> Option<&Node> {
        let mut at = 0;
        let names = path.split(|&byte| byte == b'/').filter(|it| !it.is_empty());
        for (around, name) in names.enumerate() {
            let below = self.nodes.get(at + 1..)?.iter();
            let mut below = below.take_while(|node| node.depth > around);
            let is_it = |node: &Node| node.depth == around + 1 && node.name == name;
            at += 1 + below.position(is_it)?;
        }
        self.nodes.get(at)
    }
}

/// Lists what it is told of.
#[derive(Default)]
struct Lister {
    nodes: Vec<Node>,
    depth: usize,
}

impl Lister {
    fn add(&mut self, name: Option<&[u8]>, kind: Kind) {
        self.nodes.push(Node {
            depth: self.depth,
            name: name.unwrap_or_default().to_vec(),
            kind,
        });
    }
}

impl Observer for Lister {
    fn directory(&mut self, name: Option<&[u8]>) {
        self.add(name, Kind::Directory);
        self.depth += 1;
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn file(&mut self, name: Option<&[u8]>, executable: bool, size: u64, offset: u64) {
        self.add(
            name,
            Kind::Regular {
                size,
                executable,
                offset: Some(offset),
            },
        );
    }

    fn symlink(&mut self, name: Option<&[u8]>, target: &[u8]) {
        let target = target.to_vec();
        self.add(name, Kind::Symlink { target });
    }
}

impl Handler for Lister {
    fn enter(&mut self, name: Option<&CStr>) -> Result<()> {
        self.directory(name.map(CStr::to_bytes));
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        Observer::leave(self);
        Ok(())
    }

    fn file(
        &mut self,
        name: Option<&CStr>,
        executable: bool,
        contents: &mut Contents<'_>,
    ) -> Result<()> {
        let name = name.map(CStr::to_bytes);
        Observer::file(self, name, executable, contents.size(), contents.offset());
        Ok(())
    }

    fn symlink(&mut self, name: Option<&CStr>, target: &CStr) -> Result<()> {
        Observer::symlink(self, name.map(CStr::to_bytes), target.to_bytes());
        Ok(())
    }
}
