//! What an error of the HTTP library means.

use std::error::Error;
use std::io;

use crate::error::{Fault, Kind};

/// The kind of an error in making a request or reading its answer, and the most telling of its
/// texts.
pub(crate) fn of(error: reqwest::Error) -> Fault {
    // There may be a signature in it.
    let error = &error.without_url();
    let innermost = chain(error).last();
    let reason = innermost.map_or_else(|| error.to_string(), ToString::to_string);
    if error.is_timeout() {
        let what = if error.is_connect() {
            "no connection has been made within the time that is set for it"
        } else {
            "it has taken longer than is allowed"
        };
        return Fault::new(Kind::Timeout, what);
    }
    if error.is_dns() {
        return Fault::new(Kind::NoSuchHost, reason);
    }
    if let Some(tls) = chain(error).find_map(find::<rustls::Error>) {
        return Fault::new(Kind::Tls, tls);
    }
    let io = chain(error).find_map(find::<io::Error>);
    if error.is_connect() {
        let text = chain(error).map(ToString::to_string);
        // The library has no type for it.
        let mut texts = text.filter(|text| text.contains("tunnel") || text.contains("socks"));
        return match texts.next() {
            Some(text) => Fault::new(
                Kind::Proxy,
                format_args!("the proxy does not connect: {text}"),
            ),
            None => Fault::new(Kind::Connect, io.map_or(reason, ToString::to_string)),
        };
    }
    if error.is_builder() {
        return Fault::new(Kind::BadAddress, reason);
    }
    let cut = [
        "connection closed",
        "stream error",
        "reset",
        "end of file",
        "broken pipe",
        "unexpected eof",
        "incomplete",
    ];
    let lower = reason.to_ascii_lowercase();
    if io.is_some() || cut.iter().any(|text| lower.contains(text)) {
        return Fault::new(
            Kind::Reset,
            format_args!("the connection ended too early: {reason}"),
        );
    }
    Fault::new(Kind::Protocol, reason)
}

/// The error and what caused it, the outermost first.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error itself, or the one that an I/O error carries, which is no source of it.
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let carried = || {
        let error = error.downcast_ref::<io::Error>()?;
        let inner: &(dyn Error + 'static) = error.get_ref()?;
        find(inner)
    };
    error.downcast_ref::<E>().or_else(carried)
}
