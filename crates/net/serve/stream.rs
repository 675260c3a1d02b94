//! What is made as it is sent: an archive or a log, by a thread that waits for its client.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use bzip2::read::MultiBzDecoder;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::Sender;
use windrow_store::nar;
use windrow_sys::interrupt;
use zstd::stream::write::Encoder;

use super::Packing;

/// How large pieces are, in bytes, and how many of them wait for a client.
const PIECE: usize = 32 << 10;
pub(super) const WAITING: usize = 2;
/// The level of zstd: the processor is the bottleneck on any network that is worth a cache.
const LEVEL: i32 = 1;
/// How far back zstd looks where memory is short, as a power of two.
const SMALL_WINDOW_LOG: u32 = 16;

/// Something to be sent.
#[derive(Debug)]
pub(super) enum Source {
    /// The archive of a path, or a part of it.
    Archive(Archive),
    /// The beginning of a file, with its size in bytes.
    File(File, u64),
    /// What a file holds, unpacked with bzip2. It may end early, if it is still being written.
    Bzip2(File),
}

/// The archive of a path, or a part of it.
#[derive(Debug)]
pub(super) struct Archive {
    /// Where the path lies.
    pub(super) place: PathBuf,
    pub(super) nar_hash: [u8; 32],
    pub(super) nar_size: u64,
    /// Where the part begins, and how long it is. Only parts of what is not compressed are sent.
    pub(super) from: u64,
    pub(super) length: u64,
    pub(super) packing: Packing,
}

/// Whether memory is short, for others are being sent as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Ample,
    Short,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    /// That was all.
    End,
    /// The rest can't be had.
    Failed,
}

impl Source {
    /// Hands it on piece by piece, as fast as they are taken.
    ///
    /// # Errors
    /// When it can't be read or is not what it should be; its end is not handed on then. That
    /// nobody takes it any more is no error, nor that the work is to end.
    pub(super) fn send(self, to: &Sender<Piece>, memory: Memory) -> io::Result<()> {
        let mut pieces = Pieces {
            to,
            waiting: Vec::new(),
        };
        let sent = match self {
            Self::Archive(archive) => archive.write(&mut pieces, memory),
            Self::File(file, length) => write_file(file, length, &mut pieces),
            Self::Bzip2(file) => unpack(file, &mut pieces),
        };
        match sent.and_then(|()| pieces.finish()) {
            Err(error) => {
                let is_wanted = !to.is_closed() && !interrupt::is_cause_of(&error);
                let _ = to.blocking_send(Piece::Failed);
                if is_wanted { Err(error) } else { Ok(()) }
            }
            Ok(()) => Ok(()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(archive) => write!(f, "'{}'", archive.place.display()),
            Self::File(..) | Self::Bzip2(_) => f.write_str("a log"),
        }
    }
}

impl Archive {
    fn write(self, pieces: &mut Pieces<'_>, memory: Memory) -> io::Result<()> {
        let is_whole = self.from == 0 && self.length == self.nar_size;
        match self.packing {
            Packing::None if is_whole => self.write_checked(pieces).map(drop),
            Packing::None => self.write_part(pieces),
            Packing::Zstd => {
                let packed = encoder(pieces, self.nar_size, memory)?;
                self.write_checked(packed)?.finish().map(drop)
            }
        }
    }

    /// Writes all of it, and gives the sink back if it is what the database says.
    fn write_checked<W: Write>(&self, sink: W) -> io::Result<W> {
        let mut checked = Checked {
            sink,
            hasher: Sha256::new(),
            left: self.nar_size,
        };
        nar::dump_rest(&self.place, 0, &mut checked, &mut ()).map_err(io::Error::other)?;
        let hash: [u8; 32] = checked.hasher.finalize().into();
        if checked.left > 0 || hash != self.nar_hash {
            return Err(io::Error::other("its contents are not what they were"));
        }
        Ok(checked.sink)
    }

    /// Writes a part of it, which whoever puts it together with others has to check.
    fn write_part(&self, pieces: &mut Pieces<'_>) -> io::Result<()> {
        let mut window = Window {
            sink: pieces,
            left: self.length,
        };
        let dumped = nar::dump_rest(&self.place, self.from, &mut window, &mut ());
        match window.left {
            0 => Ok(()),
            _ => {
                dumped.map_err(io::Error::other)?;
                Err(io::Error::other("its contents are less than they were"))
            }
        }
    }
}

/// Packs that number of bytes.
fn encoder<W: Write>(sink: W, size: u64, memory: Memory) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(sink, LEVEL)?;
    encoder.include_checksum(true)?;
    if memory == Memory::Short {
        encoder.window_log(SMALL_WINDOW_LOG)?;
    }
    // Small archives need less memory.
    encoder.set_pledged_src_size(Some(size))?;
    Ok(encoder)
}

fn write_file(file: File, length: u64, pieces: &mut Pieces<'_>) -> io::Result<()> {
    match io::copy(&mut file.take(length), pieces)? {
        copied if copied < length => Err(io::Error::other("it has become shorter")),
        _ => Ok(()),
    }
}

fn unpack(file: File, pieces: &mut Pieces<'_>) -> io::Result<()> {
    match io::copy(&mut MultiBzDecoder::new(file), pieces) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        copied => copied.map(drop),
    }
}

/// Cuts what is written into pieces. The last one waits for the end.
struct Pieces<'a> {
    to: &'a Sender<Piece>,
    waiting: Vec<u8>,
}

impl Pieces<'_> {
    fn hand_on(&self, piece: Piece) -> io::Result<()> {
        let gone = |_| io::Error::from(ErrorKind::BrokenPipe);
        self.to.blocking_send(piece).map_err(gone)
    }

    fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.waiting);
        self.hand_on(Piece::Bytes(rest.into()))?;
        self.hand_on(Piece::End)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.waiting.len() == PIECE {
            let full = std::mem::take(&mut self.waiting);
            self.hand_on(Piece::Bytes(full.into()))?;
        }
        let count = bytes.len().min(PIECE - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes on no more than there may be, and hashes it.
struct Checked<W> {
    sink: W,
    hasher: Sha256,
    left: u64,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("it is larger than it was"))?;
        self.hasher.update(bytes);
        self.sink.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Passes on that number of bytes, and then fails.
struct Window<W> {
    sink: W,
    left: u64,
}

impl<W: Write> Write for Window<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        self.sink.write_all(bytes)?;
        self.left -= bytes.len() as u64;
        // What there is beyond it is not wanted.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
