//! A server for tests, in this process and on loopback, which serves a directory and misbehaves as
//! it is told. Not for anything else: it panics where it is used wrongly.
//!
//! ```no_run
//! use windrow_net::testing::{Behaviour, Server};
//!
//! let server = Server::start(std::path::Path::new("/some/cache"));
//! server.behave("/nar/*", Behaviour::Reset(1000));
//! // … something fetches from server.url() …
//! assert_eq!(server.count("/nar/*"), 2);
//! ```

mod answer;
mod behaviour;
mod body;
mod multipart;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hyper::service::service_fn;
use hyper::{HeaderMap, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use answer::State;
pub use behaviour::Behaviour;

/// A request that has come.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, for example.
    pub method: String,
    /// The address as it was sent: a whole one if the server was used as a proxy.
    pub uri: String,
    /// The path of it.
    pub path: String,
    /// The query of it, without the question mark.
    pub query: String,
    /// The version of HTTP.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
}

impl Seen {
    /// The value of a header, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    state: Arc<State>,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The directory with the certificate of the authority, if it is asked by TLS.
    authority: Option<tempfile::TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves a directory by HTTP/1.1.
    pub fn start(dir: &Path) -> Self {
        Self::with(dir, None)
    }

    /// Serves a directory by TLS, with HTTP/2 or without. Whoever asks it must trust the authority
    /// whose certificate is in [`Server::ca_file`].
    pub fn start_tls(dir: &Path, http2: bool) -> Self {
        Self::with(dir, Some(http2))
    }

    fn with(dir: &Path, tls: Option<bool>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let authority = tls.map(|_| tempfile::tempdir().expect("a directory"));
        let acceptor = authority.as_ref().zip(tls).map(|(dir, http2)| {
            let config = tls::server_config(&dir.path().join(CA), http2);
            TlsAcceptor::from(Arc::new(config))
        });
        let state = Arc::new(State {
            dir: dir.to_owned(),
            rules: Mutex::default(),
            seen: Mutex::default(),
            uploads: Mutex::default(),
            under_way: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
        });
        let connections = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let accept = accept(
            listener,
            acceptor,
            (Arc::clone(&state), Arc::clone(&connections)),
        );
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            state,
            address,
            connections,
            authority,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with the certificate of its authority.
    pub fn ca_file(&self) -> PathBuf {
        let dir = self
            .authority
            .as_ref()
            .expect("a server that is asked by TLS");
        dir.path().join(CA)
    }

    /// Has it misbehave for all paths, with the slash at their beginning, that a pattern describes,
    /// in which `*` stands for anything. What was said last counts.
    pub fn behave(&self, pattern: &str, behaviour: Behaviour) {
        self.rules(pattern, behaviour, None);
    }

    /// The same for this number of requests, and no more.
    pub fn behave_times(&self, times: usize, pattern: &str, behaviour: Behaviour) {
        self.rules(pattern, behaviour, Some(times));
    }

    fn rules(&self, pattern: &str, behaviour: Behaviour, times: Option<usize>) {
        let mut rules = self
            .state
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rules.add(pattern, behaviour, times);
    }

    /// Has it serve everything as it should.
    pub fn behave_well(&self) {
        let mut rules = self
            .state
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rules.clear();
    }

    /// The requests that have come, the first one first.
    pub fn requests(&self) -> Vec<Seen> {
        let seen = self
            .state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// How many requests have come for paths that a pattern describes.
    pub fn count(&self, pattern: &str) -> usize {
        let seen = self
            .state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|seen| behaviour::matches(pattern, &seen.path))
            .count()
    }

    /// Forgets the requests that have come.
    pub fn forget(&self) {
        let mut seen = self
            .state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.clear();
    }

    /// How many connections have been made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many requests have been under way at a time, at most.
    pub fn busiest(&self) -> usize {
        self.state.busiest.load(Ordering::Relaxed)
    }

    /// How many uploads in parts are neither complete nor given up.
    pub fn open_uploads(&self) -> usize {
        let uploads = self
            .state
            .uploads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        uploads.open()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the file with the authority's certificate is called.
const CA: &str = "ca.pem";

/// Serves each connection by itself.
async fn accept(
    listener: std::net::TcpListener,
    acceptor: Option<TlsAcceptor>,
    (state, connections): (Arc<State>, Arc<AtomicUsize>),
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&state)));
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let Some(acceptor) = acceptor else {
        return serve(stream, false, state).await;
    };
    // Who does not trust the authority ends it here.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    serve(stream, http2, state).await;
}

async fn serve<S>(stream: S, http2: bool, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { state.answer(request).await }
    });
    let stream = TokioIo::new(stream);
    // It fails where a test wants it to.
    if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(stream, service).await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new();
        let _ = connection.serve_connection(stream, service).await;
    }
}
