//! Writing to a cache that is reached by HTTP.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Url};

use super::Reach;
use super::body::Source;
use super::exchange::{Answer, Exchange};
use super::place::Place;
use crate::client::Wanted;
use crate::error::{Doing, Fault, Kind};

/// What is uploaded, as what.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) content_type: String,
}

/// Uploads it, in parts where that is how such a store takes what is large.
pub(crate) async fn put(reach: &Reach, upload: Upload, wanted: &mut Wanted) -> Result<(), Fault> {
    let length = upload.source.length()?;
    if let Place::S3(store) = &*reach.place
        && store.takes_in_parts(length)
    {
        return super::multipart::put(reach, store, upload, length, wanted).await;
    }
    let url = || reach.place.url(&Method::PUT, &upload.name);
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::try_from(&upload.content_type);
    let bad = |error| Fault::new(Kind::BadAddress, error);
    headers.insert(CONTENT_TYPE, content_type.map_err(bad)?);
    let body = Some((&upload.source, (0, length)));
    let sent = retried(reach, &upload.name, (&Method::PUT, &headers), url, body);
    wanted.or_cancelled(sent).await.map(drop)
}

/// A request that uploads something, made as often as it may be, with an address of its own each
/// time: a signature holds for a while only. The answer is a success.
pub(crate) async fn retried(
    reach: &Reach,
    name: &str,
    (method, headers): (&Method, &HeaderMap),
    url: impl Fn() -> Result<Url, Fault>,
    body: Option<(&Source, (u64, u64))>,
) -> Result<Answer, Fault> {
    let shown = reach.place.shown(name);
    let mut attempts = reach.attempts((Doing::Upload, &shown));
    loop {
        let fault = match attempt(reach, (method, headers), url()?, body).await {
            Ok(answer) if answer.response.status().is_success() => return Ok(answer),
            Ok(answer) => denied(reach.place.refusal(answer).await),
            Err(fault) => fault,
        };
        attempts.again(fault).await?;
    }
}

async fn attempt(
    reach: &Reach,
    (method, headers): (&Method, &HeaderMap),
    url: Url,
    body: Option<(&Source, (u64, u64))>,
) -> Result<Answer, Fault> {
    let sent = Arc::new(AtomicU64::new(0));
    let mut headers = headers.clone();
    if let Some((_, (_, length))) = body {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let exchange = Exchange {
        transport: &reach.transport,
        method: method.clone(),
        headers,
        connect_timeout: reach.limits.connect_timeout,
        wait: reach.limits.stalled_timeout,
        sent: Some(Arc::clone(&sent)),
        deadline: None,
    };
    let make = || {
        let (source, (start, length)) = body?;
        Some(Body::wrap(source.section(start, length, Arc::clone(&sent))))
    };
    exchange.send(url, make).await
}

/// What an answer means to somebody who wants to write.
fn denied(mut fault: Fault) -> Fault {
    if fault.kind == Kind::Status(403) {
        fault.kind = Kind::Denied;
    }
    if fault.kind == Kind::Status(405) {
        fault.reason = format!("the cache can't be written to: {}", fault.reason);
    }
    fault
}
