//! Copies between stores: what of a store is to be copied, and where to.
//!
//! Into a binary cache, and into a store that a Nix serves, paths are sent ([`send`]). Into a store
//! on this machine they are fetched, by the same engine that builds ([`fetch`]), whatever they come
//! from.

mod effects;
mod fetch;
mod send;

use windrow_net::store_url::{Kind, Places, StoreUrl};

use crate::error::{Error, Result};
use crate::installable::Word;
use crate::progress::Style;
use crate::session::Session;

/// What is copied, and how.
#[derive(Debug)]
pub(crate) struct Copy {
    /// What was asked for, of whatever store that is about.
    pub(crate) what: Vec<Word>,
    /// Derivations stand for themselves rather than for their outputs.
    pub(crate) derivation: bool,
    /// With all that they refer to.
    pub(crate) recursive: bool,
    /// Only what a trusted key has signed is taken into a store.
    pub(crate) check_sigs: bool,
    /// How it is told.
    pub(crate) style: Style,
}

/// A store that is not the one of the command, by its URL.
#[derive(Debug)]
pub(crate) struct Other {
    text: String,
    url: StoreUrl,
}

impl Other {
    /// Understands a URL.
    ///
    /// # Errors
    /// When it names no store.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = StoreUrl::parse(text).map_err(|error| Error::Unsupported(error.to_string()))?;
        let text = text.to_owned();
        Ok(Self { text, url })
    }

    fn is_local(&self) -> bool {
        matches!(self.url.kind, Kind::Local(_))
    }
}

/// What a store that is not on this machine is called in messages.
fn shown(url: &StoreUrl) -> String {
    match url.kind {
        Kind::Daemon { .. } => {
            let url = url.to_string();
            url.split('?').next().unwrap_or_default().to_owned()
        }
        _ => url.key(),
    }
}

/// Where paths are fetched from.
#[derive(Debug)]
struct Source {
    /// As the setting `substituters` takes it.
    url: String,
    /// As it is called in messages.
    shown: String,
}

impl Source {
    /// A store on this machine.
    fn local(session: &Session, shown: String, trusted: bool) -> Self {
        let mut url = Places::of_layout(&session.layout).to_url();
        if trusted {
            url.push_str("&trusted=true");
        }
        Self { url, shown }
    }

    fn of(from: &Other, open: impl Fn(&str) -> Result<Session>) -> Result<Self> {
        if !from.is_local() {
            return Ok(Self {
                url: from.text.clone(),
                shown: shown(&from.url),
            });
        }
        let shown = from.url.to_string();
        // Its parts may lie where this machine's settings say.
        let trusted = from.url.params.trusted;
        Ok(Self::local(&open(&from.text)?, shown, trusted))
    }
}

/// Copies between the store of a session, or one that stands in its place, and others. `open` opens
/// a store on this machine by its URL.
///
/// # Errors
/// When something is not copied.
pub(crate) fn run(
    session: Session,
    (from, to): (Option<Other>, Option<Other>),
    copy: &Copy,
    open: impl Fn(&str) -> Result<Session>,
) -> Result<()> {
    effects::warn(from.as_ref(), to.as_ref(), copy);
    match (from, to) {
        (None, Some(to)) => out_of((&session, false), &to, copy, open),
        (Some(from), None) => fetch::by_name(session, &Source::of(&from, open)?, copy),
        (Some(from), Some(to)) if from.is_local() => {
            let session = open(&from.text)?;
            out_of((&session, from.url.params.trusted), &to, copy, open)
        }
        (Some(from), Some(to)) if to.is_local() => {
            fetch::by_name(open(&to.text)?, &Source::of(&from, open)?, copy)
        }
        (Some(from), Some(to)) => Err(Error::Unsupported(format!(
            "cannot copy from '{}' to '{}' at once, for neither is a store on this machine; copy into one \
             with --from, and then out of it with --to",
            from.url, to.url
        ))),
        (None, None) => Err(Error::Usage("give --to URL or --from URL".to_owned())),
    }
}

/// Copies out of a store on this machine, whose paths may need no signature.
fn out_of(
    (session, trusted): (&Session, bool),
    to: &Other,
    copy: &Copy,
    open: impl Fn(&str) -> Result<Session>,
) -> Result<()> {
    if !to.is_local() {
        return send::send(session, &to.url, copy);
    }
    let found = send::found(session, copy)?;
    let shown = session.layout.real_store_dir.display().to_string();
    let from = Source::local(session, shown, trusted);
    fetch::fetch(open(&to.text)?, &from, found.paths.clone(), copy)
}
