//! Files with user names and passwords for downloads.

use windrow_net::netrc::login;

use crate::shared::seeds as seeds_of;

/// What is found stands in the file, and nothing is found for a host that it does not name.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for host in ["a", "example.org", ""] {
        let Some((user, password)) = login(&text, host) else {
            continue;
        };
        assert!(text.contains(&user) && text.contains(&password));
        let one_word = |text: &str| !text.contains(|c: char| c.is_ascii_whitespace());
        assert!(one_word(&user) && one_word(&password));
        let lower = text.to_ascii_lowercase();
        assert!(lower.contains("default") || (lower.contains("machine") && lower.contains(host)));
    }
}

/// All words of the language.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "# machine a login no\nmachine a login x password \"y\"\nmacdef m\nmachine d login no\n\nmachine b\n  login z\nmachine a login later\ndefault login any password p\n",
        "machine example.org login u account c password p\n",
        "default",
        "login x machine a",
    ])
}
