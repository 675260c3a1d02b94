//! Which cache an address of a store means, and what its parameters change.

use std::time::Duration;

use super::place::Place;
use super::{Remote, credentials, s3};
use crate::client::{Client, Limits};
use crate::error::{Doing, Fault, Kind, NetError};
use crate::params::Params;
use crate::store_url::{self, StoreUrl};

impl Remote {
    /// The cache that an address names: one by HTTP, in a directory or in a bucket. Nothing is
    /// asked yet. Credentials for a bucket are those of the environment, or of a profile.
    ///
    /// # Errors
    /// When it is another kind of store, there can't be such a server or bucket, or the profile
    /// that it names is not there.
    pub fn open(url: &StoreUrl, client: &Client) -> Result<Self, NetError> {
        let limits = || limits(&client.config().limits, &url.params);
        let about = |fault: Fault| fault.about(Doing::Use, &url.to_string());
        match &url.kind {
            store_url::Kind::Http(base) => {
                let place = Place::http(base).map_err(about)?;
                Ok(Self::reached(place, limits(), client))
            }
            store_url::Kind::File(path) => Ok(Self::directory(path, client)),
            store_url::Kind::S3 { bucket, prefix } => {
                let environment = |name: &str| std::env::var_os(name);
                let found = credentials::find(url.params.profile.as_deref(), &environment);
                let credentials =
                    found.map_err(|text| about(Fault::new(Kind::Credentials, text)))?;
                let is_public = credentials.is_none();
                let store = s3::Store::new((bucket, prefix), &url.params, credentials);
                let mut store = store.map_err(about)?;
                store.looked_for = is_public.then(|| credentials::none_found(&environment));
                Ok(Self::reached(Place::S3(store), limits(), client))
            }
            _ => {
                let text = "it is a store, but no binary cache";
                Err(about(Fault::new(Kind::BadAddress, text)))
            }
        }
    }
}

/// The limits of a client as a cache's parameters change them.
pub(crate) fn limits(limits: &Limits, params: &Params) -> Limits {
    let ms = |given: Option<u64>, otherwise| given.map_or(otherwise, Duration::from_millis);
    let s = |given: Option<u64>, otherwise| given.map_or(otherwise, Duration::from_secs);
    Limits {
        attempts: params.retry_attempts.unwrap_or(limits.attempts),
        retry_delay: ms(params.retry_delay, limits.retry_delay),
        retry_delay_rate_limited: ms(
            params.retry_delay_rate_limited,
            limits.retry_delay_rate_limited,
        ),
        retry_max_delay: ms(params.retry_max_delay, limits.retry_max_delay),
        connect_timeout: s(params.connect_timeout, limits.connect_timeout),
        stalled_timeout: s(params.stalled_timeout, limits.stalled_timeout),
        answer_timeout: limits.answer_timeout,
        deadline: limits.deadline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_change_the_limits_of_one_cache() {
        let url = StoreUrl::parse(
            "https://h?retry-attempts=2&retry-delay=3&retry-max-delay=4&retry-delay-rate-limited=5\
             &connect-timeout=6&stalled-timeout=0",
        )
        .unwrap();
        let limits = limits(&Limits::default(), &url.params);
        let expected = Limits {
            attempts: 2,
            retry_delay: Duration::from_millis(3),
            retry_max_delay: Duration::from_millis(4),
            retry_delay_rate_limited: Duration::from_millis(5),
            connect_timeout: Duration::from_secs(6),
            stalled_timeout: Duration::ZERO,
            answer_timeout: Limits::default().answer_timeout,
            deadline: Limits::default().deadline,
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn stores_that_are_no_caches_are_refused() {
        let client = Client::new(crate::client::Config::default()).unwrap();
        for url in ["daemon", "ssh://h", "local?root=/x"] {
            let error = Remote::open(&StoreUrl::parse(url).unwrap(), &client).unwrap_err();
            assert_eq!(error.kind(), Kind::BadAddress);
        }
        let url = StoreUrl::parse("file:///cache").unwrap();
        let remote = Remote::open(&url, &client).unwrap();
        assert_eq!(remote.shown("x"), "file:///cache/x");
    }
}
