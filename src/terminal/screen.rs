//! What draws the live line: a terminal as indicatif wants it, whose frames go the way of all text
//! on standard error.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard};

use indicatif::TermLike;
use windrow_sys::mutex;

/// The terminal behind standard error. What is written comes to it with the next flush.
#[derive(Debug, Default)]
pub struct Screen(Mutex<String>);

impl Screen {
    fn frame(&self) -> MutexGuard<'_, String> {
        mutex::lock(&self.0)
    }

    fn control(&self, count: usize, what: char) -> io::Result<()> {
        if count > 0 {
            // Writing to a string does not fail.
            let _ = write!(self.frame(), "\x1b[{count}{what}");
        }
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        console::Term::stderr().size().1
    }

    fn height(&self) -> u16 {
        console::Term::stderr().size().0
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.control(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.control(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.control(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.control(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame();
        frame.push_str(text);
        frame.push('\n');
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.frame().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.frame().push_str("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.frame());
        if !frame.is_empty() {
            super::stderr::draw(frame.as_bytes());
        }
        Ok(())
    }
}
