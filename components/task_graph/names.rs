//! Names of tasks are bytes, as those of files are. Here alone they become text and text becomes
//! names, so that no two become one and each comes back as it was.

use std::borrow::Cow;

/// A name as text. Bytes that are no UTF-8 are spelt `\xe9`; so that nothing else looks like that,
/// a backslash before what would be read as such a byte is spelt `\x5c`.
pub fn spelt(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(name)
        && !has_escape(name)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        let valid = chunk.valid();
        let mut from = 0;
        for (at, _) in valid.match_indices('\\') {
            if escape(&valid.as_bytes()[at..]).is_some() {
                text.push_str(&valid[from..at]);
                text.push_str("\\x5c");
                from = at + 1;
            }
        }
        text.push_str(&valid[from..]);
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    Cow::Owned(text)
}

/// The name that is spelt so. Text that no name is spelt as is taken as it stands.
pub fn unspelt(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !has_escape(bytes) {
        return Cow::Borrowed(bytes);
    }
    let mut name = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, behind @ ..] = rest {
        match escape(rest) {
            Some(byte) => {
                name.push(byte);
                rest = &rest[ESCAPE_LEN..];
            }
            None => {
                name.push(*first);
                rest = behind;
            }
        }
    }
    match spelt(&name) == text {
        true => Cow::Owned(name),
        false => Cow::Borrowed(bytes),
    }
}

const ESCAPE_LEN: usize = 4;

/// The byte that is spelt at the beginning of some text, if one is.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let byte = digit(*high)? * 16 + digit(*low)?;
    (byte >= 0x80 || byte == b'\\').then_some(byte)
}

fn has_escape(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', text).any(|at| escape(&text[at..]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_no_text_is_spelt_out() {
        for (name, text) in [
            (&b"plain/name.o"[..], "plain/name.o"),
            ("caf\u{e9}".as_bytes(), "caf\u{e9}"),
            (b"caf\xe9.o", r"caf\xe9.o"),
            (b"caf\xe8.o", r"caf\xe8.o"),
            (br"caf\xe9.o", r"caf\x5cxe9.o"),
            (br"C:\x41\xE9\y", r"C:\x41\xE9\y"),
            (br"\x5c", r"\x5cx5c"),
            (b"\\\xe9", r"\\xe9"),
            (b"", ""),
        ] {
            assert_eq!(spelt(name), text);
            assert_eq!(&*unspelt(text), name);
        }
        // These bytes would be text, so no name is spelt like that.
        assert_eq!(&*unspelt(r"\xc3\xa9"), br"\xc3\xa9");
    }

    proptest! {
        #[test]
        fn names_come_back(
            parts in proptest::collection::vec(
                prop_oneof![
                    any::<u8>().prop_map(|byte| vec![byte]),
                    proptest::sample::select(vec!["\\", "x", "\\x", "5c", "e9", "\\xe9", "\u{e9}"])
                        .prop_map(|text: &str| text.as_bytes().to_vec()),
                ],
                0..12,
            ),
        ) {
            let name = parts.concat();
            let text = spelt(&name);
            prop_assert_eq!(&*unspelt(&text), &name[..]);
        }
    }
}
