//! The Nix archive format: a file tree as one canonical stream of bytes, without owners, times or
//! modes but the executable bit. `dump` writes it, `parse` reads it, `restore` puts it on disk.

mod buffer;
pub mod digest;
mod dump;
mod fault;
pub mod modulo;
mod parse;
mod restore;
pub mod rewrite;
pub mod scan;
mod tee;

pub use dump::{Observer, dump, dump_observed, dump_rest, outline};
pub(crate) use dump::{dump_entry, feed_file};
pub use fault::NarFault;
pub use parse::{Contents, Handler, parse, skip};
pub use restore::restore;
pub(crate) use restore::restore_rewritten;
pub use tee::Tee;

/// The first token of every archive.
const MAGIC: &str = "nix-archive-1";

/// Every token is padded with zero bytes to a multiple of this.
const ALIGNMENT: usize = 8;

/// The number of zero bytes after a token of `length` bytes.
fn padding(length: u64) -> usize {
    let surplus = (length % ALIGNMENT as u64) as usize;
    (ALIGNMENT - surplus) % ALIGNMENT
}
