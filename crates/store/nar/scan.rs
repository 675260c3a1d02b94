//! Finding the hash parts of store paths in a stream of bytes, faster than the bytes arrive.
//! A reference is what is found here: nothing is parsed, nothing is guessed.

use hashbrown::HashMap;

/// The length of a store path's hash part, in characters.
pub const HASH_PART: usize = 32;

/// Which bytes occur in Nix's base 32: the digits and lower-case letters but e, o, t and u.
const IN_ALPHABET: [bool; 256] = {
    let mut table = [false; 256];
    let alphabet = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut at = 0;
    while at < alphabet.len() {
        table[alphabet[at] as usize] = true;
        at += 1;
    }
    table
};

/// The hash parts to look for, each with the caller's index of the path it belongs to.
///
/// Made once a build. Several hash parts may have the same index, so that a path can be found
/// under the scratch name it was built at; a hash part given twice keeps its last index. One with
/// characters outside Nix's base 32 is never found.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// To a position in `indices`.
    positions: HashMap<[u8; HASH_PART], u32>,
    indices: Vec<u32>,
    /// A bit for each way a candidate begins, so that long runs of valid characters, as in hex
    /// dumps, cost a load each and not a look-up. A power of two of words.
    beginnings: Vec<u64>,
}

impl Default for Candidates {
    fn default() -> Self {
        Self::from_iter([])
    }
}

impl Candidates {
    /// The number of different hash parts.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    fn position(&self, window: &[u8; HASH_PART]) -> Option<u32> {
        let (word, bit) = beginning(window, self.beginnings.len());
        if self.beginnings[word] & bit == 0 {
            return None;
        }
        self.positions.get(window).copied()
    }
}

/// The word, of a power of two of `words`, and the bit in it that stand for how `hash_part` begins.
fn beginning(hash_part: &[u8; HASH_PART], words: usize) -> (usize, u64) {
    let [a, b, c, d, e, f, g, h, ..] = *hash_part;
    // The golden ratio spreads neighbouring values over the upper half.
    let spread = u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (
        (spread >> 38) as usize & (words - 1),
        1 << (spread >> 32 & 63),
    )
}

impl FromIterator<([u8; HASH_PART], u32)> for Candidates {
    fn from_iter<I: IntoIterator<Item = ([u8; HASH_PART], u32)>>(candidates: I) -> Self {
        let candidates = candidates.into_iter();
        let mut positions = HashMap::with_capacity(candidates.size_hint().0);
        let mut indices = Vec::with_capacity(candidates.size_hint().0);
        for (hash_part, index) in candidates {
            let position = *positions.entry(hash_part).or_insert(indices.len() as u32);
            match indices.get_mut(position as usize) {
                Some(known) => *known = index,
                None => indices.push(index),
            }
        }
        // Sixteen bits a candidate let one in sixteen windows through to the look-up.
        let mut beginnings = vec![0; indices.len().div_ceil(4).next_power_of_two().max(16)];
        for hash_part in positions.keys() {
            let (word, bit) = beginning(hash_part, beginnings.len());
            beginnings[word] |= bit;
        }
        Self {
            positions,
            indices,
            beginnings,
        }
    }
}

/// Looks for candidates in a stream that arrives in pieces of any size.
#[derive(Debug)]
pub struct Scanner<'a> {
    candidates: &'a Candidates,
    /// By the candidates' positions.
    found: Vec<bool>,
    missing: usize,
    /// The last bytes of the stream so far: too few to hold a hash part, enough to begin one.
    tail: [u8; HASH_PART - 1],
    tail_length: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of a stream.
    pub fn new(candidates: &'a Candidates) -> Self {
        Self {
            candidates,
            found: vec![false; candidates.len()],
            missing: candidates.len(),
            tail: [0; HASH_PART - 1],
            tail_length: 0,
        }
    }

    /// Takes the next piece of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.missing == 0 {
            return;
        }
        let overlap = piece.len().min(HASH_PART - 1);
        let mut seam = [0; 2 * (HASH_PART - 1)];
        let seam = &mut seam[..self.tail_length + overlap];
        seam[..self.tail_length].copy_from_slice(&self.tail[..self.tail_length]);
        seam[self.tail_length..].copy_from_slice(&piece[..overlap]);
        self.scan(seam);
        self.scan(piece);
        // The seam holds the whole piece unless the piece alone fills the tail.
        let end = if piece.len() < HASH_PART { seam } else { piece };
        let kept = &end[end.len().saturating_sub(HASH_PART - 1)..];
        self.tail[..kept.len()].copy_from_slice(kept);
        self.tail_length = kept.len();
    }

    /// The indices of the candidates found, ascending and without repetition.
    pub fn finish(self) -> Vec<u32> {
        let mut indices: Vec<u32> = self
            .candidates
            .indices
            .iter()
            .zip(self.found)
            .filter_map(|(&index, found)| found.then_some(index))
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// Looks at the last byte of each window first: one that no hash part can hold lets the window
    /// jump past it, so most bytes of binary data are never read.
    fn scan(&mut self, bytes: &[u8]) {
        let mut start = 0;
        // Bytes of the window before this one, counted from `start`, are known to be valid.
        let mut valid = 0;
        while let Some(window) = bytes
            .get(start..)
            .and_then(<[u8]>::first_chunk::<HASH_PART>)
        {
            let fault = window[valid..]
                .iter()
                .rposition(|&byte| !IN_ALPHABET[usize::from(byte)]);
            if let Some(fault) = fault {
                let fault = valid + fault;
                start += fault + 1;
                valid = HASH_PART - 1 - fault;
            } else {
                let after = &bytes[start + HASH_PART..];
                let more = after
                    .iter()
                    .take_while(|&&byte| IN_ALPHABET[usize::from(byte)])
                    .count();
                let end = start + HASH_PART + more;
                bytes[start..end]
                    .array_windows()
                    .for_each(|window| self.look_up(window));
                start = end + 1;
                valid = 0;
            }
        }
    }

    fn look_up(&mut self, window: &[u8; HASH_PART]) {
        if let Some(position) = self.candidates.position(window) {
            let found = &mut self.found[position as usize];
            self.missing -= usize::from(!*found);
            *found = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn scan_in_pieces(candidates: &Candidates, stream: &[u8], cuts: &[usize]) -> Vec<u32> {
        let mut scanner = Scanner::new(candidates);
        let mut rest = stream;
        for cut in cuts {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            scanner.feed(piece);
            rest = later;
        }
        scanner.feed(rest);
        scanner.finish()
    }

    fn scan_naively(candidates: &[([u8; HASH_PART], u32)], stream: &[u8]) -> Vec<u32> {
        let found: BTreeSet<u32> = candidates
            .iter()
            .filter(|(hash_part, _)| stream.windows(HASH_PART).any(|window| window == hash_part))
            .map(|&(_, index)| index)
            .collect();
        found.into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Candidates are cut from the stream itself, so they overlap each other and the cuts; a
        /// small alphabet makes long runs of valid bytes and repeated hash parts.
        #[test]
        fn agrees_with_a_search_at_every_place(
            alphabet in prop_oneof![
                Just(&b"01"[..]),
                Just(&b"0123456789abcdfghijklmnpqrsvwxyz"[..]),
                Just(&b"0123456789abcdfghijklmnpqrsvwxyz0123456789abcdfghijklmnpqrsvwxyz/"[..]),
                Just(&b"abcxyz e\0\xff"[..]),
            ],
            letters in vec(any::<prop::sample::Index>(), 0..600),
            places in vec((any::<prop::sample::Index>(), 0_u32..9), 0..12),
            cuts in vec(0_usize..80, 0..40),
            strays in vec(any::<[u8; HASH_PART]>(), 0..3),
        ) {
            let stream: Vec<u8> =
                letters.iter().map(|letter| alphabet[letter.index(alphabet.len())]).collect();
            let mut seen = BTreeSet::new();
            let mut candidates: Vec<([u8; HASH_PART], u32)> = Vec::new();
            let windows: Vec<&[u8]> = stream.windows(HASH_PART).collect();
            for (place, index) in places {
                if let Some(window) = windows.get(place.index(stream.len() + 1)) {
                    let valid = window.iter().all(|&byte| IN_ALPHABET[usize::from(byte)]);
                    if valid && seen.insert(*window) {
                        candidates.push((<[u8; HASH_PART]>::try_from(*window).unwrap(), index));
                    }
                }
            }
            candidates.extend(strays.into_iter().map(|stray| (stray, 77)));
            let built = candidates.iter().copied().collect();
            prop_assert_eq!(
                scan_in_pieces(&built, &stream, &cuts),
                scan_naively(&candidates, &stream)
            );
        }
    }

    #[test]
    fn one_byte_at_a_time_finds_what_one_piece_finds() {
        let hash_part = *b"r8vvq9kq18pz08v249h8my6r9vs7s0n3";
        let candidates = Candidates::from_iter([(hash_part, 5), ([b'0'; HASH_PART], 6)]);
        let stream = [b"/nix/store/", &hash_part[..], b"-name"].concat();
        for size in 1..=stream.len() {
            let mut scanner = Scanner::new(&candidates);
            stream.chunks(size).for_each(|piece| scanner.feed(piece));
            assert_eq!(scanner.finish(), [5], "in pieces of {size}");
        }
    }

    #[test]
    fn the_last_index_of_a_hash_part_counts_and_indices_may_repeat() {
        let (a, b) = ([b'a'; HASH_PART], [b'b'; HASH_PART]);
        let candidates = Candidates::from_iter([(a, 9), (b, 3), (a, 3)]);
        assert_eq!(candidates.len(), 2);
        let mut scanner = Scanner::new(&candidates);
        scanner.feed(&[a, b].concat());
        assert_eq!(scanner.finish(), [3]);
    }
}
