//! Archives on a connection: nothing says where one ends but itself.

use std::io::{self, BufWriter, Read, Write};

use windrow_store::nar::{self, NarFault};

use super::wire::{Wire, fault_of_io, has_ended};
use crate::error::{Fault, Kind};

/// How much is written at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Why an archive was not received.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// The number that stands where that of a word's bytes should, if that is what was wrong.
    pub(super) instead: Option<u64>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let instead = None;
        Self { fault, instead }
    }
}

/// Copies an archive of that size from the connection, and not a byte beyond it.
///
/// # Errors
/// When it is none, has another size, or can't be read or written.
pub(super) fn receive(wire: &mut Wire, expected: u64, into: &mut dyn Write) -> Result<(), Failure> {
    let mut tee = Tee {
        wire,
        into: BufWriter::with_capacity(CHUNK, into),
        size: 0,
        expected,
        fault: None,
    };
    let result = nar::skip(&mut tee);
    if let Some(fault) = tee.fault {
        return Err(fault.into());
    }
    result.map_err(failure)?;
    let flushed = tee.into.flush();
    flushed.map_err(|error| Fault::io("cannot write it", &error))?;
    match tee.size == expected {
        true => Ok(()),
        false => {
            let text = format!("the archive has {} bytes instead of {expected}", tee.size);
            Err(Fault::new(Kind::Short, text).into())
        }
    }
}

fn failure(error: windrow_store::Error) -> Failure {
    let (offset, damage) = match error {
        windrow_store::Error::NarDamaged { offset, fault } => (offset, fault),
        windrow_store::Error::NarUnreadable { source, .. } => return fault_of_io(&source).into(),
        error => return Fault::new(Kind::Protocol, error).into(),
    };
    let instead = match damage {
        NarFault::Truncated => return has_ended().into(),
        NarFault::TooLong { length, .. } => Some(length),
        _ => None,
    };
    let text = format!("the archive is damaged at byte {offset}: {damage}");
    let fault = Fault::new(Kind::Protocol, text);
    Failure { fault, instead }
}

/// Writes what is read through it.
struct Tee<'a> {
    wire: &'a mut Wire,
    into: BufWriter<&'a mut dyn Write>,
    size: u64,
    expected: u64,
    /// Why nothing more is read, if that is no fault of the connection.
    fault: Option<Fault>,
}

impl Tee<'_> {
    fn fail(&mut self, fault: Fault) -> io::Error {
        self.fault = Some(fault);
        io::Error::other("no more is read")
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.wire.read(into)?;
        self.size += count as u64;
        if self.size > self.expected {
            let text = format!("the archive has more than {} bytes", self.expected);
            return Err(self.fail(Fault::new(Kind::TooLarge, text)));
        }
        if let Err(error) = self.into.write_all(&into[..count]) {
            let fault = Fault::io("cannot write it", &error);
            return Err(self.fail(fault));
        }
        Ok(count)
    }
}

/// An archive of that size on its way to the other side.
pub(super) struct Outgoing<'a> {
    source: &'a mut dyn Read,
    left: u64,
    buffer: Vec<u8>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(source: &'a mut dyn Read, size: u64) -> Self {
        Self {
            source,
            left: size,
            buffer: Vec::new(),
        }
    }

    /// The next bytes, `most` of them at most; none at the end.
    ///
    /// # Errors
    /// When it can't be read, or has another size.
    pub(super) fn next(&mut self, most: u64) -> Result<Option<&[u8]>, Fault> {
        self.buffer.resize(CHUNK, 0);
        let most = usize::try_from(most).unwrap_or(CHUNK).clamp(1, CHUNK);
        let count = loop {
            match self.source.read(&mut self.buffer[..most]) {
                Ok(count) => break count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::io("cannot read what is to be sent", &error)),
            }
        };
        if count > self.left || (count == 0 && self.left > 0) {
            let text = "what is to be sent has another size than its archive had";
            return Err(Fault::new(Kind::Io, text));
        }
        self.left -= count;
        Ok((count > 0).then(|| &self.buffer[..count as usize]))
    }
}
