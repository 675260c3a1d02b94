//! Names and messages as people see them: characters that act on a terminal, or can't be seen, are
//! spelt out.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is text that can be seen: no control, no separator but the blank, nothing
/// that only orders or joins what is around it, nothing that Unicode has not given a meaning. The
/// standard library knows which.
pub fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Accents are spelt out only where there is nothing for them to stand on.
    let mut text = [b'x'; 5];
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n')
}

/// The text with every invisible character spelt out, except line ends and tabs.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a string does not fail.
        let _ = match c {
            '\n' | '\t' => shown.write_char(c),
            '\r' => shown.write_str("\\r"),
            c if is_visible(c) => shown.write_char(c),
            c if c.is_ascii() => write!(shown, "\\x{:02x}", u32::from(c)),
            c => write!(shown, "\\u{{{:x}}}", u32::from(c)),
        };
    }
    Cow::Owned(shown)
}

/// The same for JSON, by escapes that mean the same to who reads it.
pub(super) fn visible_json(json: String) -> String {
    if json.bytes().all(is_plain) {
        return json;
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_visible(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_in_any_script_is_visible() {
        for text in [
            "plain",
            "Grüße",
            "日本語",
            "עברית",
            "हिन्दी",
            "e\u{301}",
            "…„“€",
            "🔍",
            "\u{fffd}",
        ] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_spelt_out() {
        for (c, shown) in [
            ('\0', "\\x00"),
            ('\u{8}', "\\x08"),
            ('\x1b', "\\x1b"),
            ('\x7f', "\\x7f"),
            ('\u{80}', "\\u{80}"),
            ('\u{9b}', "\\u{9b}"),
            ('\u{9d}', "\\u{9d}"),
            ('\u{200b}', "\\u{200b}"),
            ('\u{200e}', "\\u{200e}"),
            ('\u{2028}', "\\u{2028}"),
            ('\u{202e}', "\\u{202e}"),
            ('\u{2066}', "\\u{2066}"),
            ('\u{feff}', "\\u{feff}"),
            ('\u{e0041}', "\\u{e0041}"),
        ] {
            assert_eq!(visible(&format!("a{c}b")), format!("a{shown}b"));
        }
    }

    proptest! {
        #[test]
        fn nothing_acts_on_a_terminal(text in any::<String>()) {
            let shown = visible(&text);
            prop_assert!(shown.chars().all(|c| is_visible(c) || matches!(c, '\n' | '\t')));
            prop_assert_eq!(visible(&shown), shown.clone());
        }

        #[test]
        fn json_means_the_same(text in any::<String>()) {
            let json = visible_json(serde_json::json!({"a": text}).to_string());
            prop_assert!(json.chars().all(is_visible));
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["a"].as_str(), Some(text.as_str()));
        }
    }
}
