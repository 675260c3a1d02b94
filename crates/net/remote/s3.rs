//! A cache in a bucket of S3: the addresses of its objects, signed, and what its errors mean.

use std::time::Duration;

use reqwest::{Method, Url};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::exchange::{Answer, refusal as plain_refusal};
use crate::error::{Fault, Kind, one_line};
use crate::params::{AddressingStyle, Params};

/// Where a bucket lies if nobody says it.
const REGION: &str = "us-east-1";
/// How long a signature holds. Every attempt has its own.
pub(crate) const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// The most that is read of an error's text, in bytes, and how long it is waited for.
const ERROR_MAX: u64 = 64 << 10;
const ERROR_WAIT: Duration = Duration::from_secs(10);

/// Errors that may pass, though their status does not say so.
const PASSING: [&str; 12] = [
    "IncompleteBody",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "RequestExpired",
    "RequestThrottled",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottledException",
];

/// A bucket, and what to sign requests to it with.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) bucket: Bucket,
    pub(crate) credentials: Option<Credentials>,
    /// Where was looked for credentials, if there are none.
    pub(crate) looked_for: Option<String>,
    prefix: String,
    pub(crate) parts: Parts,
}

/// What is uploaded in parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    /// What has more bytes than that.
    pub(crate) above: u64,
    /// How many bytes a part has at least.
    pub(crate) size: u64,
}

/// As Nix, but with larger parts: each costs a request.
const PARTS: Parts = Parts {
    above: 100 << 20,
    size: 16 << 20,
};

impl Store {
    /// The bucket of that name, with what all keys begin with, where the parameters say that it
    /// lies.
    ///
    /// # Errors
    /// When there can't be such a bucket.
    pub(crate) fn new(
        (name, prefix): (&str, &str),
        params: &Params,
        credentials: Option<Credentials>,
    ) -> Result<Self, Fault> {
        let bad = |text: String| Fault::new(Kind::BadAddress, text);
        let region = params.region.clone().unwrap_or_else(|| REGION.to_owned());
        let scheme = params.scheme.as_deref().unwrap_or("https");
        let endpoint = match &params.endpoint {
            Some(endpoint) if endpoint.contains("://") => endpoint.clone(),
            Some(endpoint) => format!("{scheme}://{endpoint}"),
            None => format!("{scheme}://s3.{region}.amazonaws.com"),
        };
        let endpoint = Url::parse(&endpoint)
            .map_err(|error| bad(format!("its endpoint '{endpoint}' is malformed: {error}")))?;
        let can_be_in_host = params.endpoint.is_none() && !name.contains('.');
        let style = match params.addressing_style {
            AddressingStyle::Virtual => UrlStyle::VirtualHost,
            AddressingStyle::Auto if can_be_in_host => UrlStyle::VirtualHost,
            AddressingStyle::Auto | AddressingStyle::Path => UrlStyle::Path,
        };
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region)
            .map_err(|error| bad(format!("there can't be such a bucket: {error}")))?;
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            bucket,
            credentials,
            looked_for: None,
            prefix: format!("{prefix}{slash}"),
            parts: PARTS,
        })
    }

    /// The key of a name.
    ///
    /// # Errors
    /// When no address leads to it.
    pub(crate) fn key(&self, name: &str) -> Result<String, Fault> {
        let leads_elsewhere = |part: &str| matches!(part, "" | "." | "..");
        if name.split('/').any(leads_elsewhere) {
            return Err(Fault::new(
                Kind::BadAddress,
                "it is no name of an object in a bucket",
            ));
        }
        Ok(format!("{}{name}", self.prefix))
    }

    /// The address for a request for one object, signed.
    pub(crate) fn url(&self, method: &Method, name: &str) -> Result<Url, Fault> {
        let key = self.key(name)?;
        let credentials = self.credentials.as_ref();
        Ok(match *method {
            Method::HEAD => self.bucket.head_object(credentials, &key).sign(SIGNED_FOR),
            Method::PUT => self.bucket.put_object(credentials, &key).sign(SIGNED_FOR),
            _ => self.bucket.get_object(credentials, &key).sign(SIGNED_FOR),
        })
    }

    pub(crate) fn shown(&self, name: &str) -> String {
        format!("s3://{}/{}{name}", self.bucket.name(), self.prefix)
    }

    /// Says of a login that is wanted where was looked for one.
    fn explained(&self, mut fault: Fault) -> Fault {
        if let Some(text) = &self.looked_for
            && matches!(fault.kind, Kind::Denied | Kind::Status(401 | 403))
        {
            fault.reason = format!("{}; {text}", fault.reason);
        }
        fault
    }

    pub(crate) fn takes_in_parts(&self, length: u64) -> bool {
        length > self.parts.above
    }
}

/// What an answer that is no success means: S3 says more than the status in a text of XML.
pub(crate) async fn refusal(store: &Store, mut answer: Answer) -> Fault {
    let fault = plain_refusal(&answer.response);
    let body = answer.body(ERROR_MAX, ERROR_WAIT).await.unwrap_or_default();
    store.explained(with_error(fault, &String::from_utf8_lossy(&body)))
}

/// Adds what an error's text says.
pub(crate) fn with_error(mut fault: Fault, text: &str) -> Fault {
    let Some(code) = element(text, "Code") else {
        return fault;
    };
    let message = element(text, "Message").unwrap_or_default();
    fault.reason = one_line(&format!("{} ({code}: {message})", fault.reason));
    fault.transient |= PASSING.contains(&code);
    // A key that is wrong must not look like an object that is not there.
    if fault.kind == Kind::Status(403) && code != "AccessDenied" && !fault.transient {
        fault.kind = Kind::Denied;
    }
    fault
}

/// The text of the first element of that name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_url::{self, StoreUrl};

    fn store(url: &str, credentials: bool) -> Store {
        // Those of AWS's documentation.
        let credentials = credentials.then(|| {
            Credentials::new(
                "AKIAIOSFODNN7EXAMPLE",
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            )
        });
        let url = StoreUrl::parse(url).unwrap();
        let store_url::Kind::S3 { bucket, prefix } = &url.kind else {
            panic!("not in a bucket");
        };
        Store::new((bucket, prefix), &url.params, credentials).unwrap()
    }

    #[test]
    fn a_signature_is_that_of_the_documentation() {
        // "Authenticating Requests: Using Query Parameters", 24 May 2013, for a day.
        let url = "s3://examplebucket?endpoint=https://s3.amazonaws.com&addressing-style=virtual";
        let store = store(url, true);
        let time = jiff::Timestamp::from_second(1_369_353_600).unwrap();
        let action = store
            .bucket
            .get_object(store.credentials.as_ref(), "test.txt");
        let url = action.sign_with_time(Duration::from_secs(86_400), &time);
        assert_eq!(
            url.as_str(),
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn buckets_stand_in_the_host_or_in_the_path() {
        for (url, expected) in [
            (
                "s3://b?region=eu-west-1",
                "https://b.s3.eu-west-1.amazonaws.com/nar/x",
            ),
            ("s3://b/p/", "https://b.s3.us-east-1.amazonaws.com/p/nar/x"),
            ("s3://b.c", "https://s3.us-east-1.amazonaws.com/b.c/nar/x"),
            (
                "s3://b?addressing-style=path",
                "https://s3.us-east-1.amazonaws.com/b/nar/x",
            ),
            ("s3://b?endpoint=http://h:9000", "http://h:9000/b/nar/x"),
            (
                "s3://b?endpoint=h:9000&scheme=http",
                "http://h:9000/b/nar/x",
            ),
            (
                "s3://b?endpoint=h:9000&addressing-style=virtual",
                "https://b.h:9000/nar/x",
            ),
        ] {
            let made = store(url, false).url(&Method::GET, "nar/x").unwrap();
            assert_eq!(made.as_str(), expected);
        }
        let signed = store("s3://b", true).url(&Method::PUT, "x").unwrap();
        assert!(signed.as_str().contains("X-Amz-Signature="));
    }

    #[test]
    fn names_that_lead_out_of_the_bucket_are_refused() {
        let store = store("s3://b", false);
        for name in ["../x", "a/../x", "", "/x", "a//b", "."] {
            assert!(store.key(name).is_err(), "{name}");
        }
    }

    #[test]
    fn errors_say_what_they_mean() {
        let of = |status, text: &str| {
            let fault = with_error(Fault::new(Kind::Status(status), "no"), text);
            (fault.kind, fault.transient)
        };
        let xml = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(of(403, &xml("AccessDenied")), (Kind::Status(403), false));
        assert_eq!(
            of(403, &xml("SignatureDoesNotMatch")),
            (Kind::Denied, false)
        );
        assert_eq!(
            of(403, &xml("RequestTimeTooSkewed")),
            (Kind::Status(403), true)
        );
        assert_eq!(of(400, &xml("RequestTimeout")), (Kind::Status(400), true));
        assert_eq!(of(404, &xml("NoSuchKey")), (Kind::Status(404), false));
        assert_eq!(of(404, "<html>"), (Kind::Status(404), false));
    }

    #[test]
    fn who_has_no_credentials_hears_where_they_were_looked_for() {
        let mut store = store("s3://b", false);
        store.looked_for = Some("there are none".to_owned());
        for (kind, is_told) in [
            (Kind::Denied, true),
            (Kind::Status(403), true),
            (Kind::Status(404), false),
        ] {
            let fault = store.explained(Fault::new(kind, "no"));
            assert_eq!(fault.kind, kind);
            assert_eq!(fault.reason.ends_with("; there are none"), is_told);
        }
    }
}
