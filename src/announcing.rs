//! Tells other processes what this run does, in its file in the store's state, and everything to
//! the reporter that the user sees. What begins and ends within a moment is not worth a word.

use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use windrow_components::log_line::LogMessage;
use windrow_components::run_record::{
    Activity, Ended, RunCounts, RunInfo, RunRecord, RunState, Work,
};
use windrow_store::Layout;
use windrow_store::runs::RunFile;
use windrow_sys::limits::spare_descriptors;
use windrow_systems::failure::{FailureKind, FailureKinds};
use windrow_systems::report::{BuildRef, Counts, Event, Reporter};

use crate::progress::output::{Outputs, Said};

/// The shortest time from one write to the next while much happens.
const PAUSE: Duration = Duration::from_millis(50);

/// How many bytes the file may have before what is over is left out of it, and how often it may
/// have the length of what is not.
const LENGTH_MAX: u64 = 256 << 10;
const TIMES_MAX: u64 = 4;

/// How many of those paths are told that were asked for.
const TARGETS_MAX: usize = 256;

/// How long texts of others may be, in bytes.
const TEXT_MAX: usize = 2 << 10;

/// A reporter that tells other processes.
pub(crate) struct Announcer {
    shown: Box<dyn Reporter>,
    layout: Layout,
    targets: Vec<String>,
    began_ms: u64,
    file: Place,
    /// What the file says by now.
    told: RunState,
    /// What it does not say yet.
    pending: Vec<RunRecord>,
    counts: RunCounts,
    written: Option<Instant>,
    outputs: Outputs,
}

/// How many descriptors have to be left where the file takes one.
const SPARE_DESCRIPTORS: usize = 16;

/// The file of the run.
enum Place {
    /// Nothing was worth telling.
    None,
    Open(RunFile),
    /// It can't be written.
    GivenUp,
}

impl Announcer {
    /// Tells what `shown` shows of a run in that store, which was asked for `targets`.
    pub(crate) fn new(shown: Box<dyn Reporter>, layout: Layout, mut targets: Vec<String>) -> Self {
        targets.truncate(TARGETS_MAX);
        Self {
            shown,
            layout,
            targets,
            began_ms: now_ms(),
            file: Place::None,
            told: RunState::default(),
            pending: Vec::new(),
            counts: RunCounts::default(),
            written: None,
            outputs: Outputs::new(false),
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Started {
                build,
                system,
                log_file,
                ..
            } => self.start(
                *build,
                Work::Build {
                    system: (*system).to_owned(),
                    log: (*log_file).to_owned(),
                    phase: String::new(),
                    exited: false,
                },
            ),
            Event::FetchStarted { build, .. } => self.start(*build, Work::Fetch),
            Event::LockAwaited { build, what } => {
                let what = cut(what.unwrap_or_default());
                self.start(*build, Work::Wait { what });
            }
            Event::Output { build, bytes } => self.listen(*build, bytes),
            Event::Exited { build, .. } => {
                let id = build.id;
                self.tell_if_begun(id, RunRecord::Exit { id });
            }
            Event::Succeeded { build, .. } | Event::FetchSucceeded { build, .. } => {
                self.end(*build, Ended::Succeeded);
            }
            Event::Cancelled { build, .. } | Event::FetchFailed { build, .. } => {
                self.end(*build, Ended::Cancelled);
            }
            Event::Failed {
                build,
                kind,
                message,
                started,
                ..
            } if *started || *kind != FailureKind::Dependency => {
                self.end(*build, failed(*kind, message));
            }
            Event::Progress(counts) => {
                self.counts = told_of(counts);
                if self.written.is_none_or(|at| at.elapsed() >= PAUSE) || self.is_over() {
                    self.write();
                }
            }
            Event::SecondPassed => self.write(),
            Event::Failed { .. }
            | Event::Message { .. }
            | Event::HelperOutput { .. }
            | Event::Used { .. }
            | Event::Over => {}
        }
    }

    fn start(&mut self, build: BuildRef<'_>, work: Work) {
        // A wait that was told of goes on since it began.
        let before = self.told.activities.get(&build.id);
        let same =
            before.filter(|it| matches!((&it.work, &work), (Work::Wait { .. }, Work::Wait { .. })));
        self.pending.push(RunRecord::Start(Activity {
            id: build.id,
            path: build.drv_path.to_owned(),
            at: same.map_or_else(now_ms, |it| it.at),
            work,
        }));
    }

    /// Takes in what a builder wrote, for the phases in it.
    fn listen(&mut self, build: BuildRef<'_>, bytes: &[u8]) {
        for said in self.outputs.feed(build, bytes, false) {
            if let Said::Message(LogMessage::SetPhase { phase }) = said {
                let (id, phase) = (build.id, cut(&phase));
                // A builder may come to any number of phases before the next write.
                let is_older = |it: &RunRecord| matches!(it, RunRecord::Phase { .. });
                self.pending
                    .retain(|it| it.id() != Some(id) || !is_older(it));
                self.tell_if_begun(id, RunRecord::Phase { id, phase });
            }
        }
    }

    /// Whether all has ended that the file says is under way. An engine may sleep for ever then.
    fn is_over(&self) -> bool {
        let is_end = |record: &&RunRecord| matches!(record, RunRecord::End { .. });
        let (begun, ended) = (&self.told.activities, self.pending.iter().filter(is_end));
        !begun.is_empty() && ended.count() >= begun.len()
    }

    fn has_pending(&self, id: u64) -> bool {
        self.pending.iter().any(|record| record.id() == Some(id))
    }

    fn tell_if_begun(&mut self, id: u64, record: RunRecord) {
        if self.told.activities.contains_key(&id) || self.has_pending(id) {
            self.pending.push(record);
        }
    }

    fn end(&mut self, build: BuildRef<'_>, ended: Ended) {
        let (id, path) = (build.id, build.drv_path.to_owned());
        self.outputs.end(id);
        let is_told = self.told.activities.contains_key(&id);
        let is_failure = matches!(ended, Ended::Failed { .. });
        if is_told || is_failure {
            self.pending.push(RunRecord::End { id, path, ended });
        } else {
            self.pending.retain(|record| record.id() != Some(id));
        }
    }

    fn write(&mut self) {
        if self.counts != self.told.counts {
            self.pending.push(RunRecord::Counts(self.counts));
        }
        let is_news =
            |record: &RunRecord| matches!(record, RunRecord::Start(_) | RunRecord::End { .. });
        let begins = matches!(self.file, Place::None);
        if self.pending.is_empty() || begins && !self.pending.iter().any(is_news) {
            // Counts alone are no reason to begin; the last will be told when there is one.
            self.pending.clear();
            return;
        }
        let mut lines = Vec::new();
        if begins {
            self.pending.insert(0, RunRecord::Run(self.describe()));
        }
        for record in self.pending.drain(..) {
            record.write(&mut lines);
            self.told.take(&record);
        }
        self.written = Some(Instant::now());
        let written = match &mut self.file {
            // What is left of them is for builds.
            Place::None if spare_descriptors() < SPARE_DESCRIPTORS => {
                Err(ErrorKind::ResourceBusy.into())
            }
            Place::None => {
                RunFile::create(&self.layout, &lines).map(|it| self.file = Place::Open(it))
            }
            Place::Open(file) => file.append(&lines).and_then(|()| shorten(file, &self.told)),
            Place::GivenUp => Ok(()),
        };
        if written.is_err() {
            // That others see nothing of the run is no reason to end it, or to complain.
            self.file = Place::GivenUp;
        }
    }

    fn describe(&self) -> RunInfo {
        let command = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
        RunInfo {
            pid: std::process::id(),
            command: command.collect(),
            began: self.began_ms,
            targets: self.targets.clone(),
        }
    }
}

/// Leaves out of a file what is over, if that is most of it.
fn shorten(file: &mut RunFile, told: &RunState) -> std::io::Result<()> {
    if file.length() < LENGTH_MAX {
        return Ok(());
    }
    let mut lines = Vec::new();
    told.records().for_each(|record| record.write(&mut lines));
    match lines.len() as u64 * TIMES_MAX <= file.length() {
        true => file.replace(&lines),
        false => Ok(()),
    }
}

fn told_of(counts: &Counts) -> RunCounts {
    RunCounts {
        expected: counts.expected,
        built: counts.built,
        failed: counts.failed,
        not_built: counts.not_built,
        fetched: counts.fetched,
    }
}

fn failed(kind: FailureKind, message: &str) -> Ended {
    let mut kinds = FailureKinds::default();
    kinds.add(kind);
    Ended::Failed {
        status: kinds.exit_status(),
        message: cut(message),
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Reporter for Announcer {
    fn wants_outlook(&self) -> bool {
        self.shown.wants_outlook()
    }

    fn is_behind(&self) -> bool {
        self.shown.is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        if !matches!(self.file, Place::GivenUp) {
            self.note(event);
        }
        self.shown.report(event);
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        if !matches!(self.file, Place::Open(_)) {
            return;
        }
        self.write();
        // What was under way when the run was ended. Whoever has the file open reads on.
        let left = std::mem::take(&mut self.told.activities).into_values();
        let ends = left.map(|it| RunRecord::End {
            id: it.id,
            path: it.path,
            ended: Ended::Cancelled,
        });
        self.pending.extend(ends);
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_store::runs::{RunReader, living};
    use windrow_systems::report::Silent;

    const PHASE: &[u8] = b"text\n@nix {\"action\":\"setPhase\",\"phase\":\"buildPhase\"}\n";

    struct Told {
        _directory: tempfile::TempDir,
        layout: Layout,
        announcer: Announcer,
    }

    fn build(id: u64) -> BuildRef<'static> {
        BuildRef {
            id,
            drv_path: "/s/x.drv",
            name: "x",
        }
    }

    impl Told {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path();
            let layout = Layout {
                store_dir: "/nix/store".to_owned(),
                real_store_dir: root.join("store"),
                state_dir: root.join("state"),
                log_dir: root.join("log"),
            };
            let announcer = Announcer::new(Box::new(Silent), layout.clone(), Vec::new());
            Self {
                _directory: directory,
                layout,
                announcer,
            }
        }

        fn wait(&mut self, id: u64) {
            let (build, what) = (build(id), None);
            self.announcer.report(&Event::LockAwaited { build, what });
        }

        fn tick(&mut self) {
            self.announcer.report(&Event::Progress(Counts::default()));
        }

        fn second(&mut self) {
            self.announcer.report(&Event::SecondPassed);
        }

        fn succeed(&mut self, id: u64) {
            let (build, at) = (build(id), Duration::ZERO);
            self.announcer.report(&Event::Succeeded { build, at });
        }

        fn reader(&self) -> Option<RunReader> {
            living(&self.layout).unwrap().pop()
        }

        fn state(&self) -> RunState {
            let mut state = RunState::default();
            let records = self.reader().unwrap().news().unwrap().unwrap();
            records.iter().for_each(|record| state.take(record));
            state
        }
    }

    #[test]
    fn what_lasts_is_told_and_nothing_else() {
        let mut told = Told::new();
        told.tick();
        told.second();
        assert!(told.reader().is_none(), "nothing has begun");
        told.wait(1);
        told.tick();
        assert_eq!(told.state().run.unwrap().pid, std::process::id());
        // Within a moment of what was told last.
        let length = |told: &Told| match &told.announcer.file {
            Place::Open(file) => file.length(),
            _ => panic!("it is not open"),
        };
        let before = length(&told);
        told.announcer.written = Some(Instant::now() + PAUSE);
        told.wait(2);
        told.tick();
        told.succeed(2);
        told.second();
        assert_eq!(length(&told), before);
        told.succeed(1);
        told.second();
        assert!(told.state().activities.is_empty());
    }

    #[test]
    fn phases_are_told_and_what_is_left_is_ended() {
        let mut told = Told::new();
        let (id, system, log_file) = (4, "x86_64-linux", "/log");
        let (outputs, mode) = (&[][..], windrow_components::goal::BuildMode::Normal);
        told.announcer.report(&Event::Started {
            build: build(id),
            system,
            by_hook: false,
            log_file,
            outputs,
            mode,
            outlook: windrow_systems::report::Outlook::default(),
            at: Duration::ZERO,
        });
        told.tick();
        let mut reader = told.reader().unwrap();
        reader.news().unwrap();
        for bytes in [&PHASE[..20], &PHASE[20..]] {
            told.announcer.report(&Event::Output {
                build: build(id),
                bytes,
            });
        }
        told.second();
        let phase = "buildPhase".to_owned();
        assert_eq!(
            reader.news().unwrap().unwrap(),
            [RunRecord::Phase { id, phase }]
        );
        drop(told);
        let news = reader.news().unwrap().unwrap();
        let [RunRecord::End { ended, .. }] = &news[..] else {
            panic!("its end");
        };
        assert_eq!(*ended, Ended::Cancelled);
        assert_eq!(reader.news().unwrap(), None);
    }

    #[test]
    fn a_file_does_not_grow_without_end() {
        let mut told = Told::new();
        told.wait(0);
        for id in 1..8000 {
            told.wait(id);
            told.second();
            told.succeed(id);
            told.second();
        }
        let Place::Open(file) = &told.announcer.file else {
            panic!("it is open");
        };
        assert!(file.length() <= LENGTH_MAX + 4096, "{}", file.length());
        assert_eq!(told.state().activities.len(), 1);
    }

    #[test]
    fn a_state_that_cannot_be_written_has_no_status() {
        let mut told = Told::new();
        std::fs::write(&told.layout.state_dir, "in the way").unwrap();
        told.wait(1);
        told.tick();
        told.wait(2);
        told.second();
        assert!(matches!(told.announcer.file, Place::GivenUp));
    }
}
