//! Has what is built wait for the caches, before it is registered: so whatever is valid and was
//! built waits, even if the program is killed right then.

use std::sync::Arc;

use windrow_net::store_url::StoreUrl;
use windrow_store::local::Built;
use windrow_store::own::OwnDatabase;
use windrow_store::own::uploads::{Cache, UploadQueue};
use windrow_store::{DatabaseOptions, Layout, Result as StoreResult};
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
            background,
        }
    }

    fn add(&mut self, paths: &[&str]) -> StoreResult<()> {
        let queue = match self.queue.take() {
            Some(queue) => queue,
            None => UploadQueue::new(OwnDatabase::open(&self.layout, &self.options)?),
        };
        self.queue.insert(queue).add(&self.caches, paths)
    }
}

impl Built for Outbox {
    fn about_to_be_valid(&mut self, paths: &[&str]) {
        if let Err(error) = self.add(paths) {
            let lost: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
            let lost = quoted(&lost);
            let text = format!("{lost} will not be pushed, unless by 'windrow copy': {error}");
            self.background.say(Level::Warn, text);
        }
    }

    fn are_valid(&mut self) {
        Background::wake(&self.background);
    }
}
