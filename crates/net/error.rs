//! Why something could not be fetched from a cache or written to it: one type, with the address
//! and one line of reason.

use std::fmt;
use std::time::Duration;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No connection could be made.
    Connect,
    /// The name of the host leads nowhere, or could not be looked up.
    NoSuchHost,
    /// The proxy can't be used, or refuses.
    Proxy,
    /// The server's certificate or its way to encrypt is not acceptable.
    Tls,
    /// Something took longer than a setting allows.
    Timeout,
    /// The connection ended in the middle.
    Reset,
    /// What was received does not follow the protocol.
    Protocol,
    /// What was received is encoded in a way that is not known, or is not what it says.
    BadEncoding,
    /// The server answers with that status, which is no success.
    Status(u16),
    /// The server wants a login, or another one, or forbids what was asked of it.
    Denied,
    /// There were more redirections than are followed.
    TooManyRedirects,
    /// A redirection leads where none may lead.
    BadRedirect,
    /// There is more than was expected or is allowed.
    TooLarge,
    /// There is less than was expected, and the server says that it is all.
    Short,
    /// It is no address or name that such a cache can have, or not one that may be written to.
    BadAddress,
    /// What is needed to log in is wrong or missing on this machine.
    Credentials,
    /// The other store says that it can't, or will not, do what was asked of it.
    Refused,
    /// The other side is too old or too new to be understood.
    Unsupported,
    /// A file or a thread of this machine fails.
    Io,
    /// Nobody wants it any more.
    Cancelled,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Fetch,
    LookFor,
    Upload,
    Use,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::LookFor => "look for",
            Self::Upload => "upload",
            Self::Use => "use",
        }
    }
}

/// Why it failed. Printed, it is one line with the address in it, without passwords.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {} '{url}': {reason}", doing.verb())]
pub struct NetError {
    kind: Kind,
    doing: Doing,
    url: String,
    reason: String,
    transient: bool,
    /// How long the server wants to be left alone.
    retry_after: Option<Duration>,
}

/// A failure before it is known what it is about.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
    pub(crate) transient: bool,
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    /// One that is tried again if its kind may pass.
    pub(crate) fn new(kind: Kind, reason: impl fmt::Display) -> Self {
        Self {
            kind,
            reason: one_line(&reason.to_string()),
            transient: may_pass(kind),
            retry_after: None,
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "nobody wants it any more")
    }

    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Kind::Io, format_args!("{what}: {error}"))
    }

    pub(crate) fn about(self, doing: Doing, url: &str) -> NetError {
        NetError {
            kind: self.kind,
            doing,
            url: redacted(url),
            reason: self.reason,
            transient: self.transient,
            retry_after: self.retry_after,
        }
    }
}

/// Whether another attempt may have more luck: the choice of Nix 2.35, except that bad
/// certificates do not become right.
fn may_pass(kind: Kind) -> bool {
    match kind {
        Kind::Connect | Kind::NoSuchHost | Kind::Timeout | Kind::Reset | Kind::Protocol => true,
        Kind::Status(408 | 429) => true,
        Kind::Status(status) => status >= 500 && !matches!(status, 501 | 505 | 511),
        _ => false,
    }
}

impl NetError {
    /// Nobody wants it any more.
    pub(crate) fn cancelled(url: &str) -> Self {
        Fault::cancelled().about(Doing::Use, url)
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The address that it is about, without passwords, and without the query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Why, without the address.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether it may pass by itself, so that another attempt makes sense.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Whether the server says that there is no such thing. What was asked for with
    /// [`Remote::get`](crate::remote::Remote::get) is then no error.
    pub fn is_absent(&self) -> bool {
        matches!(self.kind, Kind::Status(status) if is_absent(status))
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Whether a status says that there is no such thing. S3 answers 403 if it may not be listed.
pub(crate) fn is_absent(status: u16) -> bool {
    matches!(status, 403 | 404 | 410)
}

/// An address without login and query: a presigned one has a signature in it.
pub(crate) fn redacted(url: &str) -> String {
    let (url, _) = crate::address::without_userinfo(url);
    match url.split_once('?') {
        Some((url, _)) => format!("{url}?…"),
        None => url,
    }
}

/// The text without line breaks and other control characters, cut to a bearable length.
pub(crate) fn one_line(text: &str) -> String {
    const MOST: usize = 400;
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MOST).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_without_passwords() {
        let fault = Fault::new(Kind::Status(503), "the server answers\n503\x1b[1m");
        let error = fault.about(Doing::Fetch, "https://u:p@h/x?X-Amz-Signature=abc");
        assert_eq!(
            error.to_string(),
            "cannot fetch 'https://h/x?…': the server answers 503 [1m"
        );
        assert!(error.is_transient() && !error.is_absent());
    }

    #[test]
    fn what_may_pass_is_what_nix_tries_again() {
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(may_pass(Kind::Status(status)), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 410, 416, 501, 505, 511] {
            assert!(!may_pass(Kind::Status(status)), "{status}");
        }
        for kind in [
            Kind::Tls,
            Kind::Io,
            Kind::Short,
            Kind::Cancelled,
            Kind::TooLarge,
        ] {
            assert!(!may_pass(kind));
        }
    }
}
