//! Paths and words of commands: made normal, seen from elsewhere, quoted.

/// A path without empty parts and `.`, and without `..` where that can be undone.
pub(crate) fn normal(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `path` taken from `directory`, which is absolute; normal.
pub(super) fn joined(directory: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => normal(path),
        false => normal(&format!("{directory}/{path}")),
    }
}

/// The part of `path` below `directory`; empty if it is that. Both are absolute and normal.
pub(super) fn below<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    let directory = directory.trim_end_matches('/');
    match path.strip_prefix(directory)? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

/// The longest directory that both are or lie in. Both are absolute and normal.
pub(super) fn common(one: &str, other: &str) -> String {
    let both = one.split('/').zip(other.split('/'));
    let same: Vec<&str> = both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    match same.join("/") {
        path if path.is_empty() => "/".to_owned(),
        path => path,
    }
}

/// How `path` is called in `directory`. Both are absolute and normal.
pub(super) fn relative(path: &str, directory: &str) -> String {
    let shared = common(path, directory);
    let up = below(directory, &shared).unwrap_or_default();
    let down = below(path, &shared).unwrap_or_default();
    let ups = up.split('/').filter(|part| !part.is_empty()).map(|_| "..");
    let downs = down.split('/').filter(|part| !part.is_empty());
    let parts: Vec<&str> = ups.chain(downs).collect();
    match parts.is_empty() {
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

/// A word for a shell, quoted if it needs to be.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-./=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A command with paths below `from`, an absolute directory, put below `to`.
pub(super) fn moved(command: &str, from: &str, to: &str) -> String {
    if from == "/" {
        return command.to_owned();
    }
    let part = |c: char| c.is_alphanumeric() || "_.+-".contains(c);
    let mut result = String::with_capacity(command.len());
    let mut rest = command;
    while let Some(at) = rest.find(from) {
        let (before, behind) = (&rest[..at], &rest[at + from.len()..]);
        // It is a part of a longer path if one goes on behind, or began before; but an option may
        // stand right before a path.
        let goes_on = behind.starts_with(part);
        let name = &before[before.trim_end_matches(part).len()..];
        let began = match name {
            "" => before.is_empty() && !result.is_empty(),
            name => !name.starts_with('-'),
        };
        result += before;
        result += if goes_on || began { from } else { to };
        rest = behind;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_elsewhere() {
        assert_eq!(relative("/a/b/c", "/a/x"), "../b/c");
        assert_eq!(relative("/a", "/a/x/y"), "../..");
        assert_eq!(relative("/a", "/a"), ".");
        assert_eq!(relative("/a/b", "/"), "a/b");
        assert_eq!(common("/a/bc", "/a/bd"), "/a");
        assert_eq!(common("/a", "/b"), "/");
        assert_eq!(below("/a/b", "/a"), Some("b"));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/a", "/"), Some("a"));
        assert_eq!(joined("/a/b", "../c/./d"), "/a/c/d");
        assert_eq!(normal("/../a//b/."), "/a/b");
        assert_eq!(normal("./"), ".");
    }

    #[test]
    fn commands_are_moved() {
        let command = "cc -I/p/include -I/p -DX=\"/p/x\" /p-old/a.c /home/p/b.c -o/p/c 'a:/p:/px'";
        let expected = "cc -I../include -I.. -DX=\"../x\" /p-old/a.c /home/p/b.c -o../c 'a:..:/px'";
        assert_eq!(moved(command, "/p", ".."), expected);
        assert_eq!(moved("x/p/p /p/p", "/p", ".."), "x/p/p ../p");
    }

    #[test]
    fn words_are_quoted_if_they_need_to_be() {
        assert_eq!(shell_word("-DX=1"), "-DX=1");
        assert_eq!(shell_word("it's $x"), "'it'\\''s $x'");
        assert_eq!(shell_word(""), "''");
    }
}
