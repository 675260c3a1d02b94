//! Takes a ninja file apart: names, paths, values, indentation. Keeps only an offset and works out
//! lines on failure. What it returns are ranges of the file; escapes and variables are resolved
//! later, and only where somebody asks.

use std::ops::Range;

use crate::task_graph::{Place, TaskGraphError};

type Result<T> = std::result::Result<T, TaskGraphError>;

/// A path or value as it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) range: Range<usize>,
    /// It has escapes or variables.
    pub(super) dollars: bool,
    /// It has a `.` or `/`, without which ninja leaves a path as it is. Only known of paths.
    pub(super) dots_or_slashes: bool,
}

/// How long a path or value may become when its variables are replaced, in bytes, if it is not so
/// long as it stands.
const EXPANDED_MAX: usize = 4 << 20;

/// Eight times the same byte.
const fn eight(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The top bits of those bytes that are below `limit`, which is at most 128: right up to the first
/// one.
const fn below(bytes: u64, limit: u8) -> u64 {
    bytes.wrapping_sub(eight(limit)) & !bytes & eight(0x80)
}

/// The same for bytes that are `byte`.
const fn equal(bytes: u64, byte: u8) -> u64 {
    below(bytes ^ eight(byte), 1)
}

/// The top bits of the bytes up to the first that may end a path: all that do, and a few more.
const fn stops(bytes: u64) -> u64 {
    below(bytes, b'$' + 1) | equal(bytes, b':') | equal(bytes, b'|')
}

/// The top bits of bytes that are `.` or `/`.
const fn dots_or_slashes(bytes: u64) -> u64 {
    // Only the lowest bit tells the two apart.
    equal(bytes & !eight(1), b'.')
}

/// A place in a file, moving forward.
pub(super) struct Scanner<'t> {
    file: &'t str,
    text: &'t [u8],
    pos: usize,
}

const PATH: u8 = 1;
const VARIABLE: u8 = 2;
const RULE: u8 = 4;

/// What each byte may be part of, unescaped.
const CLASSES: [u8; 256] = {
    let mut classes = [PATH; 256];
    let stops = b" :|\n\r$\0";
    let mut index = 0;
    while index < stops.len() {
        classes[stops[index] as usize] = 0;
        index += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        let letter = byte as u8;
        if letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'-' {
            classes[byte] |= VARIABLE | RULE;
        }
        byte += 1;
    }
    classes[b'.' as usize] |= RULE;
    classes
};

impl<'t> Scanner<'t> {
    pub(super) fn new(file: &'t str, text: &'t [u8]) -> Self {
        Self { file, text, pos: 0 }
    }

    /// One that goes on where another has stopped.
    pub(super) fn resumed(file: &'t str, text: &'t [u8], pos: usize) -> Self {
        Self { file, text, pos }
    }

    pub(super) fn file(&self) -> &'t str {
        self.file
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    pub(super) fn bytes(&self, range: &Range<usize>) -> &'t [u8] {
        &self.text[range.clone()]
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        Place::of_offset(self.file, self.text, offset)
    }

    pub(super) fn wrong<T>(&self, offset: usize, reason: impl Into<String>) -> Result<T> {
        Err(TaskGraphError::Malformed {
            place: self.place(offset),
            reason: reason.into(),
        })
    }

    /// What is wrong here if `what` should stand here.
    pub(super) fn expected<T>(&self, what: &str) -> Result<T> {
        let found = match self.peek() {
            None => "the file ends".to_owned(),
            Some(b'\n' | b'\r') => "the line ends".to_owned(),
            Some(byte) => format!("`{}` stands", byte.escape_ascii()),
        };
        self.wrong(self.pos, format!("{found} where {what} should stand"))
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    pub(super) fn sees(&self, prefix: &[u8]) -> bool {
        self.text[self.pos..].starts_with(prefix)
    }

    pub(super) fn eat(&mut self, prefix: &[u8]) -> bool {
        let found = self.sees(prefix);
        if found {
            self.pos += prefix.len();
        }
        found
    }

    /// Spaces, and ends of lines with a `$` before them.
    pub(super) fn skip_spaces(&mut self) {
        loop {
            match self.peek() {
                Some(b' ') => self.pos += 1,
                Some(b'$') if self.eat(b"$\n") || self.eat(b"$\r\n") => {}
                _ => return,
            }
        }
    }

    /// Goes to the next line that says something. `Some(true)` if it is indented, with its
    /// indentation behind; `None` at the end of the file. An empty line ends a block of indented
    /// ones, which `in_block` asks about.
    #[inline]
    pub(super) fn next_line(&mut self, in_block: bool) -> Result<Option<bool>> {
        if self.peek().is_some_and(|byte| byte.is_ascii_lowercase()) {
            return Ok(Some(false));
        }
        self.next_line_beyond(in_block)
    }

    fn next_line_beyond(&mut self, in_block: bool) -> Result<Option<bool>> {
        loop {
            let line = self.pos;
            while self.peek() == Some(b' ') {
                self.pos += 1;
            }
            match self.peek() {
                None => return Ok(None),
                Some(b'\t') => return self.wrong(self.pos, "tabs are not allowed, use spaces"),
                Some(b'#') => {
                    let comment = &self.text[self.pos..];
                    let end = memchr::memchr(b'\n', comment).map(|newline| newline + 1);
                    self.pos += end.unwrap_or(comment.len());
                }
                Some(b'\n' | b'\r') if self.sees(b"\n") || self.sees(b"\r\n") => {
                    if in_block {
                        self.pos = line;
                        return Ok(Some(false));
                    }
                    self.end_of_line()?;
                }
                Some(_) => return Ok(Some(self.pos > line)),
            }
        }
    }

    pub(super) fn end_of_line(&mut self) -> Result<()> {
        if self.eat(b"\n") || self.eat(b"\r\n") {
            return Ok(());
        }
        self.expected("the end of the line")
    }

    fn while_class(&mut self, class: u8) -> Range<usize> {
        let start = self.pos;
        let rest = &self.text[start..];
        let stops = |&byte: &u8| CLASSES[byte as usize] & class == 0;
        self.pos += rest.iter().position(stops).unwrap_or(rest.len());
        start..self.pos
    }

    /// The name of a rule, pool or variable, with the spaces after it.
    pub(super) fn identifier(&mut self, what: &str) -> Result<&'t [u8]> {
        let name = self.while_class(RULE);
        if name.is_empty() {
            return self.expected(what);
        }
        self.skip_spaces();
        Ok(self.bytes(&name))
    }

    /// A path with the spaces after it; `None` if none stands here.
    pub(super) fn path(&mut self) -> Result<Option<Raw>> {
        let mut found = Vec::new();
        self.some_paths(1, &mut found)?;
        Ok(found.pop())
    }

    /// All paths up to where none stands, with the spaces after each.
    pub(super) fn paths(&mut self, found: &mut Vec<Raw>) -> Result<()> {
        self.some_paths(usize::MAX, found)
    }

    #[inline]
    fn some_paths(&mut self, most: usize, found: &mut Vec<Raw>) -> Result<()> {
        for _ in 0..most {
            let start = self.pos;
            let mut raw = Raw {
                dots_or_slashes: self.skip_path_bytes(),
                dollars: false,
                range: start..start,
            };
            loop {
                match self.peek() {
                    Some(b' ' | b':' | b'|' | b'\n') => break,
                    Some(b'\r') if self.sees(b"\r\n") => break,
                    Some(b'$') => {
                        raw.dollars = true;
                        self.escape()?;
                        raw.dots_or_slashes |= self.skip_path_bytes();
                    }
                    _ => return self.expected("the rest of the path"),
                }
            }
            raw.range.end = self.pos;
            self.skip_spaces();
            if raw.range.is_empty() {
                break;
            }
            found.push(raw);
        }
        Ok(())
    }

    /// Goes on to what is no plain part of a path; whether a `.` or `/` was met.
    #[inline]
    fn skip_path_bytes(&mut self) -> bool {
        let mut found = 0;
        while let Some(&bytes) = self.text[self.pos..].first_chunk() {
            let bytes = u64::from_le_bytes(bytes);
            let stops = stops(bytes);
            if stops == 0 {
                found |= dots_or_slashes(bytes);
                self.pos += 8;
                continue;
            }
            let before = stops & stops.wrapping_neg();
            found |= dots_or_slashes(bytes) & (before - 1);
            self.pos += stops.trailing_zeros() as usize / 8;
            let stop = self.text[self.pos];
            if CLASSES[stop as usize] & PATH == 0 {
                return found != 0;
            }
            self.pos += 1;
        }
        let rest = self.while_class(PATH);
        found != 0
            || self
                .bytes(&rest)
                .iter()
                .any(|byte| matches!(byte, b'.' | b'/'))
    }

    fn escape(&mut self) -> Result<()> {
        let start = self.pos;
        self.pos += 1;
        match self.peek() {
            Some(b'$' | b' ' | b':') => self.pos += 1,
            Some(b'\n' | b'\r') if self.eat(b"\n") || self.eat(b"\r\n") => {
                while self.peek() == Some(b' ') {
                    self.pos += 1;
                }
            }
            Some(b'{') => {
                self.pos += 1;
                if self.while_class(RULE).is_empty() || !self.eat(b"}") {
                    return self.wrong(start, "this `${` has no name and `}` after it");
                }
            }
            _ => {
                if self.while_class(VARIABLE).is_empty() {
                    return self.wrong(start, "a single `$`; for a literal one write `$$`");
                }
            }
        }
        Ok(())
    }

    /// `name = value` up to the end of its line.
    pub(super) fn binding(&mut self) -> Result<(&'t [u8], Raw)> {
        let name = self.identifier("the name of a variable")?;
        Ok((name, self.assigned()?))
    }

    /// `= value` up to the end of its line.
    pub(super) fn assigned(&mut self) -> Result<Raw> {
        if !self.eat(b"=") {
            return self.expected("`=`");
        }
        self.skip_spaces();
        let start = self.pos;
        loop {
            let rest = &self.text[self.pos..];
            let Some(newline) = memchr::memchr(b'\n', rest) else {
                self.pos = self.text.len();
                return self.expected("the end of the line");
            };
            self.pos += newline + 1;
            let line = &self.text[start..self.pos - 1];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // An odd number of `$` at the end: the last one continues the line.
            if line.iter().rev().take_while(|&&byte| byte == b'$').count() % 2 == 0 {
                let range = start..start + line.len();
                return Ok(Raw {
                    dollars: memchr::memchr(b'$', line).is_some(),
                    dots_or_slashes: true,
                    range,
                });
            }
        }
    }

    /// Appends a path or value with escapes resolved and variables replaced by what `variable`
    /// says. That may make it longer than it stands in the file, but not without a limit: each of a
    /// few lines may be twice as long as the one before.
    pub(super) fn expand<'v>(
        &self,
        raw: &Raw,
        variable: impl Fn(&[u8]) -> &'v [u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut inner = Scanner {
            file: self.file,
            text: &self.text[..raw.range.end],
            pos: 0,
        };
        inner.pos = raw.range.start;
        let most = raw.range.len().max(EXPANDED_MAX);
        while let Some(dollar) = memchr::memchr(b'$', &inner.text[inner.pos..]) {
            let start = inner.pos + dollar;
            out.extend_from_slice(&inner.text[inner.pos..start]);
            inner.pos = start;
            inner.escape()?;
            match &inner.text[start + 1..inner.pos] {
                [b'{', name @ .., b'}'] => out.extend_from_slice(variable(name)),
                [literal @ (b'$' | b' ' | b':')] => out.push(*literal),
                [b'\n' | b'\r', ..] => {}
                name => out.extend_from_slice(variable(name)),
            }
            if out.len() > most {
                let text = format!("with its variables replaced, this has more than {most} bytes");
                return self.wrong(raw.range.start, text);
            }
        }
        out.extend_from_slice(&inner.text[inner.pos..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_stop_where_single_ones_do(
            text in proptest::collection::vec(
                prop_oneof![4 => b'a'..b'd', 2 => proptest::sample::select(b"./ :|\n\r$\0!#\t".as_slice()), 1 => any::<u8>()],
                0..40,
            ),
            start in 0..8usize,
        ) {
            let start = start.min(text.len());
            let mut scanner = Scanner { pos: start, ..Scanner::new("f", &text) };
            let found = scanner.skip_path_bytes();
            let mut single = Scanner { pos: start, ..Scanner::new("f", &text) };
            let range = single.while_class(PATH);
            prop_assert_eq!(scanner.pos, range.end);
            prop_assert_eq!(found, text[range].iter().any(|byte| matches!(byte, b'.' | b'/')));
        }
    }

    fn expanded(text: &str) -> Result<String> {
        let scanner = Scanner::new("f", text.as_bytes());
        let raw = Raw {
            range: 0..text.len(),
            dollars: true,
            dots_or_slashes: true,
        };
        let mut out = Vec::new();
        let variable = |name: &[u8]| match name {
            b"a" => b"1".as_slice(),
            b"a.b" => b"2",
            _ => b"",
        };
        scanner.expand(&raw, variable, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn escapes_and_variables() {
        for (text, wanted) in [
            ("x$$y$ z$:", "x$y z:"),
            ("$a.b ${a.b} $a-b", "1.b 2 "),
            ("x$\n   y$\r\nz", "xyz"),
            ("$nothing", ""),
        ] {
            assert_eq!(expanded(text).unwrap(), wanted);
        }
        for text in ["x$", "$*", "${a", "${}", "$\r"] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_end_where_ninja_ends_them() {
        let mut scanner = Scanner::new("f", b"a$ b$\n  c d|e:f\r\n");
        let mut found = Vec::new();
        loop {
            match scanner.path().unwrap() {
                Some(raw) => found.push(raw.range),
                None if scanner.eat(b"|") || scanner.eat(b":") => {}
                None => break,
            }
        }
        assert_eq!(found, [0..9, 10..11, 12..13, 14..15]);
        scanner.end_of_line().unwrap();
    }

    #[test]
    fn values_may_go_on_after_a_dollar() {
        let mut scanner = Scanner::new("f", b"x = a $\n  b $$\ny =\r\nz = cut");
        let (name, value) = scanner.binding().unwrap();
        assert_eq!((name, value.range), (b"x".as_slice(), 4..14));
        let (name, value) = scanner.binding().unwrap();
        assert_eq!((name, value.range.len()), (b"y".as_slice(), 0));
        let refused = scanner.binding().unwrap_err().to_string();
        assert!(refused.starts_with("f:4:8: the file ends"), "{refused}");
    }
}
