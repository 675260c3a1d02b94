//! Has what is built wait for the caches, before it is registered: so whatever is valid and was
//! built waits, even if the program is killed right then.

use std::collections::HashSet;
use std::sync::Arc;

use windrow_net::store_url::StoreUrl;
use windrow_store::local::Built;
use windrow_store::own::OwnDatabase;
use windrow_store::own::uploads::{Cache, UploadQueue};
use windrow_store::{Database, DatabaseOptions, Layout, Result as StoreResult};
use windrow_systems::report::Level;

use super::background::Background;
use super::targets::as_queued;
use crate::outcome::quoted;

/// Hears of built paths.
pub(super) struct Outbox {
    layout: Layout,
    options: DatabaseOptions,
    caches: Vec<Cache>,
    /// Opened for the first path.
    queue: Option<UploadQueue>,
    /// What was announced and is not known to be valid yet.
    announced: HashSet<String>,
    background: Arc<Background>,
}

impl Outbox {
    pub(super) fn new(
        layout: Layout,
        options: DatabaseOptions,
        caches: &[StoreUrl],
        background: Arc<Background>,
    ) -> Self {
        Self {
            layout,
            options,
            caches: caches.iter().map(as_queued).collect(),
            queue: None,
            announced: HashSet::new(),
            background,
        }
    }

    fn add(&mut self, paths: &[String]) -> StoreResult<()> {
        let queue = match self.queue.take() {
            Some(queue) => queue,
            None => UploadQueue::new(OwnDatabase::open(&self.layout, &self.options)?),
        };
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        self.queue.insert(queue).add(&self.caches, &paths)
    }

    fn remove(&self, paths: &[String]) {
        for cache in self.caches.iter().filter(|_| !paths.is_empty()) {
            if let Some(queue) = &self.queue {
                // What stays is told of as gone when it is to be pushed.
                let _ = queue.remove(&cache.key, paths);
            }
        }
    }
}

impl Built for Outbox {
    fn about_to_be_valid(&mut self, paths: &[String]) {
        if paths.is_empty() {
            return;
        }
        self.announced.extend(paths.iter().cloned());
        if let Err(error) = self.add(paths) {
            let lost = quoted(paths);
            let text = format!("{lost} will not be pushed, unless by 'windrow copy': {error}");
            self.background.say(Level::Warn, text);
        }
    }

    fn are_valid(&mut self, paths: &[String]) {
        for path in paths {
            self.announced.remove(path);
        }
        if !paths.is_empty() {
            Background::wake(&self.background);
        }
    }

    fn are_not_valid(&mut self, paths: &[String]) {
        for path in paths {
            self.announced.remove(path);
        }
        self.remove(paths);
    }
}

impl Drop for Outbox {
    /// Nobody builds any more what was announced and not registered.
    fn drop(&mut self) {
        if self.announced.is_empty() {
            return;
        }
        let Ok(database) = Database::open_read_only(&self.layout) else {
            return;
        };
        let announced = self.announced.drain();
        let lost = announced.filter(|path| database.is_valid(path).is_ok_and(|valid| !valid));
        let lost: Vec<String> = lost.collect();
        self.remove(&lost);
    }
}
