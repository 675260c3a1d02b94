//! How a server misbehaves, and for which requests.

use std::time::Duration;

/// What a server does with a request, instead of serving the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Serves the file after a while.
    Latency(Duration),
    /// Answers that status, with an empty body.
    Status(u16),
    /// Answers that status and says when to come again: a number of seconds, or a date.
    RetryAfter(u16, String),
    /// Answers that status with that text, as S3 does with its errors.
    Text(u16, String),
    /// Breaks the connection, or the stream of HTTP/2, after this number of bytes of the body.
    Reset(u64),
    /// Takes this number of bytes of what is uploaded, and breaks the connection.
    Refuse(u64),
    /// Sends only this number of bytes, and says that this is all.
    Short(u64),
    /// Sends the file and this number of bytes more, and says that all belong to it.
    Long(u64),
    /// Changes one bit of the file.
    Wrong,
    /// Sends bytes without end, and does not say how many there are.
    Endless,
    /// Sends the file in pieces of this number of bytes, with a pause before each.
    Drip(usize, Duration),
    /// Redirects there, with that status.
    Redirect(u16, String),
    /// Answers 200 with a page for people, as captive portals do.
    Html,
    /// Takes the request and never answers.
    Hang,
    /// Sends the head of the answer and this number of bytes, and then nothing.
    Stall(u64),
    /// Serves the whole file whatever part is asked for, and does not say that it could.
    NoRange,
    /// Serves another part than was asked for.
    WrongRange,
    /// Serves the file with that header, in place of its own of that name.
    Header(&'static str, String),
    /// Wants a login: the user name and the password.
    Login(String, String),
}

/// One wish of a test.
#[derive(Debug)]
struct Rule {
    pattern: String,
    behaviour: Behaviour,
    /// For how many requests it holds yet; `None` for all.
    left: Option<usize>,
}

/// All wishes, the newest first.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn add(&mut self, pattern: &str, behaviour: Behaviour, times: Option<usize>) {
        let rule = Rule {
            pattern: pattern.to_owned(),
            behaviour,
            left: times,
        };
        self.0.insert(0, rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What to do with a request for that path.
    pub(super) fn take(&mut self, path: &str) -> Option<Behaviour> {
        let rule = self
            .0
            .iter_mut()
            .find(|rule| rule.left != Some(0) && matches(&rule.pattern, path))?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.behaviour.clone())
    }
}

/// Whether a path is what a pattern describes, in which `*` stands for anything.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == path;
    };
    let Some(path) = path.strip_prefix(start) else {
        return false;
    };
    (0..=path.len()).any(|at| path.is_char_boundary(at) && matches(rest, &path[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rule_that_fits_counts() {
        let mut rules = Rules::default();
        rules.add("*", Behaviour::Hang, None);
        rules.add("/nar/*.xz", Behaviour::Status(500), Some(1));
        assert_eq!(rules.take("/nar/a.xz"), Some(Behaviour::Status(500)));
        assert_eq!(rules.take("/nar/a.xz"), Some(Behaviour::Hang));
        rules.clear();
        assert_eq!(rules.take("/x"), None);
        assert!(matches("/a*b*c", "/abcbc") && !matches("/a*b", "/abc") && matches("*", ""));
    }
}
