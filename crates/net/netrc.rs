//! The file with user names and passwords for downloads (setting `netrc-file`), as curl and ftp
//! read it.

/// The user name and password for a host, by its own entry or the default one; either may be empty.
pub fn login(text: &str, host: &str) -> Option<(String, String)> {
    let mut entry: Option<(String, String)> = None;
    let mut lines = text.lines();
    let mut words = Vec::new();
    while let Some(line) = lines.next() {
        let mut of_line = line.split_ascii_whitespace();
        while let Some(word) = of_line.next().filter(|word| !word.starts_with('#')) {
            if word == "macdef" {
                // A macro ends with an empty line.
                lines.by_ref().find(|line| line.trim().is_empty());
                break;
            }
            words.push(word);
        }
    }
    let mut words = words.into_iter();
    let mut wanted = false;
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if entry.is_some() {
                    break;
                }
                wanted = word == "default"
                    || words
                        .next()
                        .is_some_and(|name| name.eq_ignore_ascii_case(host));
                entry = wanted.then(Default::default);
            }
            "login" | "password" | "account" => {
                let value = words.next().unwrap_or_default().trim_matches('"');
                match &mut entry {
                    Some((login, _)) if wanted && word == "login" => value.clone_into(login),
                    Some((_, password)) if wanted && word == "password" => {
                        value.clone_into(password);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_fits_counts() {
        let text = "# machine a login no\nmachine a login x password \"y\"\nmacdef m\nmachine d login no\n\n\
                    machine b\n  login z\nmachine a login later\ndefault login any password p\n";
        let of = |host| login(text, host).map(|(login, password)| format!("{login}:{password}"));
        assert_eq!(of("a").as_deref(), Some("x:y"));
        assert_eq!(of("B").as_deref(), Some("z:"));
        assert_eq!(of("d").as_deref(), Some("any:p"));
        assert_eq!(login("machine a", "b"), None);
        assert_eq!(login("machine", "b"), None);
        assert_eq!(login("login x machine a", "b"), None);
    }
}
