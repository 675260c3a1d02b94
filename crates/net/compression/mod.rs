//! The compressions of binary caches: their names, and NARs and other files packed and unpacked by
//! them. Knows no cache.

mod ahead;
mod brotli_stream;
mod decode;
mod encode;
mod lz4_frames;
mod lzma_streams;
mod source;

use std::fmt;

pub use decode::{WINDOW_MAX, decoder, decoder_ahead, decoder_within};
pub use encode::{Encoder, encoder, encoder_memory};

/// How a file of a cache is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// xz, Nix's default when writing.
    Xz,
    /// bzip2, what a narinfo without `Compression` means.
    Bzip2,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Brotli, called `br`.
    Brotli,
    /// LZ4 frames.
    Lz4,
    /// lzip.
    Lzip,
}

/// Names that Nix knows beside those of [`Compression`], and that its library may unpack.
const OTHERS: [&str; 5] = ["lzma", "compress", "grzip", "lrzip", "lzop"];

/// Why a name is not that of a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// Nix has such a compression, windrow has not.
    #[error("the compression '{0}' is not supported; use {names}", names = Compression::NAMES)]
    Unsupported(String),
    /// Nobody has.
    #[error("'{0}' is no compression; use {names}", names = Compression::NAMES)]
    Unknown(String),
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Xz,
        Self::Bzip2,
        Self::Gzip,
        Self::Zstd,
        Self::Brotli,
        Self::Lz4,
        Self::Lzip,
    ];

    /// All names, as messages list them.
    pub const NAMES: &str = "none, xz, bzip2, gzip, zstd, br, lz4 or lzip";

    /// Its name in a narinfo and in the parameter `compression`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
        }
    }

    /// What Nix puts behind `.nar` in the names of files compressed so, with the dot. Only for
    /// writing: readers go by the narinfo.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None | Self::Gzip => "",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Lz4 => ".lz4",
            Self::Lzip => ".lzip",
        }
    }

    /// The compression of that name.
    ///
    /// # Errors
    /// When it is the name of none, or of one that can't be unpacked here.
    pub fn from_name(name: &str) -> Result<Self, CompressionError> {
        match Self::ALL.into_iter().find(|it| it.name() == name) {
            Some(compression) => Ok(compression),
            None if OTHERS.contains(&name) => Err(CompressionError::Unsupported(name.to_owned())),
            None => Err(CompressionError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
