//! Hashes of the five algorithms Nix names, and the spellings it reads and writes. Knows no files:
//! hashing is of bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;

use crate::nix32;
use crate::{Error, Result};

/// A hash algorithm that derivations and stores may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgo {
    /// 128 bits; only for old fixed outputs.
    Md5,
    /// 160 bits; only for old fixed outputs.
    Sha1,
    /// 256 bits; what the store itself uses.
    Sha256,
    /// 256 bits, for fixed outputs; an experimental feature of Nix since 2.31.
    Blake3,
    /// 512 bits.
    Sha512,
}

impl HashAlgo {
    /// Every algorithm, in the order of their lengths.
    pub const ALL: [Self; 5] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Blake3,
        Self::Sha512,
    ];

    /// All names, as messages list them.
    pub const NAMES: &str = "blake3, md5, sha1, sha256 or sha512";

    /// Its name as derivations spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its hashes in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algo| algo.name() == name)
    }

    /// A hasher to feed piece by piece.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Md5 => Hasher::Md5(md5::Md5::new()),
            Self::Sha1 => Hasher::Sha1(sha1::Sha1::new()),
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Self::Blake3 => Hasher::Blake3(Box::default()),
            Self::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// The hash of `bytes`.
    pub fn hash(self, bytes: &[u8]) -> Hash {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// A hash under way, of any algorithm.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// MD5.
    Md5(md5::Md5),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// BLAKE3, whose state is large.
    Blake3(Box<blake3::Hasher>),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes written.
    pub fn finish(self) -> Hash {
        match self {
            Self::Md5(hasher) => Hash::new(HashAlgo::Md5, &hasher.finalize()),
            Self::Sha1(hasher) => Hash::new(HashAlgo::Sha1, &hasher.finalize()),
            Self::Sha256(hasher) => Hash::new(HashAlgo::Sha256, &hasher.finalize()),
            Self::Blake3(hasher) => Hash::new(HashAlgo::Blake3, hasher.finalize().as_bytes()),
            Self::Sha512(hasher) => Hash::new(HashAlgo::Sha512, &hasher.finalize()),
        }
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A finished hash with its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash {
    algo: HashAlgo,
    bytes: [u8; 64],
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.sri())
    }
}

impl Hash {
    /// A hash from its bytes.
    ///
    /// # Panics
    /// If there are not exactly as many bytes as the algorithm makes: a programmer's error.
    pub fn new(algo: HashAlgo, bytes: &[u8]) -> Self {
        assert_eq!(
            bytes.len(),
            algo.size(),
            "a {} hash has {} bytes",
            algo.name(),
            algo.size()
        );
        let mut all = [0; 64];
        all[..bytes.len()].copy_from_slice(bytes);
        Self { algo, bytes: all }
    }

    /// A SHA-256 hash from its bytes.
    pub fn sha256(bytes: &[u8; 32]) -> Self {
        Self::new(HashAlgo::Sha256, bytes)
    }

    /// Which algorithm made it.
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// The bytes, as many as the algorithm makes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algo.size()]
    }

    /// Lower-case base 16, without the algorithm.
    pub fn base16(&self) -> String {
        base16(self.as_bytes())
    }

    /// Nix's base 32, without the algorithm.
    pub fn base32(&self) -> String {
        nix32::encode(self.as_bytes())
    }

    /// `ALGO-BASE64`, as in Subresource Integrity.
    pub fn sri(&self) -> String {
        format!("{}-{}", self.algo.name(), BASE64.encode(self.as_bytes()))
    }

    /// `ALGO:BASE16`, the form of the store's database.
    pub fn prefixed_base16(&self) -> String {
        format!("{}:{}", self.algo.name(), self.base16())
    }

    /// `ALGO:BASE32`, the form of `ca` fields and narinfo files.
    pub fn prefixed_base32(&self) -> String {
        format!("{}:{}", self.algo.name(), self.base32())
    }

    /// Reads any spelling Nix accepts: base 16, base 32 or base 64, bare (then `algo` must be
    /// given) or as `ALGO:HASH`, or SRI (Nix's `Hash::parseAny`).
    ///
    /// # Errors
    /// [`Error::BadHash`] when the text has another form, or names another algorithm than `algo`.
    pub fn parse(text: &str, algo: Option<HashAlgo>) -> Result<Self> {
        let bad = |reason: String| Error::BadHash {
            text: text.to_owned(),
            reason,
        };
        let (named, rest, sri) = match text.split_once([':', '-']) {
            Some((name, rest)) => {
                let named = HashAlgo::from_name(name).ok_or_else(|| {
                    bad(format!(
                        "'{name}' is no hash algorithm; use {}",
                        HashAlgo::NAMES
                    ))
                })?;
                (Some(named), rest, text.as_bytes()[name.len()] == b'-')
            }
            None => (None, text, false),
        };
        let found = match (named, algo) {
            (Some(named), Some(wanted)) if named != wanted => {
                return Err(bad(format!("it should be a {} hash", wanted.name())));
            }
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => return Err(bad("it does not name its algorithm".to_owned())),
        };
        let mut bytes = [0; 64];
        let out = &mut bytes[..found.size()];
        let decoded = if sri {
            decode_base64(rest, out)
        } else if rest.len() == found.size() * 2 {
            decode_base16(rest.as_bytes(), out)
        } else if rest.len() == nix32::encoded_len(found.size()) {
            nix32::decode_into(rest.as_bytes(), out)
        } else {
            decode_base64(rest, out)
        };
        decoded.ok_or_else(|| {
            bad(format!(
                "it has the wrong length or digits for {}",
                found.name()
            ))
        })?;
        Ok(Self { algo: found, bytes })
    }
}

/// Lower-case base 16.
pub fn base16(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn decode_base16(text: &[u8], out: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    for (pair, byte) in text.chunks_exact(2).zip(out) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

fn decode_base64(text: &str, out: &mut [u8]) -> Option<()> {
    let bytes = BASE64.decode(text).ok()?;
    (bytes.len() == out.len()).then(|| out.copy_from_slice(&bytes))
}

/// Folds a hash to 160 bits by xor, as store paths need (Nix's `compressHash`).
pub fn compress(hash: &[u8; 32]) -> [u8; 20] {
    let mut out = [0; 20];
    for (index, byte) in hash.iter().enumerate() {
        out[index % 20] ^= byte;
    }
    out
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_hashes_of_the_empty_string() {
        let sha256 = HashAlgo::Sha256.hash(b"");
        assert_eq!(
            sha256.sri(),
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(
            sha256.base32(),
            "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
        );
        assert_eq!(
            HashAlgo::Md5.hash(b"").base16(),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(
            HashAlgo::Sha1.hash(b"").base16(),
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
        assert_eq!(HashAlgo::Sha512.hash(b"").base32().len(), 103);
        assert_eq!(
            HashAlgo::Blake3.hash(b"").base16(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn the_algorithm_must_be_known_and_agree() {
        let text = HashAlgo::Sha1.hash(b"x").prefixed_base16();
        assert!(Hash::parse(&text, Some(HashAlgo::Md5)).is_err());
        assert!(Hash::parse(&text[5..], None).is_err());
        assert!(Hash::parse("sha3:00", None).is_err());
        assert!(Hash::parse("", None).is_err());
    }

    proptest! {
        #[test]
        fn every_spelling_is_read_back(bytes in any::<[u8; 64]>(), which in 0..HashAlgo::ALL.len()) {
            let algo = HashAlgo::ALL[which];
            let hash = Hash::new(algo, &bytes[..algo.size()]);
            for text in [hash.sri(), hash.prefixed_base16(), hash.prefixed_base32()] {
                prop_assert_eq!(Hash::parse(&text, None).unwrap(), hash);
            }
            for text in [hash.base16(), hash.base32()] {
                prop_assert_eq!(Hash::parse(&text, Some(algo)).unwrap(), hash);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*", which in 0..HashAlgo::ALL.len()) {
            let _ = Hash::parse(&text, Some(HashAlgo::ALL[which]));
            let _ = Hash::parse(&format!("sha256-{text}"), None);
        }
    }
}
