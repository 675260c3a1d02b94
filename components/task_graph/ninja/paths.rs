//! The paths of a ninja file, each kept once, back to back, in the shape that ninja itself would
//! give it. A path costs its bytes and 16 to 30 more.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

/// All paths met so far; their ids are dense and count from 0.
pub(super) struct Paths {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Open addressing, at most two thirds full. An entry is the upper half of a path's hash, and
    /// below it the path's id and 1, so that a lookup seldom touches a path that is not the one and
    /// costs one cache miss; 0 is free. Entries stand in the order of their hashes but for
    /// collisions, so growing walks old and new table from front to back.
    table: Vec<u64>,
    hasher: DefaultHashBuilder,
    scratch: Vec<u8>,
}

/// Where in a table an entry should stand.
fn home(entry: u64, table: &[u64]) -> usize {
    (((entry >> 32) * table.len() as u64) >> 32) as usize
}

impl Paths {
    pub(super) fn with_capacity(paths: usize) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(paths),
            table: vec![0; paths / 2 * 3 + 16],
            hasher: DefaultHashBuilder::default(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn get(&self, path: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, path)
    }

    /// The id of a path, new or not; `None` if there are too many or too long ones.
    pub(super) fn intern(&mut self, path: &[u8]) -> Option<u32> {
        if is_canonical(path) {
            return self.intern_canonical(path);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        canonicalise(path, &mut scratch);
        let id = self.intern_canonical(&scratch);
        self.scratch = scratch;
        id
    }

    #[inline]
    fn intern_canonical(&mut self, path: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(path) >> 32 << 32;
        let mut at = home(hash, &self.table);
        while self.table[at] != 0 {
            let entry = self.table[at];
            if entry >> 32 == hash >> 32 {
                let known = entry as u32 - 1;
                if self.get(known) == path {
                    return Some(known);
                }
            }
            at = if at + 1 == self.table.len() {
                0
            } else {
                at + 1
            };
        }
        let id = u32::try_from(self.ends.len())
            .ok()
            .filter(|&id| id != u32::MAX)?;
        let end = u32::try_from(self.bytes.len() + path.len()).ok()?;
        self.bytes.extend_from_slice(path);
        self.ends.push(end);
        self.table[at] = hash | u64::from(id + 1);
        if self.ends.len() * 3 > self.table.len() * 2 {
            self.grow();
        }
        Some(id)
    }

    fn grow(&mut self) {
        let mut table = vec![0; self.table.len() * 2];
        for &entry in self.table.iter().filter(|&&entry| entry != 0) {
            let mut at = home(entry, &table);
            while table[at] != 0 {
                at = if at + 1 == table.len() { 0 } else { at + 1 };
            }
            table[at] = entry;
        }
        self.table = table;
    }

    /// The id of a path that was met before.
    pub(super) fn find(&mut self, path: &[u8]) -> Option<u32> {
        let known = self.ends.len();
        self.intern(path).filter(|&id| (id as usize) < known)
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[u32], path: u32) -> &'a [u8] {
    let index = path as usize;
    let start = if index == 0 { 0 } else { ends[index - 1] };
    &bytes[start as usize..ends[index] as usize]
}

/// Whether ninja would leave a path as it is: it has no component that is empty, `.` or `..`.
pub(in super::super) fn is_canonical(path: &[u8]) -> bool {
    let body = path.strip_prefix(b"/").unwrap_or(path);
    if body.is_empty() {
        return false;
    }
    let mut from = 0;
    loop {
        match body[from..] {
            [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => {
                return false;
            }
            _ => {}
        }
        match memchr::memchr(b'/', &body[from..]) {
            None => return true,
            Some(slash) => from += slash + 1,
        }
    }
}

/// Drops empty and `.` components and resolves `..` by the text alone, as ninja does; what climbs
/// above the start stays.
fn canonicalise(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if path.starts_with(b"/") {
        out.push(b'/');
    }
    let root = out.len();
    // Where each component that `..` may still take back began.
    let mut starts = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => {
                if let Some(start) = starts.pop() {
                    out.truncate(start);
                    continue;
                }
            }
            _ => starts.push(out.len()),
        }
        if out.len() > root {
            out.push(b'/');
        }
        out.extend_from_slice(component);
    }
    if out.is_empty() {
        out.push(b'.');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_take_the_shape_ninja_gives_them() {
        for (path, wanted) in [
            ("a", "a"),
            ("./a", "a"),
            ("a/./b//c", "a/b/c"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("../a", "../a"),
            ("a/../../b/../c", "../c"),
            ("/a/../b", "/b"),
            ("/../a", "/../a"),
            ("a/", "a"),
            ("a/..", "."),
            ("..a/.b", "..a/.b"),
        ] {
            let mut out = Vec::new();
            canonicalise(path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "{path}");
            let kept = path == wanted && !path.contains("../");
            assert_eq!(is_canonical(path.as_bytes()), kept, "{path}");
        }
    }

    #[test]
    fn a_path_has_one_id() {
        let mut paths = Paths::with_capacity(0);
        let ids: Vec<_> = (0..1_000)
            .map(|i| paths.intern(format!("p{i}").as_bytes()))
            .collect();
        assert_eq!(ids[999], Some(999));
        assert_eq!(paths.intern(b"./p7"), Some(7));
        assert_eq!(paths.find(b"x/../p9"), Some(9));
        assert_eq!(paths.find(b"nowhere"), None);
        assert_eq!(paths.get(3), b"p3");
    }
}
