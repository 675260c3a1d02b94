//! Where things stand in a graph file: offsets that become lines and columns when an error asks.
//! Columns count bytes, as serde_json's do; editors that count characters differ beyond ASCII.

use std::fmt;

use super::GraphError;

/// A line and a column of a graph file, both counted from 1, the column in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in bytes, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    /// `LINE:COLUMN`, to be put behind a file name and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A byte of a decoded string, remembered without decoding its position: most are never asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// Offset of the string's opening quote in the source.
    pub(super) string: u32,
    /// 0 is the opening quote itself, 1 + i the i-th byte of the decoded text.
    pub(super) index: u32,
}

/// The source and where its lines start. All offsets fit 32 bits, which [`Places::new`] makes sure
/// of.
pub(super) struct Places<'a> {
    source: &'a str,
    line_starts: Vec<u32>,
}

impl<'a> Places<'a> {
    /// Indexes the lines of `source`; fails if it is larger than 32-bit offsets can reach.
    pub(super) fn new(source: &'a str) -> Result<Self, GraphError> {
        check_size(source.len())?;
        let mut line_starts = vec![0];
        line_starts.extend(
            memchr::memchr_iter(b'\n', source.as_bytes()).map(|newline| newline as u32 + 1),
        );
        Ok(Places {
            source,
            line_starts,
        })
    }

    /// The whole text.
    pub(super) fn source(&self) -> &'a str {
        self.source
    }

    /// The offset of `part`, which must be a slice of the source.
    pub(super) fn offset(&self, part: &str) -> u32 {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.source.as_ptr() as usize);
        debug_assert!(offset <= self.source.len(), "not a part of the source");
        offset as u32
    }

    /// The place of the byte at `offset`.
    pub(super) fn at(&self, offset: u32) -> Position {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        Position {
            line: line as u32,
            column: offset - self.line_starts[line - 1] + 1,
        }
    }

    /// The place of a byte of a decoded string: walks its source text, so that escapes count in
    /// full.
    pub(super) fn inside(&self, spot: Spot) -> Position {
        let raw = &self.source.as_bytes()[spot.string as usize..];
        let mut offset = usize::from(spot.index > 0);
        let mut decoded = 1;
        while decoded < spot.index as usize {
            let (written, meant) = character_width(&raw[offset..]);
            offset += written;
            decoded += meant;
        }
        self.at(spot.string + offset as u32)
    }
}

fn check_size(bytes: usize) -> Result<(), GraphError> {
    if u32::try_from(bytes).is_ok() {
        Ok(())
    } else {
        Err(GraphError::TooLarge {
            place: Position { line: 1, column: 1 },
            bytes,
        })
    }
}

/// Bytes that the next character of a JSON string takes in the source and when decoded.
fn character_width(raw: &[u8]) -> (usize, usize) {
    if raw[0] != b'\\' {
        return (1, 1);
    }
    if raw[1] != b'u' {
        return (2, 1);
    }
    let code = raw[2..6].iter().fold(0, |code, digit| {
        code * 16 + (*digit as char).to_digit(16).unwrap_or(0)
    });
    match char::from_u32(code) {
        Some(character) => (6, character.len_utf8()),
        // Half of a surrogate pair: the other half follows, for the string has been decoded before.
        None => (12, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_become_lines_and_columns() {
        let places = Places::new("ab\n\ncd").unwrap();
        let at = |offset| places.at(offset).to_string();
        assert_eq!(
            [at(0), at(2), at(3), at(4), at(5)],
            ["1:1", "1:3", "2:1", "3:1", "3:2"]
        );
        assert_eq!(
            places.at(places.offset(&places.source()[5..])).to_string(),
            "3:2"
        );
    }

    #[test]
    fn sources_beyond_32_bits_are_refused() {
        assert!(check_size(u32::MAX as usize).is_ok());
        let error = check_size(u32::MAX as usize + 1).unwrap_err();
        assert!(matches!(
            error,
            GraphError::TooLarge {
                bytes: 4_294_967_296,
                ..
            }
        ));
    }

    proptest! {
        /// Whatever is escaped before it, a decoded byte leads back to where it was written.
        #[test]
        fn escapes_do_not_shift_places(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "ä", "€", "𝄞", "\\n", "\\\"", "\\u0041", "\\u00e4", "\\u20ac",
                    "\\ud834\\udd1e",
                ]),
                0..12,
            ),
        ) {
            let before = parts.concat();
            let source = format!("\n \"{before}@\"");
            let text: String = serde_json::from_str(&source).unwrap();
            let places = Places::new(&source).unwrap();
            let index = text.find('@').unwrap() as u32 + 1;
            let place = places.inside(Spot { string: 2, index });
            prop_assert_eq!(place, Position { line: 2, column: 3 + before.len() as u32 });
        }
    }
}
