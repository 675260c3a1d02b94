//! LZ4: frames one after the other. The library takes a frame without an end as a whole one, so the
//! structure of frames is followed beside it.

use std::io::{self, BufRead, Read};

use lz4_flex::frame::FrameDecoder;

use super::source::{at_end, damaged, truncated};

/// The number that a frame begins with.
const MAGIC: u32 = 0x184d_2204;
/// A block without this bit is compressed.
const UNCOMPRESSED: u32 = 1 << 31;

/// What the frames in a source hold.
pub(super) struct Lz4Frames<R: BufRead> {
    /// The decoder of one frame: it is not made for a second one with blocks of another size.
    /// None at the end, and after a failure.
    decoder: Option<FrameDecoder<Followed<R>>>,
}

impl<R: BufRead> Lz4Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let followed = Followed {
            source,
            part: Part::Head,
            left: Part::Head.least(),
            seen: Vec::new(),
            flags: 0,
        };
        Self {
            decoder: Some(FrameDecoder::new(followed)),
        }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(mut decoder) = self.decoder.take() {
            let count = decoder.read(into)?;
            if count > 0 {
                self.decoder = Some(decoder);
                return Ok(count);
            }
            // The library says so at the end of a frame, and where it is cut off.
            let mut followed = decoder.into_inner();
            let is_last = at_end(&mut followed.source)?;
            if !followed.is_between_frames() {
                return Err(truncated());
            }
            if !is_last {
                self.decoder = Some(FrameDecoder::new(followed));
            }
        }
        Ok(0)
    }
}

/// A source that knows where in a frame it is.
struct Followed<R> {
    source: R,
    part: Part,
    /// How many bytes of the part are still to come.
    left: u64,
    /// The bytes of a part that says what comes next.
    seen: Vec<u8>,
    /// The first byte of the frame's descriptor.
    flags: u8,
}

/// A part of a frame.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Its number, and the two bytes of flags.
    Head,
    /// The rest of its descriptor.
    Descriptor,
    /// The length of a block.
    Length,
    /// A block and its checksum.
    Block,
    /// The checksum of the frame.
    Checksum,
}

impl Part {
    /// How many bytes it has, if that is always the same.
    fn least(self) -> u64 {
        match self {
            Self::Head => 6,
            Self::Length | Self::Checksum => 4,
            Self::Descriptor | Self::Block => 0,
        }
    }
}

impl<R> Followed<R> {
    fn is_between_frames(&self) -> bool {
        self.part == Part::Head && self.left == Part::Head.least()
    }

    /// Takes note of bytes that pass, which belong to one part.
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        if matches!(self.part, Part::Head | Part::Length) {
            self.seen.extend_from_slice(bytes);
        }
        self.left -= bytes.len() as u64;
        while self.left == 0 {
            (self.part, self.left) = self.next()?;
            self.seen.clear();
        }
        Ok(())
    }

    /// What comes after the part that has ended, and how long that is.
    fn next(&mut self) -> io::Result<(Part, u64)> {
        let fixed = |part: Part| (part, part.least());
        Ok(match self.part {
            Part::Head => {
                if number(&self.seen[..4]) != MAGIC {
                    return Err(damaged("no LZ4 frame begins where one should"));
                }
                self.flags = self.seen[4];
                // The size of the contents, the number of a dictionary, and a checksum.
                (Part::Descriptor, 8 * self.flag(3) + 4 * self.flag(0) + 1)
            }
            Part::Descriptor | Part::Block => fixed(Part::Length),
            Part::Length => match number(&self.seen) {
                0 if self.flag(2) == 1 => fixed(Part::Checksum),
                0 => fixed(Part::Head),
                length => {
                    let checksum = 4 * self.flag(4);
                    (Part::Block, u64::from(length & !UNCOMPRESSED) + checksum)
                }
            },
            Part::Checksum => fixed(Part::Head),
        })
    }

    /// 1 if that bit of the flags is set.
    fn flag(&self, bit: u8) -> u64 {
        u64::from(self.flags >> bit & 1)
    }
}

/// A number with its lowest byte first.
fn number(bytes: &[u8]) -> u32 {
    let digits = bytes.iter().rev();
    digits.fold(0, |sum, &byte| sum << 8 | u32::from(byte))
}

impl<R: BufRead> Read for Followed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let count = self.source.read(&mut into[..most])?;
        if count == 0 && most > 0 && !self.is_between_frames() {
            return Err(truncated());
        }
        self.pass(&into[..count])?;
        Ok(count)
    }
}
