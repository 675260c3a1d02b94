//! Streams that may be compressed: gzip, bzip2, xz and zstd, told by their first bytes; several in
//! a row count as one.

use std::io::{self, BufRead, Read};

use windrow_net::compression::{Compression, decoder_within};

/// How far back a stream may refer, in bytes: enough for all levels of all programs.
const WINDOW_MAX: u64 = 128 << 20;

/// What a stream holds, whether it is compressed or not.
///
/// # Errors
/// When nothing can be read.
pub(super) fn any<'a>(
    mut source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let start = source.fill_buf()?;
    let compression = if start.starts_with(&[0x1f, 0x8b]) {
        Compression::Gzip
    } else if start.starts_with(b"BZh") {
        Compression::Bzip2
    } else if start.starts_with(b"\xfd7zXZ\0") {
        Compression::Xz
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Compression::Zstd
    } else {
        Compression::None
    };
    decoder_within(WINDOW_MAX, compression, source)
}

/// What an xz stream holds. Its checksums are checked.
///
/// # Errors
/// When nothing can be read.
pub(super) fn xz<'a>(source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    decoder_within(WINDOW_MAX, Compression::Xz, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    use windrow_net::compression::encoder;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        any(bytes)?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn text() -> Vec<u8> {
        (0..200_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = encoder(compression, None, 1, Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn streams_in_a_row_are_one_and_broken_ones_are_told() {
        let text = text();
        let (head, tail) = text.split_at(100_000);
        for name in [
            Compression::Gzip,
            Compression::Bzip2,
            Compression::Zstd,
            Compression::Xz,
        ] {
            let both = [pack(name, head), pack(name, tail)].concat();
            assert!(read(&both).unwrap() == text, "{name}");
            assert!(read(&both[..both.len() - 9]).is_err(), "{name}, cut off");
            let mut wrong = both.clone();
            wrong[both.len() / 2] ^= 0x40;
            assert!(read(&wrong).map_or(true, |read| read != text), "{name}");
        }
        let skipped = [
            &[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..],
            &pack(Compression::Zstd, b"x"),
        ]
        .concat();
        let after = [pack(Compression::Zstd, b"y"), skipped].concat();
        assert_eq!(read(&after).unwrap(), b"yx");
        assert_eq!(read(b"plain").unwrap(), b"plain");
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn xz_has_checksums() {
        // "hello\n" by xz: one block with CRC64.
        let packed: [u8; 64] = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00,
            0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x68,
            0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x00, 0x00, 0x00, 0xa5, 0x60, 0x97, 0xf1, 0x94, 0xf6,
            0xfd, 0xe0, 0x00, 0x01, 0x1e, 0x06, 0xc1, 0x2f, 0xa4, 0x1d, 0x1f, 0xb6, 0xf3, 0x7d,
            0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
        ];
        assert_eq!(read(&packed).unwrap(), b"hello\n");
        assert_eq!(read(&[packed, packed].concat()).unwrap(), b"hello\nhello\n");
        let mut wrong = packed;
        wrong[28] ^= 1;
        assert!(read(&wrong).is_err());
        assert!(read(&packed[..40]).is_err());
    }
}
