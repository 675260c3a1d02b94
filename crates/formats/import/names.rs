//! What paths are by their names, and how graphs spell them.

use super::paths::below;

/// Directories of the system, which stay as they are.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/bin",
    "/lib",
    "/lib64",
    "/sbin",
    "/opt",
    "/etc",
    "/nix/store",
    "/dev",
];

/// How headers' names end.
const HEADERS: [&str; 12] = [
    "h", "H", "hh", "hpp", "hxx", "h++", "inc", "inl", "ipp", "tcc", "def", "cuh",
];

/// Whether a path is one of the system, which stays as it is.
pub(super) fn is_of_system(path: &str) -> bool {
    SYSTEM.iter().any(|system| below(path, system).is_some())
}

/// What stands behind the last dot of a file's name.
pub(super) fn end(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() && end.chars().all(char::is_alphanumeric) => end,
        _ => "",
    }
}

/// Whether a file is one that others include.
pub(super) fn is_header(path: &str) -> bool {
    HEADERS.contains(&end(path))
}

/// A path as a glob that is like nothing else.
pub(super) fn escaped(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => glob.extend(['[', c, ']']),
            '\\' => glob.push_str("\\\\"),
            c => glob.push(c),
        }
    }
    glob
}

/// A text of a graph that is these very characters.
pub(super) fn text(text: &str) -> String {
    text.replace("@{", "@@{")
}

/// A derivation's name for a key.
pub(super) fn name(key: &str) -> String {
    crate::json_graph::store_name(&key.replace("../", "").replace('/', "-"))
}
