//! Lines out of what programs write in pieces.

use windrow_systems::process::lines::{LineBuffer, quotable};

use crate::shared::seeds as seeds_of;

/// No line is longer.
const LINE_LEN_MAX: usize = 64 * 1024;

fn lines(text: &[u8], piece: usize) -> Vec<String> {
    let mut buffer = LineBuffer::default();
    let mut lines = Vec::new();
    for piece in text.chunks(piece) {
        buffer.feed(piece);
        lines.extend(std::iter::from_fn(|| buffer.next_line()));
    }
    lines.extend(buffer.rest());
    lines
}

/// The lines are the same whatever the pieces, and for short ones what the standard library finds.
pub fn check(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else {
        return;
    };
    // One byte says how often the text is repeated, so that long lines are short inputs.
    let text = text.repeat(1 << (first >> 4));
    let text = &text[..text.len().min(150_000)];
    let whole = lines(text, text.len().max(1));
    let piece = 1 + usize::from(first & 15) * 37;
    assert_eq!(lines(text, piece), whole);
    let lossy = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    let mut naive: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    if naive.last().is_some_and(|last| last.is_empty()) {
        naive.pop();
    }
    if naive.iter().all(|line| line.len() <= LINE_LEN_MAX) {
        assert_eq!(whole, naive.into_iter().map(lossy).collect::<Vec<_>>());
    }
    for line in whole {
        assert!(quotable(line).len() <= 303);
    }
}

/// Short lines, long ones, ends of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        &b"\x02one\n\nthree\xff\nrest"[..],
        b"\xf3x",
        "\u{f1}\u{e4}\u{20ac}".as_bytes(),
        b"\xe7ab\r\n",
        b"\x00",
    ])
}
