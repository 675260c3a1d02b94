//! Keeps what builders write, compressed, away from the scheduler's thread (Nix 1.8: `openLogFile`
//! and sisters).
//!
//! Short logs, the great majority, are kept in memory and go to the writing thread in one piece
//! when the build ends; an empty one is a constant and is written on the spot.

use std::fmt::Display;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bevy_ecs::prelude::Component;
use bzip2::Compression;
use bzip2::write::BzEncoder;
use crossbeam_channel::{Receiver, Sender, unbounded};
use hashbrown::HashMap;
use windrow_store::logs::{CUT, is_marked_cut, log_path};
use windrow_sys::threads::spawn;

use windrow_sys::interrupt;

use crate::error::{Error, Result};

/// How much of a log is gathered before it is handed on, in bytes.
const CHUNK_BYTES: usize = 128 * 1024;

/// How far behind with a log the writing thread may be before no more of it is taken in, in bytes:
/// some tenths of a second of compressing.
const BACKLOG_BYTES: usize = 4 << 20;

/// An empty bzip2 stream of level 9.
const EMPTY_BZIP2: [u8; 14] = [
    b'B', b'Z', b'h', b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, 0, 0, 0, 0,
];

/// A log that is being written.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct LogFile {
    id: u64,
    path: PathBuf,
    /// The file, until the writing thread has taken it over.
    file: Option<File>,
    compress: bool,
    gathered: Vec<u8>,
    /// How many bytes the writing thread has been given and has not written.
    backlog: Arc<AtomicUsize>,
}

enum Order {
    Open {
        id: u64,
        path: PathBuf,
        file: Sink,
        compress: bool,
    },
    Write {
        id: u64,
        bytes: Vec<u8>,
        backlog: Arc<AtomicUsize>,
    },
    Close {
        id: u64,
    },
}

/// The thread that compresses and writes logs. Dropping it waits until all is written.
///
/// Nix 1.8: `DerivationGoal::openLogFile`, `DerivationGoal::closeLogFile`.
pub struct LogThread {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    problems: Receiver<String>,
    tell: Arc<Tell>,
    opened: u64,
    /// How many files the thread has taken over and not closed.
    taken: Arc<AtomicUsize>,
}

/// Tells of the first log that can't be written. Where one can't, others can't either.
struct Tell {
    sender: Sender<String>,
    told: AtomicBool,
}

impl Tell {
    fn tell(&self, problem: &dyn Display) {
        if !self.told.swap(true, Ordering::Relaxed) {
            let text = format!("{problem}; logs of this run may be cut or missing");
            let _ = self.sender.send(text);
        }
    }

    fn cannot_write(&self, path: &Path, error: &io::Error) {
        let path = path.display();
        self.tell(&format_args!("cannot write the log file '{path}': {error}"));
    }
}

impl LogThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there are no threads left.
    pub fn new() -> std::io::Result<Self> {
        let (orders, queue) = unbounded();
        let (sender, problems) = unbounded();
        let tell = Arc::new(Tell {
            sender,
            told: AtomicBool::new(false),
        });
        let teller = Arc::clone(&tell);
        let thread = spawn("logs", move || write_logs(&queue, &teller))?;
        let taken = Arc::new(AtomicUsize::new(0));
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
            problems,
            tell,
            opened: 0,
            taken,
        })
    }

    /// Creates, or empties, the log file of the derivation `drv_base_name` under `log_dir`.
    ///
    /// # Errors
    /// When directory or file can't be written.
    pub fn open(&mut self, log_dir: &Path, drv_base_name: &str, compress: bool) -> Result<LogFile> {
        let path = log_path(log_dir, drv_base_name, compress);
        let create = || {
            File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&path)
        };
        let file = match create() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(directory) = path.parent() {
                    std::fs::create_dir_all(directory)
                        .map_err(Error::io("create the log directory", directory))?;
                }
                create()
            }
            other => other,
        };
        let file = file.map_err(Error::io("create the log file", &path))?;
        if file
            .metadata()
            .is_ok_and(|it| is_marked_cut(it.permissions().mode()))
        {
            // That was the log before.
            let _ = file.set_permissions(Permissions::from_mode(0o644));
        }
        self.opened += 1;
        Ok(LogFile {
            id: self.opened,
            path,
            file: Some(file),
            compress,
            gathered: Vec::new(),
            backlog: Arc::default(),
        })
    }

    /// Takes in more of a log.
    pub fn append(&self, log: &mut LogFile, bytes: &[u8]) {
        log.gathered.extend_from_slice(bytes);
        if log.gathered.len() >= CHUNK_BYTES {
            self.hand_on(log);
        }
    }

    /// Completes a log.
    pub fn close(&self, log: &mut LogFile) {
        if log.gathered.is_empty()
            && let Some(mut file) = log.file.take()
        {
            // A log that can't be written costs nobody their build.
            if log.compress
                && let Err(error) = file.write_all(&EMPTY_BZIP2)
            {
                self.tell.cannot_write(&log.path, &error);
            }
            return;
        }
        self.hand_on(log);
        self.send(Order::Close { id: log.id });
    }

    /// Deletes the log of a builder that never ran: of that the report of its failure says all
    /// there is to say.
    ///
    /// Nix 1.8: `DerivationGoal::deleteTmpDir`.
    pub fn discard(&self, log: &mut LogFile) {
        log.file = None;
        // What stays is an empty file.
        let _ = std::fs::remove_file(&log.path);
    }

    /// Takes note that there is a log that can't even be begun.
    pub fn note_problem(&self, problem: &dyn Display) {
        self.tell.tell(problem);
    }

    /// Waits until all is written; what went wrong with logs since it was last asked.
    pub fn finish(mut self) -> Vec<String> {
        self.join();
        self.problems().collect()
    }

    /// What went wrong with logs since it was last asked.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.try_iter()
    }

    /// Whether no file is open that is the thread's to close.
    pub fn is_idle(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0
    }

    fn hand_on(&self, log: &mut LogFile) {
        if let Some(file) = log.file.take() {
            let (id, path, compress) = (log.id, log.path.clone(), log.compress);
            let file = Sink {
                file,
                failed: false,
                _taken: Taken::new(&self.taken),
            };
            self.send(Order::Open {
                id,
                path,
                file,
                compress,
            });
        }
        let bytes = std::mem::take(&mut log.gathered);
        log.backlog.fetch_add(bytes.len(), Ordering::Relaxed);
        self.send(Order::Write {
            id: log.id,
            bytes,
            backlog: Arc::clone(&log.backlog),
        });
    }

    fn send(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl LogThread {
    fn join(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.join();
    }
}

impl LogFile {
    /// Whether more is written to it than can be kept up with, so that its writer should wait.
    pub fn is_behind(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > BACKLOG_BYTES
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A log's file, which takes nothing more after a failure: what lacks a part must not get an end.
struct Sink {
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

fn write_logs(orders: &Receiver<Order>, tell: &Tell) {
    let mut open: HashMap<u64, (PathBuf, Open)> = HashMap::new();
    for order in orders {
        let (path, result) = match order {
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
                open.insert(id, (path, log));
                continue;
            }
            Order::Write { id, bytes, backlog } if is_cut(open.get(&id)) => {
                backlog.fetch_sub(bytes.len(), Ordering::Relaxed);
                continue;
            }
            Order::Write { id, bytes, backlog } => {
                let written = open.get_mut(&id).map(|(path, log)| {
                    let result = match log {
                        Open::Plain(file) => file.write_all(&bytes),
                        Open::Compressed(encoder) => encoder.write_all(&bytes),
                    };
                    (path.clone(), result.map_err(|error| (id, error)))
                });
                backlog.fetch_sub(bytes.len(), Ordering::Relaxed);
                let Some(written) = written else { continue };
                written
            }
            Order::Close { id } => {
                let Some((path, log)) = open.remove(&id) else {
                    continue;
                };
                let result = match log {
                    Open::Plain(_) => Ok(()),
                    Open::Compressed(encoder) => encoder.finish().map(drop),
                };
                (path, result.map_err(|error| (id, error)))
            }
        };
        if let Err((id, error)) = result {
            if let Some((_, Open::Plain(sink))) = open.remove(&id) {
                let mode = Permissions::from_mode(0o644 | CUT);
                let _ = sink.file.set_permissions(mode);
            }
            tell.cannot_write(&path, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bzip2::read::BzDecoder;
    use std::io::Read as _;

    const BASE: &str = "00000000000000000000000000000000-x.drv";

    fn written(pieces: &[&[u8]], compress: bool) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let mut thread = LogThread::new().unwrap();
        let mut log = thread.open(directory.path(), BASE, compress).unwrap();
        for piece in pieces {
            thread.append(&mut log, piece);
        }
        let path = log.path().to_owned();
        assert_eq!(path, log_path(directory.path(), BASE, compress));
        thread.close(&mut log);
        drop(thread);
        let bytes = std::fs::read(path).unwrap();
        if !compress {
            return bytes;
        }
        let mut text = Vec::new();
        BzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn a_log_that_cannot_be_kept_up_with_says_so_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let mut thread = LogThread::new().unwrap();
        // Without a disk behind it, nothing can be written, and that must not count for ever.
        for path in [directory.path().join("log"), "/dev/full".into()] {
            let mut log = thread.open(directory.path(), BASE, true).unwrap();
            log.file = Some(
                File::options()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)
                    .unwrap(),
            );
            let mut rounds = 0;
            let noise: Vec<u8> = (0..CHUNK_BYTES * 8)
                .map(|at| ((at * at) >> 7) as u8)
                .collect();
            while !log.is_behind() && rounds < 200 {
                thread.append(&mut log, &noise);
                rounds += 1;
            }
            let start = std::time::Instant::now();
            while log.is_behind() && start.elapsed().as_secs() < 60 {
                std::thread::yield_now();
            }
            assert!(!log.is_behind());
            thread.close(&mut log);
        }
    }

    #[test]
    fn logs_of_every_length_are_kept_whole() {
        let long = vec![b'x'; 3 * CHUNK_BYTES + 1];
        for compress in [true, false] {
            assert_eq!(written(&[], compress), b"");
            assert_eq!(written(&[b"a", b"b\n"], compress), b"ab\n");
            assert_eq!(
                written(&[&long, b"end"], compress),
                [&long[..], b"end"].concat()
            );
        }
    }
}
