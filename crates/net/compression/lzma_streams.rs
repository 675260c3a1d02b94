//! xz and lzip, one stream after the other, by liblzma: several blocks at once where an xz file has
//! them and the bound on memory allows it.

use std::io::{self, BufRead, ErrorKind, Read};

use liblzma::stream::{Action, Error, MtStreamBuilder, Status, Stream};
use windrow_sys::limits;
use windrow_sys::threads::spawn;

use super::source::{SMALL, at_end, damaged, too_large, truncated};

/// What a decoder takes beside its window, in bytes.
const OVERHEAD: u64 = 2 << 20;

/// More threads have nothing to do: a block of the default size takes more than a third of the
/// memory.
const THREADS_MAX: usize = 3;

/// What the streams in a source hold.
pub(super) struct LzmaStreams<R> {
    source: R,
    /// The stream under way; none at the end of the source.
    stream: Option<Stream>,
    kind: Kind,
    /// How far back they may refer, in bytes.
    window: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Xz,
    Lzip,
}

impl Kind {
    fn stream(self, source: &mut impl BufRead, window: u64) -> io::Result<Stream> {
        let threads = match self {
            Self::Xz if source.fill_buf()?.len() > SMALL => threads(),
            Self::Xz | Self::Lzip => 1,
        };
        let most = window + OVERHEAD;
        let stream = match self {
            Self::Xz if threads > 1 => MtStreamBuilder::new()
                .threads(threads)
                .memlimit_threading(window)
                .memlimit_stop(most)
                .decoder(),
            Self::Xz => Stream::new_stream_decoder(most, 0),
            Self::Lzip => Stream::new_lzip_decoder(most, 0),
        };
        stream.map_err(|error| error_of(error, window))
    }
}

/// How many threads may be used. liblzma fails where it is given none, so one is tried before.
fn threads() -> u32 {
    let processors = limits::processors(THREADS_MAX);
    let has_threads = || spawn("unpack", || ()).is_ok();
    match u32::try_from(processors) {
        Ok(threads) if threads > 1 && has_threads() => threads,
        _ => 1,
    }
}

impl<R: BufRead> LzmaStreams<R> {
    /// # Errors
    /// When the source can't be read, and when there is no memory.
    pub(super) fn xz(source: R, window: u64) -> io::Result<Self> {
        Self::new(source, window, Kind::Xz)
    }

    /// # Errors
    /// When the source can't be read, and when there is no memory.
    pub(super) fn lzip(source: R, window: u64) -> io::Result<Self> {
        Self::new(source, window, Kind::Lzip)
    }

    fn new(mut source: R, window: u64, kind: Kind) -> io::Result<Self> {
        Ok(Self {
            stream: Some(kind.stream(&mut source, window)?),
            source,
            kind,
            window,
        })
    }

    /// Begins the next stream, if there is one.
    fn advance(&mut self) -> io::Result<()> {
        self.stream = None;
        if self.kind == Kind::Xz {
            self.skip_padding()?;
        }
        if !at_end(&mut self.source)? {
            self.stream = Some(self.kind.stream(&mut self.source, self.window)?);
        }
        Ok(())
    }

    /// Zero bytes may stand between streams of xz and after the last, four or a multiple of them.
    fn skip_padding(&mut self) -> io::Result<()> {
        let mut padding = 0;
        while !at_end(&mut self.source)? {
            let bytes = self.source.fill_buf()?;
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            let other = zeros < bytes.len();
            self.source.consume(zeros);
            padding += zeros;
            if other {
                break;
            }
        }
        match padding % 4 {
            0 => Ok(()),
            _ => Err(damaged("the padding between xz streams has a wrong length")),
        }
    }
}

impl<R: BufRead> Read for LzmaStreams<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut idle = 0;
        while let Some(stream) = &mut self.stream {
            let input = self.source.fill_buf()?;
            let is_last = input.is_empty();
            let action = if is_last { Action::Finish } else { Action::Run };
            let (read_before, written_before) = (stream.total_in(), stream.total_out());
            let status = stream.process(input, into, action);
            let status = status.map_err(|error| error_of(error, self.window))?;
            let read = (stream.total_in() - read_before) as usize;
            let written = (stream.total_out() - written_before) as usize;
            self.source.consume(read);
            if status == Status::StreamEnd {
                self.advance()?;
            } else if read == 0 && written == 0 {
                // Threads may have been busy; the second time liblzma says that it can't go on.
                idle += 1;
                if idle > 1 {
                    return Err(if is_last {
                        truncated()
                    } else {
                        damaged("the compressed data can't be read on")
                    });
                }
            }
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

fn error_of(error: Error, window: u64) -> io::Error {
    match error {
        Error::MemLimit => too_large(window),
        Error::Mem => ErrorKind::OutOfMemory.into(),
        Error::Data | Error::Format => damaged("the compressed data are damaged"),
        other => io::Error::new(ErrorKind::InvalidData, other),
    }
}
