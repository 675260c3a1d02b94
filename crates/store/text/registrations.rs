//! Registrations as lines of text, as `--dump-db`, `--load-db` and `--register-validity` of
//! nix-store have them. Reads and writes the text; whether paths exist is the caller's matter.

use std::io::{BufRead, Read as _, Write};
use std::path::Path;

use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::store_path::StoreDir;

use crate::PathInfo;
use crate::error::{Error, Result};

/// Writes what is registered of a path (Nix's `makeValidityRegistration`).
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, info: &PathInfo) -> std::io::Result<()> {
    writeln!(out, "{}", info.path)?;
    writeln!(out, "{}", Hash::sha256(&info.nar_hash).base16())?;
    writeln!(out, "{}", info.nar_size)?;
    writeln!(out, "{}", info.deriver.as_deref().unwrap_or_default())?;
    writeln!(out, "{}", info.references.len())?;
    info.references
        .iter()
        .try_for_each(|path| writeln!(out, "{path}"))
}

/// How many bytes a line may have. It holds a path at most.
const LINE_MAX: u64 = 64 << 10;

/// Reads registrations one after the other.
pub struct Reader<'a, R> {
    source: R,
    store_dir: &'a StoreDir,
    hashes: bool,
    line: u64,
    text: Vec<u8>,
}

impl<'a, R: BufRead> Reader<'a, R> {
    /// A reader of the form with hash and size, or of the one without.
    pub fn new(source: R, store_dir: &'a StoreDir, hashes: bool) -> Self {
        Self {
            source,
            store_dir,
            hashes,
            line: 0,
            text: Vec::new(),
        }
    }

    /// The next registration, or none at the end. Without hashes, hash and size are zero.
    ///
    /// # Errors
    /// [`Error::BadRegistration`] says what is wrong in which line.
    pub fn read(&mut self) -> Result<Option<PathInfo>> {
        if !self.read_line()? {
            return Ok(None);
        }
        let path = self.store_path()?;
        let (mut nar_hash, mut nar_size) = ([0; 32], 0);
        if self.hashes {
            let text = self.required("the hash of the NAR")?;
            let hash = Hash::parse(text, Some(HashAlgo::Sha256));
            nar_hash.copy_from_slice(hash.map_err(|e| self.wrong(&e.to_string()))?.as_bytes());
            nar_size = self.number("the size of the NAR, in bytes")?;
        }
        let deriver = match self.required("the deriver, or an empty line")? {
            "" => None,
            _ => Some(self.store_path()?),
        };
        let count = self.number("the number of references")?;
        let mut references = Vec::new();
        for _ in 0..count {
            self.required("a reference")?;
            references.push(self.store_path()?);
        }
        references.sort_unstable();
        references.dedup();
        Ok(Some(PathInfo {
            deriver,
            references,
            ..PathInfo::of(path, nar_hash, nar_size)
        }))
    }

    /// Takes in a line; says whether there was one.
    fn read_line(&mut self) -> Result<bool> {
        self.text.clear();
        let mut source = self.source.by_ref().take(LINE_MAX + 1);
        let read = source.read_until(b'\n', &mut self.text);
        let read = read.map_err(Error::io("read", Path::new("standard input")))?;
        self.line += 1;
        if read as u64 > LINE_MAX {
            return Err(self.wrong(&format!("it has more than {LINE_MAX} bytes")));
        }
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
            Ok(true)
        } else if read == 0 {
            Ok(false)
        } else {
            Err(self.wrong("it ends in the middle of this line"))
        }
    }

    fn required(&mut self, what: &str) -> Result<&str> {
        if !self.read_line()? {
            return Err(self.wrong(&format!("it ends where {what} should stand")));
        }
        match str::from_utf8(&self.text) {
            Ok(text) => Ok(text),
            Err(_) => Err(Error::BadRegistration {
                line: self.line,
                reason: "it is not UTF-8 text".to_owned(),
            }),
        }
    }

    fn number(&mut self, what: &str) -> Result<u64> {
        let read = self.required(what)?.parse();
        read.map_err(|_| self.wrong(&format!("{what} should be a number")))
    }

    /// The line as a store path.
    fn store_path(&self) -> Result<String> {
        let text = String::from_utf8_lossy(&self.text);
        match self.store_dir.parse(&text) {
            Ok(_) => Ok(text.into_owned()),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::BadRegistration {
            line: self.line,
            reason: reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "/nix/store/8rhh74q2l84v5z1fa0n941xhbpgw3ncf-a";
    const B: &str = "/nix/store/9rhh74q2l84v5z1fa0n941xhbpgw3ncf-b";

    fn info() -> PathInfo {
        PathInfo {
            path: A.to_owned(),
            nar_hash: [3; 32],
            nar_size: 120,
            registration_time: 0,
            deriver: Some(format!("{B}.drv")),
            references: vec![A.to_owned(), B.to_owned()],
            ultimate: false,
            sigs: vec![],
            ca: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut text = Vec::new();
        write(&mut text, &info()).unwrap();
        write(
            &mut text,
            &PathInfo {
                path: B.to_owned(),
                deriver: None,
                references: vec![],
                ..info()
            },
        )
        .unwrap();
        let store = StoreDir::new("/nix/store");
        let mut reader = Reader::new(&text[..], &store, true);
        assert_eq!(reader.read().unwrap(), Some(info()));
        assert_eq!(reader.read().unwrap().unwrap().path, B);
        assert_eq!(reader.read().unwrap(), None);
    }

    #[test]
    fn every_cut_is_noticed() {
        let mut text = Vec::new();
        write(&mut text, &info()).unwrap();
        let store = StoreDir::new("/nix/store");
        for length in 1..text.len() {
            let error = Reader::new(&text[..length], &store, true)
                .read()
                .unwrap_err();
            assert!(error.to_string().contains("line"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<Vec<u8>>(), hashes in any::<bool>()) {
            let store = StoreDir::new("/nix/store");
            let _ = Reader::new(&text[..], &store, hashes).read();
        }
    }
}
