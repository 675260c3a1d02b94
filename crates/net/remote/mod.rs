//! One cache, wherever it is: what it holds, whether it holds something, downloads from it, and
//! writing to it.

mod blocking;
mod body;
mod credentials;
mod download;
mod exchange;
mod file;
pub(crate) mod fuzzing;
mod multipart;
mod open;
mod partial;
mod place;
mod s3;
mod small;
mod upload;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use windrow_sys::interrupt::Stop;

use crate::client::{Client, Excused, Limits, Ticket, Transport, Wanted};
use crate::error::{Doing, Fault, Kind, NetError};

use download::Download;
use file::Directory;
use place::Place;
use upload::Upload;

pub use body::Source;
pub use download::Expected;
pub(crate) use open::limits;
pub use partial::Partial;
pub(crate) use partial::{FilePath, Room};

/// A cache. Names are those of things in it, as `nix-cache-info` or `nar/….nar.xz`; for a cache
/// that is reached by HTTP a name may also be a whole address.
///
/// All answers come once, as a rule on the thread of the network, even if the ticket is dropped
/// before; `done` must not wait. When the client is dropped they come at once, while threads that
/// read or write files may not have ended yet.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    backend: Backend,
}

/// What is known of something that a cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How many bytes it has, if the cache says so.
    pub size: Option<u64>,
}

#[derive(Debug, Clone)]
enum Backend {
    Network(Reach),
    Directory(Arc<Directory>),
}

/// A cache that is reached by HTTP, and how.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) transport: Arc<Transport>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) place: Arc<Place>,
    /// Until when the cache need not say anything.
    pub(crate) excused: Arc<Excused>,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// A cache in a directory, which need not be there.
    fn directory(path: &Path, client: &Client) -> Self {
        Self {
            client: client.clone(),
            backend: Backend::Directory(Arc::new(Directory::new(path))),
        }
    }

    fn reached(place: Place, limits: Limits, client: &Client) -> Self {
        Self {
            client: client.clone(),
            backend: Backend::Network(Reach {
                transport: Arc::clone(client.transport()),
                limits: Arc::new(limits),
                place: Arc::new(place),
                excused: Arc::default(),
            }),
        }
    }

    /// Where a name lies, for messages.
    pub fn shown(&self, name: &str) -> String {
        match &self.backend {
            Backend::Network(reach) => crate::error::redacted(&reach.place.shown(name)),
            Backend::Directory(dir) => format!("file://{}/{name}", dir.place().display()),
        }
    }

    /// Until when the cache need not answer: it has sent some of a download then, or said that it
    /// wants to be left alone for so long.
    pub(crate) fn excused_until(&self) -> Option<Instant> {
        match &self.backend {
            Backend::Network(reach) => reach.excused.until(),
            Backend::Directory(_) => None,
        }
    }

    /// Where was looked for credentials for a bucket, if there are none.
    pub(crate) fn looked_for(&self) -> Option<&str> {
        match &self.backend {
            Backend::Network(reach) => match &*reach.place {
                Place::S3(store) => store.looked_for.as_deref(),
                Place::Http(_) => None,
            },
            Backend::Directory(_) => None,
        }
    }

    /// The file of a name, if the cache is a directory: it need not be downloaded. It may not be
    /// there.
    ///
    /// # Errors
    /// When the name leads out of the directory.
    pub fn local_file(&self, name: &str) -> Result<Option<PathBuf>, NetError> {
        match &self.backend {
            Backend::Network(_) => Ok(None),
            Backend::Directory(dir) => match dir.path(name) {
                Ok(path) => Ok(Some(path)),
                Err(fault) => Err(fault.about(Doing::Fetch, &self.shown(name))),
            },
        }
    }

    /// What `name` holds; `None` if the cache has no such thing, which a status of 403, 404 or 410
    /// says. It fails if there are more than `limit` bytes.
    pub fn get(
        &self,
        name: &str,
        limit: u64,
        done: impl FnOnce(Result<Option<Vec<u8>>, NetError>) + Send + 'static,
    ) -> Ticket {
        let about = (Doing::Fetch, self.shown(name));
        let name = name.to_owned();
        match self.backend.clone() {
            Backend::Network(reach) => self.client.start(about, done, |mut wanted| async move {
                wanted.or_cancelled(small::get(&reach, &name, limit)).await
            }),
            Backend::Directory(dir) => self.client.start(about, done, |mut wanted| async move {
                let _turn = wanted.or_cancelled(dir.turn()).await?;
                let dir = Arc::clone(&dir);
                waiting(wanted, move |_| dir.get(&name, limit)).await
            }),
        }
    }

    /// Whether the cache has `name`.
    pub fn exists(
        &self,
        name: &str,
        done: impl FnOnce(Result<bool, NetError>) + Send + 'static,
    ) -> Ticket {
        self.find(name, |found| done(found.map(|found| found.is_some())))
    }

    /// What the cache says of `name` without sending it; `None` if it has no such thing.
    pub fn find(
        &self,
        name: &str,
        done: impl FnOnce(Result<Option<Found>, NetError>) + Send + 'static,
    ) -> Ticket {
        let about = (Doing::LookFor, self.shown(name));
        let name = name.to_owned();
        match self.backend.clone() {
            Backend::Network(reach) => self.client.start(about, done, |mut wanted| async move {
                wanted.or_cancelled(small::find(&reach, &name)).await
            }),
            Backend::Directory(dir) => self.client.start(about, done, |wanted| {
                waiting(wanted, move |_| dir.find(&name))
            }),
        }
    }

    /// Downloads `name` into a file, of which there may be something already. `progress` is told
    /// how many bytes there are, on the thread of the network or another one. If it fails, what
    /// there is stays in the file, unless it can't be right; when `done` is called, nothing writes
    /// to the file any more and it can be opened again.
    ///
    /// Bytes that did not come in one piece, for some were there or it was cut, are compared with
    /// the hash that is expected, and are fetched afresh if they do not have it. That what came in
    /// one piece is right is for the caller to check.
    pub fn download(
        &self,
        name: &str,
        partial: Partial,
        expected: impl Into<Expected>,
        progress: impl FnMut(u64) + Send + 'static,
        done: impl FnOnce(Result<Partial, NetError>) + Send + 'static,
    ) -> Ticket {
        let about = (Doing::Fetch, self.shown(name));
        let name = name.to_owned();
        let expected = expected.into();
        match self.backend.clone() {
            Backend::Network(reach) => self.client.start(about, done, |wanted| {
                Download::new((reach, name), expected, progress).run(partial, wanted)
            }),
            Backend::Directory(dir) => self.client.start(about, done, |wanted| {
                waiting(wanted, move |stop| {
                    dir.download(&name, partial, (expected.size, progress), stop)
                })
            }),
        }
    }

    /// Writes `name`: all of it is there afterwards, or nothing new is. What was there is replaced.
    pub fn put(
        &self,
        name: &str,
        source: Source,
        content_type: &str,
        done: impl FnOnce(Result<(), NetError>) + Send + 'static,
    ) -> Ticket {
        let about = (Doing::Upload, self.shown(name));
        let upload = Upload {
            name: name.to_owned(),
            source,
            content_type: content_type.to_owned(),
        };
        match self.backend.clone() {
            Backend::Network(reach) => self.client.start(about, done, |mut wanted| async move {
                upload::put(&reach, upload, &mut wanted).await
            }),
            Backend::Directory(dir) => self.client.start(about, done, |wanted| {
                waiting(wanted, move |stop| {
                    dir.put(&upload.name, &upload.source, stop)
                })
            }),
        }
    }
}

/// Does on a thread that may wait what can be told to stop, and waits for its end in any case.
async fn waiting<T: Send + 'static>(
    mut wanted: Wanted,
    work: impl FnOnce(&Stop) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    by_thread(&mut wanted, work).await
}

/// The same for one who goes on after it.
async fn by_thread<T: Send + 'static>(
    wanted: &mut Wanted,
    work: impl FnOnce(&Stop) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let stop = Stop::default();
    let theirs = stop.clone();
    let mut thread = tokio::task::spawn_blocking(move || work(&theirs));
    let joined = tokio::select! {
        biased;
        joined = &mut thread => joined,
        () = wanted.ended() => {
            stop.set();
            thread.await
        }
    };
    joined.map_err(|error| Fault::new(Kind::Io, format_args!("its thread has ended: {error}")))?
}
