//! Ways into what reads foreign bytes, for fuzz targets: as little as they need, and nothing that
//! others should use.

use crate::Layout;

/// What the collector answers to a client that sends these bytes and nothing more.
///
/// # Errors
/// When the system gives no sockets, or takes no more bytes at once.
pub fn answers_to_client(layout: &Layout, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    crate::gc::answers_to_client(layout, bytes)
}
