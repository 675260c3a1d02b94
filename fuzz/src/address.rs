//! Addresses of downloads, redirections that servers answer with, and names of stores.

use windrow::fuzzing::store_name;
use windrow_net::address::{local_file, redirected, without_userinfo};
use windrow_net::proxies::is_listed;

use crate::shared::seeds as seeds_of;

/// A redirection leads to HTTP or nowhere, files are absolute, and no password stays in an address.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (address, location) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(Some(file)) = local_file(address) {
        assert!(file.is_absolute());
    }
    for from in ["http://h:1/a/b?c", "https://h"] {
        if let Ok(led) = redirected(from, address) {
            assert!(led.starts_with("http:") || led.starts_with("https:"), "{led}");
            assert!(!led.contains('#'));
        }
    }
    if let Ok(led) = redirected(address, location) {
        let _ = redirected(&led, location);
    }
    let (plain, login) = without_userinfo(address);
    assert_eq!(login.is_none(), plain == address);
    assert_eq!(without_userinfo(&plain), (plain.clone(), None));
    assert!(!is_listed("", location) && is_listed("*", location));
    let _ = is_listed(address, location);
    if let Err(error) = store_name(address) {
        assert!(!error.is_empty());
    }
}

/// Addresses of every kind, with a location each, and names of stores.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "http://u:p%40@h:1/x?y#z\n/other",
        "file:///a%20b%2fc\nhttps://y/z?q#f",
        "file://localhost/a\n//y/z",
        "HTTPS://y/z\n?z",
        "x.org, .y.org,*.z.org\na.y.org",
        "local?root=/x&store=/nix/store&real=/y&state=/z&log=%2fl&read-only=true\n",
        "local:///x\nz/x:1",
        "./x?y\nfile:///etc/shadow",
        "auto\n",
        "daemon\n",
    ])
}
