//! What the thread does that compresses and writes logs: it keeps those that are compressed whole,
//! and beside each that lasts what there is of it, for others to read.

use std::fmt::Display;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bzip2::Compression;
use bzip2::write::BzEncoder;
use crossbeam_channel::{Receiver, Sender};
use hashbrown::HashMap;
use windrow_store::logs::CUT;
use windrow_sys::interrupt;

/// What the writing thread is told to do.
pub(super) enum Order {
    Open {
        id: u64,
        path: PathBuf,
        file: Sink,
        compress: bool,
    },
    Write {
        id: u64,
        bytes: Vec<u8>,
        /// How many of them were shown before.
        shown: usize,
        backlog: Arc<AtomicUsize>,
    },
    /// More of a log that is to be compressed, to be seen now.
    Show {
        id: u64,
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Close {
        id: u64,
    },
}

/// Tells of the first log that can't be written. Where one can't, others can't either.
pub(super) struct Tell {
    pub(super) sender: Sender<String>,
    pub(super) told: AtomicBool,
}

impl Tell {
    pub(super) fn tell(&self, problem: &dyn Display) {
        if !self.told.swap(true, Ordering::Relaxed) {
            let text = format!("{problem}; logs of this run may be cut or missing");
            let _ = self.sender.send(text);
        }
    }

    pub(super) fn cannot_write(&self, path: &Path, error: &io::Error) {
        let path = path.display();
        self.tell(&format_args!("cannot write the log file '{path}': {error}"));
    }
}

/// A log's file, which takes nothing more after a failure: what lacks a part must not get an end.
pub(super) struct Sink {
    file: File,
    failed: bool,
    _taken: Taken,
}

/// Counts a file that the writing thread has taken over, until it is closed.
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sink {
    /// One of that file, which is counted until it is closed.
    pub(super) fn new(file: File, count: &Arc<AtomicUsize>) -> Self {
        Self {
            file,
            failed: false,
            _taken: Taken::new(count),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(bytes);
        let is_failure = |error: &io::Error| error.kind() != io::ErrorKind::Interrupted;
        self.failed = written.as_ref().is_err_and(is_failure);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Open {
    Plain(Sink),
    Compressed(Box<BzEncoder<Sink>>),
}

/// Whether no more is written of a log. Who interrupts a run does not wait until all is compressed
/// that a builder wrote; short logs come in one piece and are whole.
fn is_cut(log: Option<&(PathBuf, Open)>) -> bool {
    let is_long = match log {
        Some((_, Open::Compressed(encoder))) => encoder.total_in() > 0,
        _ => false,
    };
    is_long && interrupt::is_signalled()
}

pub(super) fn write_logs(orders: &Receiver<Order>, tell: &Tell) {
    let mut writer = Writer {
        open: HashMap::new(),
        live: HashMap::new(),
        tell,
    };
    for order in orders {
        writer.obey(order);
    }
}

/// What the writing thread knows.
struct Writer<'a> {
    open: HashMap<u64, (PathBuf, Open)>,
    /// The logs that lie beside those that are compressed.
    live: HashMap<u64, Live>,
    tell: &'a Tell,
}

impl Writer<'_> {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Open {
                id,
                path,
                file,
                compress,
            } => {
                let log = if compress {
                    Open::Compressed(Box::new(BzEncoder::new(file, Compression::best())))
                } else {
                    Open::Plain(file)
                };
                self.open.insert(id, (path, log));
            }
            Order::Show { id, path, bytes } => {
                let live = self.live.entry(id).or_insert_with(|| Live::create(path));
                live.append(&bytes);
            }
            Order::Write {
                id,
                bytes,
                shown,
                backlog,
            } => {
                if !is_cut(self.open.get(&id)) {
                    self.write(id, &bytes, shown);
                }
                backlog.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Order::Close { id } => self.close(id),
        }
    }

    fn write(&mut self, id: u64, bytes: &[u8], shown: usize) {
        if let Some(live) = self.live.get_mut(&id) {
            live.append(&bytes[shown..]);
        }
        let Some((_, log)) = self.open.get_mut(&id) else {
            return;
        };
        let result = match log {
            Open::Plain(file) => file.write_all(bytes),
            Open::Compressed(encoder) => encoder.write_all(bytes),
        };
        let Err(error) = result else { return };
        // One that is not compressed keeps the mark of a log without its end.
        if let Some((path, _)) = self.open.remove(&id) {
            self.tell.cannot_write(&path, &error);
        }
    }

    fn close(&mut self, id: u64) {
        if let Some((path, log)) = self.open.remove(&id) {
            match log {
                Open::Plain(sink) => mark(&sink.file, false),
                Open::Compressed(encoder) => {
                    if let Err(error) = encoder.finish() {
                        self.tell.cannot_write(&path, &error);
                    }
                }
            }
        }
        // Not before the other one is whole.
        if let Some(live) = self.live.remove(&id) {
            live.delete();
        }
    }
}

/// A log as it is, beside the one that is being compressed. It is opened for each piece of it:
/// there may be as many as there are builds, and descriptors are short.
struct Live {
    path: PathBuf,
    /// Whether all of it could be written so far. What lacks a part gets no end.
    is_whole: bool,
}

impl Live {
    fn create(path: PathBuf) -> Self {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let is_whole = file.is_ok();
        if let Ok(file) = file {
            mark(&file, true);
        }
        Self { path, is_whole }
    }

    fn append(&mut self, bytes: &[u8]) {
        if !self.is_whole || bytes.is_empty() {
            return;
        }
        let file = File::options()
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path);
        // The compressed one counts.
        self.is_whole = file.and_then(|mut file| file.write_all(bytes)).is_ok();
    }

    fn delete(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where a log lies as it is while it is compressed.
pub(super) fn live_path(path: &Path) -> PathBuf {
    path.with_extension("")
}

/// Marks a log that is not compressed as one without its end, or as whole.
pub(super) fn mark(file: &File, is_cut: bool) {
    let mode = if is_cut { 0o644 | CUT } else { 0o644 };
    let _ = file.set_permissions(Permissions::from_mode(mode));
}
