//! Unpacking: the whole of a compressed stream as a reader, in bounded memory. Streams and frames
//! in a row count as one; what ends too early, or goes on with something else, is an error.

use std::io::{self, BufRead, Read};

use windrow_sys::limits;

use super::Compression;
use super::ahead::read_ahead;
use super::brotli_stream::Brotli;
use super::lz4_frames::Lz4Frames;
use super::lzma_streams::LzmaStreams;
use super::source::{SMALL, at_end, too_large, truncated};

/// How far back a compressed stream may refer, in bytes: what the highest level of xz writes, and
/// what bounds the memory of a decoder. zstd's level 22 and `--long` write streams that want more.
pub const WINDOW_MAX: u64 = 64 << 20;

/// A reader of what `source` holds, packed by `compression`; it takes [`WINDOW_MAX`] of memory at
/// most, and little beside.
///
/// # Errors
/// When the source can't be read or is empty, and when there is no memory. What is read fails with
/// [`io::ErrorKind::UnexpectedEof`] where the source ends too early, and with another kind where it
/// is damaged, wants more memory, or has other bytes behind its end.
pub fn decoder<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    decoder_within(WINDOW_MAX, compression, source)
}

/// As [`decoder`], where the reader may have threads of its own: what is unpacked is used while the
/// rest is being unpacked.
///
/// # Errors
/// As [`decoder`].
pub fn decoder_ahead(
    compression: Compression,
    mut source: impl BufRead + Send + 'static,
) -> io::Result<Box<dyn Read + Send>> {
    let is_small = source.fill_buf()?.len() <= SMALL;
    let decoder = decoder(compression, source)?;
    Ok(match compression {
        // There is nothing to be done, or liblzma does it so.
        Compression::None | Compression::Xz => decoder,
        _ if is_small || limits::processors(2) < 2 => decoder,
        _ => read_ahead(decoder),
    })
}

/// As [`decoder`], with another bound on how far back streams may refer: `window` bytes, a power of
/// two.
///
/// # Errors
/// As [`decoder`].
pub fn decoder_within<'a>(
    window: u64,
    compression: Compression,
    mut source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    // Even nothing is packed as some bytes.
    if compression != Compression::None && at_end(&mut source)? {
        return Err(truncated());
    }
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Xz => Box::new(LzmaStreams::xz(source, window)?),
        Compression::Lzip => Box::new(LzmaStreams::lzip(source, window)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(window.trailing_zeros())?;
            Box::new(Zstd { decoder, window })
        }
        Compression::Brotli => Box::new(Brotli::new(source)),
        Compression::Lz4 => Box::new(Lz4Frames::new(source)),
    })
}

/// What the library says of a frame that wants a longer window.
const TOO_LONG: &str = "Frame requires too much memory for decoding";

/// A decoder of zstd that says how much memory is too much.
struct Zstd<R: BufRead> {
    decoder: zstd::stream::read::Decoder<'static, R>,
    window: u64,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.decoder
            .read(into)
            .map_err(|error| match error.to_string().contains(TOO_LONG) {
                true => too_large(self.window),
                false => error,
            })
    }
}
