//! Substituters and the build hook in the real world: which there are, how a thread that works for
//! them is heard, and where substituters put what they fetch.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use windrow_net::asker;
use windrow_net::store_url::StoreUrl;
use windrow_store::files::beside::beside;

use crate::process::helper::HelperEnv;

/// Which helpers a run has.
#[derive(Debug, Clone)]
pub struct HelperConfig {
    /// The substituters' programs, in the order in which they are tried.
    pub substituters: Vec<PathBuf>,
    /// The build hook's program.
    pub hook: Option<PathBuf>,
    /// What the hook is started with: the system, the seconds of silence, whether traces are
    /// printed, and the seconds that a build may take.
    pub hook_args: Vec<String>,
    /// Their environment.
    pub env: HelperEnv,
    /// How many seconds a substituter's answer may take; 0 for any time.
    pub patience_s: u64,
    /// The binary caches that are asked.
    pub caches: CacheConfig,
}

/// Which binary caches a run has, and how they are asked.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Their URLs, in the order in which they were named.
    pub urls: Vec<StoreUrl>,
    /// How they are asked.
    pub asker: asker::Config,
    /// How long it is believed within a run that one lacks a path.
    pub lacks_for: Duration,
}

/// Where a thread leaves what it has done, and wakes the scheduler.
pub struct Inbox<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl<T: Send + 'static> Inbox<T> {
    /// An empty inbox; `wake` is called after each item is there to be taken.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, receiver) = unbounded();
        let wake = Arc::new(wake);
        Self {
            sender,
            receiver,
            wake,
        }
    }

    /// What a thread hands its items in with.
    pub fn sender(&self) -> impl Fn(T) + Send + 'static {
        let (sender, wake) = (self.sender.clone(), Arc::clone(&self.wake));
        move |item| {
            if sender.send(item).is_ok() {
                wake();
            }
        }
    }

    /// The next item.
    pub fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// The environment of every substituter that fetches.
pub struct FetchEnv(pub HelperEnv);

/// Where a substituter is to put a path: beside it, if there is one that is to be replaced
/// (Nix 1.8: `destPath`).
///
/// Nix 1.8: `LocalStore::repairPath`.
pub(crate) fn destination(real_path: PathBuf, repair: bool) -> PathBuf {
    if !repair {
        return real_path;
    }
    beside(&real_path, ".tmp")
}
