//! What a server tells whoever runs it.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{Method, StatusCode, Uri};

/// Told of all that happens, by any thread; it must not wait.
pub type Notice = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request was answered, or its client has gone.
    Answered(&'a Answered),
    /// Something that has to be answered can't be, for this reason.
    Trouble(&'a str),
}

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Who asked.
    pub peer: SocketAddr,
    /// `GET`, for example.
    pub method: Method,
    /// The address as it was sent.
    pub target: Uri,
    /// The status.
    pub status: StatusCode,
    /// How many bytes of the body were sent.
    pub sent: u64,
    /// Whether those were all.
    pub is_whole: bool,
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            peer,
            method,
            target,
            sent,
            ..
        } = self;
        let cut = if self.is_whole { "" } else { ", cut" };
        let status = self.status.as_u16();
        write!(f, "{peer} {method} {target} {status}, {sent} bytes{cut}")
    }
}
