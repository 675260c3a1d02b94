//! Hands what builders took and what was used to the recorder, and everything to the reporter that
//! the user sees.

use std::time::{SystemTime, UNIX_EPOCH};

use windrow_store::own::history::{Build, Record};
use windrow_store::own::recorder::Recorder;
use windrow_systems::report::{Event, Level, Reporter};

/// A reporter that records.
pub(crate) struct Recording {
    shown: Box<dyn Reporter>,
    recorder: Recorder,
}

impl Recording {
    /// Records with `recorder` what `shown` shows.
    pub(crate) fn new(shown: Box<dyn Reporter>, recorder: Recorder) -> Self {
        Self { shown, recorder }
    }

    /// Waits until all is recorded.
    fn finish(&mut self) {
        if let Err(error) = self.recorder.finish() {
            // Who may build in a store can nearly always record there too; if not, only estimates
            // are missing, and times of last use.
            let text = format!("what the builds took and used was not recorded: {error}");
            self.shown.report(&Event::Message {
                level: Level::Talkative,
                text: &text,
            });
        }
    }
}

impl Reporter for Recording {
    fn wants_outlook(&self) -> bool {
        self.shown.wants_outlook()
    }

    fn is_behind(&self) -> bool {
        self.shown.is_behind()
    }

    fn wants_builds(&self) -> bool {
        self.shown.wants_builds()
    }

    fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Used { paths } => self.recorder.note_used(paths),
            // Before temporary roots go, so that a collector finds one or the other.
            Event::Over => self.finish(),
            _ => {}
        }
        if let Event::Exited {
            build,
            system,
            usage,
            good,
            ..
        } = event
        {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let micros =
                |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            self.recorder.record(Record {
                name: build.name.to_owned(),
                system: (*system).to_owned(),
                build: Build {
                    ended_s: now.unwrap_or_default().as_secs(),
                    wall_us: micros(usage.wall),
                    cpu_us: micros(usage.cpu),
                    peak_memory: usage.peak_memory,
                    succeeded: *good,
                },
            });
        }
        self.shown.report(event);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.finish();
    }
}
