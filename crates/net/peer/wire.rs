//! What both protocols are made of: numbers, texts and store paths, read with limits on everything
//! that is announced, and written in large pieces.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use windrow_components::store_path::{StoreDir, StorePath};
use windrow_store::wire::{self, WireError, push_number};
use windrow_sys::interrupt;
use windrow_sys::stream::Stream;

use crate::error::{Fault, Kind};

/// How much is read and written at once, in bytes.
const BUFFER: usize = 64 << 10;

/// The longest text but for what people read, in bytes: more than any store path, hash or
/// signature has.
pub(super) const TEXT_MAX: u64 = 4096;

/// The longest text for people, in bytes.
pub(super) const MESSAGE_MAX: u64 = 1 << 20;

/// How many store paths a set may have. There are paths with thousands of references.
const PATHS_MAX: u64 = 100_000;

/// How many other texts a set may have, such as signatures.
const TEXTS_MAX: u64 = 1000;

/// The way to the other side and back.
pub(super) trait Transport: Read + Send {
    /// Sends all of it.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Whether something can be read without waiting.
    fn has_input(&mut self) -> io::Result<bool>;
    /// From now on no wait in which nothing moves takes longer; zero for no limit.
    fn set_limit(&mut self, limit: Duration);
}

impl Transport for Stream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn has_input(&mut self) -> io::Result<bool> {
        Stream::has_input(self)
    }

    fn set_limit(&mut self, limit: Duration) {
        Stream::set_limit(self, limit);
    }
}

/// A connection. What is written is sent before anything is waited for.
pub(super) struct Wire {
    transport: Box<dyn Transport>,
    store_dir: StoreDir,
    input: Vec<u8>,
    /// How much of `input` was taken, and how much there is.
    taken: usize,
    filled: usize,
    /// What is to be sent.
    pub(super) output: Vec<u8>,
}

impl Wire {
    pub(super) fn new(transport: Box<dyn Transport>, store_dir: StoreDir) -> Self {
        Self {
            transport,
            store_dir,
            input: vec![0; BUFFER],
            taken: 0,
            filled: 0,
            output: Vec::new(),
        }
    }

    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.transport.set_limit(limit);
    }

    /// Sends what was written.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.send_output().map_err(|error| fault_of_io(&error))
    }

    /// Sends what was written if it is much.
    pub(super) fn flush_if_much(&mut self) -> Result<(), Fault> {
        match self.output.len() >= BUFFER {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn send_output(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.transport.send(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }

    /// Whether something can be read without waiting.
    pub(super) fn has_input(&mut self) -> Result<bool, Fault> {
        if self.taken < self.filled {
            return Ok(true);
        }
        self.transport
            .has_input()
            .map_err(|error| fault_of_io(&error))
    }

    /// Writes a store path, or nothing in its place.
    pub(super) fn push_path(&mut self, path: &StorePath) {
        wire::push_text(&mut self.output, &self.store_dir.display(path));
    }

    /// Writes store paths with their number before them, sorted, as Nix has its sets.
    pub(super) fn push_paths(&mut self, paths: &[StorePath]) {
        let mut paths: Vec<&StorePath> = paths.iter().collect();
        paths.sort_unstable();
        paths.dedup();
        wire::push_number(&mut self.output, paths.len() as u64);
        for path in paths {
            self.push_path(path);
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Fault> {
        wire::number(self).map_err(fault_of)
    }

    /// A number that stands for yes or no.
    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        Ok(self.number()? != 0)
    }

    pub(super) fn text(&mut self) -> Result<String, Fault> {
        wire::text(self, TEXT_MAX).map_err(fault_of)
    }

    /// A text for people, in whatever encoding.
    pub(super) fn message(&mut self) -> Result<String, Fault> {
        let bytes = wire::bytes(self, MESSAGE_MAX).map_err(fault_of)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How many there are of something; more than `most` are refused.
    pub(super) fn count(&mut self, most: u64, what: &str) -> Result<u64, Fault> {
        match self.number()? {
            count if count <= most => Ok(count),
            count => Err(protocol(format!("it announces {count} {what}"))),
        }
    }

    /// A set of texts, sorted and each once.
    pub(super) fn texts(&mut self) -> Result<Vec<String>, Fault> {
        let count = self.count(TEXTS_MAX, "texts")?;
        let texts: Result<Vec<String>, Fault> = (0..count).map(|_| self.text()).collect();
        let mut texts = texts?;
        texts.sort_unstable();
        texts.dedup();
        Ok(texts)
    }

    /// A store path, or none where the text is empty.
    pub(super) fn optional_path(&mut self) -> Result<Option<StorePath>, Fault> {
        match self.text()? {
            text if text.is_empty() => Ok(None),
            text => self.store_dir.parse(&text).map(Some).map_err(protocol),
        }
    }

    /// A set of store paths, sorted and each once.
    pub(super) fn paths(&mut self) -> Result<Vec<StorePath>, Fault> {
        let count = self.count(PATHS_MAX, "paths")?;
        let path = |wire: &mut Self| {
            let path = wire.optional_path()?;
            path.ok_or_else(|| protocol("a path is empty"))
        };
        let paths: Result<Vec<StorePath>, Fault> = (0..count).map(|_| path(self)).collect();
        let mut paths = paths?;
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }

    /// Greets: what a client begins with and the version it speaks go out, and the other side's
    /// version is what comes back, of whatever protocol.
    ///
    /// # Errors
    /// When there is no answer, or one that does not begin as it should.
    pub(super) fn greet(&mut self, magics: [u64; 2], version: u64) -> Result<u64, Fault> {
        let [client, other] = magics;
        push_number(&mut self.output, client);
        push_number(&mut self.output, version);
        let sent = self.flush();
        // One that has ended takes nothing any more; what it has said before, or that it has said
        // nothing, tells why.
        self.expect_magic(other)?;
        sent?;
        self.number()
    }

    /// The number that the other side begins with.
    fn expect_magic(&mut self, magic: u64) -> Result<(), Fault> {
        let found = match wire::number(self) {
            Ok(found) if found == magic => return Ok(()),
            Ok(found) => found,
            Err(WireError::Ended) => {
                return Err(Fault::new(Kind::Connect, "no connection could be made"));
            }
            Err(error) => return Err(fault_of(error)),
        };
        // Mostly a shell's greeting or somebody's message.
        let mut said = found.to_le_bytes().to_vec();
        let rest = &self.input[self.taken..self.filled];
        said.extend_from_slice(&rest[..rest.len().min(200)]);
        let said = String::from_utf8_lossy(&said).into_owned();
        let text = format!("it does not greet as Nix does, but with '{}'", said.trim());
        Err(protocol(text))
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled {
            self.send_output()?;
            if into.len() >= self.input.len() {
                return self.transport.read(into);
            }
            self.filled = 0;
            self.taken = 0;
            self.filled = self.transport.read(&mut self.input)?;
        }
        let count = into.len().min(self.filled - self.taken);
        into[..count].copy_from_slice(&self.input[self.taken..][..count]);
        self.taken += count;
        Ok(count)
    }
}

/// What the other side says does not follow the protocol.
pub(super) fn protocol(reason: impl std::fmt::Display) -> Fault {
    Fault::new(
        Kind::Protocol,
        format_args!("what it says can't be: {reason}"),
    )
}

/// The other side has ended the connection.
pub(super) fn has_ended() -> Fault {
    Fault::new(Kind::Reset, "it has ended the connection")
}

pub(super) fn fault_of(error: WireError) -> Fault {
    match error {
        WireError::Ended => has_ended(),
        WireError::Io(error) => fault_of_io(&error),
        WireError::TooLong { .. } | WireError::Padding | WireError::NotText => protocol(error),
    }
}

pub(super) fn fault_of_io(error: &io::Error) -> Fault {
    if interrupt::is_cause_of(error) {
        return Fault::cancelled();
    }
    match error.kind() {
        ErrorKind::TimedOut => Fault::new(Kind::Timeout, "it has been silent for too long"),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
            has_ended()
        }
        _ => Fault::io("the connection fails", error),
    }
}
