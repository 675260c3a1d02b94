//! The log of a build that runs: what there is of it, more as it comes, and its end when the build
//! has ended. It lies as it is beside the compressed one until that is whole.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use windrow_components::log_line::{LogMessage, last_start};
use windrow_store::logs::{is_marked_cut, open_regular};

use crate::build_log::{Log, readable};
use crate::error::{Error, Result};

/// How many bytes of a log the last line is looked for in.
const LAST_BYTES: u64 = 16 << 10;

/// How a compressed log is called.
const COMPRESSED: &str = "bz2";

/// Where a log is read while its build runs, which is told to be kept at `path`.
pub(super) fn live_path(path: &Path) -> PathBuf {
    match path.extension().is_some_and(|it| it == COMPRESSED) {
        true => path.with_extension(""),
        false => path.to_owned(),
    }
}

/// The last line of text in the log of a build that runs, as far as it has come.
pub(super) fn last_line(path: &Path) -> Option<String> {
    let mut file = open_regular(&live_path(path)).ok()??;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().rev().map(last_start);
    let mut lines =
        lines.filter(|line| !line.trim().is_empty() && LogMessage::parse(line).is_none());
    lines.next().map(str::to_owned)
}

/// A log that is followed.
pub(super) struct Tail {
    path: PathBuf,
    /// The file in which it grows, if it has been seen.
    live: Option<File>,
    /// How many bytes have been read of it.
    read: u64,
}

impl Tail {
    /// Of the log that is to be kept at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            live: None,
            read: 0,
        }
    }

    /// Hands on what has come since.
    ///
    /// # Errors
    /// When it can't be read, or not be taken.
    pub(super) fn news(&mut self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.live.is_none() {
            let opened = open_regular(&live_path(&self.path));
            self.live = opened.map_err(Error::io("open the log", &self.path))?;
        }
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = live.read(&mut chunk);
            let count = read.map_err(Error::io("read the log", &self.path))?;
            if count == 0 {
                return Ok(());
            }
            self.read += count as u64;
            take(&chunk[..count])?;
        }
    }

    /// After the build has ended: hands on the rest, and tells whether the log is whole. If it is
    /// not, more may come, unless `must` says that nobody writes it any more.
    ///
    /// # Errors
    /// As [`Tail::news`].
    pub(super) fn rest(
        &mut self,
        must: bool,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        // Asked first, so that what was written before is read.
        let is_whole = match &self.live {
            Some(live) => is_whole(live).map_err(Error::io("look at the log", &self.path))?,
            None => false,
        };
        self.news(take)?;
        if self.live.is_some() {
            return Ok(is_whole);
        }
        // It was too short, or its build too quick, to be seen before it was whole.
        let opened = open_regular(&self.path).map_err(Error::io("open the log", &self.path))?;
        let Some(file) = opened else {
            return Ok(true);
        };
        let is_compressed = live_path(&self.path) != self.path;
        let log = readable(file, is_compressed).map_err(Error::io("read the log", &self.path))?;
        let (text, is_whole) = read_whole(log).map_err(Error::io("read the log", &self.path))?;
        if is_whole || must {
            let new = text.get(self.read as usize..).unwrap_or_default();
            self.read = text.len() as u64;
            take(new)?;
        }
        Ok(is_whole)
    }
}

/// All there is of a log, and whether it has its end.
fn read_whole(mut log: Log) -> io::Result<(Vec<u8>, bool)> {
    let mut text = Vec::new();
    match log.reader.read_to_end(&mut text) {
        Ok(_) => Ok((text, !log.is_cut)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok((text, false)),
        Err(error) => Err(error),
    }
}

/// Whether nothing more is written to a log in the file in which it grows: the compressed one is
/// whole, or the mark is gone that it has until its end.
fn is_whole(live: &File) -> io::Result<bool> {
    let metadata = live.metadata()?;
    Ok(metadata.nlink() == 0 || !is_marked_cut(metadata.permissions().mode()))
}
