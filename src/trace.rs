//! Traces in the format of Chrome's trace viewer, which Perfetto opens: what ran when in which
//! slot. Written as it comes; a file that was cut short can be opened all the same.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Something that ran.
#[derive(Debug)]
pub struct Span<'a> {
    /// What.
    pub name: &'a str,
    /// In which slot, from 0.
    pub slot: u32,
    /// From when, in microseconds.
    pub start: u64,
    /// Until when.
    pub end: u64,
    /// Whether it ended well.
    pub good: bool,
    /// What else is known, an object.
    pub args: Value,
}

/// A trace that is being written.
pub struct TraceFile {
    path: PathBuf,
    sink: BufWriter<File>,
    /// How many slots have got their names.
    slots: u32,
}

impl TraceFile {
    /// Begins a trace; `what` is what it is called inside.
    ///
    /// # Errors
    /// When the file can't be made or written.
    pub fn create(path: &Path, what: &str) -> Result<Self> {
        let sink = File::create(path).map_err(Error::io("create the trace", path))?;
        let mut trace = Self {
            path: path.to_owned(),
            sink: BufWriter::new(sink),
            slots: 0,
        };
        let name =
            json!({"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": what}});
        let begun = write!(trace.sink, "[\n{name}");
        trace.checked(begun)?;
        Ok(trace)
    }

    /// Adds what ran.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&mut self, span: &Span<'_>) -> Result<()> {
        let written = self.write(span);
        self.checked(written)
    }

    fn write(&mut self, span: &Span<'_>) -> io::Result<()> {
        while self.slots <= span.slot {
            let name = json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": self.slots,
                "args": {"name": format!("slot {}", self.slots)},
            });
            write!(self.sink, ",\n{name}")?;
            self.slots += 1;
        }
        let event = json!({
            "name": span.name,
            "ph": "X",
            "ts": span.start,
            "dur": span.end.saturating_sub(span.start),
            "pid": 1,
            "tid": span.slot,
            "cname": if span.good { "good" } else { "terrible" },
            "args": span.args,
        });
        write!(self.sink, ",\n{event}")
    }

    /// Ends the trace.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(mut self) -> Result<()> {
        let ended = writeln!(self.sink, "\n]").and_then(|()| self.sink.flush());
        self.checked(ended)
    }

    fn checked(&self, result: io::Result<()>) -> Result<()> {
        result.map_err(Error::io("write the trace", &self.path))
    }
}
