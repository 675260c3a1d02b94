//! How many requests are under way to one server at a time, which depends on whether it speaks
//! HTTP/2. Large things can't take all places: what decides what is done next is small, and is not
//! to wait until a large one has come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Url, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How many requests share a connection of HTTP/2 for each connection of HTTP/1.1 that would be
/// allowed, as in Nix.
const MULTIPLEXED: usize = 5;

/// How long others wait for the first request to a server to tell what it speaks.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// Nobody has asked yet.
    Unknown,
    /// One request is under way that will tell.
    Asked,
    /// HTTP/1.1, or nobody knows.
    One,
    Two,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A question, whose answer is small.
    Small,
    /// A download or an upload.
    Large,
}

/// Places for requests.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    /// Those of them that large things may take.
    for_large: Arc<Semaphore>,
}

impl Places {
    /// A fifth is for small things alone, and at least one, unless there is only one.
    fn new(count: usize) -> Self {
        let for_large = (count - count.div_ceil(5)).max(1);
        Self {
            all: Arc::new(Semaphore::new(count)),
            for_large: Arc::new(Semaphore::new(for_large)),
        }
    }

    /// Waits for a place.
    async fn take(&self, load: Load) -> Vec<OwnedSemaphorePermit> {
        let mut permits = Vec::with_capacity(2);
        if load == Load::Large {
            permits.extend(Arc::clone(&self.for_large).acquire_owned().await);
        }
        permits.extend(Arc::clone(&self.all).acquire_owned().await);
        permits
    }

    /// Takes what of a place is free.
    fn try_take(&self, load: Load) -> Vec<OwnedSemaphorePermit> {
        let mut permits = Vec::with_capacity(2);
        if load == Load::Large {
            permits.extend(Arc::clone(&self.for_large).try_acquire_owned());
        }
        permits.extend(Arc::clone(&self.all).try_acquire_owned());
        permits
    }
}

#[derive(Debug)]
struct Server {
    one: Places,
    two: Places,
    speaks: watch::Sender<Speaks>,
}

/// The servers that have been asked.
#[derive(Debug)]
pub(crate) struct Gates {
    connections: usize,
    http2: bool,
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

/// The right to have a request under way; to be kept until the answer has been read.
#[derive(Debug)]
pub(crate) struct Pass {
    server: Arc<Server>,
    load: Load,
    permits: Vec<OwnedSemaphorePermit>,
    first: bool,
}

impl Gates {
    pub(crate) fn new(connections: usize, http2: bool) -> Self {
        let most = Semaphore::MAX_PERMITS / MULTIPLEXED;
        let connections = if connections == 0 {
            most
        } else {
            connections.min(most)
        };
        Self {
            connections,
            http2,
            servers: Mutex::default(),
        }
    }

    fn server(&self, url: &Url) -> Arc<Server> {
        let origin = url.origin().ascii_serialization();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let speaks = match url.scheme() {
                "https" if self.http2 => Speaks::Unknown,
                _ => Speaks::One,
            };
            Arc::new(Server {
                one: Places::new(self.connections),
                two: Places::new(self.connections * MULTIPLEXED),
                speaks: watch::Sender::new(speaks),
            })
        };
        Arc::clone(servers.entry(origin).or_insert_with(new))
    }

    /// Waits until a request to the server of `url` may be made. Of those that come while it is not
    /// known what a server speaks only one is let through, so that it gets one connection if that
    /// will do for all.
    pub(crate) async fn pass(&self, url: &Url, load: Load) -> Pass {
        let server = self.server(url);
        let first = server.speaks.send_if_modified(|speaks| {
            let unknown = *speaks == Speaks::Unknown;
            if unknown {
                *speaks = Speaks::Asked;
            }
            unknown
        });
        let mut pass = Pass {
            server,
            load,
            permits: Vec::new(),
            first,
        };
        if !first {
            let mut speaks = pass.server.speaks.subscribe();
            let known = speaks.wait_for(|speaks| *speaks != Speaks::Asked);
            let _ = tokio::time::timeout(FIRST_ANSWER, known).await;
        }
        let speaks = *pass.server.speaks.borrow();
        let places = match speaks {
            Speaks::Two => &pass.server.two,
            _ => &pass.server.one,
        };
        pass.permits = places.take(load).await;
        pass
    }
}

impl Pass {
    /// Notes what the server has answered in.
    pub(crate) fn learn(&mut self, version: Version) {
        let now = match version {
            Version::HTTP_2 => Speaks::Two,
            _ => Speaks::One,
        };
        self.first = false;
        let is_new = |speaks: &mut Speaks| std::mem::replace(speaks, now) != now;
        if self.server.speaks.send_if_modified(is_new) && now == Speaks::Two {
            // It has no connection of its own.
            self.permits = self.server.two.try_take(self.load);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.first {
            // It brought no answer, and others are not to wait for the next one.
            self.server.speaks.send_replace(Speaks::One);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_what_a_server_speaks_and_others_follow() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let gates = Gates::new(2, true);
            let url = Url::parse("https://h/x").unwrap();
            let mut first = gates.pass(&url, Load::Small).await;
            assert!(at_once(gates.pass(&url, Load::Small)).await.is_none());
            first.learn(Version::HTTP_2);
            let mut passes = vec![first];
            for _ in 0..9 {
                passes.push(gates.pass(&url, Load::Small).await);
            }
            assert!(at_once(gates.pass(&url, Load::Small)).await.is_none());
            drop(passes);
            // One that speaks HTTP/1.1, and one that gives no answer.
            for url in ["http://h/x", "https://silent"] {
                let url = Url::parse(url).unwrap();
                let first = gates.pass(&url, Load::Small).await;
                let second = gates.pass(&url, Load::Small).await;
                drop(first);
                let third = gates.pass(&url, Load::Small).await;
                drop((second, third));
            }
        });
    }

    #[test]
    fn large_things_leave_places_for_small_ones() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let url = Url::parse("http://h/x").unwrap();
            for (count, for_large) in [(1, 1), (2, 1), (5, 4), (6, 4), (25, 20)] {
                let gates = Gates::new(count, true);
                let mut passes = Vec::new();
                while let Some(pass) = at_once(gates.pass(&url, Load::Large)).await {
                    passes.push(pass);
                }
                assert_eq!(passes.len(), for_large);
                while let Some(pass) = at_once(gates.pass(&url, Load::Small)).await {
                    passes.push(pass);
                }
                assert_eq!(passes.len(), count);
            }
        });
    }

    /// What comes at once, if it does.
    async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            value = future => Some(value),
            () = tokio::task::yield_now() => None,
        }
    }
}
