//! Traces in the format of Chrome's trace viewer, which Perfetto opens: what ran when in which
//! slot. Written as it comes; a file that was cut short can be opened all the same.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Something that ran.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    /// What.
    pub(crate) name: &'a str,
    /// In which slot, from 0.
    pub(crate) slot: u32,
    /// From when, in microseconds.
    pub(crate) start: u64,
    /// Until when.
    pub(crate) end: u64,
    /// Whether it ended well.
    pub(crate) good: bool,
    /// What else is known, an object.
    pub(crate) args: Value,
}

/// A trace that is being written.
pub(crate) struct TraceFile {
    path: PathBuf,
    sink: BufWriter<File>,
    /// How many slots have got their names, of each process.
    slots: Vec<u32>,
    /// What a slot of each process is called, and a number beside.
    kinds: Vec<&'static str>,
}

/// The process whose slots are those of builds.
const BUILDS: usize = 0;

impl TraceFile {
    /// Begins a trace; `what` is what it is called inside.
    ///
    /// # Errors
    /// When the file can't be made or written.
    pub(crate) fn create(path: &Path, what: &str) -> Result<Self> {
        let sink = File::create(path).map_err(Error::io("create the trace", path))?;
        let mut trace = Self {
            path: path.to_owned(),
            sink: BufWriter::new(sink),
            slots: Vec::new(),
            kinds: Vec::new(),
        };
        let begun = write!(trace.sink, "[");
        trace.checked(begun)?;
        trace.begin_process(what, "slot")?;
        Ok(trace)
    }

    /// Adds a process beside that of builds, such as a binary cache, and tells its number; each of
    /// its slots is called `kind`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn begin_process(&mut self, what: &str, kind: &'static str) -> Result<usize> {
        let process = self.slots.len();
        let name = json!({
            "name": "process_name", "ph": "M", "pid": process + 1, "tid": 0, "args": {"name": what},
        });
        let comma = if process == BUILDS { "" } else { "," };
        let written = write!(self.sink, "{comma}\n{name}");
        self.checked(written)?;
        self.slots.push(0);
        self.kinds.push(kind);
        Ok(process)
    }

    /// Adds what ran.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn add(&mut self, span: &Span<'_>) -> Result<()> {
        self.add_to(BUILDS, span)
    }

    /// The same for another process.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn add_to(&mut self, process: usize, span: &Span<'_>) -> Result<()> {
        let written = self.write(process, span);
        self.checked(written)
    }

    fn write(&mut self, process: usize, span: &Span<'_>) -> io::Result<()> {
        let (slots, kind) = (&mut self.slots[process], self.kinds[process]);
        while *slots <= span.slot {
            let name = json!({
                "name": "thread_name", "ph": "M", "pid": process + 1, "tid": *slots,
                "args": {"name": format!("{kind} {slots}")},
            });
            write!(self.sink, ",\n{name}")?;
            *slots += 1;
        }
        let event = json!({
            "name": span.name,
            "ph": "X",
            "ts": span.start,
            "dur": span.end.saturating_sub(span.start),
            "pid": process + 1,
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
    pub(crate) fn finish(mut self) -> Result<()> {
        let ended = writeln!(self.sink, "\n]").and_then(|()| self.sink.flush());
        self.checked(ended)
    }

    fn checked(&self, result: io::Result<()>) -> Result<()> {
        result.map_err(Error::io("write the trace", &self.path))
    }
}
