//! Keeps what builders write, compressed, away from the scheduler's thread (Nix 1.8: `openLogFile`
//! and sisters).
//!
//! Short logs, the great majority, are kept in memory and go to the writing thread in one piece
//! when the build ends; an empty one is a constant and is written on the spot.
//!
//! Nobody can read what is compressed before its end. So a log that lasts longer than a moment lies
//! beside it as it is, under the name of a log that is not compressed, until the compressed one is
//! whole: for `windrow log`, and for Nix's, while the build runs, and after its engine was killed.

mod writer;

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bevy_ecs::prelude::Component;
use crossbeam_channel::{Receiver, Sender, unbounded};
use windrow_store::logs::log_path;
use windrow_sys::threads::spawn;

use crate::error::{Error, Result};
use writer::{Order, Sink, Tell, live_path, mark, write_logs};

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
    /// How much of that the writing thread has been given to be seen.
    shown: usize,
    /// How many bytes the writing thread has been given and has not written.
    backlog: Arc<AtomicUsize>,
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
        if compress {
            // The log before, if it was not compressed, or of a build whose engine was killed.
            let _ = std::fs::remove_file(live_path(&path));
        } else {
            mark(&file, true);
        }
        self.opened += 1;
        Ok(LogFile {
            id: self.opened,
            path,
            file: Some(file),
            compress,
            gathered: Vec::new(),
            shown: 0,
            backlog: Arc::default(),
        })
    }

    /// Takes in more of a log.
    pub fn append(&self, log: &mut LogFile, bytes: &[u8]) {
        log.gathered.extend_from_slice(bytes);
        if log.gathered.len() >= CHUNK_BYTES {
            self.show(log);
            self.hand_on(log);
        }
    }

    /// Lets be seen what has come of a log by now.
    pub fn show(&self, log: &mut LogFile) {
        let news = &log.gathered[log.shown..];
        if news.is_empty() {
            return;
        }
        if !log.compress {
            return self.hand_on(log);
        }
        let (id, path, bytes) = (log.id, live_path(&log.path), news.to_vec());
        log.shown = log.gathered.len();
        self.send(Order::Show { id, path, bytes });
    }

    /// Completes a log.
    pub fn close(&self, log: &mut LogFile) {
        if log.gathered.is_empty()
            && let Some(mut file) = log.file.take()
        {
            // A log that can't be written costs nobody their build.
            if !log.compress {
                mark(&file, false);
            } else if let Err(error) = file.write_all(&EMPTY_BZIP2) {
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
        // What stays is an empty file.
        let _ = std::fs::remove_file(&log.path);
        if log.file.take().is_none() || log.shown > 0 {
            self.send(Order::Close { id: log.id });
        }
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
            let file = Sink::new(file, &self.taken);
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
            shown: std::mem::take(&mut log.shown),
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

#[cfg(test)]
mod tests;
