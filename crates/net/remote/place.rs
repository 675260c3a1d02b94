//! Where the things of a cache lie that is reached by HTTP: the address of each name.

use reqwest::{Method, Url};

use super::exchange::{Answer, refusal};
use super::s3::Store;
use crate::error::{Fault, Kind};

/// A cache that is reached by HTTP.
#[derive(Debug)]
pub(crate) enum Place {
    /// All under one address, which ends in a slash.
    Http(Url),
    S3(Store),
}

impl Place {
    /// Everything below an address.
    pub(crate) fn http(base: &str) -> Result<Self, Fault> {
        let bad = |text: String| Fault::new(Kind::BadAddress, text);
        let slashed = format!("{}/", base.trim_end_matches('/'));
        let url = Url::parse(&slashed).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("it is no HTTP address".to_owned()));
        }
        Ok(Self::Http(url))
    }

    /// The address of a name for a request of that method. A name may be a whole address.
    ///
    /// # Errors
    /// When it is no name of a thing in such a cache.
    pub(crate) fn url(&self, method: &Method, name: &str) -> Result<Url, Fault> {
        let bad = |error: url::ParseError| Fault::new(Kind::BadAddress, error);
        if is_address(name) {
            return match Url::parse(name).map_err(bad)? {
                url if matches!(url.scheme(), "http" | "https") => Ok(url),
                _ => Err(Fault::new(Kind::BadAddress, "it is no HTTP address")),
            };
        }
        match self {
            Self::Http(base) => {
                Url::parse(&format!("{base}{}", name.trim_start_matches('/'))).map_err(bad)
            }
            Self::S3(store) => store.url(method, name),
        }
    }

    /// How a name is called in messages.
    pub(crate) fn shown(&self, name: &str) -> String {
        match self {
            _ if is_address(name) => name.to_owned(),
            Self::Http(base) => format!("{base}{name}"),
            Self::S3(store) => store.shown(name),
        }
    }

    /// What an answer that is no success means.
    pub(crate) async fn refusal(&self, answer: Answer) -> Fault {
        match self {
            Self::Http(_) => refusal(&answer.response),
            Self::S3(store) => super::s3::refusal(store, answer).await,
        }
    }
}

/// Whether a name is a whole address.
fn is_address(name: &str) -> bool {
    name.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_under_the_address() {
        let of = |base, name| {
            let place = Place::http(base).unwrap();
            place.url(&Method::GET, name).map(String::from).ok()
        };
        for (base, name, expected) in [
            (
                "http://h",
                "nix-cache-info",
                Some("http://h/nix-cache-info"),
            ),
            (
                "http://h/a/",
                "nar/x?hash=1",
                Some("http://h/a/nar/x?hash=1"),
            ),
            ("http://h/a", "/b", Some("http://h/a/b")),
            (
                "http://h/a",
                "realisations/sha256:0!out.doi",
                Some("http://h/a/realisations/sha256:0!out.doi"),
            ),
            ("http://h/a", "https://other/x", Some("https://other/x")),
            ("http://h/a", "file:///etc/passwd", None),
        ] {
            assert_eq!(of(base, name).as_deref(), expected, "{name}");
        }
        for bad in ["h", "file:///x", "http://", "ftp://h"] {
            assert!(Place::http(bad).is_err(), "{bad}");
        }
    }
}
