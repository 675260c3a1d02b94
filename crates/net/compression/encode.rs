//! Packing: a writer that passes on what is written to it compressed, until it is finished.

use std::io::{self, ErrorKind, Write};
use std::ops::RangeInclusive;

use brotli::CompressorWriter;
use liblzma::stream::{Check, MtStreamBuilder, Stream};
use lz4_flex::frame::{FrameEncoder, FrameInfo};
use lzma_rust2::{LzipOptions, LzipWriter};
use zstd::stream::raw::CParameter;

use super::Compression;
use super::decode::WINDOW_MAX;

/// The window of brotli streams as a power of two; what Nix writes.
const BROTLI_WINDOW_LOG: u32 = 22;
/// How much brotli output is passed on at once, in bytes.
const BROTLI_CHUNK: usize = 64 << 10;

impl Compression {
    /// The levels that it has.
    pub const fn levels(self) -> RangeInclusive<i32> {
        match self {
            Self::None => 0..=0,
            Self::Xz | Self::Lzip | Self::Gzip => 0..=9,
            Self::Bzip2 => 1..=9,
            Self::Zstd => -7..=22,
            Self::Brotli => 0..=11,
            // The library knows the fast one alone.
            Self::Lz4 => 1..=1,
        }
    }

    /// The level that is used where none is asked for: that of the programs of the same names.
    pub const fn default_level(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Xz | Self::Lzip | Self::Gzip => 6,
            Self::Bzip2 => 9,
            Self::Zstd => 3,
            Self::Brotli => 11,
            Self::Lz4 => 1,
        }
    }
}

/// A writer that packs what is written to it and passes it on.
///
/// It must be finished; what is dropped before is cut off at some place.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    None(W),
    Xz(liblzma::write::XzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Brotli(Box<CompressorWriter<Noting<W>>>),
    Lz4(Box<FrameEncoder<W>>),
    Lzip(Box<LzipWriter<W>>),
}

/// A writer that packs what is written to it by `compression`, with that level or the default one,
/// and passes it on to `sink`. xz and zstd use `threads` threads, others one.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if there is no such level; when there is no memory.
pub fn encoder<W: Write>(
    compression: Compression,
    level: Option<i32>,
    threads: usize,
    sink: W,
) -> io::Result<Encoder<W>> {
    let level = level.unwrap_or(compression.default_level());
    let levels = compression.levels();
    if !levels.contains(&level) {
        let (least, most) = levels.into_inner();
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("{compression} has no level {level}, only those from {least} to {most}"),
        ));
    }
    // Where it matters, none is negative.
    let plain = level.unsigned_abs();
    Ok(Encoder(match compression {
        Compression::None => Inner::None(sink),
        Compression::Xz => Inner::Xz(liblzma::write::XzEncoder::new_stream(
            sink,
            xz(plain, threads)?,
        )),
        Compression::Bzip2 => {
            let level = bzip2::Compression::new(plain);
            Inner::Bzip2(bzip2::write::BzEncoder::new(sink, level))
        }
        Compression::Gzip => {
            let level = flate2::Compression::new(plain);
            Inner::Gzip(flate2::write::GzEncoder::new(sink, level))
        }
        Compression::Zstd => Inner::Zstd(zstd(level, threads, sink)?),
        Compression::Brotli => Inner::Brotli(Box::new(CompressorWriter::new(
            Noting { sink, error: None },
            BROTLI_CHUNK,
            plain,
            BROTLI_WINDOW_LOG,
        ))),
        Compression::Lz4 => {
            let info = FrameInfo::new().content_checksum(true);
            Inner::Lz4(Box::new(FrameEncoder::with_frame_info(info, sink)))
        }
        Compression::Lzip => Inner::Lzip(Box::new(LzipWriter::new(
            sink,
            LzipOptions::with_preset(plain),
        ))),
    }))
}

/// How much memory [`encoder`] needs for what is large, in bytes: what the libraries' manuals say,
/// in round figures.
pub fn encoder_memory(compression: Compression, level: Option<i32>, threads: usize) -> u64 {
    let level = level.unwrap_or(compression.default_level());
    let tall = usize::try_from(level).unwrap_or(0);
    let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
    let mib = match compression {
        Compression::None => 0,
        Compression::Xz if threads > 1 => {
            return several_xz(level.unsigned_abs(), threads).memusage();
        }
        Compression::Xz | Compression::Lzip => XZ_MEMORY[tall.min(XZ_MEMORY.len() - 1)],
        Compression::Zstd => {
            let (window, tables) = match level {
                ..=2 => (1, 2),
                3..=5 => (2, 4),
                6..=8 => (2, 12),
                9..=16 => (4, 40),
                17..=19 => (8, 80),
                20 => (32, 320),
                21.. => (64, 640),
            };
            // Each of several has a piece of four windows, and room for it compressed.
            let pieces = if threads > 1 { 8 * window } else { 0 };
            u64::from(threads) * (window + tables + pieces)
        }
        Compression::Brotli if level >= 10 => 96,
        Compression::Brotli => 32,
        Compression::Bzip2 => 8,
        Compression::Gzip | Compression::Lz4 => 1,
    };
    mib << 20
}

const XZ_CHECK: Check = Check::Crc64;
/// What an encoder of xz with one thread needs by its level, in MiB.
const XZ_MEMORY: [u64; 10] = [3, 9, 17, 32, 48, 94, 94, 186, 370, 674];

fn xz(level: u32, threads: usize) -> io::Result<Stream> {
    match u32::try_from(threads) {
        Ok(threads) if threads > 1 => Ok(several_xz(level, threads).encoder()?),
        _ => Ok(Stream::new_easy_encoder(level, XZ_CHECK)?),
    }
}

/// An encoder with several threads.
fn several_xz(level: u32, threads: u32) -> MtStreamBuilder {
    let mut builder = MtStreamBuilder::new();
    builder.preset(level).check(XZ_CHECK).threads(threads);
    builder
}

fn zstd<W: Write>(
    level: i32,
    threads: usize,
    sink: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
    encoder.include_checksum(true)?;
    // Its last level would write what decoders with bounded memory do not take.
    if level == *Compression::Zstd.levels().end() {
        encoder.set_parameter(CParameter::WindowLog(WINDOW_MAX.trailing_zeros()))?;
    }
    match u32::try_from(threads) {
        Ok(threads) if threads > 1 => encoder.multithread(threads)?,
        _ => {}
    }
    Ok(encoder)
}

impl<W: Write> Encoder<W> {
    /// Writes what is still to be written, and returns the sink.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Inner::None(sink) => Ok(sink),
            Inner::Xz(encoder) => encoder.finish(),
            Inner::Bzip2(encoder) => encoder.finish(),
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
            Inner::Brotli(encoder) => {
                let noting = encoder.into_inner();
                noting.error.map_or(Ok(noting.sink), Err)
            }
            Inner::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Inner::Lzip(encoder) => encoder.finish(),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.0 {
            Inner::None(sink) => sink,
            Inner::Xz(encoder) => encoder,
            Inner::Bzip2(encoder) => encoder,
            Inner::Gzip(encoder) => encoder,
            Inner::Zstd(encoder) => encoder,
            Inner::Brotli(encoder) => encoder,
            Inner::Lz4(encoder) => encoder,
            Inner::Lzip(encoder) => encoder,
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

/// A sink whose last error can be asked for: the brotli library does not pass on that of its end.
struct Noting<W> {
    sink: W,
    error: Option<io::Error>,
}

impl<W: Write> Write for Noting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let answer = self.sink.write(bytes);
        if let Err(error) = &answer
            && error.kind() != ErrorKind::Interrupted
        {
            self.error = Some(io::Error::new(error.kind(), error.to_string()));
        }
        answer
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
