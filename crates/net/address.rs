//! Addresses that can be fetched: their schemes, the files that `file:` names, where a redirection
//! leads, and logins in them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The file that a `file:` address names; `None` for an address on the network.
///
/// # Errors
/// When it is no address, or none that can be fetched.
pub fn local_file(address: &str) -> Result<Option<PathBuf>, String> {
    let Some((scheme, rest)) = address.split_once(':') else {
        return Err(format!(
            "'{address}' is no address: it does not begin with 'http:', 'file:' or the like"
        ));
    };
    match scheme {
        "http" | "https" => Ok(None),
        "file" => {
            let path = rest
                .strip_prefix("//localhost/")
                .map(|path| format!("/{path}"));
            let path = path.or_else(|| rest.strip_prefix("//").map(str::to_owned));
            let path = path.unwrap_or_else(|| rest.to_owned());
            if !path.starts_with('/') {
                return Err(format!("'{address}' names no absolute path"));
            }
            percent_decode(&path)
                .map(|path| Some(OsString::from_vec(path).into()))
                .ok_or_else(|| format!("'{address}' has a broken '%' escape"))
        }
        other => Err(format!(
            "addresses that begin with '{other}:' can't be fetched ('{address}'); use 'https:', 'http:' or 'file:'"
        )),
    }
}

/// The bytes that a text with `%XX` stands for.
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?);
        rest = tail;
    }
    Some(bytes)
}

/// What an answer from `address` with that `Location` leads to (RFC 3986, 5.2, without dot
/// segments, which servers resolve). Only HTTP: a server must not choose files of this machine.
///
/// # Errors
/// When it leads elsewhere.
pub fn redirected(address: &str, location: &str) -> Result<String, String> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme_end = location
        .find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
        .unwrap_or(location.len());
    if location[scheme_end..].starts_with(':') {
        let scheme = location[..scheme_end].to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(format!(
                "it is redirected to '{location}', which is no HTTP address"
            ));
        }
        return Ok(format!("{scheme}{}", &location[scheme_end..]));
    }
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    if location.starts_with("//") {
        return Ok(format!("{scheme}:{location}"));
    }
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(host_end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = match location.chars().next() {
        Some('/') => location.to_owned(),
        Some('?') => format!("{path}{location}"),
        _ => format!(
            "{}{location}",
            path.rfind('/').map_or("/", |at| &path[..=at])
        ),
    };
    Ok(format!("{scheme}://{host}{path}"))
}

/// The address without the user name and password in it, and these.
pub fn without_userinfo(address: &str) -> (String, Option<(String, String)>) {
    let plain = || (address.to_owned(), None);
    let Some((scheme, rest)) = address.split_once("://") else {
        return plain();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        return plain();
    };
    let decoded = |text: &str| {
        let bytes = percent_decode(text).unwrap_or_else(|| text.into());
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    (
        format!("{scheme}://{}", &rest[at + 1..]),
        Some((decoded(user), decoded(password))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_addresses_become_paths_and_others_do_not() {
        let path =
            |address| local_file(address).map(|path| path.map(|path| path.display().to_string()));
        for (address, expected) in [
            ("file:///a/b", Some("/a/b")),
            ("file:/a/b", Some("/a/b")),
            ("file://localhost/a", Some("/a")),
            ("file:///a%20b%2fc", Some("/a b/c")),
            ("http://x/y", None),
            ("https://x/y", None),
        ] {
            assert_eq!(path(address), Ok(expected.map(str::to_owned)), "{address}");
        }
        for bad in [
            "",
            "/a/b",
            "file:a",
            "file://host/a",
            "file:///a%2",
            "file:///a%zz",
            "ssh://x",
            "ftp://x/y",
            "-o:x",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirections_lead_to_http_only() {
        for (location, expected) in [
            ("https://y/z?q#f", "https://y/z?q"),
            ("HTTP://y/z", "http://y/z"),
            ("//y/z", "http://y/z"),
            ("/z", "http://h:1/z"),
            ("z", "http://h:1/a/z"),
            ("?z", "http://h:1/a/b?z"),
            ("z:1", ""),
            ("z/x:1", "http://h:1/a/z/x:1"),
            ("file:///etc/shadow", ""),
            ("ftp://y/", ""),
        ] {
            let led = redirected("http://h:1/a/b?c", location);
            assert_eq!(led.unwrap_or_default(), expected, "{location}");
        }
        assert_eq!(redirected("https://h", "z").unwrap(), "https://h/z");
    }

    #[test]
    fn user_names_and_passwords_leave_the_address() {
        let of = |address| without_userinfo(address);
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(of("http://h/a@b"), ("http://h/a@b".to_owned(), None));
        assert_eq!(
            of("http://u:p%40@h:1/x"),
            ("http://h:1/x".to_owned(), login("u", "p@"))
        );
        assert_eq!(of("https://u@h"), ("https://h".to_owned(), login("u", "")));
    }
}
