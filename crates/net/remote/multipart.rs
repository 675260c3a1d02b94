//! Uploads to S3 in parts, a few at a time, as it wants them of what is large.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use tokio::task::JoinSet;

use super::Reach;
use super::body::Source;
use super::exchange::{Answer, Exchange, header};
use super::place::Place;
use super::s3::{SIGNED_FOR, Store, with_error};
use super::upload::{Upload, retried};
use crate::client::Wanted;
use crate::error::{Fault, Kind};

/// How many parts S3 takes.
const PARTS_MAX: u64 = 10_000;
/// How many parts are under way at a time.
const AT_A_TIME: usize = 4;
/// How long to wait for the answer that an upload has been given up.
const ABORT_WAIT: Duration = Duration::from_secs(10);
/// The most that is read of an answer, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// Uploads it. If it fails or is called off, what was sent is given up.
pub(crate) async fn put(
    reach: &Reach,
    store: &Store,
    upload: Upload,
    length: u64,
    wanted: &mut Wanted,
) -> Result<(), Fault> {
    let key = store.key(&upload.name)?;
    let begun = begin(reach, store, (&upload, &key));
    let id = wanted.or_cancelled(begun).await?;
    let size = store.parts.size.max(length.div_ceil(PARTS_MAX));
    let all = async {
        let tags = parts(reach, &upload, &key, (&id, length, size)).await?;
        complete(reach, store, (&upload, &key), (&id, &tags)).await
    };
    let result = wanted.or_cancelled(all).await;
    if result.is_err() {
        abort(reach, store, (&key, &id)).await;
    }
    result
}

/// Gives up what was sent, which would be kept, and paid for. If that fails too there is nothing to
/// be done about it.
async fn abort(reach: &Reach, store: &Store, (key, id): (&str, &str)) {
    let credentials = store.credentials.as_ref();
    let action = store.bucket.abort_multipart_upload(credentials, key, id);
    let exchange = Exchange {
        transport: &reach.transport,
        method: Method::DELETE,
        headers: HeaderMap::new(),
        connect_timeout: reach.limits.connect_timeout,
        wait: ABORT_WAIT,
        sent: None,
        deadline: None,
    };
    let _ = exchange.send(action.sign(SIGNED_FOR), || None).await;
}

/// Announces it; the number that its parts are sent under.
async fn begin(
    reach: &Reach,
    store: &Store,
    (upload, key): (&Upload, &str),
) -> Result<String, Fault> {
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::try_from(&upload.content_type);
    headers.insert(
        CONTENT_TYPE,
        content_type.map_err(|error| Fault::new(Kind::BadAddress, error))?,
    );
    let url = || {
        Ok(store
            .bucket
            .create_multipart_upload(store.credentials.as_ref(), key)
            .sign(SIGNED_FOR))
    };
    let answer = retried(reach, &upload.name, (&Method::POST, &headers), url, None).await?;
    let text = text(reach, answer).await?;
    match CreateMultipartUpload::parse_response(&text) {
        Ok(answer) => Ok(answer.upload_id().to_owned()),
        Err(error) => Err(Fault::new(
            Kind::Protocol,
            format_args!("its answer is malformed: {error}"),
        )),
    }
}

/// Sends the parts; their tags, in order.
async fn parts(
    reach: &Reach,
    upload: &Upload,
    key: &str,
    (id, length, size): (&str, u64, u64),
) -> Result<Vec<String>, Fault> {
    let count = length.div_ceil(size);
    let mut tags = vec![String::new(); usize::try_from(count).unwrap_or(usize::MAX)];
    let mut next = 0;
    let mut under_way = JoinSet::new();
    loop {
        while next < count && under_way.len() < AT_A_TIME {
            let start = next * size;
            let part = Part {
                reach: reach.clone(),
                name: upload.name.clone(),
                source: upload.source.clone(),
                key: key.to_owned(),
                id: id.to_owned(),
                index: next,
                section: (start, size.min(length - start)),
            };
            under_way.spawn(part.send());
            next += 1;
        }
        let Some(sent) = under_way.join_next().await else {
            return Ok(tags);
        };
        let failed = |error| Fault::new(Kind::Io, format_args!("a part was not sent: {error}"));
        let (index, tag) = sent.map_err(failed)??;
        if let Some(slot) = usize::try_from(index)
            .ok()
            .and_then(|index| tags.get_mut(index))
        {
            *slot = tag;
        }
    }
}

struct Part {
    reach: Reach,
    name: String,
    source: Source,
    key: String,
    id: String,
    index: u64,
    section: (u64, u64),
}

impl Part {
    /// Sends it; its index and its tag.
    async fn send(self) -> Result<(u64, String), Fault> {
        let Place::S3(store) = &*self.reach.place else {
            return Err(Fault::new(Kind::BadAddress, "it is in no bucket"));
        };
        let number = u16::try_from(self.index + 1).unwrap_or(u16::MAX);
        let credentials = store.credentials.as_ref();
        let url = || {
            let part = store
                .bucket
                .upload_part(credentials, &self.key, number, &self.id);
            Ok(part.sign(SIGNED_FOR))
        };
        let body = Some((&self.source, self.section));
        let headers = HeaderMap::new();
        let answer = retried(&self.reach, &self.name, (&Method::PUT, &headers), url, body).await?;
        match header(answer.response.headers(), &ETAG) {
            Some(tag) => Ok((self.index, tag.to_owned())),
            None => Err(Fault::new(
                Kind::Protocol,
                "the answer to a part has no ETag",
            )),
        }
    }
}

/// Has the parts put together.
async fn complete(
    reach: &Reach,
    store: &Store,
    (upload, key): (&Upload, &str),
    (id, tags): (&str, &[String]),
) -> Result<(), Fault> {
    let action = || {
        let tags = tags.iter().map(String::as_str);
        store
            .bucket
            .complete_multipart_upload(store.credentials.as_ref(), key, id, tags)
    };
    let body = action().body().into_bytes();
    let section = (0, body.len() as u64);
    let source = Source::Bytes(body.into());
    let url = || Ok(action().sign(SIGNED_FOR));
    let headers = HeaderMap::new();
    let body = Some((&source, section));
    let answer = retried(reach, &upload.name, (&Method::POST, &headers), url, body).await?;
    let text = text(reach, answer).await?;
    // It may have failed although the status is a success.
    CompleteMultipartUploadResponse::parse(&text)
        .map(drop)
        .map_err(|error| {
            let fault = Fault::new(
                Kind::Protocol,
                format_args!("its parts were not put together: {error}"),
            );
            with_error(fault, &text)
        })
}

async fn text(reach: &Reach, mut answer: Answer) -> Result<String, Fault> {
    let body = answer
        .body(ANSWER_MAX, reach.limits.stalled_timeout)
        .await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusty_s3::Credentials;

    use super::*;
    use crate::client::{Client, Config, Limits};
    use crate::remote::Remote;
    use crate::remote::s3::Parts;
    use crate::store_url::{self, StoreUrl};
    use crate::testing::{Behaviour, Server};

    /// A bucket that the server serves as a directory, with parts of 1000 bytes.
    fn bucket(server: &Server, client: &Client) -> Remote {
        let url = format!("s3://b/p?endpoint={}", server.url());
        let url = StoreUrl::parse(&url).unwrap();
        let store_url::Kind::S3 { bucket, prefix } = &url.kind else {
            panic!("not in a bucket");
        };
        let credentials = Credentials::new("key", "secret");
        let mut store = Store::new((bucket, prefix), &url.params, Some(credentials)).unwrap();
        store.parts = Parts {
            above: 2500,
            size: 1000,
        };
        let moment = Duration::from_millis(1);
        let limits = Limits {
            attempts: 3,
            retry_delay: moment,
            retry_delay_rate_limited: moment,
            ..Limits::default()
        };
        Remote::reached(Place::S3(store), limits, client)
    }

    fn source(length: usize) -> Source {
        let bytes = (0..length).map(|n| u8::try_from(n % 251).unwrap());
        Source::Bytes(bytes.collect::<Vec<_>>().into())
    }

    #[test]
    fn what_is_large_is_sent_in_parts_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let client = Client::new(Config::default()).unwrap();
        let remote = bucket(&server, &client);
        let file = dir.path().join("source");
        for length in [0, 1, 2500, 2501, 7000, 7001] {
            let Source::Bytes(bytes) = source(length) else {
                panic!("no bytes");
            };
            std::fs::write(&file, &bytes).unwrap();
            let opened = Arc::new(std::fs::File::open(&file).unwrap());
            for source in [Source::Bytes(bytes.clone()), Source::File(opened)] {
                // One part is refused once.
                server.behave_times(1, "/b/p/nar/x", Behaviour::Status(503));
                server.forget();
                remote
                    .put_now("nar/x", source, "application/x-nix-nar")
                    .unwrap();
                let requests = if length > 2500 {
                    2 + length.div_ceil(1000)
                } else {
                    1
                };
                assert_eq!(server.count("/b/p/nar/x"), requests + 1);
                let first = &server.requests()[0];
                assert!(first.query.contains("X-Amz-Signature="));
                assert_eq!(first.header("content-type"), Some("application/x-nix-nar"));
                let back = remote.get_now("nar/x", 10_000).unwrap().unwrap();
                assert!(back == bytes, "{length}");
                assert_eq!(server.open_uploads(), 0);
            }
        }
        assert!(remote.exists_now("nar/x").unwrap());
        assert!(!remote.exists_now("nar/y").unwrap());
        let error = remote.get_now("../x", 1).unwrap_err();
        assert_eq!(error.kind(), Kind::BadAddress);
    }

    #[test]
    fn parts_that_fail_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let client = Client::new(Config::default()).unwrap();
        let remote = bucket(&server, &client);
        let text = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_owned();
        // The first request begins it, the second one is a part.
        server.behave_times(1, "/b/p/x", Behaviour::Text(403, text.clone()));
        server.behave_times(1, "/b/p/x", Behaviour::Latency(Duration::ZERO));
        let error = remote.put_now("x", source(5000), "text/plain").unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(
            error.to_string().contains("'s3://b/p/x'")
                && error.to_string().contains("AccessDenied")
        );
        assert_eq!(server.open_uploads(), 0);
        assert!(!dir.path().join("b/p/x").exists());
        server.behave_well();
        server.behave("/b/p/x", Behaviour::Text(403, text));
        let error = remote.put_now("x", source(10), "text/plain").unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        // To who reads, the same is an object that is not there.
        assert_eq!(remote.get_now("x", 10).unwrap(), None);
        let slow = "<Error><Code>SlowDown</Code><Message>m</Message></Error>".to_owned();
        server.behave_well();
        server.behave_times(2, "/b/p/x", Behaviour::Text(400, slow));
        remote.put_now("x", source(10), "text/plain").unwrap();
    }

    #[test]
    fn an_upload_that_is_called_off_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let client = Client::new(Config::default()).unwrap();
        let remote = bucket(&server, &client);
        let (send, answer) = std::sync::mpsc::channel();
        // All parts hang; beginning it does not, nor does giving it up.
        server.behave_times(4, "/b/p/x", Behaviour::Hang);
        server.behave_times(1, "/b/p/x", Behaviour::Latency(Duration::ZERO));
        let ticket = remote.put("x", source(4000), "text/plain", move |result| {
            send.send(result).unwrap();
        });
        while server.count("/b/p/x") < 5 {
            std::thread::yield_now();
        }
        drop(ticket);
        let error = answer.recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
        assert_eq!(server.open_uploads(), 0);
        assert_eq!(server.requests().last().unwrap().method, "DELETE");
    }

    #[test]
    fn a_success_that_is_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let client = Client::new(Config::default()).unwrap();
        let remote = bucket(&server, &client);
        // Beginning and three parts go well; what completes it fails in its text.
        let text = "<Error><Code>InternalError</Code><Message>m</Message></Error>".to_owned();
        server.behave_times(1, "/b/p/x", Behaviour::Text(200, text));
        server.behave_times(4, "/b/p/x", Behaviour::Latency(Duration::ZERO));
        let error = remote.put_now("x", source(3000), "text/plain").unwrap_err();
        assert!(error.reason().contains("InternalError"), "{error}");
        assert_eq!(server.open_uploads(), 0);
    }
}
