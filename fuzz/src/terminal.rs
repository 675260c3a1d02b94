//! Builders' output as a terminal gets it, and names as messages show them.

use std::borrow::Cow;

use windrow::terminal::{Line, is_visible, log_text, visible};

use crate::shared::seeds as seeds_of;

/// Takes colours away; fails on any other sequence.
fn without_colours(mut text: &str) -> String {
    let mut left = String::new();
    while let Some((before, behind)) = text.split_once('\x1b') {
        left.push_str(before);
        let end = behind.find('m').expect("it ends");
        let inside = behind[..end].strip_prefix('[').expect("it begins");
        assert!(inside.bytes().all(|it| it.is_ascii_digit() || b";:".contains(&it)));
        text = &behind[end + 1..];
    }
    left.push_str(text);
    left
}

/// Nothing acts on a terminal but colours, and those have an end; filtering twice changes nothing.
pub fn check(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    let plain = log_text(&line, false);
    assert!(plain.chars().all(|c| c == '\t' || !c.is_control()));
    assert_eq!(log_text(&plain, false), plain);
    let coloured = log_text(&line, true);
    assert_eq!(without_colours(&coloured), plain);
    assert_eq!(log_text(&coloured, true), coloured);
    if let Some(at) = coloured.rfind('\x1b') {
        let last = &coloured[at..];
        assert!(last.starts_with("\x1b[0m") || last.contains(";0m"), "{last:?}");
    }

    let shown = visible(&line);
    assert!(shown.chars().all(|c| matches!(c, '\n' | '\t') || is_visible(c)));
    assert_eq!(visible(&shown), shown);
    if line.chars().all(is_visible) {
        assert!(matches!(&shown, Cow::Borrowed(_)) || shown == line);
    }
    assert!(!Line::for_programs(&line).as_str().contains('\n'));
    let message = Line::message(&line);
    assert!(message.as_str().lines().skip(1).all(|it| it.is_empty() || it.starts_with(' ')));
}

/// Sequences of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "plain text\twith a tab",
        "Gr\u{fc}\u{df}e, \u{65e5}\u{672c}\u{8a9e} e\u{301} \u{202e}x\u{2028}",
        "\x1b[1;31mred\x1b[38;5;200m\x1b[48:2::1:2:3mx\x1b[4:3m\x1b[0m y\x1b[8mhidden",
        "\x1b]0;title\x07after\x1b]52;c;aGVsbG8=\x1b\\\x1bPq payload\x1b\\",
        "\x1b[2J\x1b[H\x1b[3;4Hx\x1b[1A\x1b[K\x1b[?1049h\x1b[6n",
        "c1: \u{9b}2J \u{9d}0;t\u{9c} \u{90}\u{85}x\r\n",
        "\x1b[0;1m\x1b[;m\x1b[38;2;1;2;300mz",
    ])
}
