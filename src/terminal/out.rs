//! Standard output: byte for byte what was printed for programs; for people at a terminal, without
//! what would act on it.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::os::fd::{AsFd, BorrowedFd};

use windrow_components::log_line::last_start;
use windrow_systems::process::lines::LineBuffer;

use super::{has_colours, log_text, visible};

const BUFFER_BYTES: usize = 64 << 10;

/// Standard output itself, after all that was written to standard error: both may be the same pipe.
/// What is written here may wait for its reader for ever; a signal ends the program then.
#[derive(Debug)]
pub struct Ordered(StdoutLock<'static>);

impl Write for Ordered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        super::flush();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        super::flush();
        self.0.flush()
    }
}

/// Standard output, or what the tests have in its place. Names that are written to it are spelt out
/// on a terminal as `ls` does; logs keep their colours.
pub struct Out<W: Write = Ordered> {
    sink: BufWriter<W>,
    for_people: bool,
    colours: bool,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
    lines: LineBuffer,
}

impl Out {
    /// Standard output as it is now. A pager that is put in its place later shows what a terminal
    /// would.
    pub fn new() -> Self {
        let for_people = super::stdout_is_terminal();
        let sink = Ordered(super::stdout().lock());
        Self::on(sink, for_people, has_colours(for_people))
    }
}

impl AsFd for Out {
    /// Standard output, to wait until nobody reads it any more.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sink.get_ref().0.as_fd()
    }
}

impl Default for Out {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write> Out<W> {
    fn on(sink: W, for_people: bool, colours: bool) -> Self {
        Self {
            sink: BufWriter::with_capacity(BUFFER_BYTES, sink),
            for_people,
            colours,
            partial: Vec::new(),
            lines: LineBuffer::default(),
        }
    }

    /// Writes more of a log.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_log(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.for_people {
            return self.sink.write_all(bytes);
        }
        self.lines.feed(bytes);
        while let Some(line) = self.lines.next_line() {
            let text = log_text(last_start(&line), self.colours);
            writeln!(self.sink, "{text}")?;
        }
        Ok(())
    }

    /// Writes what is left of a log that does not end with a line's end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn end_log(&mut self) -> io::Result<()> {
        match self.lines.rest() {
            Some(rest) => {
                let text = log_text(last_start(&rest), self.colours);
                self.sink.write_all(text.as_bytes())
            }
            None => Ok(()),
        }
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.for_people {
            return self.sink.write(bytes);
        }
        self.partial.extend_from_slice(bytes);
        let whole = self.partial.len() - begun(&self.partial);
        let text = String::from_utf8_lossy(&self.partial[..whole]);
        self.sink.write_all(visible(&text).as_bytes())?;
        self.partial.drain(..whole);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// How many bytes at the end are the beginning of a character.
fn begun(bytes: &[u8]) -> usize {
    let lengths = 1..=bytes.len().min(3);
    let is_begun = |&len: &usize| {
        let end = &bytes[bytes.len() - len..];
        std::str::from_utf8(end)
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    lengths.rev().find(is_begun).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(for_people: bool, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Out::on(Vec::new(), for_people, true);
        for piece in pieces {
            out.write_all(piece).unwrap();
        }
        out.sink.into_inner().unwrap()
    }

    #[test]
    fn programs_get_the_bytes_and_people_see_them() {
        let text = "a\x1b[31m€\u{9b}x\n".as_bytes();
        assert_eq!(names(false, &[text, b"\xff"]), [text, b"\xff"].concat());
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            let shown = String::from_utf8(names(true, &pieces)).unwrap();
            assert_eq!(shown, "a\\x1b[31m€\\u{9b}x\n");
        }
        assert_eq!(
            names(true, &[b"\xff\xe2\x82", b"x"]),
            "\u{fffd}\u{fffd}x".as_bytes()
        );
    }

    #[test]
    fn logs_keep_their_colours() {
        let log = b"1 %\r2 %\r\n\x1b[31mred\n\x1b]0;t\x07\xffend";
        for size in 1..log.len() {
            let mut out = Out::on(Vec::new(), true, true);
            for piece in log.chunks(size) {
                out.write_log(piece).unwrap();
            }
            out.end_log().unwrap();
            let shown = String::from_utf8(out.sink.into_inner().unwrap()).unwrap();
            assert_eq!(shown, "2 %\n\x1b[31mred\x1b[0m\n\u{fffd}end");
        }
        let mut out = Out::on(Vec::new(), false, false);
        out.write_log(log).unwrap();
        out.end_log().unwrap();
        assert_eq!(out.sink.into_inner().unwrap(), log);
    }
}
