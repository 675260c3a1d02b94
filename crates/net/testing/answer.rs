//! What the server answers: files of its directory, uploads into it, and what a test wants instead.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, IF_RANGE,
    LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::Seen;
use super::behaviour::{Behaviour, Rules};
use super::body::{End, Pieces, read, read_some};
use super::multipart::Uploads;

type Answer = Response<Pieces>;

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) dir: PathBuf,
    pub(super) rules: Mutex<Rules>,
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) uploads: Mutex<Uploads>,
    /// How many requests are under way, and how many were at most.
    pub(super) under_way: AtomicUsize,
    pub(super) busiest: AtomicUsize,
}

impl State {
    /// Answers one request.
    ///
    /// # Errors
    /// When the connection is to break.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.busiest.fetch_max(under_way, Ordering::Relaxed);
        let _counted = Counted(&self.under_way);
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let lock = |seen: &Mutex<Vec<Seen>>, new| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(new);
        };
        lock(
            &self.seen,
            Seen {
                method: head.method.to_string(),
                uri: head.uri.to_string(),
                path: path.clone(),
                query: query.clone(),
                version: head.version,
                headers: head.headers.clone(),
            },
        );
        let behaviour = {
            let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            rules.take(&path)
        };
        let asked = Asked {
            method: head.method,
            path,
            query,
            headers: head.headers,
        };
        Ok(match behaviour {
            None => self.serve(&asked, body).await,
            Some(Behaviour::Refuse(after)) => {
                read_some(body, after).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Some(behaviour) => self.misbehave(&asked, body, behaviour).await,
        })
    }

    async fn misbehave(&self, asked: &Asked, body: Incoming, behaviour: Behaviour) -> Answer {
        match behaviour {
            Behaviour::Latency(pause) => {
                tokio::time::sleep(pause).await;
                self.serve(asked, body).await
            }
            Behaviour::Status(status) => empty(status),
            Behaviour::RetryAfter(status, when) => with(empty(status), &RETRY_AFTER, &when),
            Behaviour::Text(status, text) => {
                let mut answer = whole(text.into());
                *answer.status_mut() = status_of(status);
                answer
            }
            Behaviour::Redirect(status, to) => with(empty(status), &LOCATION, &to),
            Behaviour::Html => whole(Bytes::from_static(
                b"<html><body>Please log in.</body></html>",
            )),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Login(user, password) => {
                use base64::Engine as _;
                let both =
                    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                let given = asked
                    .headers
                    .get("authorization")
                    .map(HeaderValue::as_bytes);
                if given == Some(format!("Basic {both}").as_bytes()) {
                    self.serve(asked, body).await
                } else {
                    with(empty(401), &WWW_AUTHENTICATE, "Basic realm=\"test\"")
                }
            }
            Behaviour::Header(name, value) => {
                let answer = self.serve(asked, body).await;
                with(answer, &HeaderName::from_static(name), &value)
            }
            other => self.damage(asked, other),
        }
    }

    /// Answers that are a file, but not as it should be.
    fn damage(&self, asked: &Asked, behaviour: Behaviour) -> Answer {
        let Some(bytes) = self.file(&asked.path) else {
            return empty(404);
        };
        let length = bytes.len();
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(length);
        match behaviour {
            Behaviour::Reset(after) => cut(asked, bytes, at(after), End::Broken),
            Behaviour::Stall(after) => cut(asked, bytes, at(after), End::Silent),
            Behaviour::Short(to) => whole(bytes.slice(..at(to))),
            Behaviour::Long(by) => {
                let more = vec![b'x'; usize::try_from(by).unwrap_or(0)];
                whole([&bytes[..], &more].concat().into())
            }
            Behaviour::Wrong => {
                let mut bytes = bytes.to_vec();
                if let Some(middle) = bytes.get_mut(length / 2) {
                    *middle ^= 1;
                }
                whole(bytes.into())
            }
            Behaviour::Endless => {
                Response::new(Pieces::new(Bytes::from(vec![b'x'; 64 << 10]), End::Endless))
            }
            Behaviour::Drip(piece, pause) => {
                let (head, body) = part(asked, bytes).into_parts();
                Response::from_parts(head, body.dripping(piece, pause))
            }
            Behaviour::WrongRange => {
                let range = format!("bytes 1-{}/{length}", length.saturating_sub(1));
                let mut answer = whole(bytes.slice(1.min(length)..));
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                with(answer, &CONTENT_RANGE, &range)
            }
            _ => whole(bytes),
        }
    }

    async fn serve(&self, asked: &Asked, body: Incoming) -> Answer {
        if matches!(asked.method, Method::PUT | Method::POST | Method::DELETE) {
            let Ok(bytes) = read(body).await else {
                return empty(400);
            };
            return self.upload(asked, bytes);
        }
        match self.file(&asked.path) {
            None => empty(404),
            Some(bytes) => part(asked, bytes),
        }
    }

    fn upload(&self, asked: &Asked, bytes: Bytes) -> Answer {
        let Some(file) = self.place(&asked.path) else {
            return empty(400);
        };
        if asked.query.contains("uploads") || asked.query.contains("uploadId=") {
            let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            return match uploads.take((&asked.method, &asked.query), &file, bytes) {
                Some((text, tag)) => with(whole(text.into()), &ETAG, &tag),
                None => empty(400),
            };
        }
        match asked.method {
            Method::PUT => {
                write(&file, &bytes);
                empty(201)
            }
            _ => empty(405),
        }
    }

    /// The file that a path means, if it lies in the directory.
    fn place(&self, path: &str) -> Option<PathBuf> {
        let path = percent_encoding::percent_decode_str(path.trim_start_matches('/'));
        let path = path.decode_utf8().ok()?;
        let path = Path::new(path.as_ref());
        let is_plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        is_plain.then(|| self.dir.join(path))
    }

    fn file(&self, path: &str) -> Option<Bytes> {
        fs::read(self.place(path)?).ok().map(Bytes::from)
    }
}

/// A request that is under way.
struct Counted<'c>(&'c AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request.
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
}

pub(super) fn write(file: &Path, bytes: &[u8]) {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).expect("a directory of a test");
    }
    fs::write(file, bytes).expect("a file of a test");
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status of a test")
}

fn empty(status: u16) -> Answer {
    let mut answer = whole(Bytes::new());
    *answer.status_mut() = status_of(status);
    answer
}

fn whole(bytes: Bytes) -> Answer {
    let length = bytes.len();
    let answer = Response::new(Pieces::new(bytes, End::Well));
    with(answer, &CONTENT_LENGTH, &length.to_string())
}

fn with(mut answer: Answer, name: &HeaderName, value: &str) -> Answer {
    let value = HeaderValue::try_from(value).expect("a header of a test");
    answer.headers_mut().insert(name, value);
    answer
}

/// A name for what a file holds.
fn tag(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(bytes);
    format!(
        "\"{:02x}{:02x}{:02x}{:02x}\"",
        hash[0], hash[1], hash[2], hash[3]
    )
}

/// The part of a file that is asked for, if it is still the same file.
fn part(asked: &Asked, bytes: Bytes) -> Answer {
    let tag = tag(&bytes);
    let length = bytes.len();
    let header = |name: &HeaderName| {
        asked
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let is_same = header(&IF_RANGE).is_none_or(|version| version == tag);
    let from = header(&RANGE).filter(|_| is_same).and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    let answer = match from {
        None => whole(bytes),
        Some(from) if from < length => {
            let range = format!("bytes {from}-{}/{length}", length - 1);
            let mut answer = whole(bytes.slice(from..));
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            with(answer, &CONTENT_RANGE, &range)
        }
        Some(_) => with(empty(416), &CONTENT_RANGE, &format!("bytes */{length}")),
    };
    with(with(answer, &ETAG, &tag), &ACCEPT_RANGES, "bytes")
}

/// So many bytes of what is asked for, though all are promised.
fn cut(asked: &Asked, bytes: Bytes, after: usize, end: End) -> Answer {
    let start = part(asked, bytes.clone());
    let (mut head, _) = start.into_parts();
    let promised = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let promised: usize = promised.unwrap_or(0);
    let from = bytes.len() - promised.min(bytes.len());
    let bytes = bytes.slice(from..from + after.min(promised));
    head.headers.insert(CONTENT_LENGTH, promised.into());
    Response::from_parts(head, Pieces::new(bytes, end))
}
