//! Writing the archive of a file tree in the strict order all readers accept.
//! Framing and contents share one buffer, so a small tree reaches the sink in a single write.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{MAGIC, padding};
use crate::nar::buffer::{CHUNK, grow, with_buffer};
use windrow_sys::interrupt;
use windrow_sys::tree::{Kind, Node, Order, Visitor, unsupported, walk, walk_in};
use windrow_sys::{Error, Result};

/// Writes the NAR of `path`, a file, link or directory of any depth, to `sink`.
///
/// Fails with [`Error::UnsupportedFileType`] on fifos, sockets and devices, with
/// [`Error::FileSizeChanged`] or [`Error::TreeChanged`] if the tree is changed at the same time,
/// and with [`Error::Io`] if it cannot be read or the sink refuses the bytes.
pub fn dump(path: &Path, sink: &mut impl Write) -> Result<()> {
    dump_observed(path, sink, &mut ())
}

/// Hears what is written into an archive, as it is written. Names are `None` for the root, else
/// those of entries in the directory begun last.
pub trait Observer {
    /// A directory begins.
    fn directory(&mut self, name: Option<&[u8]>);

    /// The directory begun last ends.
    fn leave(&mut self);

    /// A regular file of `size` bytes, which begin at `offset` in the archive.
    fn file(&mut self, name: Option<&[u8]>, executable: bool, size: u64, offset: u64);

    /// A symbolic link.
    fn symlink(&mut self, name: Option<&[u8]>, target: &[u8]);
}

impl Observer for () {
    fn directory(&mut self, _name: Option<&[u8]>) {}
    fn leave(&mut self) {}
    fn file(&mut self, _name: Option<&[u8]>, _executable: bool, _size: u64, _offset: u64) {}
    fn symlink(&mut self, _name: Option<&[u8]>, _target: &[u8]) {}
}

/// As [`dump`], telling `observer` what the archive holds.
pub fn dump_observed(
    path: &Path,
    sink: &mut impl Write,
    observer: &mut impl Observer,
) -> Result<()> {
    with_buffer(|buffer| Dumper::dump(Output::new(sink, buffer, path), observer))
}

/// As [`dump_observed`], without the first `skipped` bytes of the archive. Contents of files that
/// lie in them are not read. Takes little memory, for callers that write many archives at once.
///
/// # Errors
/// As [`dump`].
pub fn dump_rest(
    path: &Path,
    skipped: u64,
    sink: &mut impl Write,
    observer: &mut impl Observer,
) -> Result<()> {
    with_buffer(|buffer| {
        let mut out = Output::new(sink, buffer, path);
        out.skipped = skipped;
        out.most = SMALL_CHUNK;
        Dumper::dump(out, observer)
    })
}

/// How large the buffer of who has many of them becomes, in bytes.
const SMALL_CHUNK: usize = CHUNK / 4;

/// Tells `observer` what the archive of `path` holds, without reading the contents of files.
///
/// # Errors
/// As [`dump`].
pub fn outline(path: &Path, observer: &mut impl Observer) -> Result<()> {
    dump_rest(path, u64::MAX, &mut io::sink(), observer)
}

/// As [`dump`], for the entry `name` of an open directory. Errors name the entry only.
pub(crate) fn dump_entry(parent: BorrowedFd<'_>, name: &CStr, sink: &mut impl Write) -> Result<()> {
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    with_buffer(|buffer| {
        let mut dumper = Dumper {
            out: Output::new(sink, buffer, path),
            observer: &mut (),
        };
        dumper.out.token(MAGIC.as_bytes())?;
        walk_in(parent, name.to_owned(), path, Order::Sorted, &mut dumper)?;
        dumper.out.flush()
    })
}

/// Writes the bare bytes of the regular file at `path` to `sink`; fails as [`dump`] does, and with
/// [`Error::NotRegularFile`] if it is something else.
pub(crate) fn feed_file(path: &Path, sink: &mut impl Write) -> Result<()> {
    with_buffer(|buffer| {
        let mut feeder = FileFeeder {
            out: Output::new(sink, buffer, path),
        };
        walk(path, Order::Any, &mut feeder)?;
        feeder.out.flush()
    })
}

struct Dumper<'a, W, O> {
    out: Output<'a, W>,
    observer: &'a mut O,
}

impl<W: Write, O: Observer> Visitor for Dumper<'_, W, O> {
    type Dir = ();

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
        let out = &mut self.out;
        let name = (!node.is_root()).then(|| node.name().to_bytes());
        if let Some(name) = name {
            out.tokens(&["entry", "(", "name"])?;
            out.token(name)?;
            out.tokens(&["node"])?;
        }
        match node.kind()? {
            Kind::Directory => {
                out.tokens(&["(", "type", "directory"])?;
                self.observer.directory(name);
                return Ok(Some((node.open_directory()?, ())));
            }
            Kind::Symlink => {
                out.tokens(&["(", "type", "symlink", "target"])?;
                let target = node.read_link()?;
                out.token(&target)?;
                self.observer.symlink(name, &target);
            }
            Kind::Regular => {
                let (mut file, stat) = node.open_file()?;
                out.tokens(&["(", "type", "regular"])?;
                let executable = stat.st_mode & 0o100 != 0;
                if executable {
                    out.tokens(&["executable", ""])?;
                }
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                out.tokens(&["contents"])?;
                out.bytes(&size.to_le_bytes())?;
                self.observer.file(name, executable, size, out.offset());
                out.contents(node, &mut file, size)?;
                out.bytes(&[0; 8][..padding(size)])?;
            }
            Kind::Other => return Err(unsupported(node)),
        }
        self.close(node)?;
        Ok(None)
    }

    fn leave(&mut self, node: &Node<'_>, _handle: OwnedFd, _dir: ()) -> Result<()> {
        self.observer.leave();
        self.close(node)
    }
}

impl<'a, W: Write, O: Observer> Dumper<'a, W, O> {
    fn dump(out: Output<'a, W>, observer: &'a mut O) -> Result<()> {
        let mut dumper = Dumper { out, observer };
        let path = dumper.out.path;
        dumper.out.token(MAGIC.as_bytes())?;
        walk(path, Order::Sorted, &mut dumper)?;
        dumper.out.flush()
    }

    /// Closes a node, and the entry around it.
    fn close(&mut self, node: &Node<'_>) -> Result<()> {
        self.out
            .tokens(if node.is_root() { &[")"] } else { &[")", ")"] })
    }
}

struct FileFeeder<'a, W> {
    out: Output<'a, W>,
}

impl<W: Write> Visitor for FileFeeder<'_, W> {
    type Dir = ();

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
        if node.kind()? != Kind::Regular {
            return Err(Error::NotRegularFile { path: node.path() });
        }
        let (mut file, stat) = node.open_file()?;
        self.out
            .contents(node, &mut file, u64::try_from(stat.st_size).unwrap_or(0))?;
        Ok(None)
    }

    fn leave(&mut self, _node: &Node<'_>, _handle: OwnedFd, _dir: ()) -> Result<()> {
        Ok(())
    }
}

/// The bytes on their way to the sink.
struct Output<'a, W> {
    sink: &'a mut W,
    /// All of it may be written to; only the first `filled` bytes are waiting.
    buffer: &'a mut Vec<u8>,
    filled: usize,
    /// How many bytes there were before those that are waiting.
    flushed: u64,
    /// How many bytes at the beginning are not for the sink.
    skipped: u64,
    /// How many bytes wait at most.
    most: usize,
    /// The root, for messages.
    path: &'a Path,
}

impl<'a, W: Write> Output<'a, W> {
    fn new(sink: &'a mut W, buffer: &'a mut Vec<u8>, path: &'a Path) -> Self {
        Self {
            sink,
            buffer,
            filled: 0,
            flushed: 0,
            skipped: 0,
            most: CHUNK,
            path,
        }
    }

    /// How many bytes there have been.
    fn offset(&self) -> u64 {
        self.flushed + self.filled as u64
    }

    fn tokens(&mut self, tokens: &[&str]) -> Result<()> {
        tokens
            .iter()
            .try_for_each(|token| self.token(token.as_bytes()))
    }

    fn token(&mut self, token: &[u8]) -> Result<()> {
        let length = token.len() as u64;
        self.bytes(&length.to_le_bytes())?;
        self.bytes(token)?;
        self.bytes(&[0; 8][..padding(length)])
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.make_room(bytes.len())?;
            let count = bytes.len().min(self.buffer.len() - self.filled);
            self.buffer[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Passes on exactly `size` bytes, all that `file` holds.
    ///
    /// Each read asks for one byte more than is left, so that growth shows without another call.
    fn contents(&mut self, node: &Node<'_>, file: &mut File, size: u64) -> Result<()> {
        let mut left = size - self.pass_over(node, file, size)?;
        loop {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            self.make_room(wanted)?;
            interrupt::check().map_err(|ended| Error::io("read", node.path())(ended))?;
            let end = self.buffer.len().min(self.filled.saturating_add(wanted));
            let asked = end - self.filled;
            let count = match file.read(&mut self.buffer[self.filled..end]) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", node.path())(error)),
            };
            if count as u64 > left || (count == 0 && left > 0) {
                return Err(Error::FileSizeChanged {
                    path: node.path(),
                    size,
                });
            }
            self.filled += count;
            left -= count as u64;
            if left == 0 && count < asked {
                return Ok(());
            }
        }
    }

    /// Goes over as many bytes of a file of that size as are not for the sink; how many those are.
    fn pass_over(&mut self, node: &Node<'_>, file: &mut File, size: u64) -> Result<u64> {
        let over = self.skipped.saturating_sub(self.offset()).min(size);
        if over > 0 {
            let seek = file.seek(SeekFrom::Start(over));
            seek.map_err(Error::io("read", node.path()))?;
            self.flush()?;
            self.flushed += over;
        }
        Ok(over)
    }

    /// Makes room for `wanted` bytes, or for as many as are worth a call.
    fn make_room(&mut self, wanted: usize) -> Result<()> {
        if self.buffer.len() - self.filled < wanted {
            grow(
                self.buffer,
                self.filled.saturating_add(wanted).min(self.most),
            );
            let room = self.buffer.len() - self.filled;
            if room < wanted && room < self.most / 2 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let over = self.skipped.saturating_sub(self.flushed);
        let over = usize::try_from(over).map_or(self.filled, |over| over.min(self.filled));
        self.sink
            .write_all(&self.buffer[over..self.filled])
            .map_err(Error::io("write the archive of", self.path))?;
        self.flushed += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::files::sample::{Tree, known, plant_chain};
    use windrow_sys::tree::delete_path;

    fn archive(tree: &Tree) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tree");
        tree.plant(&path);
        let mut archive = Vec::new();
        dump(&path, &mut archive).unwrap();
        archive
    }

    /// Writes `text` as tokens, one a word, with `_` for the empty one.
    fn tokens(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in text.split_whitespace() {
            let word = if word == "_" { "" } else { word };
            bytes.extend((word.len() as u64).to_le_bytes());
            bytes.extend(word.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    #[test]
    fn a_link_has_the_bytes_nix_gives_it() {
        let expected = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\
            \x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0type\0\0\0\0\
            \x07\0\0\0\0\0\0\0symlink\0\
            \x06\0\0\0\0\0\0\0target\0\0\
            \x07\0\0\0\0\0\0\0../else\0\
            \x01\0\0\0\0\0\0\0)\0\0\0\0\0\0\0";
        assert_eq!(archive(&Tree::Link("../else".into())), expected);
    }

    #[test]
    fn files_and_directories_are_framed_in_order() {
        assert_eq!(
            archive(&Tree::script(b"12345678")),
            tokens("nix-archive-1 ( type regular executable _ contents 12345678 )")
        );
        assert_eq!(
            archive(&Tree::dir([("b", Tree::file(b"")), ("B", Tree::dir([]))])),
            tokens(
                "nix-archive-1 ( type directory \
                 entry ( name B node ( type directory ) ) \
                 entry ( name b node ( type regular contents _ ) ) )"
            )
        );
        assert_eq!(archive(&known()).len(), 302_208);
    }

    #[test]
    fn any_beginning_can_be_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tree");
        known().plant(&path);
        let mut whole = Vec::new();
        dump(&path, &mut whole).unwrap();
        let around = [1, 97, 120, 300_000, 302_100, 302_200, 302_208, 302_209];
        for skipped in (0..whole.len()).step_by(4093).chain(around) {
            let mut rest = Vec::new();
            dump_rest(&path, skipped as u64, &mut rest, &mut ()).unwrap();
            let expected = &whole[skipped.min(whole.len())..];
            assert!(rest == expected, "{skipped}: {} bytes", rest.len());
        }
    }

    #[test]
    fn what_is_left_out_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("large")).unwrap();
        // It would take an hour.
        file.set_len(1 << 42).unwrap();
        let mut rest = Vec::new();
        let path = directory.path().join("large");
        dump_rest(&path, (1 << 42) + 96, &mut rest, &mut ()).unwrap();
        assert_eq!(rest, tokens(")"));
        outline(&path, &mut ()).unwrap();
    }

    #[test]
    fn sockets_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _socket = UnixListener::bind(&path).unwrap();
        let error = dump(directory.path(), &mut Vec::new()).unwrap_err();
        let expected = format!("file '{}' has an unsupported type", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn a_file_that_is_longer_than_it_claims_is_refused() {
        // Such files claim to be empty, as one that grows while it is read would.
        let error = dump(Path::new("/proc/self/status"), &mut Vec::new()).unwrap_err();
        assert!(
            matches!(error, Error::FileSizeChanged { size: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_refused() {
        struct Shrink<'a>(&'a File);
        impl Write for Shrink<'_> {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.set_len(CHUNK as u64)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 * CHUNK as u64).unwrap();
        let error = dump(file.path(), &mut Shrink(file.as_file())).unwrap_err();
        assert!(matches!(error, Error::FileSizeChanged { .. }), "{error}");
    }

    #[test]
    fn a_full_sink_is_named() {
        let error = dump(Path::new("/dev/null"), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFileType { .. }));
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = dump(file.path(), &mut [0_u8; 8].as_mut_slice()).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot write the archive of"),
            "{error}"
        );
    }

    #[test]
    fn depth_is_no_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep");
        plant_chain(&path, 5000);
        let mut archive = Vec::new();
        dump(&path, &mut archive).unwrap();
        let entry = tokens("entry ( name d node ( type directory ) )").len();
        let frame = tokens(
            "nix-archive-1 ( type directory entry ( name leaf node ( type regular contents _ ) ) )",
        );
        assert_eq!(archive.len(), frame.len() + 4999 * entry);
        delete_path(&path).unwrap();
        assert!(!path.exists());
    }
}
