//! URLs of stores.

use windrow_net::store_url::{Kind, StoreUrl};

use crate::shared::seeds as seeds_of;

/// A URL has a key that names the same store, and neither that nor what is shown has its password.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match StoreUrl::parse(text) {
        Ok(url) => {
            if let Kind::Http(base) = &url.kind {
                let again = StoreUrl::parse(base).expect("a URL without parameters");
                assert_eq!(again.kind, url.kind);
                assert_eq!(again.key(), url.key());
                assert!(!base.ends_with('/'));
            }
            if let Kind::File(path) = &url.kind {
                assert!(path.is_absolute());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let secret = format!("https://user:S3CR3T{text}@host/");
    match StoreUrl::parse(&secret) {
        Ok(url) if matches!(&url.kind, Kind::Http(base) if is_userinfo(base)) => {
            assert!(!url.to_string().contains("S3CR3T"));
            assert!(!url.key().contains("S3CR3T"));
        }
        _ => {}
    }
}

/// Whether what stands before the host of a URL holds what the check put there.
fn is_userinfo(base: &str) -> bool {
    let rest = base.trim_start_matches("https://");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

/// URLs of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "https://cache.nixos.org/?priority=1&trusted=true",
        "http://user:secret@host:81/a/b//",
        "file:///a%20b?compression=zstd&compression-level=19",
        "s3://bucket/prefix?region=eu-west-1&endpoint=https://h:9&addressing-style=path",
        "local?root=/x&store=/y",
        "ssh-ng://user@host",
        "unix:///run/socket",
        "./here",
        "https://h?secret-keys=/a,/b%2Cc&retry-attempts=3&odd",
    ])
}
