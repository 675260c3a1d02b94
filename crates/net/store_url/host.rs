//! The machine in the URL of a store that a program on it serves: `[USER@]HOST[:PORT]`.

use std::fmt;

use crate::params::decode;

/// A machine, and how to log in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The user's name there.
    pub user: Option<String>,
    /// The machine's name or address; an IPv6 address without brackets.
    pub name: String,
    /// Where the server listens, if not at its usual port.
    pub port: Option<u16>,
}

impl Host {
    /// Reads what stands between the slashes of a URL. Nothing of it can be taken for an option of
    /// a program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let no_host = "it should name a host";
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let user = user.map(|user| {
            let user = decode(user).and_then(|user| String::from_utf8(user).ok());
            let user = user.filter(|user| is_plain(user) && !user.contains([':', '@']));
            user.ok_or("its user name can't be one")
        });
        let (name, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or(no_host)?;
                (
                    name,
                    port.strip_prefix(':').or(port.is_empty().then_some("")),
                )
            }
            // An address of IPv6 without brackets, which Nix takes, too.
            None if rest.matches(':').count() > 1 => (rest, Some("")),
            None => match rest.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (rest, Some("")),
            },
        };
        let port = match port.ok_or(no_host)? {
            "" => None,
            port => Some(port.parse().map_err(|_| "its port should be a number")?),
        };
        if !is_plain(name) || name.contains(['@', '[', ']']) {
            return Err(no_host);
        }
        Ok(Self {
            user: user.transpose()?,
            name: name.to_owned(),
            port,
        })
    }

    /// `[USER@]HOST`, as programs take it that log in.
    pub fn login(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether it is this machine, where no login is needed: `localhost` and nothing else, as for
    /// Nix.
    pub fn is_here(&self) -> bool {
        *self == Self::local()
    }

    fn local() -> Self {
        Self {
            user: None,
            name: "localhost".to_owned(),
            port: None,
        }
    }
}

/// Whether a name has nothing odd in it.
fn is_plain(name: &str) -> bool {
    let odd = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '/';
    !name.is_empty() && !name.starts_with('-') && !name.contains(odd)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.name.contains(':') {
            true => write!(f, "[{}]", self.name)?,
            false => f.write_str(&self.name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told() {
        for (text, user, name, port) in [
            ("h", None, "h", None),
            ("u@h:22", Some("u"), "h", Some(22)),
            ("a%2bb@h.example.org", Some("a+b"), "h.example.org", None),
            ("u@[::1]:2222", Some("u"), "::1", Some(2222)),
            ("[fe80::1%eth0]", None, "fe80::1%eth0", None),
        ] {
            let host = Host::parse(text).unwrap();
            let found = (host.user.as_deref(), host.name.as_str(), host.port);
            assert_eq!(found, (user, name, port), "{text}");
            assert_eq!(Host::parse(&host.to_string()), Ok(host));
        }
        let bare = Host::parse("u@fe80::1").unwrap();
        assert_eq!(bare.to_string(), "u@[fe80::1]");
        assert_eq!(bare.login(), "u@fe80::1");
    }

    #[test]
    fn only_the_bare_name_is_this_machine() {
        let is_here = |text| Host::parse(text).unwrap().is_here();
        assert!(is_here("localhost"));
        for other in ["u@localhost", "localhost:22", "127.0.0.1", "LOCALHOST"] {
            assert!(!is_here(other), "{other}");
        }
    }

    #[test]
    fn nothing_is_an_option() {
        for bad in [
            "", "-x", "u@", "u@-x", "-u@h", "@h", "a:b@h", "h:", "h:x", "h:99999", "[::1", "[]",
            "[::1]x", "[-x]", "a b", "a@b@c", "%2dx@h", "%00@h", "a%0ab@h",
        ] {
            // A colon without a port is no mistake elsewhere either.
            assert_eq!(Host::parse(bad).is_err(), bad != "h:", "{bad}");
        }
    }
}
