//! The client that all caches are asked through: one thread, on which all transfers are made, and
//! what they share.
//!
//! Answers come by callbacks, on that thread: they must not wait, and hand on what takes long.

mod config;
mod deadline;
mod fault;
mod gate;
mod retry;
mod speed;
mod ticket;
mod transport;

use std::future::Future;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use windrow_sys::threads::spawn;

use crate::error::{Doing, Fault, NetError};

pub use config::{Config, Limits, Notice};
pub(crate) use deadline::{Deadline, Excused, seconds, within};
pub(crate) use fault::of as fault_of;
pub(crate) use gate::{Load, Pass};
pub(crate) use retry::{Attempts, retry_after};
pub use ticket::Ticket;
pub(crate) use ticket::{Done, Wanted};
pub(crate) use transport::Transport;

/// How many threads may wait for names to be looked up and write files.
const BLOCKING_THREADS: usize = 512;

/// Makes all transfers, on a thread of its own. Clones are the same client; when the last one is
/// dropped, what is under way is cancelled and the thread ends.
#[derive(Clone)]
pub struct Client {
    thread: Arc<NetThread>,
    transport: Arc<Transport>,
}

struct NetThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client")
            .field(&self.transport.config)
            .finish()
    }
}

impl Client {
    /// Starts the thread. Nothing is read or asked before the first request.
    ///
    /// # Errors
    /// When there are no threads or descriptors left.
    pub fn new(config: Config) -> Result<Self, NetError> {
        let failed = |error| Fault::io("no thread for it", &error).about(Doing::Use, "the network");
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("net-wait")
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = spawn("net", move || run(runtime, stopped)).map_err(failed)?;
        Ok(Self {
            thread: Arc::new(NetThread {
                handle,
                stop: Some(stop),
                thread: Some(thread),
            }),
            transport: Arc::new(Transport::new(config)),
        })
    }

    /// What it was made from.
    pub fn config(&self) -> &Config {
        &self.transport.config
    }

    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    /// Has `work` done, and its result told.
    pub(crate) fn start<T, W>(
        &self,
        (doing, url): (Doing, String),
        done: impl FnOnce(Result<T, NetError>) + Send + 'static,
        work: impl FnOnce(Wanted) -> W,
    ) -> Ticket
    where
        T: 'static,
        W: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let (ticket, wanted) = Ticket::new();
        let done = Done::new(done, doing, url);
        let work = work(wanted);
        self.thread.handle.spawn(async move {
            let result = work.await;
            done.tell(result);
        });
        ticket
    }
}

/// The thread of the network.
fn run(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    let _ = runtime.block_on(stopped);
    // A lookup of a name can't be called off, and nobody is to wait for it.
    runtime.shutdown_background();
}

impl Drop for NetThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            // The last client may lie in a callback.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}
