//! Asks a substituter program what it has: one process `PROG --query`, kept as long as there are
//! questions (`LocalStore::startSubstituter`). Blocks, so it runs on a thread of its own; a second
//! pipe tells it to stop.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use windrow_sandbox::process::kill::kill_and_reap;
use windrow_sandbox::process::launch::{SpawnError, Spawned};

use crate::failure::describe_status;
use crate::process::helper::{self, HelperEnv, Pipes};
use crate::process::lines::{LineBuffer, quotable};

/// How many paths one question is about at most: enough that round trips don't count, few
/// enough that answers come while others are worked on.
const PATHS_PER_QUESTION: usize = 1000;

/// No path refers to more others than this; a larger number is nonsense.
const REFERENCES_MAX: u64 = 1 << 20;

/// How much an answer to one question may take in memory, in bytes: a hundred times what a thousand
/// paths with many references take.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a line costs beside its text.
const LINE_COST: usize = 48;

/// How long a process that has said its last may take to end before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(5);

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
    #[error("it said nothing for {seconds} seconds")]
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
    complaints: LineBuffer,
    /// How much of [`ANSWER_BYTES_MAX`] the answer it is giving has taken.
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
            complaints: LineBuffer::default(),
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

    /// Sends `request`, all of it, and gives the next line of the answer. What comes on standard
    /// error until then is passed on.
    fn line(&mut self, request: &[u8], around: &mut Around<'_>) -> Result<String, QueryError> {
        let mut unsent = request;
        let mut heard = Instant::now();
        loop {
            if unsent.is_empty()
                && let Some(line) = self.answers.next_line()
            {
                self.taken += line.len() + LINE_COST;
                if self.taken > ANSWER_BYTES_MAX {
                    let max = ANSWER_BYTES_MAX;
                    return Err(QueryError::Endless { max });
                }
                return Ok(line);
            }
            let mut timeout = PollTimeout::NONE;
            if around.patience_s > 0 {
                let patience = Duration::from_secs(around.patience_s);
                let left = patience.saturating_sub(heard.elapsed());
                if left.is_zero() {
                    let seconds = around.patience_s;
                    return Err(QueryError::Silent { seconds });
                }
                let left_ms = left.as_millis() + 1;
                timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
            }
            let ready = self.wait(!unsent.is_empty(), around.stop, timeout)?;
            if ready.stop {
                return Err(QueryError::Stopped);
            }
            if ready.log {
                heard = Instant::now();
                self.read_log(around.say);
            }
            if ready.stdin {
                match nix::unistd::write(&self.stdin, unsent) {
                    Ok(count) => unsent = &unsent[count..],
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                    Err(nix::Error::EPIPE) => return Err(self.died(around)),
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            }
            if ready.stdout {
                heard = Instant::now();
                let mut buffer = [0; 16 * 1024];
                match nix::unistd::read(&self.stdout, &mut buffer) {
                    Ok(0) => return Err(self.died(around)),
                    Ok(count) => self.answers.feed(&buffer[..count]),
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            } else if ready.exit {
                // All that it said has been read. What it left running may hold its output open.
                return Err(self.died(around));
            }
        }
    }

    fn wait(
        &self,
        sending: bool,
        stop: Option<BorrowedFd<'_>>,
        timeout: PollTimeout,
    ) -> Result<Ready, QueryError> {
        let mut fds = vec![PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        let mut place = |fd: Option<_>, flags| {
            fds.push(PollFd::new(fd?, flags));
            Some(fds.len() - 1)
        };
        let log = place(self.log.as_ref().map(|log| log.as_fd()), PollFlags::POLLIN);
        let stdin = place(sending.then(|| self.stdin.as_fd()), PollFlags::POLLOUT);
        let stop = place(stop, PollFlags::POLLIN);
        let pidfd = self.child.as_ref().map(|child| child.pidfd.as_fd());
        let exit = place(pidfd, PollFlags::POLLIN);
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => return Ok(Ready::default()),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let ready = |place: Option<usize>| {
            place.is_some_and(|place| {
                fds[place]
                    .revents()
                    .is_some_and(|events| !events.is_empty())
            })
        };
        Ok(Ready {
            stdout: ready(Some(0)),
            log: ready(log),
            stdin: ready(stdin),
            stop: ready(stop),
            exit: ready(exit),
        })
    }

    fn read_log(&mut self, say: &mut dyn FnMut(&str)) {
        let Some(log) = &self.log else { return };
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(log, &mut buffer) {
            Ok(0) => self.log = None,
            Ok(count) => {
                self.complaints.feed(&buffer[..count]);
                while let Some(line) = self.complaints.next_line() {
                    say(&line);
                }
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(_) => self.log = None,
        }
    }

    /// It has ended or closed its output: says what it still has to say, and how it ended.
    fn died(&mut self, around: &mut Around<'_>) -> QueryError {
        let Some(child) = self.child.take() else {
            return QueryError::Died { status: 0 };
        };
        let mut ended = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        ended.extend(around.stop.map(|stop| PollFd::new(stop, PollFlags::POLLIN)));
        let grace = PollTimeout::try_from(EXIT_GRACE.as_millis()).unwrap_or(PollTimeout::MAX);
        // Should it be interrupted, the process is killed a little early.
        let _ = nix::poll::poll(&mut ended, grace);
        let status = kill_and_reap(child.pid);
        for _ in 0..64 {
            self.read_log(around.say);
        }
        if let Some(rest) = self.complaints.rest() {
            (around.say)(&rest);
        }
        QueryError::Died { status }
    }
}

impl Drop for QueryProcess {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill_and_reap(child.pid);
        }
    }
}

#[derive(Debug, Default)]
struct Ready {
    stdout: bool,
    log: bool,
    stdin: bool,
    stop: bool,
    exit: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    /// A substituter that is a shell script, with what it said on standard error.
    struct Script {
        dir: tempfile::TempDir,
        env: HelperEnv,
        patience_s: u64,
        said: Vec<String>,
    }

    impl Script {
        fn new(script: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("subst");
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            let env: HelperEnv = Arc::new([c"PATH=/usr/bin:/bin".to_owned()]);
            Self {
                dir,
                env,
                patience_s: 0,
                said: Vec::new(),
            }
        }

        fn program(&self) -> PathBuf {
            self.dir.path().join("subst")
        }

        fn with<T>(
            &mut self,
            stop: Option<BorrowedFd<'_>>,
            work: impl FnOnce(&Path, &mut Around<'_>) -> T,
        ) -> T {
            let program = self.program();
            let said = &mut self.said;
            let mut say = |line: &str| said.push(line.to_owned());
            let mut around = Around {
                env: &self.env,
                patience_s: self.patience_s,
                stop,
                say: &mut say,
            };
            work(&program, &mut around)
        }

        fn start(&mut self) -> Result<Option<QueryProcess>, QueryError> {
            self.with(None, QueryProcess::start)
        }
    }

    fn paths(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("/s/{n}-p")).collect()
    }

    #[test]
    fn questions_are_answered_in_batches() {
        let mut script = Script::new(
            r#"echo "args $*" >&2; echo
            while read -r verb paths; do
              echo "$verb $(echo $paths | wc -w)" >&2
              for p in $paths; do
                case $p in *7-p)
                  echo $p
                  if [ $verb = info ]; then echo /s/d.drv; echo 2; echo $p; echo /s/r; echo 12; echo 34; fi
                esac
              done
              echo
            done"#,
        );
        let asked = paths(2500);
        let mut process = script.start().unwrap().expect("it wants to be asked");
        let (have, infos) = script.with(None, |_, around| {
            (
                process.have(&asked, around).unwrap(),
                process.infos(&asked, around).unwrap(),
            )
        });
        assert_eq!(have.len(), 250);
        assert_eq!(
            have,
            infos
                .iter()
                .map(|info| info.path.clone())
                .collect::<Vec<_>>()
        );
        let expected = RawInfo {
            path: "/s/7-p".into(),
            deriver: "/s/d.drv".into(),
            references: vec!["/s/7-p".into(), "/s/r".into()],
            download_size: 12,
            nar_size: 34,
        };
        assert_eq!(infos[0], expected);
        let said = [
            "args --query",
            "have 1000",
            "have 1000",
            "have 500",
            "info 1000",
            "info 1000",
            "info 500",
        ];
        assert_eq!(script.said, said);
    }

    #[test]
    fn one_that_ends_well_at_once_is_not_asked() {
        assert!(Script::new("exit 0").start().unwrap().is_none());
    }

    #[test]
    fn one_that_dies_says_how() {
        let mut script = Script::new("echo no network >&2; exit 3");
        let error = script.start().unwrap_err();
        assert_eq!(
            error.to_string(),
            "it died unexpectedly: it failed with exit code 3"
        );
        assert_eq!(script.said, ["no network"]);

        let mut script = Script::new("echo; read x; printf '/s/0-p\\n/s/d'; kill -9 $$");
        let mut process = script.start().unwrap().unwrap();
        let error = script
            .with(None, |_, around| process.infos(&paths(1), around))
            .unwrap_err();
        assert!(error.to_string().contains("signal 9"), "{error}");
    }

    #[test]
    fn one_that_does_not_exist_is_no_riddle() {
        let mut script = Script::new("");
        let error = script
            .with(None, |_, around| {
                QueryProcess::start(Path::new("/no/such"), around)
            })
            .unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn nonsense_is_named() {
        for (script, what) in [
            ("echo hello", "'hello' where an empty line"),
            (
                "echo; read x; echo p; echo; echo many",
                "'many' where the number",
            ),
            (
                "echo; read x; echo p; echo; echo 99999999",
                "'99999999' where the number",
            ),
        ] {
            let mut script = Script::new(&format!("{script}; sleep 60"));
            let error = match script.start() {
                Ok(process) => script
                    .with(None, |_, around| process.unwrap().infos(&paths(1), around))
                    .unwrap_err(),
                Err(error) => error,
            };
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn an_answer_that_does_not_end_is_not_kept() {
        let mut script = Script::new("echo; read x; exec yes");
        let mut process = script.start().unwrap().unwrap();
        let error = script
            .with(None, |_, around| process.have(&paths(1), around))
            .unwrap_err();
        assert!(matches!(error, QueryError::Endless { .. }), "{error}");
        for endless in ["exec yes ''", "exec tr '\\0' x < /dev/zero"] {
            let mut script = Script::new(&format!(
                "echo; read x; echo p; echo; echo 1000000; {endless}"
            ));
            let mut process = script.start().unwrap().unwrap();
            let error = script
                .with(None, |_, around| process.infos(&paths(1), around))
                .unwrap_err();
            // What follows the references is no number.
            let told = match &error {
                QueryError::Endless { .. } => true,
                QueryError::Nonsense { line, .. } => line.is_empty(),
                _ => false,
            };
            assert!(told, "{error}");
        }
        let mut script = Script::new("exec tr '\\0' x < /dev/zero");
        let error = script.start().unwrap_err().to_string();
        assert!(
            error.contains("where an empty line") && error.len() < 500,
            "{error}"
        );
    }

    #[test]
    fn what_one_that_died_left_running_is_not_waited_for() {
        // In a session of its own, where it is not killed with its parent.
        for (script, status) in [
            ("setsid sleep 20 & exit 3", 3 << 8),
            ("setsid sleep 20 & echo; exit 4", 4 << 8),
            (
                "setsid sleep 20 & echo; read x; printf '/s/0-p\\n/s/d'; exit 5",
                5 << 8,
            ),
        ] {
            let mut script = Script::new(script);
            let error = match script.start() {
                Err(error) => error,
                Ok(process) => script
                    .with(None, |_, around| process.unwrap().infos(&paths(1), around))
                    .unwrap_err(),
            };
            assert!(
                matches!(error, QueryError::Died { status: it } if it == status),
                "{error}"
            );
        }
    }

    #[test]
    fn patience_ends() {
        let mut script = Script::new("echo; sleep 60");
        script.patience_s = 1;
        let mut process = script.start().unwrap().unwrap();
        let error = script
            .with(None, |_, around| process.have(&paths(1), around))
            .unwrap_err();
        assert!(
            matches!(error, QueryError::Silent { seconds: 1 }),
            "{error}"
        );
    }

    #[test]
    fn it_can_be_stopped_while_it_says_nothing() {
        let mut script = Script::new("sleep 60");
        let (ours, theirs) = nix::unistd::pipe().unwrap();
        drop(theirs);
        let error = script
            .with(Some(ours.as_fd()), QueryProcess::start)
            .unwrap_err();
        assert!(matches!(error, QueryError::Stopped), "{error}");
    }

    #[test]
    fn a_program_that_reads_slowly_and_talks_much_blocks_nobody() {
        // Both pipes are full at once: it writes complaints before it reads the long question.
        let mut script =
            Script::new("echo; head -c 300000 /dev/zero | tr '\\0' '\\n' >&2; read -r x; echo");
        let mut process = script.start().unwrap().unwrap();
        let long: Vec<String> = (0..1000).map(|n| format!("/s/{n:0>200}")).collect();
        let have = script
            .with(None, |_, around| process.have(&long, around))
            .unwrap();
        assert!(have.is_empty());
        assert_eq!(script.said.len(), 300_000);
    }
}
