//! Ways into what reads foreign bytes, for fuzz targets: as little as they need, and nothing that
//! others should use.

use std::io::{self, Read as _};
use std::path::Path;

use super::{decompress, unpack_channel};

/// Unpacks what may be a compressed archive into a directory, but no more than `limit` bytes of it.
///
/// # Errors
/// When it is none.
pub fn unpack(bytes: &[u8], limit: u64, out: &Path) -> io::Result<()> {
    unpack_channel::unpack(decompress::any(bytes)?.take(limit), out)
}
