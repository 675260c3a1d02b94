//! Numbers and texts as Nix writes them into its streams, exports and protocols alike: eight bytes,
//! little-endian; a text after its length, filled up with zeros to a multiple of eight bytes.

use std::io::{self, ErrorKind, Read};

/// What texts are filled up to a multiple of, in bytes.
const ALIGNMENT: usize = 8;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream ends in the middle of it.
    #[error("it ends too early")]
    Ended,
    /// A text is longer than any that can be meant, and was not read.
    #[error("a text of {length} bytes is longer than {max}")]
    TooLong {
        /// Its length in bytes, as announced.
        length: u64,
        /// The greatest length, in bytes.
        max: u64,
    },
    /// The bytes that fill up a text are not zero.
    #[error("the padding is not zero")]
    Padding,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
    /// The stream can't be read.
    #[error(transparent)]
    Io(io::Error),
}

/// Appends a number.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

/// Appends a text.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    push_number(out, text.len() as u64);
    out.extend(text.as_bytes());
    out.resize(out.len() + padding(text.len()), 0);
}

/// Appends texts with their number before them.
pub fn push_texts(out: &mut Vec<u8>, texts: &[impl AsRef<str>]) {
    push_number(out, texts.len() as u64);
    texts.iter().for_each(|text| push_text(out, text.as_ref()));
}

/// Reads a number.
///
/// # Errors
/// When there is none.
pub fn number(source: &mut impl Read) -> Result<u64, WireError> {
    let mut bytes = [0; 8];
    fill(source, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads a text of `max` bytes at most.
///
/// # Errors
/// When there is none, or it is longer.
pub fn text(source: &mut impl Read, max: u64) -> Result<String, WireError> {
    String::from_utf8(bytes(source, max)?).map_err(|_| WireError::NotText)
}

/// Reads what stands where a text may, in any encoding, of `max` bytes at most.
///
/// # Errors
/// When there is none, or it is longer.
pub fn bytes(source: &mut impl Read, max: u64) -> Result<Vec<u8>, WireError> {
    let length = number(source)?;
    let too_long = || WireError::TooLong { length, max };
    if length > max {
        return Err(too_long());
    }
    let length = usize::try_from(length).map_err(|_| too_long())?;
    let mut bytes = vec![0; length];
    fill(source, &mut bytes)?;
    let mut rest = [0; ALIGNMENT];
    let rest = &mut rest[..padding(length)];
    fill(source, rest)?;
    match rest.iter().all(|&byte| byte == 0) {
        true => Ok(bytes),
        false => Err(WireError::Padding),
    }
}

fn fill(source: &mut impl Read, bytes: &mut [u8]) -> Result<(), WireError> {
    source
        .read_exact(bytes)
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => WireError::Ended,
            _ => WireError::Io(error),
        })
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        push_texts(&mut out, &["abc", "", "12345678"]);
        assert_eq!(out.len(), 8 + 16 + 8 + 16);
        let mut source = &out[..];
        assert_eq!(number(&mut source).unwrap(), 3);
        assert_eq!(text(&mut source, 3).unwrap(), "abc");
        assert_eq!(text(&mut source, 0).unwrap(), "");
        assert_eq!(text(&mut source, 8).unwrap(), "12345678");
        assert!(source.is_empty());
        assert!(matches!(number(&mut source), Err(WireError::Ended)));
    }

    #[test]
    fn nothing_is_taken_that_is_not_as_it_should_be() {
        let mut out = Vec::new();
        push_text(&mut out, "abc");
        let of = |bytes: &[u8], max| text(&mut &bytes[..], max).unwrap_err();
        assert!(matches!(
            of(&out, 2),
            WireError::TooLong { length: 3, max: 2 }
        ));
        assert!(matches!(of(&out[..15], 9), WireError::Ended));
        out[12] = 1;
        assert!(matches!(of(&out, 9), WireError::Padding));
        out[12] = 0;
        out[8] = 0xff;
        assert!(matches!(of(&out, 9), WireError::NotText));
        assert_eq!(bytes(&mut &out[..], 9).unwrap(), b"\xffbc");
        let endless = u64::MAX.to_le_bytes();
        assert!(matches!(
            of(&endless, u64::MAX - 1),
            WireError::TooLong { .. }
        ));
    }
}
