//! The one loop that visits a tree depth first; dumping, copying, deleting and normalising are
//! visitors of it and decide what a file means.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::AT_FDCWD;

use super::c_string;
use super::list::{Entry, Lister};
use super::node::{Kind, Node};
use super::stack::DirStack;
use crate::error::{Error, Result};
use crate::interrupt;

/// In which order the entries of a directory are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the file system lists them.
    Any,
    /// Ascending by the bytes of their names, as in a NAR.
    Sorted,
}

/// What to do with the files of a tree.
pub trait Visitor {
    /// What the visitor remembers of a directory while its entries are visited.
    type Dir;

    /// Called for the root and for each entry. Returning a directory's handle, open for reading,
    /// makes the walk visit its entries and then call [`Visitor::leave`].
    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, Self::Dir)>>;

    /// Called after all entries of a directory, with the handle that was walked.
    fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, dir: Self::Dir) -> Result<()>;
}

/// Visits `root`, which may be a file or a link itself, and all below it.
///
/// The last name of `root` is never followed, not even with a slash at its end. At most some 34
/// descriptors are open at a time, whatever the depth. Fails with [`Error::Io`] when work is to
/// end ([`interrupt::has_come`]).
pub fn walk<V: Visitor>(root: &Path, order: Order, visitor: &mut V) -> Result<()> {
    // Rebuilding the path from its components drops the trailing slashes that would make the
    // kernel follow a link.
    let name = c_string(root.components().as_path().as_os_str().as_bytes(), root)?;
    walk_in(AT_FDCWD, name, root, order, visitor)
}

/// As [`walk`], for the entry `name` of an open directory; `root` is used in messages only.
pub fn walk_in<V: Visitor>(
    parent: BorrowedFd<'_>,
    name: CString,
    root: &Path,
    order: Order,
    visitor: &mut V,
) -> Result<()> {
    let mut lister = Lister::default();
    let mut stack: DirStack<'_, Level<V::Dir>> = DirStack::new(root);
    let mut next = Some(Entry { name, hint: None });
    loop {
        if let Some(Entry { name, hint }) = next {
            let node = node(&stack, parent, &name, hint);
            interrupt::check().map_err(|ended| Error::io("work on", node.path())(ended))?;
            if let Some((handle, dir)) = visitor.visit(&node)? {
                let mut entries = lister
                    .list(handle.as_fd())
                    .map_err(node.failed("read the directory"))?;
                if order == Order::Sorted {
                    entries.sort_unstable_by(|a, b| b.name.cmp(&a.name));
                }
                stack.push(name, handle, Level { entries, dir })?;
            }
        }
        let Some((_, level)) = stack.top() else {
            return Ok(());
        };
        next = level.entries.pop();
        if next.is_none()
            && let Some(left) = stack.pop()?
        {
            let node = node(&stack, parent, &left.name, Some(Kind::Directory));
            visitor.leave(&node, left.handle, left.state.dir)?;
        }
    }
}

struct Level<D> {
    /// Still to be visited, the next one last.
    entries: Vec<Entry>,
    dir: D,
}

fn node<'a, T>(
    stack: &'a DirStack<'a, T>,
    root_parent: BorrowedFd<'a>,
    name: &'a CStr,
    hint: Option<Kind>,
) -> Node<'a> {
    Node {
        parent: stack.handle().unwrap_or(root_parent),
        name,
        hint,
        trail: stack.trail(),
    }
}

/// The error for a file that is neither regular, a directory nor a symbolic link.
pub fn unsupported(node: &Node<'_>) -> Error {
    Error::UnsupportedFileType { path: node.path() }
}
