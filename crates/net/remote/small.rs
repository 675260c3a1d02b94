//! Small things of a cache that is reached by HTTP: what they hold, and whether they are there.

use std::io::{Cursor, ErrorKind};

use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};

use windrow_sys::bounded;

use super::exchange::{Exchange, header};
use super::{Found, Reach};
use crate::client::{Attempts, Deadline};
use crate::compression::{Compression, decoder};
use crate::error::{Doing, Fault, Kind, is_absent};

/// What `name` holds, if it is there.
pub(crate) async fn get(reach: &Reach, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    let shown = reach.place.shown(name);
    let deadline = Deadline::new(reach.limits.deadline);
    let mut attempts = reach.attempts((Doing::Fetch, &shown));
    loop {
        match attempt(reach, (Method::GET, name), limit, &deadline).await {
            Ok(found) => return Ok(found.map(|(_, body)| body)),
            Err(fault) => attempts.again_before(fault, &deadline).await?,
        }
    }
}

/// What is known of `name` without reading it, if it is there.
pub(crate) async fn find(reach: &Reach, name: &str) -> Result<Option<Found>, Fault> {
    let shown = reach.place.shown(name);
    let deadline = Deadline::new(reach.limits.deadline);
    let mut attempts = reach.attempts((Doing::LookFor, &shown));
    loop {
        match attempt(reach, (Method::HEAD, name), 0, &deadline).await {
            Ok(found) => return Ok(found.map(|(found, _)| found)),
            Err(fault) => attempts.again_before(fault, &deadline).await?,
        }
    }
}

async fn attempt(
    reach: &Reach,
    (method, name): (Method, &str),
    limit: u64,
    deadline: &Deadline,
) -> Result<Option<(Found, Vec<u8>)>, Fault> {
    let url = reach.place.url(&method, name)?;
    let most = reach.limits.answer_timeout;
    let exchange = Exchange {
        transport: &reach.transport,
        headers: HeaderMap::new(),
        connect_timeout: reach.limits.connect_timeout,
        wait: most,
        sent: None,
        deadline: Some(deadline),
        method,
    };
    let mut answer = exchange.send(url, || None).await?;
    let status = answer.response.status();
    if status.is_success() {
        let headers = answer.response.headers();
        let coding = header(headers, &CONTENT_ENCODING).map(str::to_owned);
        let length = header(headers, &CONTENT_LENGTH).filter(|_| coding.is_none());
        let size = length.and_then(|length| length.parse().ok());
        let found = Found { size };
        if exchange.method == Method::HEAD {
            return Ok(Some((found, Vec::new())));
        }
        let body = deadline.within(most, answer.body(limit, most)).await?;
        let body = match coding {
            Some(coding) => decoded(&coding, body, limit)?,
            None => body,
        };
        return Ok(Some((found, body)));
    }
    let refusal = async { Ok(reach.place.refusal(answer).await) };
    let fault = deadline.within(most, refusal).await?;
    let absent = matches!(fault.kind, Kind::Status(status) if is_absent(status));
    if absent { Ok(None) } else { Err(fault) }
}

/// What a body is without its coding. Nobody asks for one, but caches hold small things that are
/// compressed, and servers say so (`narinfo-compression` of Nix 2.32, `log-compression`).
///
/// # Errors
/// When it is a coding that nobody knows, is not what it should be, or is more than `limit` bytes.
fn decoded(coding: &str, body: Vec<u8>, limit: u64) -> Result<Vec<u8>, Fault> {
    let bad = |text: String| Fault::new(Kind::BadEncoding, text);
    let name = match coding.trim().to_ascii_lowercase() {
        name if name == "identity" || name.is_empty() || body.is_empty() => return Ok(body),
        name if name == "x-gzip" => "gzip".to_owned(),
        name => name,
    };
    let compression = Compression::from_name(&name)
        .map_err(|error| bad(format!("its Content-Encoding can't be undone: {error}")))?;
    let unpacked = decoder(compression, Cursor::new(body))
        .and_then(|reader| bounded::read_to_end(reader, limit));
    unpacked.map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => Fault::new(Kind::TooLarge, error),
        _ => bad(format!("it is not what its Content-Encoding says: {error}")),
    })
}

impl Reach {
    /// Attempts at something with this cache.
    pub(crate) fn attempts<'a>(&'a self, about: (Doing, &'a str)) -> Attempts<'a> {
        let notice = self.transport.config.notice.as_ref();
        Attempts::new((&self.limits, &self.excused), notice, about)
    }
}
