//! Why a store can't be served.

use std::io::{self, ErrorKind};

/// Why a store can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] windrow_store::Error),
    /// The address is none of this machine's, or not to be had.
    #[error("cannot listen at '{address}': {source}{}", remedy(source))]
    Listen {
        /// As it was given.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// There are no threads or descriptors left.
    #[error("cannot serve the store: {0}")]
    Means(#[source] io::Error),
}

/// What to do about it, as the end of a message.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "; give another port, or 0 for any that is free",
        ErrorKind::PermissionDenied => "; give a port from 1024 on, or run it as root",
        ErrorKind::AddrNotAvailable => "; give an address of this machine, or [::] for all of them",
        ErrorKind::InvalidInput => "; give HOST:PORT, such as 127.0.0.1:8080 or [::]:8080",
        _ => "",
    }
}
