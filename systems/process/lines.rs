//! Lines out of what a program writes, piece by piece. A line that never ends is cut, so that nonsense can't fill
//! the memory.

/// No line that means anything to the engine is longer: one holds a store path at the most.
const LINE_LEN_MAX: usize = 64 * 1024;

/// Bytes that have come and are not taken yet.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first byte not taken lies.
    start: usize,
}

impl LineBuffer {
    /// Takes in what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line without its end; what is no UTF-8 in it is replaced.
    pub fn next_line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.start..];
        let (end, skip) = match memchr::memchr(b'\n', rest) {
            Some(end) => (end, 1),
            None if rest.len() > LINE_LEN_MAX => (rest.len(), 0),
            None => return None,
        };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.start += end + skip;
        Some(line)
    }

    /// What is left at the end of the program's output, if it did not end with a line's end.
    pub fn rest(&mut self) -> Option<String> {
        let rest = &self.bytes[self.start..];
        let line = (!rest.is_empty()).then(|| String::from_utf8_lossy(rest).into_owned());
        self.bytes.clear();
        self.start = 0;
        line
    }
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
    fn a_line_without_end_is_cut() {
        let mut buffer = LineBuffer::default();
        for _ in 0..40 {
            buffer.feed(&[b'x'; 4096]);
            buffer.next_line();
        }
        assert!(buffer.bytes.len() - buffer.start <= LINE_LEN_MAX + 4096);
    }
}
