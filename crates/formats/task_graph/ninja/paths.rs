//! The paths of a ninja file, each kept once, back to back, in the shape that ninja itself would
//! give it. A path costs its bytes and 16 to 30 more.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

/// Paths that are looked up together: enough to keep memory busy, and few enough to stay in the
/// nearest cache.
pub(super) const BATCH_PATHS: usize = 512;

/// All paths met so far; their ids are dense and count from 0.
pub(super) struct Paths {
    bytes: Vec<u8>,
    /// Where each path begins, and where the last one ends.
    starts: Vec<u32>,
    /// Open addressing, at most two thirds full. An entry is the upper half of a path's hash, and
    /// below it the path's id and 1, so that a lookup seldom touches a path that is not the one and
    /// costs one cache miss; 0 is free. Entries stand in the order of their hashes except for
    /// collisions, so growing walks old and new table from front to back.
    table: Vec<u64>,
    /// Entries met of late, by the uppermost bits of their hashes: what is named in one place is
    /// mostly named again nearby, and this fits into a cache that the table does not fit into.
    recent: Box<[u64; 1 << RECENT_BITS]>,
    hasher: DefaultHashBuilder,
    scratch: Vec<u8>,
}

/// The hash of a path in the shape that ninja gives it, in the upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathHash(u64);

const RECENT_BITS: u32 = 13;

fn recent_place(hash: u64) -> usize {
    (hash >> (64 - RECENT_BITS)) as usize
}

/// Where in a table an entry should stand.
fn home(entry: u64, table: &[u64]) -> usize {
    (((entry >> 32) * table.len() as u64) >> 32) as usize
}

impl Paths {
    pub(super) fn with_capacity(paths: usize) -> Self {
        let mut starts = Vec::with_capacity(paths + 1);
        starts.push(0);
        Self {
            bytes: Vec::new(),
            starts,
            table: vec![0; paths / 2 * 3 + 16],
            recent: Box::new([0; 1 << RECENT_BITS]),
            hasher: DefaultHashBuilder::default(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn get(&self, path: u32) -> &[u8] {
        let index = path as usize;
        &self.bytes[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// The bytes that this takes, the next table included if it must grow soon.
    pub(super) fn memory_ahead(&self) -> usize {
        let grows = (self.len() + BATCH_PATHS) * 3 > self.table.len() * 2;
        let tables = self.table.len() * if grows { 3 } else { 1 };
        self.bytes.capacity()
            + self.starts.capacity() * size_of::<u32>()
            + tables * size_of::<u64>()
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of all paths, and where each begins and the last one ends.
    pub(super) fn into_bytes(self) -> (Vec<u8>, Vec<u32>) {
        (self.bytes, self.starts)
    }

    /// The id of a path, new or not; `None` if there are too many or too long ones.
    pub(super) fn intern(&mut self, path: &[u8]) -> Option<u32> {
        if let Some(hash) = self.hash(path, false) {
            return self.intern_hashed(path, hash);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        canonicalise(path, &mut scratch);
        let id = self.intern_hashed(&scratch, self.hash_of(&scratch));
        self.scratch = scratch;
        id
    }

    #[inline]
    fn hash_of(&self, path: &[u8]) -> PathHash {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path);
        PathHash(hasher.finish() >> 32 << 32)
    }

    /// The hash of a path that needs no other shape; `plain` if it has neither `.` nor `/`.
    #[inline]
    pub(super) fn hash(&self, path: &[u8], plain: bool) -> Option<PathHash> {
        (plain || is_tidy(path) || is_canonical(path)).then(|| self.hash_of(path))
    }

    /// Has the memory fetched where the entries of paths should stand, all at the same time.
    /// `places` is for its own use.
    pub(super) fn fetch(&self, hashes: &[Option<PathHash>], places: &mut Vec<usize>) {
        places.clear();
        let far = |&PathHash(hash): &PathHash| self.recent[recent_place(hash)] >> 32 != hash >> 32;
        let far = hashes.iter().flatten().filter(|hash| far(hash));
        places.extend(far.map(|&PathHash(hash)| home(hash, &self.table)));
        // Nothing here waits for the one before, nor guesses.
        let entries = places.iter().map(|&at| self.table[at]);
        std::hint::black_box(entries.fold(0, u64::wrapping_add));
    }

    /// The id of a path by its hash, new or not; `None` as for [`Paths::intern`].
    #[inline]
    pub(super) fn intern_hashed(&mut self, path: &[u8], hash: PathHash) -> Option<u32> {
        let PathHash(hash) = hash;
        let recent = recent_place(hash);
        let entry = self.recent[recent];
        if entry != 0 && entry >> 32 == hash >> 32 {
            let known = entry as u32 - 1;
            if same(self.get(known), path) {
                return Some(known);
            }
        }
        let id = self.intern_beyond(path, hash)?;
        self.recent[recent] = hash | u64::from(id + 1);
        Some(id)
    }

    fn intern_beyond(&mut self, path: &[u8], hash: u64) -> Option<u32> {
        let mut at = home(hash, &self.table);
        while self.table[at] != 0 {
            let entry = self.table[at];
            if entry >> 32 == hash >> 32 {
                let known = entry as u32 - 1;
                if same(self.get(known), path) {
                    return Some(known);
                }
            }
            at = if at + 1 == self.table.len() {
                0
            } else {
                at + 1
            };
        }
        let id = u32::try_from(self.len())
            .ok()
            .filter(|&id| id != u32::MAX)?;
        let end = u32::try_from(self.bytes.len() + path.len()).ok()?;
        self.bytes.extend_from_slice(path);
        self.starts.push(end);
        self.table[at] = hash | u64::from(id + 1);
        if self.len() * 3 > self.table.len() * 2 {
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
        let known = self.len();
        self.intern(path).filter(|&id| (id as usize) < known)
    }
}

/// Whether two paths are the same; for the short ones that most are without a call.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if one.len() > 16 {
        return one == other;
    }
    let eight = |path: &[u8]| {
        let (first, last) = (path.first_chunk::<8>()?, path.last_chunk::<8>()?);
        Some((u64::from_le_bytes(*first), u64::from_le_bytes(*last)))
    };
    if let (Some(one), Some(other)) = (eight(one), eight(other)) {
        return one == other;
    }
    let four = |path: &[u8]| {
        let (first, last) = (path.first_chunk::<4>()?, path.last_chunk::<4>()?);
        Some((u32::from_le_bytes(*first), u32::from_le_bytes(*last)))
    };
    if let (Some(one), Some(other)) = (four(one), four(other)) {
        return one == other;
    }
    one == other
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

/// Whether a path is canonical without a component that begins with a dot: most of them at a
/// glance.
fn is_tidy(path: &[u8]) -> bool {
    let hidden = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    path.first().is_some_and(|&first| first != b'.')
        && path.last() != Some(&b'/')
        && !path.windows(2).any(hidden)
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
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn short_cuts_lead_to_the_same_place(
            paths in proptest::collection::vec("[ab./]{1,20}", 1..200),
        ) {
            let mut table = Paths::with_capacity(0);
            let mut slow = BTreeMap::new();
            for path in &paths {
                let path = path.as_bytes();
                let mut wanted = Vec::new();
                canonicalise(path, &mut wanted);
                if is_tidy(path) {
                    prop_assert!(is_canonical(path));
                }
                if is_canonical(path) && !path.starts_with(b"../") {
                    prop_assert_eq!(&wanted, path);
                }
                let next = slow.len() as u32;
                let id = *slow.entry(wanted.clone()).or_insert(next);
                prop_assert_eq!(table.intern(path), Some(id));
                prop_assert_eq!(table.get(id), &wanted);
            }
        }

        #[test]
        fn paths_are_the_same_if_all_their_bytes_are(
            one in proptest::collection::vec(b'a'..b'c', 0..24),
            at in 0..24usize,
        ) {
            let mut other = one.clone();
            prop_assert!(same(&one, &other));
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1;
                prop_assert!(!same(&one, &other));
            }
            other.push(b'a');
            prop_assert!(!same(&one, &other));
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
