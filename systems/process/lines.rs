//! Lines out of what a program writes, piece by piece. A line that never ends is cut, so that
//! nonsense can't fill the memory.

use std::ops::Range;

use windrow_components::log_line::{LogMessage, last_start};

/// No line that means anything to the engine is longer: one holds a store path at most.
const LINE_LEN_MAX: usize = 64 * 1024;

/// Bytes that have come and are not taken yet.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first byte not taken lies.
    start: usize,
    /// Up to where there is no line's end.
    searched: usize,
}

impl LineBuffer {
    /// Takes in what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line without its end; what is no UTF-8 in it is replaced.
    pub fn next_line(&mut self) -> Option<String> {
        let line = self.next_raw()?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    /// The bytes of the next whole line without its end.
    pub fn next_raw(&mut self) -> Option<&[u8]> {
        let line = self.next_place()?;
        Some(&self.bytes[line])
    }

    /// Where the next whole line lies, which is taken.
    fn next_place(&mut self) -> Option<Range<usize>> {
        let rest = &self.bytes[self.start..];
        // The same bytes make the same lines, whatever the pieces that they came in.
        let within = &rest[..rest.len().min(LINE_LEN_MAX + 1)];
        let from = self.searched.saturating_sub(self.start).min(within.len());
        let (end, skip) = match memchr::memchr(b'\n', &within[from..]) {
            Some(end) => (from + end, 1),
            None if within.len() > LINE_LEN_MAX => (char_boundary(within, LINE_LEN_MAX), 0),
            None => {
                self.searched = self.bytes.len();
                return None;
            }
        };
        let start = self.start;
        self.start += end + skip;
        Some(start..start + end)
    }

    /// What has come of a line that has no end yet.
    pub fn partial(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes what has come of a line that has no end yet as a line, except for a character of which
    /// only a part has come.
    pub fn take_partial(&mut self) -> Option<String> {
        let partial = self.partial();
        let whole = match std::str::from_utf8(partial) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => partial.len(),
        };
        let line = String::from_utf8_lossy(&partial[..whole]).into_owned();
        self.start += whole;
        self.searched = self.searched.max(self.start);
        (!line.is_empty()).then_some(line)
    }

    /// What is left at the end of the program's output, if it did not end with a line's end.
    pub fn rest(&mut self) -> Option<String> {
        let rest = &self.bytes[self.start..];
        let line = (!rest.is_empty()).then(|| String::from_utf8_lossy(rest).into_owned());
        self.bytes.clear();
        self.start = 0;
        self.searched = 0;
        line
    }
}

/// Lines that people see while a program runs. What it has written of a line without ending it, a
/// question or progress that is written over itself, is seen when it is a second old.
#[derive(Debug, Default)]
pub struct ShownLines {
    lines: LineBuffer,
    /// Whether what there is of a line was there a second ago, or comes after such.
    waits: bool,
    /// Whether a part of the line was shown as a line. Its end alone is not another one.
    is_shown: bool,
}

impl ShownLines {
    /// Takes in what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lines.feed(bytes);
    }

    /// The next whole line without its end; what is no UTF-8 in it is replaced.
    pub fn next_line(&mut self) -> Option<String> {
        let line = self.next_raw()?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    /// The bytes of the next whole line without its end.
    pub fn next_raw(&mut self) -> Option<&[u8]> {
        loop {
            let line = self.lines.next_place()?;
            self.waits = false;
            let is_end = matches!(&self.lines.bytes[line.clone()], b"" | b"\r");
            if !(std::mem::take(&mut self.is_shown) && is_end) {
                return Some(&self.lines.bytes[line]);
            }
        }
    }

    /// What has waited for the end of its line for a second or longer, unless it may become a
    /// message to the engine, or something else that is for the engine. To be asked once a second.
    pub fn overdue(&mut self, is_for_engine: impl Fn(&[u8]) -> bool) -> Option<String> {
        let partial = self.lines.partial();
        if partial.is_empty() || LogMessage::may_begin_in(partial) || is_for_engine(partial) {
            return None;
        }
        if !std::mem::replace(&mut self.waits, true) {
            return None;
        }
        let text = self.lines.take_partial()?;
        self.is_shown = true;
        Some(last_start(&text).to_owned())
    }

    /// What is left at the end of the program's output, if it did not end with a line's end.
    pub fn rest(&mut self) -> Option<String> {
        self.lines.rest()
    }
}

/// How much of a line stands in a message about it, in bytes.
const SHOWN_LEN_MAX: usize = 300;

/// A line as a message quotes it: one that is too long for that without its end.
pub fn quotable(mut line: String) -> String {
    if line.len() > SHOWN_LEN_MAX {
        line.truncate(line.floor_char_boundary(SHOWN_LEN_MAX));
        line.push('…');
    }
    line
}

/// The last place up to `at` that does not lie within a character, or `at` in what is no UTF-8.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let continues = |place: &usize| bytes[*place] & 0xc0 == 0x80;
    (at - 3..=at).rev().find(|it| !continues(it)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let text = b"one\n\nthree\xff\nrest";
        for size in 1..text.len() {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for piece in text.chunks(size) {
                buffer.feed(piece);
                lines.extend(std::iter::from_fn(|| buffer.next_line()));
            }
            assert_eq!(lines, ["one", "", "three\u{fffd}"]);
            assert_eq!(buffer.rest().as_deref(), Some("rest"));
            assert_eq!(buffer.rest(), None);
        }
    }

    #[test]
    fn a_line_without_end_may_be_taken_in_parts() {
        let mut buffer = LineBuffer::default();
        buffer.feed("10 %\r20 %\rä".as_bytes().split_last().unwrap().1);
        assert_eq!(buffer.take_partial().as_deref(), Some("10 %\r20 %\r"));
        assert_eq!((buffer.take_partial(), buffer.next_line()), (None, None));
        buffer.feed(&"ä".as_bytes()[1..]);
        buffer.feed(b" b\nc");
        assert_eq!(buffer.next_line().as_deref(), Some("ä b"));
        assert_eq!(buffer.take_partial().as_deref(), Some("c"));
        assert_eq!(buffer.rest(), None);
    }

    #[test]
    fn a_line_without_end_is_seen_after_a_second() {
        let mut lines = ShownLines::default();
        let overdue = |lines: &mut ShownLines| lines.overdue(|partial| partial.starts_with(b"#"));
        lines.feed(b"one\n10 %\r20 %");
        assert_eq!(lines.next_line().as_deref(), Some("one"));
        assert_eq!(overdue(&mut lines), None, "not a second yet");
        assert_eq!(overdue(&mut lines).as_deref(), Some("20 %"));
        lines.feed(b"\n\ntwo\n");
        assert_eq!(
            lines.next_line().as_deref(),
            Some(""),
            "not the end of 20 %"
        );
        assert_eq!(lines.next_line().as_deref(), Some("two"));
        for text in ["# acc", "@nix {"] {
            lines.feed(text.as_bytes());
            assert_eq!((overdue(&mut lines), overdue(&mut lines)), (None, None));
            lines.feed(b"\n");
            assert_eq!(lines.next_line().as_deref(), Some(text));
        }
        lines.feed(b"rest");
        assert_eq!(lines.rest().as_deref(), Some("rest"));
    }

    #[test]
    fn a_line_without_end_is_cut_in_the_same_places_whatever_the_pieces() {
        let mut text = "x".repeat(LINE_LEN_MAX - 1);
        text.push_str(&"ä€".repeat(LINE_LEN_MAX));
        text.push('\n');
        let cut = |size: usize| {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                buffer.feed(piece);
                lines.extend(std::iter::from_fn(|| buffer.next_line()));
                assert!(buffer.bytes.len() - buffer.start <= LINE_LEN_MAX + size);
            }
            assert_eq!(buffer.rest(), None);
            lines
        };
        let whole = cut(text.len());
        assert_eq!(whole[0].len(), LINE_LEN_MAX - 1, "no character is cut");
        assert!(whole.iter().all(|line| line.len() <= LINE_LEN_MAX));
        assert_eq!(whole.concat(), text.trim_end());
        for size in [1, 2, 3, 4096, 70_000] {
            assert!(cut(size) == whole, "pieces of {size}");
        }
    }
}
