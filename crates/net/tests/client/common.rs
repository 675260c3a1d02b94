//! What the tests share: a directory with a server, and clients that don't wait for long.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use windrow_net::client::{Client, Config, Limits};
use windrow_net::remote::{Partial, Remote};
use windrow_net::store_url::StoreUrl;
use windrow_net::testing::Server;

/// A moment, for delays that nobody is to wait for.
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

/// How a client is made for tests: with delays that don't delay, and three attempts.
pub(crate) fn config() -> Config {
    Config {
        limits: Limits {
            attempts: 3,
            retry_delay: MOMENT,
            retry_delay_rate_limited: MOMENT,
            retry_max_delay: Duration::from_secs(2),
            ..Limits::default()
        },
        ..Config::default()
    }
}

/// The cache at an address.
pub(crate) fn open(url: &str, client: &Client) -> Remote {
    Remote::open(&StoreUrl::parse(url).unwrap(), client).unwrap()
}

/// A directory that a server serves.
pub(crate) struct Served {
    pub(crate) dir: TempDir,
    pub(crate) server: Server,
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::by(Server::start)
    }

    pub(crate) fn by(start: impl FnOnce(&Path) -> Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = start(dir.path());
        Self { dir, server }
    }

    /// Puts a file where the server finds it.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The cache that it is, for a client like that.
    pub(crate) fn remote(&self, config: Config) -> Remote {
        open(&self.server.url(), &Client::new(config).unwrap())
    }
}

/// Bytes of which no part is like another one.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

/// An empty file to download into, in a directory of its own.
pub(crate) fn partial() -> (TempDir, Partial) {
    let dir = tempfile::tempdir().unwrap();
    let partial = reopen(&dir);
    (dir, partial)
}

/// The same file again.
pub(crate) fn reopen(dir: &TempDir) -> Partial {
    let partial = Partial::open(&dir.path().join("partial")).unwrap();
    partial.expect("nobody else has it")
}

/// What has been downloaded.
pub(crate) fn contents(partial: Partial) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = partial.into_file().unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}
