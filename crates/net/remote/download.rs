//! Downloads into a file, which go on where they were cut: in the next attempt, and in the next
//! run.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use reqwest::{Method, StatusCode, Version};
use windrow_components::hash::Hash;
use windrow_sys::interrupt::Stop;

use super::exchange::{Answer, Exchange, header};
use super::partial::Partial;
use super::writer::Writer;
use super::{Reach, by_thread};
use crate::address::without_userinfo;
use crate::client::Wanted;
use crate::error::{Doing, Fault, Kind};

/// An attempt that brings this number of bytes is not counted, so that what is large may be cut
/// often.
const WORTH: u64 = 1 << 20;

/// How long a piece may take to come before what is in memory is put into a file, so that it stays
/// if the run ends.
const SOON: Duration = Duration::from_millis(100);

/// What is known beforehand of a thing that is downloaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// How many bytes it has.
    pub size: Option<u64>,
    /// Their hash.
    pub hash: Option<Hash>,
}

impl From<Option<u64>> for Expected {
    fn from(size: Option<u64>) -> Self {
        Self { size, hash: None }
    }
}

/// One thing to be downloaded.
pub(crate) struct Download<P> {
    reach: Reach,
    name: String,
    expected: Expected,
    /// Told how many bytes there are.
    progress: P,
    /// Whether what there is of it came with more than one answer, perhaps of several servers.
    is_pieced: bool,
}

/// What an attempt leaves: the file unless it is lost, and how it went.
type Left = (Option<Partial>, Result<(), Fault>);

/// Whether to ask for the rest only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Rest,
    All,
}

impl<P: FnMut(u64) + Send> Download<P> {
    /// What has that name at a cache.
    pub(crate) fn new((reach, name): (Reach, String), expected: Expected, progress: P) -> Self {
        Self {
            reach,
            name,
            expected,
            progress,
            is_pieced: true,
        }
    }

    /// Downloads it. When this ends, nothing writes to the file any more.
    pub(crate) async fn run(
        mut self,
        mut partial: Partial,
        mut wanted: Wanted,
    ) -> Result<Partial, Fault> {
        let shown = self.reach.place.shown(&self.name);
        let reach = self.reach.clone();
        let mut attempts = reach.attempts((Doing::Fetch, &shown));
        let mut ask = Ask::Rest;
        loop {
            let before = partial.length();
            let (left, result) = match self.is_whole(&partial) {
                true => (Some(partial), Ok(())),
                false => self.attempt(partial, ask, &mut wanted).await,
            };
            let Some(left) = left else {
                let lost = || Fault::new(Kind::Io, "its file is lost");
                return Err(result.err().unwrap_or_else(lost));
            };
            partial = left;
            let Err(fault) = result else {
                if self.has_to_be_checked() {
                    partial = self.empty_if_wrong(partial, &mut wanted).await?;
                    if partial.length() == 0 {
                        // Whoever sent the first of it may be to blame.
                        ask = Ask::All;
                        continue;
                    }
                }
                return Ok(partial);
            };
            if fault.kind == Kind::Status(416) && before > 0 && ask == Ask::Rest {
                // There is no such rest: what is there was of something else.
                ask = Ask::All;
                continue;
            }
            if partial.length() >= before.saturating_add(WORTH) {
                attempts.forgive();
            }
            if let Err(fault) = wanted.or_cancelled(attempts.again(fault)).await {
                if fault.kind != Kind::Cancelled {
                    keep(partial).await;
                }
                return Err(fault);
            }
        }
    }

    /// Whether an earlier run got all of it.
    fn is_whole(&self, partial: &Partial) -> bool {
        self.expected.size == Some(partial.length()) && partial.length() > 0
    }

    /// Whether what is complete may be of several versions or servers.
    fn has_to_be_checked(&self) -> bool {
        self.is_pieced && self.expected.hash.is_some()
    }

    /// Forgets what is complete if it does not have the hash that it should have.
    async fn empty_if_wrong(
        &mut self,
        mut partial: Partial,
        wanted: &mut Wanted,
    ) -> Result<Partial, Fault> {
        let Some(expected) = self.expected.hash.take() else {
            return Ok(partial);
        };
        let check = move |stop: &Stop| {
            if partial.hash(expected.algo(), stop)? != expected {
                partial.clear().map_err(cannot_empty)?;
            }
            Ok(partial)
        };
        by_thread(wanted, check).await
    }

    async fn attempt(&mut self, mut partial: Partial, ask: Ask, wanted: &mut Wanted) -> Left {
        let asked = wanted.or_cancelled(self.ask(&mut partial, ask)).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(fault) => return (Some(partial), Err(fault)),
        };
        if let Err(fault) = self.fit(&answer, &mut partial) {
            return (Some(partial), Err(fault));
        }
        let mut length = partial.length();
        self.is_pieced = length > 0;
        let mut writer = Writer::start(partial);
        let body = self.body(answer, &mut writer, &mut length);
        let received = wanted.or_cancelled(body).await;
        let (partial, written) = writer.finish().await;
        let Some(mut partial) = partial else {
            return (None, written);
        };
        let result = written.and(received);
        if let Err(fault) = &result
            && matches!(fault.kind, Kind::TooLarge | Kind::Short)
            && let Err(error) = partial.clear()
        {
            return (Some(partial), Err(cannot_empty(error)));
        }
        (Some(partial), result)
    }

    /// Makes the request, for the rest if something of the same version is there.
    async fn ask(&mut self, partial: &mut Partial, ask: Ask) -> Result<Answer, Fault> {
        let url = self.reach.place.url(&Method::GET, &self.name)?;
        let have = partial.length();
        let version = partial.version(&self.key());
        let headers = match ask {
            Ask::Rest
                if have > 0
                    && (version.is_some() || self.expected.size.is_some_and(|all| all > have)) =>
            {
                range(have, version.as_deref())
            }
            _ => HeaderMap::new(),
        };
        let exchange = Exchange {
            transport: &self.reach.transport,
            method: Method::GET,
            headers,
            connect_timeout: self.reach.limits.connect_timeout,
            wait: self.reach.limits.stalled_timeout,
            sent: None,
            deadline: None,
        };
        let answer = exchange.send(url, || None).await?;
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        Err(self.reach.place.refusal(answer).await)
    }

    /// What versions are kept under: the address without a signature and without a login.
    fn key(&self) -> String {
        without_userinfo(&self.reach.place.shown(&self.name)).0
    }

    /// Makes the file ready for the body of an answer, and checks what the answer says of itself.
    fn fit(&self, answer: &Answer, partial: &mut Partial) -> Result<(), Fault> {
        let headers = answer.response.headers();
        if header(headers, &CONTENT_ENCODING)
            .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
        {
            let text = "the server encodes the body, though nobody asked for it (Content-Encoding)";
            return Err(Fault::new(Kind::BadEncoding, text));
        }
        if answer.response.status() == StatusCode::PARTIAL_CONTENT {
            return self.fit_rest(headers, partial);
        }
        partial.clear().map_err(cannot_empty)?;
        partial.set_version(&self.key(), version(headers));
        let length = answer.response.content_length();
        match (self.expected.size, length) {
            (Some(expected), Some(length)) if length != expected => {
                Err(wrong_size(length, expected))
            }
            _ => Ok(()),
        }
    }

    fn fit_rest(&self, headers: &HeaderMap, partial: &mut Partial) -> Result<(), Fault> {
        let range = header(headers, &CONTENT_RANGE).and_then(content_range);
        let Some((start, all)) = range.filter(|(start, _)| *start == partial.length()) else {
            partial.clear().map_err(cannot_empty)?;
            return Err(Fault::new(
                Kind::Protocol,
                "the server sends another part than was asked for",
            ));
        };
        match (self.expected.size, all) {
            (Some(expected), Some(all)) if all != expected => {
                partial.clear().map_err(cannot_empty)?;
                Err(wrong_size(all, expected))
            }
            (Some(expected), _) if start > expected => Err(wrong_size(start, expected)),
            _ => Ok(()),
        }
    }

    /// Takes the body to its end.
    async fn body(
        &mut self,
        mut answer: Answer,
        writer: &mut Writer,
        length: &mut u64,
    ) -> Result<(), Fault> {
        let version = answer.response.version();
        let is_delimited = answer.response.content_length().is_some() || version > Version::HTTP_10;
        let stalled = self.reach.limits.stalled_timeout;
        while let Some(piece) = next_piece(&mut answer, writer, stalled).await? {
            let bytes = piece.len();
            *length += bytes as u64;
            if let Some(expected) = self.expected.size.filter(|expected| *length > *expected) {
                let text = format!("there are more than the {expected} bytes that it should have");
                return Err(Fault::new(Kind::TooLarge, text));
            }
            if !writer.write(piece).await {
                return Ok(());
            }
            self.reach.excused.for_time(Duration::ZERO);
            (self.progress)(*length);
            self.reach.transport.speed.took(bytes).await;
        }
        match self.expected.size {
            Some(expected) if *length < expected => Err(if is_delimited {
                wrong_size(*length, expected)
            } else {
                Fault::new(Kind::Reset, "the connection ended too early")
            }),
            _ => Ok(()),
        }
    }
}

/// The next piece of a body, which is to come within a time.
async fn next_piece(
    answer: &mut Answer,
    writer: &mut Writer,
    stalled: Duration,
) -> Result<Option<Bytes>, Fault> {
    if writer.is_in_memory() {
        match answer.chunk(SOON).await {
            Err(fault) if fault.kind == Kind::Timeout => writer.use_file(),
            piece => return piece,
        }
    }
    answer.chunk(stalled).await
}

/// Puts what is in memory into a file, for another attempt.
async fn keep(mut partial: Partial) {
    if partial.has_room(0) && partial.length() > 0 {
        // It is of no great loss.
        let _ = tokio::task::spawn_blocking(move || partial.put_on_disk()).await;
    }
}

fn cannot_empty(error: std::io::Error) -> Fault {
    Fault::io("cannot empty the file for it", &error)
}

fn wrong_size(length: u64, expected: u64) -> Fault {
    let kind = if length < expected {
        Kind::Short
    } else {
        Kind::TooLarge
    };
    Fault::new(
        kind,
        format_args!("it has {length} bytes instead of {expected}"),
    )
}

/// Asks for the bytes from there on, of that version.
fn range(from: u64, version: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(format!("bytes={from}-")) {
        headers.insert(RANGE, value);
    }
    if let Some(version) = version.and_then(|version| HeaderValue::try_from(version).ok()) {
        headers.insert(IF_RANGE, version);
    }
    headers
}

/// What a server calls the version that it sends, if it can send parts of it: a tag that is strong,
/// or a date.
fn version(headers: &HeaderMap) -> Option<&str> {
    if header(headers, &ACCEPT_RANGES).is_some_and(|ranges| ranges.eq_ignore_ascii_case("none")) {
        return None;
    }
    let tag = header(headers, &ETAG).filter(|tag| tag.starts_with('"'));
    tag.or_else(|| header(headers, &LAST_MODIFIED))
}

/// Where a part begins, and how much there is in all, if the server knows.
pub(crate) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, all) = text
        .trim()
        .strip_prefix("bytes")?
        .trim_start()
        .split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let all = match all.trim() {
        "*" => None,
        all => Some(all.parse().ok()?),
    };
    (start <= end && all.is_none_or(|all| end < all)).then_some((start, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_say_where_they_lie() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes */10",
            "bytes 5-10/10",
            "bytes 9-5/10",
            "items 5-9/10",
            "bytes 5-9",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn versions_are_strong_tags_or_dates() {
        let of = |given: &[(reqwest::header::HeaderName, &'static str)]| {
            let given = given.iter().cloned();
            let headers: HeaderMap = given
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .collect();
            version(&headers).map(str::to_owned)
        };
        assert_eq!(
            of(&[(ETAG, "\"a\""), (LAST_MODIFIED, "d")]).as_deref(),
            Some("\"a\"")
        );
        assert_eq!(
            of(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, "d")]).as_deref(),
            Some("d")
        );
        assert_eq!(of(&[(ETAG, "\"a\""), (ACCEPT_RANGES, "none")]), None);
    }
}
