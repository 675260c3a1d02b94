//! Asks a substituter program what it has: one process `PROG --query`, kept as long as there are
//! questions (`LocalStore::startSubstituter`). Blocks, so it runs on a thread of its own; a second
//! pipe tells it to stop.

mod talk;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::sys::memfd::{MFdFlags, memfd_create};
use windrow_components::count::count;
use windrow_sandbox::process::launch::{SpawnError, Spawned};

use crate::failure::describe_status;
use crate::process::helper::{self, HelperEnv, Pipes};
use crate::process::lines::{LineBuffer, ShownLines, quotable};

/// How many paths one question is about at most: enough that round trips don't count, few
/// enough that answers come while others are worked on.
const PATHS_PER_QUESTION: usize = 1000;

/// No path refers to more others than this; a larger number is nonsense.
const REFERENCES_MAX: u64 = 1 << 20;

/// What a substituter says of a path it has, as it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawInfo {
    /// The path.
    pub path: String,
    /// The derivation that made it; empty if not known.
    pub deriver: String,
    /// The paths it refers to.
    pub references: Vec<String>,
    /// How many bytes are to be fetched; 0 if not known.
    pub download_size: u64,
    /// How long its NAR is, in bytes; 0 if not known.
    pub nar_size: u64,
}

/// Why a substituter can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It could not be started.
    #[error("{0}")]
    Start(#[from] SpawnError),
    /// It ended, or closed its output, before it had answered.
    #[error("it died unexpectedly: it {}", describe_status(*status))]
    Died {
        /// Its raw wait status.
        status: i32,
    },
    /// It did not answer for too long.
    #[error("it said nothing for {}", count(*seconds, "second"))]
    Silent {
        /// How long that is.
        seconds: u64,
    },
    /// It said something that the protocol does not have.
    #[error("it said '{line}' where {expected} was expected")]
    Nonsense {
        /// What it said.
        line: String,
        /// What should have been there.
        expected: &'static str,
    },
    /// Its answer does not end.
    #[error("its answer is longer than {max} bytes")]
    Endless {
        /// How long an answer may be.
        max: usize,
    },
    /// The engine does not want to know any more.
    #[error("it was interrupted")]
    Stopped,
    /// Its pipes can't be used.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a query process needs of its surroundings.
pub struct Around<'a> {
    /// Its environment.
    pub env: &'a HelperEnv,
    /// How many seconds an answer may take; 0 for any time.
    pub patience_s: u64,
    /// Readable, or closed at its other end, when the engine does not want to know any more.
    pub stop: Option<BorrowedFd<'a>>,
    /// Takes each line that the program writes to its standard error.
    pub say: &'a mut dyn FnMut(&str),
}

/// A substituter that answers questions.
///
/// Nix 1.8: `SubstitutionGoal::tryNext`.
#[derive(Debug)]
pub struct QueryProcess {
    child: Option<Spawned>,
    stdin: OwnedFd,
    stdout: OwnedFd,
    log: Option<OwnedFd>,
    answers: LineBuffer,
    complaints: ShownLines,
    /// When it was last asked for complaints that wait for the end of their line.
    asked: Instant,
    /// How many bytes the answer that it is giving takes in memory so far.
    taken: usize,
}
impl QueryProcess {
    /// Starts `program` and waits until it is ready; `None` if it says that it is not to be asked,
    /// by ending well at once.
    ///
    /// # Errors
    /// [`QueryError`] when it can't be started or ends in another way.
    pub fn start(program: &Path, around: &mut Around<'_>) -> Result<Option<Self>, QueryError> {
        let (launch, ends) = helper::prepare(program, &["--query"], around.env, Pipes::Query)?;
        let child = launch.run()?;
        let mut process = Self {
            child: Some(child),
            stdin: ends.stdin.expect("a query has a standard input"),
            stdout: ends.stdout,
            log: Some(ends.log),
            answers: LineBuffer::default(),
            complaints: ShownLines::default(),
            asked: Instant::now(),
            taken: 0,
        };
        match process.line(b"", around) {
            Ok(line) if line.is_empty() => Ok(Some(process)),
            Ok(line) => Err(QueryError::Nonsense {
                line: quotable(line),
                expected: "an empty line",
            }),
            Err(QueryError::Died { status: 0 }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One that has given these answers and ended, whatever it was asked. For fuzz targets.
    ///
    /// # Errors
    /// When the system gives no memory or descriptors.
    #[doc(hidden)]
    pub fn recorded(answers: &[u8]) -> io::Result<Self> {
        let mut stdout = File::from(memfd_create(c"answers", MFdFlags::MFD_CLOEXEC)?);
        stdout.write_all(answers)?;
        stdout.rewind()?;
        Ok(Self {
            child: None,
            stdin: File::create("/dev/null")?.into(),
            stdout: stdout.into(),
            log: None,
            answers: LineBuffer::default(),
            complaints: ShownLines::default(),
            asked: Instant::now(),
            taken: 0,
        })
    }

    /// Which of the paths it has.
    ///
    /// # Errors
    /// [`QueryError`]; the process is then of no more use.
    pub fn have(
        &mut self,
        paths: &[String],
        around: &mut Around<'_>,
    ) -> Result<Vec<String>, QueryError> {
        let mut found = Vec::new();
        for paths in paths.chunks(PATHS_PER_QUESTION) {
            self.taken = 0;
            let mut line = self.line(&question("have", paths), around)?;
            while !line.is_empty() {
                found.push(line);
                line = self.line(b"", around)?;
            }
        }
        Ok(found)
    }

    /// What it knows of those of the paths that it has.
    ///
    /// # Errors
    /// [`QueryError`]; the process is then of no more use.
    pub fn infos(
        &mut self,
        paths: &[String],
        around: &mut Around<'_>,
    ) -> Result<Vec<RawInfo>, QueryError> {
        let mut infos = Vec::new();
        for paths in paths.chunks(PATHS_PER_QUESTION) {
            self.taken = 0;
            let mut line = self.line(&question("info", paths), around)?;
            while !line.is_empty() {
                infos.push(self.info(line, around)?);
                line = self.line(b"", around)?;
            }
        }
        Ok(infos)
    }

    fn info(&mut self, path: String, around: &mut Around<'_>) -> Result<RawInfo, QueryError> {
        let deriver = self.line(b"", around)?;
        let count = self.number(around, "the number of references")?;
        if count > REFERENCES_MAX {
            return Err(QueryError::Nonsense {
                line: count.to_string(),
                expected: "the number of references",
            });
        }
        let mut references = Vec::new();
        for _ in 0..count {
            references.push(self.line(b"", around)?);
        }
        Ok(RawInfo {
            path,
            deriver,
            references,
            download_size: self.number(around, "the size of the download")?,
            nar_size: self.number(around, "the size of the archive")?,
        })
    }

    fn number(
        &mut self,
        around: &mut Around<'_>,
        expected: &'static str,
    ) -> Result<u64, QueryError> {
        let line = self.line(b"", around)?;
        line.trim().parse().map_err(|_| QueryError::Nonsense {
            line: quotable(line),
            expected,
        })
    }
}

fn question(verb: &str, paths: &[String]) -> Vec<u8> {
    let mut line = format!("{verb} ");
    for path in paths {
        line.push_str(path);
        line.push(' ');
    }
    line.push('\n');
    line.into_bytes()
}
