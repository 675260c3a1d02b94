//! Records what was built and used on a thread of its own, much in one transaction, so that nobody
//! waits for the disk. What can't be recorded is no reason for a build to fail.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use windrow_sys::threads::spawn;

use super::history::{self, Record};
use super::{OwnDatabase, uses};
use crate::DatabaseOptions;
use crate::Layout;
use crate::error::Result;

/// How many builds are handed to the thread together, so that it is not woken for each.
const BATCH: usize = 512;

/// A build that comes later than this after the last batch is handed on at once. From then on even
/// `kill -9` does not lose it.
const GATHER: Duration = Duration::from_secs(1);

/// What is written in one transaction.
#[derive(Debug, Default)]
struct Batch {
    builds: Vec<Record>,
    /// Paths that are used now.
    used: Vec<String>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.builds.is_empty() && self.used.is_empty()
    }

    fn write(&self, database: &OwnDatabase) -> Result<()> {
        let now = uses::now();
        database.write("record builds", |connection| {
            history::add(connection, &self.builds)?;
            uses::note(connection, self.used.iter().map(|path| (&**path, now)))
        })
    }
}

/// Takes in what was built and used; a thread writes it. There is none before there is something.
pub struct Recorder {
    layout: Layout,
    options: DatabaseOptions,
    gathered: Batch,
    handed_on: Option<Instant>,
    thread: Option<(Sender<Batch>, JoinHandle<Result<()>>)>,
}

impl Recorder {
    /// A recorder for that store. It touches nothing yet.
    pub fn new(layout: &Layout, options: DatabaseOptions) -> Self {
        Self {
            layout: layout.clone(),
            options,
            gathered: Batch::default(),
            handed_on: None,
            thread: None,
        }
    }

    /// Takes in a build, for the history.
    pub fn record(&mut self, record: Record) {
        self.gathered.builds.push(record);
        let long_ago = self.handed_on.is_none_or(|last| last.elapsed() > GATHER);
        if long_ago || self.gathered.builds.len() >= BATCH {
            self.hand_on();
        }
    }

    /// Takes in full paths that are used now, so that collections by last use keep them for longer.
    /// They are handed on at once: this is for the end of a request.
    pub fn note_used(&mut self, paths: &[String]) {
        self.gathered.used.extend_from_slice(paths);
        self.hand_on();
    }

    fn hand_on(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.handed_on = Some(Instant::now());
        if self.thread.is_none() {
            let (sender, batches) = unbounded();
            let (layout, options) = (self.layout.clone(), self.options.clone());
            let thread = spawn("recorder", move || write(&layout, &options, &batches));
            // What was gathered waits for the next time, and in the end is written without a
            // thread.
            let Ok(thread) = thread else { return };
            self.thread = Some((sender, thread));
        }
        if let Some((sender, _)) = &self.thread {
            // The thread is gone only if it could not write, which is said in the end.
            let _ = sender.send(std::mem::take(&mut self.gathered));
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// When something could not be.
    pub fn finish(&mut self) -> Result<()> {
        self.hand_on();
        match self.thread.take() {
            None if self.gathered.is_empty() => Ok(()),
            None => {
                let database = OwnDatabase::open(&self.layout, &self.options)?;
                std::mem::take(&mut self.gathered).write(&database)
            }
            Some((sender, thread)) => {
                drop(sender);
                thread.join().unwrap_or(Ok(()))
            }
        }
    }
}

fn write(layout: &Layout, options: &DatabaseOptions, batches: &Receiver<Batch>) -> Result<()> {
    let Ok(first) = batches.recv() else {
        return Ok(());
    };
    let database = OwnDatabase::open(layout, options)?;
    first.write(&database)?;
    for batch in batches {
        batch.write(&database)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::store_path;
    use crate::own::history::known;
    use crate::own::history::tests::{layout, record};

    #[test]
    fn everything_is_written_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(directory.path());
        let mut recorder = Recorder::new(&layout, DatabaseOptions::default());
        recorder.finish().unwrap();
        assert!(
            !layout.db_dir().join("windrow.sqlite").exists(),
            "nothing was built"
        );
        for n in 0..10_000 {
            recorder.record(record(&format!("a-{}", n % 100), n, true));
        }
        let used: Vec<String> = (0..1000).map(store_path).collect();
        let before = uses::now();
        recorder.note_used(&used);
        recorder.finish().unwrap();
        let all = known(&layout, None).unwrap();
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|known| known.count == 100));
        let uses = uses::all(&layout).unwrap();
        assert_eq!(uses.len(), 1000);
        assert!(used.iter().all(|path| uses[&**path] >= before));
    }

    #[test]
    fn what_can_not_be_written_is_said_in_the_end_and_harms_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(directory.path());
        std::fs::create_dir(layout.db_dir().join("windrow.sqlite")).unwrap();
        let mut recorder = Recorder::new(&layout, DatabaseOptions::default());
        recorder.record(record("a-1", 1, true));
        recorder.note_used(&[store_path(1)]);
        let error = recorder.finish().unwrap_err().to_string();
        assert!(error.contains("windrow.sqlite"), "{error}");
    }
}
