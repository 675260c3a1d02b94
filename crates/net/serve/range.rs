//! Which part of an archive a request wants (RFC 9110, section 14.2).

/// A part of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it, as if no part had been asked for.
    Whole,
    /// So many bytes, at least one, from there on.
    Bytes {
        /// Where it begins.
        from: u64,
        /// How long it is.
        length: u64,
    },
    /// None of it.
    Beyond,
}

impl Part {
    /// The part of something of `size` bytes that the header `Range` asks for. Several parts at
    /// once and what is no range ask for all, as they may.
    pub fn parse(header: &str, size: u64) -> Self {
        Self::understood(header, size).unwrap_or(Self::Whole)
    }

    fn understood(header: &str, size: u64) -> Option<Self> {
        let (unit, range) = header.split_once('=')?;
        let (first, last) = range.split_once('-')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = (first.trim(), last.trim());
        let (from, end) = match (first, last) {
            ("", last) => (size.saturating_sub(number(last)?), size),
            (first, "") => (number(first)?, size),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                (first, last.saturating_add(1).min(size))
            }
        };
        Some(match end.checked_sub(from) {
            None | Some(0) => Self::Beyond,
            Some(length) => Self::Bytes { from, length },
        })
    }
}

/// A number of digits only; one that is too large is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}
