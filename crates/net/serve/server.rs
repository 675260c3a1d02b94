//! The server: it takes connections, has requests answered by threads, and sends the answers.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use windrow_sys::limits;

use super::answer::{Content, Reply, answer, route, wants_listing};
use super::body::{Body, From};
use super::connection::{Patient, UnderWay};
use super::notice::{Answered, Event, Notice};
use super::store::Store;
use super::stream::{Memory, Piece, Source, WAITING};
use super::turns::{Clients, Wanted};
use super::{Limits, Offer, ServeError};

/// How many connections may wait until they are taken.
const BACKLOG: u32 = 1024;
/// How much of a request's head is read, and how much of an answer is gathered, in bytes.
const BUFFER: usize = 16 << 10;
/// How many headers a request may have.
const HEADERS_MAX: usize = 64;
/// How many archives may be sent before each gets less memory.
const AMPLE: usize = 16;
/// How long the head of an answer waits for the beginning of its body.
const FIRST: Duration = Duration::from_secs(1);
/// How long no connection is taken after one could not be.
const PAUSE: Duration = Duration::from_millis(200);

/// A store as a binary cache.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    end: Stopper,
}

/// Has a server end. Clones are for the same server.
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<Notify>);

impl Stopper {
    /// Has it end, now or as soon as it runs.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// What all connections have in common.
struct Shared {
    store: Store,
    limits: Limits,
    lookups: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// What each client has of the streams.
    clients: Clients,
    listings: Arc<Semaphore>,
    /// For listings in memory, in KiB.
    room: Arc<Semaphore>,
    notice: Notice,
}

impl Server {
    /// Opens the store, and listens at the first address that `listen`, HOST:PORT, leads to.
    /// Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// When the store can't be read, or no connections can be taken there.
    pub fn bind(
        listen: &str,
        offer: Offer,
        mut limits: Limits,
        notice: Notice,
    ) -> Result<Self, ServeError> {
        // Each archive that is sent has the directories open that it is in.
        limits.connections = limits.connections.min(limits::descriptors() / 2).max(1);
        let store = Store::open(offer)?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(limits.streams + limits.lookups + limits.listings)
            .thread_name("serve")
            .build()
            .map_err(ServeError::Means)?;
        let listener = {
            let _entered = runtime.enter();
            let failed = |source| ServeError::Listen {
                address: listen.to_owned(),
                source,
            };
            bind(listen).map_err(failed)?
        };
        Ok(Self {
            address: listener.local_addr().map_err(ServeError::Means)?,
            runtime,
            listener,
            end: Stopper::default(),
            shared: Arc::new(Shared {
                store,
                lookups: Arc::new(Semaphore::new(limits.lookups)),
                streams: Arc::new(Semaphore::new(limits.streams)),
                clients: Clients::sharing(limits.streams),
                listings: Arc::new(Semaphore::new(limits.listings)),
                room: Arc::new(Semaphore::new(kib(limits.listing_memory) as usize)),
                limits,
                notice,
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        self.end.clone()
    }

    /// Serves until it is stopped. What is under way then may end, as long as the limits say.
    pub fn run(self) {
        self.runtime
            .block_on(serve(&self.listener, &self.shared, &self.end));
        // Its threads end by themselves, for nobody takes anything from them any more.
        self.runtime.shutdown_background();
    }
}

fn bind(listen: &str) -> io::Result<TcpListener> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in listen.to_socket_addrs()? {
        match bind_to(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until the server is stopped, and lets them end then.
async fn serve(listener: &TcpListener, shared: &Arc<Shared>, end: &Stopper) {
    let mut end = pin!(end.0.notified());
    let (stopping, stopped) = watch::channel(());
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    let clients = Clients::sharing(shared.limits.connections);
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = end.as_mut() => break,
            next = next => next,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Who has too many gets no more than that.
                let Ok(share) = clients.share_of(peer.ip()).try_acquire_owned() else {
                    continue;
                };
                let connection = connection(stream, peer, Arc::clone(shared), stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop((place, share));
                });
            }
            // Those who have gone meanwhile are nobody's trouble.
            Err(error) if !limits::lacks_means(&error) => {}
            Err(error) => {
                let text = format!(
                    "cannot take a connection: {error}{}",
                    limits::remedy(&error)
                );
                (shared.notice)(&Event::Trouble(&text));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(stopping);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(shared.limits.grace, ended).await;
}

/// Answers the requests of one connection, until its client or the server wants no more.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    // Only speed suffers if it fails.
    let _ = stream.set_nodelay(true);
    let limits = shared.limits.clone();
    let under_way = UnderWay::default();
    let stream = Patient::new(stream, limits.stalled, under_way.clone());
    let service = service_fn(move |request| {
        let (shared, under_way) = (Arc::clone(&shared), under_way.clone());
        async move { Ok::<_, Infallible>(shared.respond(peer, request, under_way).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that breaks the protocol or goes away ends it with an error, which is its own.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Shared {
    async fn respond(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
        under_way: UnderWay,
    ) -> Response<Body> {
        let (head, _) = request.into_parts();
        let head = Arc::new(head);
        let mut reply = self.reply(&head).await;
        if let Some(trouble) = &reply.trouble {
            (self.notice)(&Event::Trouble(trouble));
        }
        if head.method != Method::HEAD {
            reply = self.begin(reply, peer.ip()).await;
        }
        self.response(peer, &head, reply, under_way)
    }

    /// The answer, from a thread that may wait for the database.
    async fn reply(self: &Arc<Self>, head: &Arc<Parts>) -> Reply {
        let route = match route(head) {
            Ok(route) => route,
            Err(reply) => return *reply,
        };
        let is_listing = wants_listing(&route, head);
        let turns = if is_listing {
            &self.listings
        } else {
            &self.lookups
        };
        let Some(turn) = self.turn(Arc::clone(turns).acquire_owned()).await else {
            return Reply::busy();
        };
        let (shared, head) = (Arc::clone(self), Arc::clone(head));
        let wanted = Wanted::default();
        let thread = wanted.spawn(turn, move || answer(&shared.store, route, &head));
        match thread.await {
            // The next one is made when there is room for this one.
            Ok((reply, _turn)) if is_listing => self.with_room(reply).await,
            Ok((reply, _turn)) => reply,
            Err(error) => Reply::failure(error.to_string()),
        }
    }

    /// Waits for a turn, if it comes early enough.
    async fn turn<T>(&self, turn: impl Future<Output = Result<T, AcquireError>>) -> Option<T> {
        timeout(self.limits.turn, turn).await.ok()?.ok()
    }

    /// The same answer, once there is memory for it, which it has until it was sent.
    async fn with_room(&self, reply: Reply) -> Reply {
        let Content::Bytes(bytes) = reply.content else {
            return reply;
        };
        let wanted = kib(bytes.len()).min(kib(self.limits.listing_memory));
        let room = Arc::clone(&self.room).acquire_many_owned(wanted);
        let Some(room) = self.turn(room).await else {
            return Reply::busy();
        };
        let held = Held { bytes, _room: room };
        Reply {
            content: Content::Bytes(Bytes::from_owner(held)),
            ..reply
        }
    }

    /// Has a thread make what is to be sent, if that has to be made, once its turn has come.
    async fn begin(&self, reply: Reply, client: IpAddr) -> Reply {
        let Content::Stream(source, length) = reply.content else {
            return reply;
        };
        let share = self.clients.share_of(client);
        let turn = async {
            let share = share.acquire_owned().await?;
            Ok((share, Arc::clone(&self.streams).acquire_owned().await?))
        };
        let Some(turn) = self.turn(turn).await else {
            return Reply::busy();
        };
        let wanted = Wanted::default();
        let (to, mut rest) = mpsc::channel(WAITING);
        self.start(source, to, &wanted, turn);
        // What fails at once can still be said by a status.
        let first = match timeout(FIRST, rest.recv()).await {
            Ok(Some(Piece::Failed) | None) => return Reply::changed(),
            Ok(first) => first,
            Err(_) => None,
        };
        let from = From::Thread {
            first,
            rest,
            _wanted: wanted,
        };
        Reply {
            content: Content::Begun(from, length),
            ..reply
        }
    }

    fn start(
        &self,
        source: Source,
        to: mpsc::Sender<Piece>,
        wanted: &Wanted,
        turn: impl Send + 'static,
    ) {
        let notice = Arc::clone(&self.notice);
        let running = self.limits.streams - self.streams.available_permits();
        let memory = match running > AMPLE {
            true => Memory::Short,
            false => Memory::Ample,
        };
        wanted.spawn(turn, move || {
            let what = source.to_string();
            if let Err(error) = source.send(&to, memory) {
                (notice)(&Event::Trouble(&format!("cannot send {what}: {error}")));
            }
        });
    }

    fn response(
        &self,
        peer: SocketAddr,
        head: &Parts,
        reply: Reply,
        under_way: UnderWay,
    ) -> Response<Body> {
        let mut headers = reply.headers;
        let mut left = reply.content.length();
        if head.method == Method::HEAD {
            announce(&mut headers, left);
            left = Some(0);
        }
        let from = match reply.content {
            Content::Bytes(bytes) if head.method != Method::HEAD => From::Bytes(bytes),
            Content::Begun(from, _) => from,
            Content::Bytes(_) | Content::Stream(..) => From::Nowhere,
        };
        if matches!(from, From::Thread { .. }) {
            under_way.begin();
        }
        let mut response = Response::new(Body {
            from,
            left,
            under_way,
            answered: Answered {
                peer,
                method: head.method.clone(),
                target: head.uri.clone(),
                status: reply.status,
                sent: 0,
                is_whole: false,
            },
            notice: Arc::clone(&self.notice),
        });
        *response.status_mut() = reply.status;
        *response.headers_mut() = headers;
        response
    }
}

/// Says how long the body would be that is not sent.
fn announce(headers: &mut HeaderMap, length: Option<u64>) {
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// What is in memory until it was sent.
struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The least number of KiB that holds `bytes`.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}
