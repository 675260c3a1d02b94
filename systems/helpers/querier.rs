//! Threads that talk to the substituters' query processes, so that the scheduler never waits for an
//! answer. Answers come back as events, like all work that is done elsewhere.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use windrow_components::ids::PathId;
use windrow_sys::threads::spawn;

use crate::helpers::query::{Around, QueryError, QueryProcess, RawInfo};
use crate::process::helper::HelperEnv;

/// How many answers, and lines for people, wait to be taken. Who has more to say waits.
const ANSWERS_MAX: usize = 256;

/// A path that a substituter is asked for, by id and in full.
pub type Question = (PathId, String);

/// What comes back from a substituter.
#[derive(Debug)]
pub enum Answer {
    /// What it knows of the paths of some questions.
    Known {
        /// Which substituter.
        sub: usize,
        /// What it was asked.
        asked: Vec<Question>,
        /// What it has.
        infos: Vec<RawInfo>,
    },
    /// It is not to be asked any more.
    Disabled {
        /// Which substituter.
        sub: usize,
        /// Why, unless it said so itself.
        reason: Option<QueryError>,
    },
    /// It wrote a line to its standard error.
    Said {
        /// Which substituter.
        sub: usize,
        /// The line.
        line: String,
    },
    /// It died and was started again.
    Restarted {
        /// Which substituter.
        sub: usize,
        /// What happened to it.
        reason: QueryError,
    },
}

/// The threads, one for each substituter that was asked for something.
pub struct Queriers {
    programs: Vec<PathBuf>,
    env: HelperEnv,
    patience_s: u64,
    threads: Vec<Option<Thread>>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

struct Thread {
    questions: Sender<Vec<Question>>,
    /// Closing it makes the thread end, whatever it waits for.
    stop: OwnedFd,
    handle: JoinHandle<()>,
}

impl Queriers {
    /// Queriers for `programs`; `patience_s` is how many seconds an answer may take, 0 for any
    /// time. `wake` is called after each answer is there to be taken.
    pub fn new(
        programs: Vec<PathBuf>,
        env: HelperEnv,
        patience_s: u64,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (sender, answers) = bounded(ANSWERS_MAX);
        Self {
            threads: programs.iter().map(|_| None).collect(),
            programs,
            env,
            patience_s,
            sender,
            answers,
            wake: Arc::new(wake),
        }
    }

    /// Asks a substituter for paths. The answer comes through [`Queriers::take`].
    ///
    /// # Errors
    /// When there are no descriptors or threads left.
    pub fn ask(&mut self, sub: usize, questions: Vec<Question>) -> std::io::Result<()> {
        if self.threads[sub].is_none() {
            self.threads[sub] = Some(self.start(sub)?);
        }
        if let Some(thread) = &self.threads[sub] {
            // A thread that has ended has said so, and nobody waits for its answers any more.
            let _ = thread.questions.send(questions);
        }
        Ok(())
    }

    /// An answer that has come, if there is one.
    pub fn take(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Sees to it that there is another look at the answers soon, because some are left.
    pub fn look_again(&self) {
        if !self.answers.is_empty() {
            (self.wake)();
        }
    }

    fn start(&self, sub: usize) -> std::io::Result<Thread> {
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let (questions, queue) = unbounded();
        let talk = Talk {
            sub,
            program: self.programs[sub].clone(),
            env: Arc::clone(&self.env),
            patience_s: self.patience_s,
            stopped,
            queue,
            sender: self.sender.clone(),
            wake: Arc::clone(&self.wake),
        };
        let handle = spawn("substituter", move || talk.run())?;
        Ok(Thread {
            questions,
            stop,
            handle,
        })
    }
}

impl Drop for Queriers {
    fn drop(&mut self) {
        // Who waits to be heard is told by this that nobody will.
        self.answers = never();
        let threads: Vec<Thread> = self.threads.drain(..).flatten().collect();
        let mut handles = Vec::new();
        for Thread {
            questions,
            stop,
            handle,
        } in threads
        {
            drop((questions, stop));
            handles.push(handle);
        }
        for handle in handles {
            let _ = handle.join();
        }
    }
}

struct Talk {
    sub: usize,
    program: PathBuf,
    env: HelperEnv,
    patience_s: u64,
    stopped: OwnedFd,
    queue: Receiver<Vec<Question>>,
    sender: Sender<Answer>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Talk {
    fn run(self) {
        let mut process = None;
        let mut restarted = false;
        while let Ok(mut asked) = self.queue.recv() {
            // Whatever else has been asked by now goes into the same question.
            asked.extend(self.queue.try_iter().flatten());
            let paths: Vec<String> = asked.iter().map(|(_, path)| path.clone()).collect();
            let infos = loop {
                match self.infos(&mut process, &paths) {
                    Ok(Some(infos)) => break infos,
                    Ok(None) => return self.disabled(None),
                    Err(reason @ QueryError::Died { .. }) if process.is_some() && !restarted => {
                        // Once: what kills it a second time would kill it for ever.
                        restarted = true;
                        process = None;
                        let sub = self.sub;
                        self.tell(Answer::Restarted { sub, reason });
                    }
                    Err(reason) => return self.disabled(Some(reason)),
                }
            };
            let sub = self.sub;
            self.tell(Answer::Known { sub, asked, infos });
        }
    }

    /// Asks the process, started if there is none; `None` if it does not want to be asked.
    fn infos(
        &self,
        process: &mut Option<QueryProcess>,
        paths: &[String],
    ) -> Result<Option<Vec<RawInfo>>, QueryError> {
        let mut say = |line: &str| {
            let (sub, line) = (self.sub, line.to_owned());
            self.tell(Answer::Said { sub, line });
        };
        let mut around = Around {
            env: &self.env,
            patience_s: self.patience_s,
            stop: Some(self.stopped.as_fd()),
            say: &mut say,
        };
        if process.is_none() {
            *process = QueryProcess::start(&self.program, &mut around)?;
        }
        process
            .as_mut()
            .map(|process| process.infos(paths, &mut around))
            .transpose()
    }

    fn disabled(&self, reason: Option<QueryError>) {
        if !matches!(reason, Some(QueryError::Stopped)) {
            let sub = self.sub;
            self.tell(Answer::Disabled { sub, reason });
        }
    }

    fn tell(&self, answer: Answer) {
        if self.sender.send(answer).is_ok() {
            (self.wake)();
        }
    }
}

/// What a substituter is called in messages: its file name.
pub fn short_name(program: &Path) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    struct Desk {
        dir: tempfile::TempDir,
        queriers: Queriers,
        woken: Arc<AtomicU32>,
    }

    fn desk(script: &str) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("subst");
        let script = format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let env: HelperEnv = Arc::new([c"PATH=/usr/bin:/bin".to_owned()]);
        let woken = Arc::new(AtomicU32::new(0));
        let wake = {
            let woken = Arc::clone(&woken);
            move || {
                woken.fetch_add(1, Ordering::SeqCst);
            }
        };
        let queriers = Queriers::new(vec![program], env, 0, wake);
        Desk {
            dir,
            queriers,
            woken,
        }
    }

    impl Desk {
        fn answer(&self) -> Answer {
            let start = Instant::now();
            loop {
                if let Some(answer) = self.queriers.take() {
                    return answer;
                }
                assert!(start.elapsed() < Duration::from_secs(30), "no answer");
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        fn ask(&mut self, paths: std::ops::Range<usize>) {
            let questions = paths.map(|n| (PathId::from_index(n), format!("/s/{n}")));
            self.queriers.ask(0, questions.collect()).unwrap();
        }
    }

    const ANSWERS: &str = "while read -r verb paths; do for p in $paths; do \
                           echo $p; echo; echo 0; echo 0; echo 0; done; echo; done";

    #[test]
    fn many_questions_start_one_process() {
        let mut desk = desk(&format!("echo started >> starts; echo; {ANSWERS}"));
        for n in 0..50 {
            desk.ask(n * 10..n * 10 + 10);
        }
        let (mut asked_for, mut known) = (0, 0);
        while asked_for < 500 {
            let Answer::Known { asked, infos, .. } = desk.answer() else {
                panic!("an answer")
            };
            asked_for += asked.len();
            known += infos.len();
        }
        assert_eq!((asked_for, known), (500, 500));
        assert!(desk.woken.load(Ordering::SeqCst) > 0);
        let starts = std::fs::read_to_string(desk.dir.path().join("starts")).unwrap();
        assert_eq!(starts, "started\n");
    }

    #[test]
    fn one_that_dies_is_started_again_once() {
        let mut desk = desk(&format!(
            "echo x >> starts; echo; [ -e once ] || {{ touch once; read x; exit 9; }}; {ANSWERS}"
        ));
        desk.ask(0..3);
        assert!(matches!(desk.answer(), Answer::Restarted { .. }));
        assert!(matches!(desk.answer(), Answer::Known { infos, .. } if infos.len() == 3));
    }

    #[test]
    fn one_that_dies_again_is_given_up() {
        let mut desk = desk("echo; read x; echo dying >&2; exit 9");
        desk.ask(0..3);
        assert!(matches!(desk.answer(), Answer::Said { line, .. } if line == "dying"));
        assert!(matches!(desk.answer(), Answer::Restarted { .. }));
        assert!(matches!(desk.answer(), Answer::Said { .. }));
        let Answer::Disabled { reason, .. } = desk.answer() else {
            panic!("it is given up")
        };
        assert!(matches!(reason, Some(QueryError::Died { status }) if status == 9 << 8));
        desk.ask(3..4);
        assert!(desk.queriers.take().is_none());
    }

    #[test]
    fn one_that_talks_without_end_fills_no_memory_and_keeps_nobody() {
        let mut desk = desk("exec yes complaint >&2");
        desk.ask(0..1);
        let start = Instant::now();
        while desk.queriers.answers.len() < ANSWERS_MAX {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it says too little"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(desk.queriers.answers.len(), ANSWERS_MAX);
        drop(desk);
    }

    #[test]
    fn one_that_hangs_keeps_nobody() {
        let mut desk = desk("sleep 1000");
        desk.ask(0..1);
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        drop(desk);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
