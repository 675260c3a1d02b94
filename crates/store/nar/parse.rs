//! Reading an archive strictly and handing what it describes to a handler, at any depth, without
//! recursion and without letting an announced length allocate memory. Touches no file.

use std::ffi::{CStr, CString};
use std::io::{ErrorKind, Read};

use super::{ALIGNMENT, MAGIC, NarFault, padding};
use crate::error::{Error, Result};
use crate::nar::buffer::{CHUNK, grow, with_buffer};

/// The longest file name, in bytes.
const NAME_MAX: u64 = 255;
/// The longest link target, in bytes.
const TARGET_MAX: u64 = 4095;
/// The longest of the format's own words, in bytes.
const TOKEN_MAX: usize = 32;

/// Receives what an archive describes. Names are `None` for the root, else those of entries in the
/// directory entered last: valid, unique and ascending.
pub trait Handler {
    /// A directory begins.
    fn enter(&mut self, name: Option<&CStr>) -> Result<()>;

    /// The directory entered last ends.
    fn leave(&mut self) -> Result<()>;

    /// A regular file. Contents that the handler leaves unread are skipped.
    fn file(
        &mut self,
        name: Option<&CStr>,
        executable: bool,
        contents: &mut Contents<'_>,
    ) -> Result<()>;

    /// A symbolic link; its target is not empty.
    fn symlink(&mut self, name: Option<&CStr>, target: &CStr) -> Result<()>;
}

/// Reads one archive and not a byte beyond it, telling `handler` what it holds.
///
/// Fails with [`Error::NarDamaged`] where the archive is not strictly well-formed, with
/// [`Error::NarUnreadable`] if `source` fails, and with whatever the handler fails with. Tokens are
/// read one by one: an unbuffered source should be wrapped.
pub fn parse(source: &mut impl Read, handler: &mut impl Handler) -> Result<()> {
    parse_entries(source, handler, Entries::Ascending)
}

/// In which order the entries of a directory must come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// As in every well-formed archive.
    Ascending,
    /// In any, for names that were replaced on the way. The handler must see to their being unique.
    Any,
}

pub(super) fn parse_entries(
    source: &mut impl Read,
    handler: &mut impl Handler,
    entries: Entries,
) -> Result<()> {
    let mut reader = Reader { source, offset: 0 };
    reader.expect(MAGIC)?;
    let mut directories: Vec<Option<CString>> = Vec::new();
    let mut next: Option<CString> = None;
    loop {
        reader.expect("(")?;
        reader.expect("type")?;
        let name = next.as_deref();
        let mut token = [0; TOKEN_MAX];
        let entered = match reader.token(&mut token)? {
            b"regular" => {
                reader.regular(name, handler)?;
                false
            }
            b"symlink" => {
                reader.expect("target")?;
                let target = reader.target()?;
                handler.symlink(name, &target)?;
                false
            }
            b"directory" => {
                handler.enter(name)?;
                true
            }
            other => return Err(reader.unexpected("regular, symlink or directory", other)),
        };
        if entered {
            directories.push(None);
        } else {
            reader.close(directories.is_empty())?;
        }
        next = loop {
            let Some(previous) = directories.last_mut() else {
                return Ok(());
            };
            match reader.token(&mut token)? {
                b"entry" => {
                    let name = reader.entry(previous.as_deref())?;
                    if entries == Entries::Ascending {
                        *previous = Some(name.clone());
                    }
                    break Some(name);
                }
                b")" => {
                    handler.leave()?;
                    directories.pop();
                    if !directories.is_empty() {
                        reader.expect(")")?;
                    }
                }
                other => return Err(reader.unexpected("entry or )", other)),
            }
        };
    }
}

/// Reads one archive and forgets it, for streams that hold a path which is already there. Fails as
/// [`parse`] does.
pub fn skip(source: &mut impl Read) -> Result<()> {
    struct Skipper;
    impl Handler for Skipper {
        fn enter(&mut self, _name: Option<&CStr>) -> Result<()> {
            Ok(())
        }
        fn leave(&mut self) -> Result<()> {
            Ok(())
        }
        fn file(&mut self, _: Option<&CStr>, _: bool, _: &mut Contents<'_>) -> Result<()> {
            Ok(())
        }
        fn symlink(&mut self, _name: Option<&CStr>, _target: &CStr) -> Result<()> {
            Ok(())
        }
    }
    parse(source, &mut Skipper)
}

/// The bytes of one regular file in an archive.
pub struct Contents<'a> {
    reader: Reader<'a>,
    buffer: &'a mut Vec<u8>,
    size: u64,
    left: u64,
}

impl Contents<'_> {
    /// The size the archive announces, in bytes; not to be trusted before all of it was read.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where in the archive the next byte of them is, in bytes.
    pub fn offset(&self) -> u64 {
        self.reader.offset
    }

    /// The next bytes, or `None` after the last.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>> {
        if self.left == 0 {
            return Ok(None);
        }
        let count = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        grow(self.buffer, count);
        let chunk = &mut self.buffer[..count];
        self.reader.exact(chunk)?;
        self.left -= count as u64;
        Ok(Some(chunk))
    }
}

struct Reader<'a> {
    source: &'a mut dyn Read,
    offset: u64,
}

impl Reader<'_> {
    fn exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.source.read(&mut bytes[done..]) {
                Ok(0) => return Err(self.damaged(NarFault::Truncated)),
                Ok(count) => {
                    done += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::NarUnreadable {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let mut bytes = [0; ALIGNMENT];
        let bytes = &mut bytes[..padding(length)];
        self.exact(bytes)?;
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(self.damaged(NarFault::Padding));
        }
        Ok(())
    }

    /// A length that is at most `max`, which bounds what is then allocated.
    fn length(&mut self, what: &'static str, max: u64) -> Result<usize> {
        let length = self.number()?;
        if length > max {
            return Err(self.damaged(NarFault::TooLong { what, length, max }));
        }
        Ok(length as usize)
    }

    fn token<'t>(&mut self, room: &'t mut [u8; TOKEN_MAX]) -> Result<&'t [u8]> {
        let length = self.length("token", TOKEN_MAX as u64)?;
        self.exact(&mut room[..length])?;
        self.pad(length as u64)?;
        Ok(&room[..length])
    }

    fn expect(&mut self, expected: &'static str) -> Result<()> {
        let mut room = [0; TOKEN_MAX];
        match self.token(&mut room)? {
            found if found == expected.as_bytes() => Ok(()),
            found => Err(self.unexpected(expected, found)),
        }
    }

    fn bytes(&mut self, what: &'static str, max: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length(what, max)?];
        self.exact(&mut bytes)?;
        self.pad(bytes.len() as u64)?;
        Ok(bytes)
    }

    /// The rest of a regular file but its closing bracket.
    fn regular(&mut self, name: Option<&CStr>, handler: &mut impl Handler) -> Result<()> {
        let mut token = [0; TOKEN_MAX];
        let executable = match self.token(&mut token)? {
            b"executable" => {
                self.expect("")?;
                self.expect("contents")?;
                true
            }
            b"contents" => false,
            other => return Err(self.unexpected("executable or contents", other)),
        };
        let size = self.number()?;
        with_buffer(|buffer| {
            let reader = Reader {
                source: &mut *self.source,
                offset: self.offset,
            };
            let mut contents = Contents {
                reader,
                buffer,
                size,
                left: size,
            };
            handler.file(name, executable, &mut contents)?;
            while contents.next_chunk()?.is_some() {}
            self.offset = contents.reader.offset;
            Ok::<(), Error>(())
        })?;
        self.pad(size)
    }

    fn target(&mut self) -> Result<CString> {
        let target = self.bytes("link target", TARGET_MAX)?;
        match CString::new(target) {
            Ok(target) if !target.is_empty() => Ok(target),
            Ok(_) => Err(self.damaged(NarFault::InvalidTarget {
                target: String::new(),
            })),
            Err(error) => {
                let target = error.into_vec().escape_ascii().to_string();
                Err(self.damaged(NarFault::InvalidTarget { target }))
            }
        }
    }

    /// The head of a directory entry, whose name must come after `previous`.
    fn entry(&mut self, previous: Option<&CStr>) -> Result<CString> {
        self.expect("(")?;
        self.expect("name")?;
        let name = self.bytes("file name", NAME_MAX)?;
        let shown = || name.escape_ascii().to_string();
        if matches!(name.as_slice(), b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(self.damaged(NarFault::InvalidName { name: shown() }));
        }
        if previous.is_some_and(|previous| previous.to_bytes() >= name.as_slice()) {
            return Err(self.damaged(NarFault::Unsorted { name: shown() }));
        }
        let name = CString::new(name).map_err(|error| {
            let name = error.into_vec().escape_ascii().to_string();
            self.damaged(NarFault::InvalidName { name })
        })?;
        self.expect("node")?;
        Ok(name)
    }

    /// Closes a node, and the entry around it unless it is the root.
    fn close(&mut self, root: bool) -> Result<()> {
        self.expect(")")?;
        if root { Ok(()) } else { self.expect(")") }
    }

    fn unexpected(&self, expected: &'static str, found: &[u8]) -> Error {
        let found = found.escape_ascii().to_string();
        self.damaged(NarFault::UnexpectedToken { expected, found })
    }

    fn damaged(&self, fault: NarFault) -> Error {
        Error::NarDamaged {
            offset: self.offset,
            fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(tokens: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for token in tokens {
            bytes.extend((token.len() as u64).to_le_bytes());
            bytes.extend(*token);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    fn fault(archive: &[u8]) -> NarFault {
        match skip(&mut &*archive).unwrap_err() {
            Error::NarDamaged { fault, .. } => fault,
            other => panic!("{other}"),
        }
    }

    fn directory(names: &[&[u8]]) -> Vec<u8> {
        let mut words: Vec<&[u8]> = vec![b"nix-archive-1", b"(", b"type", b"directory"];
        for name in names {
            words.extend([&b"entry"[..], b"(", b"name", name, b"node"]);
            words.extend([&b"("[..], b"type", b"symlink", b"target", b"x", b")", b")"]);
        }
        words.push(b")");
        tokens(&words)
    }

    fn link(target: &[u8]) -> Vec<u8> {
        tokens(&[
            b"nix-archive-1",
            b"(",
            b"type",
            b"symlink",
            b"target",
            target,
            b")",
        ])
    }

    #[test]
    fn not_a_byte_beyond_the_end_is_read() {
        let mut archive = directory(&[b"a", b"b"]);
        archive.extend(b"next");
        let mut source = archive.as_slice();
        skip(&mut source).unwrap();
        assert_eq!(source, b"next");
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            let fault = fault(&directory(&[name]));
            assert!(
                matches!(fault, NarFault::InvalidName { .. }),
                "{name:?}: {fault}"
            );
        }
        skip(&mut directory(&[b"...", b".a", b"\xff"]).as_slice()).unwrap();
    }

    #[test]
    fn entries_ascend_strictly_by_their_bytes() {
        skip(&mut directory(&[b"A", b"a", b"a-", b"a.", b"aa"]).as_slice()).unwrap();
        for names in [[&b"a"[..], b"a"], [b"b", b"a"], [b"a", b"A"], [b"aa", b"a"]] {
            assert!(matches!(
                fault(&directory(&names)),
                NarFault::Unsorted { .. }
            ));
        }
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_allocated() {
        skip(&mut directory(&[&[b'x'; 255]]).as_slice()).unwrap();
        skip(&mut link(&[b'x'; 4095]).as_slice()).unwrap();
        for (archive, what) in [
            (directory(&[&[b'x'; 256]]), "file name"),
            (link(&[b'x'; 4096]), "link target"),
            (tokens(&[&[b'x'; 33]]), "token"),
            (u64::MAX.to_le_bytes().to_vec(), "token"),
        ] {
            assert!(
                matches!(fault(&archive), NarFault::TooLong { what: found, .. } if found == what)
            );
        }
        let mut endless = tokens(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents"]);
        endless.extend(u64::MAX.to_le_bytes());
        endless.extend([0; 100]);
        assert_eq!(fault(&endless), NarFault::Truncated);
    }

    #[test]
    fn targets_padding_and_words_are_checked() {
        for target in [&b""[..], b"a\0b"] {
            assert!(matches!(
                fault(&link(target)),
                NarFault::InvalidTarget { .. }
            ));
        }
        let mut archive = link(b"x");
        let last = archive.len() - 1;
        archive[last] = 1;
        assert_eq!(fault(&archive), NarFault::Padding);
        let words: [&[&[u8]]; 4] = [
            &[b"nix-archive-2"],
            &[b"nix-archive-1", b"(", b"type", b"fifo"],
            &[b"nix-archive-1", b"(", b"type", b"regular", b")"],
            &[b"nix-archive-1", b"(", b"type", b"directory", b"name"],
        ];
        for words in words {
            let fault = fault(&tokens(words));
            assert!(matches!(fault, NarFault::UnexpectedToken { .. }), "{fault}");
        }
    }

    #[test]
    fn a_failing_source_is_not_called_damage() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _bytes: &mut [u8]) -> std::io::Result<usize> {
                Err(ErrorKind::ConnectionReset.into())
            }
        }
        let archive = link(b"x");
        let mut source = archive[..40].chain(Broken);
        let error = skip(&mut source).unwrap_err();
        assert!(
            matches!(error, Error::NarUnreadable { offset: 40, .. }),
            "{error}"
        );
    }
}
