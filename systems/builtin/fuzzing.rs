//! Ways into what reads foreign bytes, for fuzz targets: as little as they need, and nothing that
//! others should use.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{address, decompress, http, netrc, unpack_channel};

/// The user name and password for a host in the text of a netrc file.
pub fn login(text: &str, host: &str) -> Option<(String, String)> {
    netrc::login(text, host)
}

/// The file that an address names.
///
/// # Errors
/// When it is none that can be fetched.
pub fn local_file(address: &str) -> Result<Option<PathBuf>, String> {
    address::local_file(address)
}

/// Where a redirection from an address leads.
///
/// # Errors
/// When it does not lead to HTTP.
pub fn redirected(address: &str, location: &str) -> Result<String, String> {
    address::redirected(address, location)
}

/// An address without user name and password, and these.
pub fn without_userinfo(address: &str) -> (String, Option<(String, String)>) {
    http::without_userinfo(address)
}

/// Whether a list as in `no_proxy` has a host.
pub fn is_listed(list: &str, host: &str) -> bool {
    http::is_listed(list, host)
}

/// Unpacks what may be a compressed archive into a directory, but no more than `limit` bytes of it.
///
/// # Errors
/// When it is none.
pub fn unpack(bytes: &[u8], limit: u64, out: &Path) -> io::Result<()> {
    unpack_channel::unpack(decompress::any(bytes)?.take(limit), out)
}
