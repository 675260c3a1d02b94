//! How many requests are under way to one server at a time, which depends on whether it speaks
//! HTTP/2.

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

#[derive(Debug)]
struct Server {
    one: Arc<Semaphore>,
    two: Arc<Semaphore>,
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
    permit: Option<OwnedSemaphorePermit>,
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
                one: Arc::new(Semaphore::new(self.connections)),
                two: Arc::new(Semaphore::new(self.connections * MULTIPLEXED)),
                speaks: watch::Sender::new(speaks),
            })
        };
        Arc::clone(servers.entry(origin).or_insert_with(new))
    }

    /// Waits until a request to the server of `url` may be made. Of those that come while it is not
    /// known what a server speaks only one is let through, so that it gets one connection if that
    /// will do for all.
    pub(crate) async fn pass(&self, url: &Url) -> Pass {
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
            permit: None,
            first,
        };
        if !first {
            let mut speaks = pass.server.speaks.subscribe();
            let known = speaks.wait_for(|speaks| *speaks != Speaks::Asked);
            let _ = tokio::time::timeout(FIRST_ANSWER, known).await;
        }
        let permits = match *pass.server.speaks.borrow() {
            Speaks::Two => &pass.server.two,
            _ => &pass.server.one,
        };
        pass.permit = Arc::clone(permits).acquire_owned().await.ok();
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
            self.permit = Arc::clone(&self.server.two).try_acquire_owned().ok();
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
            let mut first = gates.pass(&url).await;
            assert!(at_once(gates.pass(&url)).await.is_none());
            first.learn(Version::HTTP_2);
            let mut passes = vec![first];
            for _ in 0..9 {
                passes.push(gates.pass(&url).await);
            }
            assert!(at_once(gates.pass(&url)).await.is_none());
            drop(passes);
            // One that speaks HTTP/1.1, and one that gives no answer.
            for url in ["http://h/x", "https://silent"] {
                let url = Url::parse(url).unwrap();
                let first = gates.pass(&url).await;
                let second = gates.pass(&url).await;
                drop(first);
                let third = gates.pass(&url).await;
                drop((second, third));
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
