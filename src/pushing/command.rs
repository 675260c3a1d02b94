//! What `windrow push` does: empties the queues, or says what is in them.

use std::collections::HashSet;

use windrow_net::copy::CopyError;
use windrow_net::store_url::StoreUrl;
use windrow_store::own::uploads::{PushLock, UploadQueue};
use windrow_sys::interrupt::{self, Owing};
use windrow_systems::report::Level;

use super::background::not_pushed_for_they_are_gone;
use super::batch::Batches;
use super::targets::{caches, parse};
use super::{open, queue};
use crate::error::Result;
use crate::outcome::{NotPushed, not_pushed};
use crate::progress::{Copies, Style, retries, say};
use crate::session::Session;

/// What is to be done with what waits.
#[derive(Debug)]
pub(crate) struct Push {
    /// For these caches only; for all if there are none.
    pub(crate) to: Vec<String>,
    /// It is forgotten rather than pushed.
    pub(crate) forget: bool,
    /// How it is told.
    pub(crate) style: Style,
}

/// Pushes what waits, or forgets it.
///
/// # Errors
/// When something is not pushed, which then waits on.
pub(crate) fn run(session: &Session, what: &Push) -> Result<()> {
    let caches = wanted(session, what)?;
    let mut was_something = false;
    let mut problems = Vec::new();
    // What lies on a server in part is given up, and there may be much.
    let _owing = Owing::new();
    for url in caches {
        let Some(queue) = queue(session, true)? else {
            break;
        };
        let waiting = queue.waiting(&url.key())?;
        was_something |= !waiting.is_empty();
        if waiting.is_empty() {
            continue;
        }
        if what.forget {
            queue.remove(&url.key(), &waiting)?;
            continue;
        }
        problems.extend(push(session, &queue, &url, &what.style));
        if interrupt::has_come() {
            break;
        }
    }
    if !problems.is_empty() {
        return Err(not_pushed(problems));
    }
    if !was_something {
        say(&what.style, Level::Info, "nothing waits to be pushed");
    }
    Ok(())
}

/// What waits for which cache: pairs of a path and the cache.
///
/// # Errors
/// When the queue can't be read.
pub(crate) fn list(session: &Session, what: &Push) -> Result<Vec<(String, String)>> {
    let caches = wanted(session, what)?;
    let Some(queue) = queue(session, false)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for url in caches {
        let key = url.key();
        let paths = queue.waiting(&key)?;
        all.extend(paths.into_iter().map(|path| (path, key.clone())));
    }
    Ok(all)
}

/// The caches that are to be looked at: those that were named, or those of the setting and all that
/// something waits for.
fn wanted(session: &Session, what: &Push) -> Result<Vec<StoreUrl>> {
    let queued = match queue(session, false)? {
        Some(queue) => queue.caches()?,
        None => Vec::new(),
    };
    let mut known = caches(&session.settings);
    for cache in queued {
        if known.iter().any(|url| url.key() == cache.key) {
            continue;
        }
        let url = parse(&cache.url);
        if what.to.is_empty() {
            let but = match &url {
                Ok(_) => String::new(),
                Err(error) => format!(", and can't be used: {error}"),
            };
            let key = &cache.key;
            let text = format!(
                "warning: paths wait for '{key}', which the setting 'upload-caches' does not name{but}"
            );
            say(&what.style, Level::Warn, &text);
        }
        known.extend(url);
    }
    if what.to.is_empty() {
        return Ok(known);
    }
    let named = what.to.iter().map(|text| {
        let mut url = parse(text)?;
        // A URL by itself means the cache that is known under it, with its parameters. What is
        // known may have no password.
        let mut known = known.iter();
        if let Some(known) = known.find(|it| !text.contains('?') && it.key() == url.key()) {
            url.params = known.params.clone();
        }
        Ok(url)
    });
    named.collect()
}

/// Pushes what waits for a cache; says what could not be pushed.
fn push(
    session: &Session,
    queue: &UploadQueue,
    url: &StoreUrl,
    style: &Style,
) -> Option<NotPushed> {
    let (key, layout) = (url.key(), &session.layout);
    let mut left = Vec::new();
    let mut attempt = || -> Result<(), CopyError> {
        let _lock = PushLock::take(layout, &key)?;
        let mut batches = Batches {
            queue,
            layout,
            key: &key,
            to: open(url, &session.settings, layout, retries(style.clone()))?,
            there: HashSet::new(),
        };
        let mut tried = HashSet::new();
        loop {
            let mut waiting = queue.waiting(&key)?;
            waiting.retain(|path| !tried.contains(path));
            if waiting.is_empty() {
                return Ok(());
            }
            let mut copies = Copies::new(style.clone(), &key);
            let pushed = batches.push(&waiting, &mut |event| copies.report(&event))?;
            copies.end(&pushed.outcome);
            if let Some(text) = not_pushed_for_they_are_gone(&key, &pushed.gone) {
                say(style, Level::Info, &text);
            }
            left.extend(pushed.left);
            if let Some(error) = pushed.outcome.ended_by {
                return Err(error);
            }
            tried.extend(waiting);
        }
    };
    let ended_by = attempt().err();
    if left.is_empty() && ended_by.is_none() {
        return None;
    }
    Some(NotPushed {
        to: key,
        left: queue.waiting(&url.key()).unwrap_or(left),
        ended_by,
    })
}
