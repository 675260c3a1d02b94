//! What a client is to do and to bear: plain values, from settings or from a cache's address.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::NetError;
use crate::proxies::Proxies;

/// Told of each failure that is followed by another attempt, and how long that waits. Called on
/// the thread of the network.
pub type Notice = Arc<dyn Fn(&NetError, Duration) + Send + Sync>;

/// How long and how often something is tried; each cache may have its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How often a request is made in all, at least once (`retry-attempts`).
    pub attempts: u32,
    /// The longest wait before the second attempt; it doubles with each (`retry-delay`).
    pub retry_delay: Duration,
    /// The same after an answer of 429 or 503 (`retry-delay-rate-limited`).
    pub retry_delay_rate_limited: Duration,
    /// The longest of these waits. A server that wants to be left alone for longer is not asked
    /// again (`retry-max-delay`).
    pub retry_max_delay: Duration,
    /// How long a connection may take to open, with the lookup of the name and the handshake of
    /// TLS; zero for no limit.
    pub connect_timeout: Duration,
    /// How long a download or an upload may stand still; zero for no limit.
    pub stalled_timeout: Duration,
    /// How long a small answer may take, from the request to its last byte; zero for no limit.
    pub answer_timeout: Duration,
    /// How long a small thing may take in all, with all attempts at it and the waits between them,
    /// from when its first request is made; zero for no limit. A server that wants to be left
    /// alone for longer than is left is not asked again.
    pub deadline: Duration,
}

impl Default for Limits {
    /// Those of Nix 2.35, and half a minute for small answers.
    fn default() -> Self {
        Self {
            attempts: 5,
            retry_delay: Duration::from_millis(100),
            retry_delay_rate_limited: Duration::from_secs(5),
            retry_max_delay: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            stalled_timeout: Duration::from_secs(300),
            answer_timeout: Duration::from_secs(30),
            deadline: Duration::ZERO,
        }
    }
}

/// What a [`Client`](super::Client) is made from.
#[derive(Clone)]
pub struct Config {
    /// How many requests are under way to one server at a time, each with a connection of its own;
    /// over HTTP/2 five times as many, with one connection. 0 for no limit. Downloads and uploads
    /// leave a fifth of them to questions, if there is more than one.
    pub connections: usize,
    /// How long and how often something is tried, where a cache does not say otherwise.
    pub limits: Limits,
    /// How many bytes a second all downloads together may take; 0 for no limit.
    pub speed: u64,
    /// The file with user names and passwords. One that is not there, or can't be read, has none.
    pub netrc: Option<PathBuf>,
    /// The file with the certificate authorities to trust; the machine's own if there is none.
    pub ca_file: Option<PathBuf>,
    /// How the client names itself to servers.
    pub user_agent: String,
    /// Which proxies to use; those of [`of_environment`](crate::proxies::of_environment), as a
    /// rule.
    pub proxies: Proxies,
    /// Whether HTTP/2 is spoken with servers that speak it over TLS.
    pub http2: bool,
    /// Told of failures that are followed by another attempt.
    pub notice: Option<Notice>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections: 25,
            limits: Limits::default(),
            speed: 0,
            netrc: None,
            ca_file: None,
            user_agent: concat!("windrow/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxies: Proxies::new(),
            http2: true,
            notice: None,
        }
    }
}

impl fmt::Debug for Config {
    // Proxies may have passwords in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("connections", &self.connections)
            .field("limits", &self.limits)
            .field("speed", &self.speed)
            .field("netrc", &self.netrc)
            .field("ca_file", &self.ca_file)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}
