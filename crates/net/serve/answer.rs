//! What a request is answered: a function of its head and of the store.

use std::path::PathBuf;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, ALLOW, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HOST, HeaderName, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, StatusCode};
use windrow_components::hash::Hash;
use windrow_components::store_path::StorePath;
use windrow_store::{PathInfo, logs};

use super::Packing;
use super::body::From;
use super::range::Part;
use super::route::{ArchiveName, Route};
use super::store::Store;
use super::stream::{Archive, Source};
use super::usage;
use crate::cache_info::CacheInfo;
use crate::content_type::{CACHE_INFO, JSON, NAR, NARINFO};
use crate::listing::Listing;
use crate::narinfo::NarInfo;

const TEXT: &str = "text/plain; charset=utf-8";

/// An answer that is still to be sent.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    /// What whoever runs the server should know.
    pub(super) trouble: Option<String>,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Bytes),
    /// What has to be made, and how long that is if it is known before.
    Stream(Source, Option<u64>),
    /// What is being made.
    Begun(From, Option<u64>),
}

impl Content {
    /// How many bytes it has, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream(_, length) | Self::Begun(_, length) => *length,
        }
    }
}

impl Reply {
    fn new(status: StatusCode, kind: &'static str, content: Content) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        // Nobody is to take a log for a page.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Self {
            status,
            headers,
            content,
            trouble: None,
        }
    }

    fn text(kind: &'static str, text: String) -> Self {
        Self::new(StatusCode::OK, kind, Content::Bytes(text.into()))
    }

    fn stream(kind: &'static str, source: Source, length: Option<u64>) -> Self {
        Self::new(StatusCode::OK, kind, Content::Stream(source, length))
    }

    fn refusal(status: StatusCode, why: &'static str) -> Self {
        let text = Bytes::from_static(why.as_bytes());
        Self::new(status, TEXT, Content::Bytes(text))
    }

    fn not_found() -> Self {
        Self::refusal(StatusCode::NOT_FOUND, "there is no such thing here\n")
    }

    /// That there is too much to do.
    pub(super) fn busy() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::refusal(status, "too many others are served; come again\n").with(&RETRY_AFTER, "5")
    }

    /// That it is not there any more as it was, which others may still have.
    pub(super) fn changed() -> Self {
        Self::refusal(StatusCode::NOT_FOUND, "it is not what it was\n")
    }

    /// That it can't be answered, for a reason that is not for everybody.
    pub(super) fn failure(why: String) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self {
            trouble: Some(why),
            ..Self::refusal(status, "the store can't be read\n")
        }
    }

    fn with(mut self, name: &HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// What a request is for.
///
/// # Errors
/// The answer, if that is known without a look at the store.
pub(super) fn route(head: &Parts) -> Result<Route, Box<Reply>> {
    if head.method != Method::GET && head.method != Method::HEAD {
        let refusal = Reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "this cache is read-only\n");
        return Err(Box::new(refusal.with(&ALLOW, "GET, HEAD")));
    }
    Route::parse(head.uri.path()).ok_or_else(|| Box::new(Reply::not_found()))
}

/// Whether that is the request for a listing, which takes long and much memory.
pub(super) fn wants_listing(route: &Route, head: &Parts) -> bool {
    matches!(route, Route::Listing(_)) && head.method != Method::HEAD
}

/// The answer to a request for that.
pub(super) fn answer(store: &Store, route: Route, head: &Parts) -> Reply {
    let answered = match route {
        Route::Usage => Ok(Reply::text(TEXT, usage::text(&store.offer, &host(head)))),
        Route::CacheInfo => Ok(Reply::text(CACHE_INFO, cache_info(store))),
        Route::NarInfo(part) => narinfo(store, &part),
        Route::Listing(part) => listing(store, &part, head),
        Route::Archive(name) => archive(store, &name, head),
        Route::Log(drv) => log(store, &drv, head),
    };
    answered.unwrap_or_else(Reply::failure)
}

/// An answer, or why there can be none.
type Answer = Result<Reply, String>;

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// How the client calls this server.
fn host(head: &Parts) -> String {
    let header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = head.uri.authority().map(Authority::as_str).or(header);
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    host.map_or_else(|| "HOST".to_owned(), |host| host.to_string())
}

fn cache_info(store: &Store) -> String {
    let info = CacheInfo {
        store_dir: Some(store.dir.as_str().to_owned()),
        want_mass_query: true,
        priority: store.offer.priority,
    };
    info.to_string()
}

/// What is known of a path that can be served: its size must be known, for narinfo files have it.
fn info(store: &Store, hash_part: &str) -> Result<Option<PathInfo>, String> {
    let info = store.info(hash_part).map_err(said)?;
    Ok(info.filter(|info| info.nar_size > 0))
}

fn narinfo(store: &Store, hash_part: &str) -> Answer {
    let Some(info) = info(store, hash_part)? else {
        return Ok(Reply::not_found());
    };
    let packing = store.offer.packing;
    let name = ArchiveName {
        hash_part: hash_part.to_owned(),
        nar_hash: info.nar_hash,
        packing,
    };
    let known = NarInfo::of_path_info(&info, &store.dir, name.url(), packing.compression());
    let mut known = known.map_err(said)?;
    if packing == Packing::None {
        known.file_hash = Some(known.nar_hash);
        known.file_size = Some(known.nar_size);
    }
    known.sign(&store.offer.keys, &store.dir);
    Ok(Reply::text(NARINFO, known.to_text(&store.dir)))
}

/// Where a path lies, of which something is to be sent.
///
/// # Errors
/// The answer, if it does not lie there.
fn place(store: &Store, info: &PathInfo) -> Result<PathBuf, Box<Reply>> {
    let place = store.offer.layout.real_path(&info.path);
    match place.symlink_metadata() {
        Ok(_) => Ok(place),
        Err(error) => Err(Box::new(Reply {
            trouble: Some(format!("cannot send '{}': {error}", place.display())),
            ..Reply::not_found()
        })),
    }
}

fn listing(store: &Store, hash_part: &str, head: &Parts) -> Answer {
    let Some(info) = info(store, hash_part)? else {
        return Ok(Reply::not_found());
    };
    let place = match place(store, &info) {
        Ok(place) => place,
        Err(reply) => return Ok(*reply),
    };
    if head.method == Method::HEAD {
        // Its length is not worth making it.
        let content = Content::Begun(From::Nowhere, None);
        return Ok(Reply::new(StatusCode::OK, JSON, content));
    }
    let listing = Listing::of_tree(&place).map_err(said)?;
    Ok(match listing.to_json() {
        Ok(json) => Reply::text(JSON, json),
        // As in a cache whose paths were written without this listing.
        Err(_) => Reply::not_found(),
    })
}

fn archive(store: &Store, name: &ArchiveName, head: &Parts) -> Answer {
    let info = info(store, &name.hash_part)?;
    let Some(info) = info.filter(|info| info.nar_hash == name.nar_hash) else {
        return Ok(Reply::not_found());
    };
    let place = match place(store, &info) {
        Ok(place) => place,
        Err(reply) => return Ok(*reply),
    };
    let size = info.nar_size;
    let source = |from, length| {
        Source::Archive(Archive {
            place,
            nar_hash: info.nar_hash,
            nar_size: size,
            from,
            length,
            packing: name.packing,
        })
    };
    if name.packing == Packing::Zstd {
        return Ok(Reply::stream(NAR, source(0, size), None).with(&ACCEPT_RANGES, "none"));
    }
    let tag = format!("\"{}\"", Hash::sha256(&info.nar_hash).base32());
    let reply = match part(head, &tag, size) {
        Part::Whole => Reply::stream(NAR, source(0, size), Some(size)),
        Part::Bytes { from, length } => {
            let range = format!("bytes {from}-{}/{size}", from + length - 1);
            let part = Reply::stream(NAR, source(from, length), Some(length));
            Reply {
                status: StatusCode::PARTIAL_CONTENT,
                ..part.with(&CONTENT_RANGE, &range)
            }
        }
        Part::Beyond => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let range = format!("bytes */{size}");
            Reply::refusal(status, "it is not that long\n").with(&CONTENT_RANGE, &range)
        }
    };
    Ok(reply.with(&ETAG, &tag).with(&ACCEPT_RANGES, "bytes"))
}

/// The part of something of that version that is asked for.
fn part(head: &Parts, tag: &str, size: u64) -> Part {
    let header = |name| head.headers.get(name).and_then(|it| it.to_str().ok());
    let is_same = head.headers.get(IF_RANGE).is_none_or(|it| it == tag);
    match header(RANGE).filter(|_| is_same && head.method == Method::GET) {
        Some(range) => Part::parse(range, size),
        None => Part::Whole,
    }
}

fn log(store: &Store, drv: &StorePath, head: &Parts) -> Answer {
    let found = logs::find(&store.offer.layout.log_dir, drv.base_name()).map_err(said)?;
    let Some(found) = found else {
        return Ok(Reply::not_found());
    };
    let unreadable = |error| format!("cannot read '{}': {error}", found.path.display());
    let length = found.file.metadata().map_err(unreadable)?.len();
    let reply = if !found.is_compressed || length == 0 {
        Reply::stream(TEXT, Source::File(found.file, length), Some(length))
    } else if takes_bzip2(&head.headers) {
        let packed = Reply::stream(TEXT, Source::File(found.file, length), Some(length));
        packed.with(&CONTENT_ENCODING, "bzip2")
    } else {
        Reply::stream(TEXT, Source::Bzip2(found.file), None)
    };
    Ok(reply.with(&VARY, "Accept-Encoding"))
}

/// Whether the client unpacks bzip2, as Nix does.
fn takes_bzip2(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("bzip2"))
}
