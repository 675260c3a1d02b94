//! One request and its answer, over redirections.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Body, Method, Response, StatusCode, Url};

use crate::address::redirected;
use crate::client::{Deadline, Load, Pass, Transport, fault_of, retry_after, seconds, within};
use crate::error::{Fault, Kind};

/// How many redirections are followed, as in Nix.
const REDIRECTIONS: u32 = 10;

/// One request.
pub(crate) struct Exchange<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// How long a connection may take to open; zero for no limit.
    pub(crate) connect_timeout: Duration,
    /// How long the beginning of an answer may take; zero for no limit.
    pub(crate) wait: Duration,
    /// How much has been sent of a body: for each piece that is sent, the server has so much time
    /// again.
    pub(crate) sent: Option<Arc<AtomicU64>>,
    /// Of something small, until when it must have come.
    pub(crate) deadline: Option<&'a Deadline>,
}

/// The beginning of an answer. The server counts it as under way until it is dropped.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    _pass: Pass,
}

impl Exchange<'_> {
    /// Sends it to `url`, and to wherever that leads, with what `body` makes each time.
    ///
    /// # Errors
    /// When there is no answer. Any status but a redirection is one.
    pub(crate) async fn send(
        &self,
        url: Url,
        body: impl Fn() -> Option<Body>,
    ) -> Result<Answer, Fault> {
        let first = url.origin();
        let mut url = url;
        let mut login = None;
        for _ in 0..=REDIRECTIONS {
            let whole = url.clone();
            let own = self.transport.login(&mut url);
            if url.origin() == first {
                login = own.clone().or(login);
            }
            let own = own.or_else(|| login.clone().filter(|_| url.origin() == first));
            let load = self.deadline.map_or(Load::Large, |_| Load::Small);
            let mut pass = self.transport.gates.pass(&url, load).await;
            if let Some(deadline) = self.deadline {
                deadline.begin();
            }
            let client = self.transport.client(&url, self.connect_timeout)?;
            let mut request = client.request(self.method.clone(), url);
            request = request.headers(self.headers.clone());
            if let Some(own) = own {
                request = request.header(Transport::LOGIN, own);
            }
            if let Some(body) = body() {
                request = request.body(body);
            }
            let response = self.wait(async { request.send().await.map_err(fault_of) });
            let response = response.await?;
            pass.learn(response.version());
            match self.location(&response) {
                Some(location) => url = lead(&whole, &location)?,
                None => {
                    return Ok(Answer {
                        response,
                        _pass: pass,
                    });
                }
            }
        }
        let text = format!("there are more than {REDIRECTIONS} redirections");
        Err(Fault::new(Kind::TooManyRedirects, text))
    }

    async fn wait<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        if let Some(deadline) = self.deadline {
            return deadline.within(self.wait, work).await;
        }
        let Some(sent) = &self.sent else {
            return within(self.wait, work).await;
        };
        let mut work = std::pin::pin!(work);
        loop {
            let before = sent.load(Ordering::Relaxed);
            match within(self.wait, work.as_mut()).await {
                Err(fault)
                    if fault.kind == Kind::Timeout && sent.load(Ordering::Relaxed) != before => {}
                result => return result,
            }
        }
    }

    /// Where an answer leads, if the same request is to be made there.
    fn location(&self, response: &Response) -> Option<String> {
        let is_read = matches!(self.method, Method::GET | Method::HEAD);
        match response.status().as_u16() {
            307 | 308 => {}
            301..=303 if is_read => {}
            _ => return None,
        }
        Some(header(response.headers(), &LOCATION)?.to_owned())
    }
}

fn lead(from: &Url, location: &str) -> Result<Url, Fault> {
    let led = redirected(from.as_str(), location);
    let led = led.map_err(|text| Fault::new(Kind::BadRedirect, text))?;
    Url::parse(&led).map_err(|error| {
        let text = format!("it is redirected to an address that is malformed: {error}");
        Fault::new(Kind::BadRedirect, text)
    })
}

/// A header that is text.
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// What an answer that is no success means.
pub(crate) fn refusal(response: &Response) -> Fault {
    let status = response.status();
    let asked = header(response.headers(), &RETRY_AFTER);
    let asked = asked.and_then(|text| retry_after(text, SystemTime::now()));
    let mut fault = match status {
        StatusCode::UNAUTHORIZED => Fault::new(
            Kind::Denied,
            format!("the server wants another login ({status}); name one in the netrc file"),
        ),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Fault::new(
            Kind::Denied,
            format!("the proxy wants another login ({status}); name one in the proxy's address"),
        ),
        _ => Fault::new(
            Kind::Status(status.as_u16()),
            match asked {
                None => format!("the server answers {status}"),
                Some(time) => {
                    let time = seconds(Duration::from_secs(time.as_secs_f64().ceil() as u64));
                    format!("the server answers {status}, and is to be asked again in {time}")
                }
            },
        ),
    };
    fault.retry_after = asked;
    fault
}

impl Answer {
    /// The next piece of the body, which is to come within a time.
    ///
    /// # Errors
    /// When it is cut or late.
    pub(crate) async fn chunk(&mut self, most: Duration) -> Result<Option<bytes::Bytes>, Fault> {
        let response = &mut self.response;
        let chunk = async { response.chunk().await.map_err(fault_of) };
        within(most, chunk).await
    }

    /// The whole body, each piece of which is to come within a time.
    ///
    /// # Errors
    /// When it has more than `limit` bytes, is cut, or does not come.
    pub(crate) async fn body(&mut self, limit: u64, most: Duration) -> Result<Vec<u8>, Fault> {
        let too_large = || {
            let text =
                format!("the answer has more than {limit} bytes, which is the most that is read");
            Fault::new(Kind::TooLarge, text)
        };
        if self
            .response
            .content_length()
            .is_some_and(|length| length > limit)
        {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(most).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
