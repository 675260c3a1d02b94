//! Writes a trace of a build, or keeps a record of it for a report, while another reporter shows
//! it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use windrow_sys::mutex;
use windrow_systems::report::{Event, Level, Reporter};

use super::record::Record;
use super::spans::{End, Ended, Place};
use crate::error::Result;
use crate::trace::{Span, TraceFile};

/// A reporter that writes a trace and keeps a record.
pub struct Tracing {
    shown: Box<dyn Reporter + Send>,
    /// Gone once it could not be written, or if there is none.
    trace: Option<TraceFile>,
    record: Arc<Mutex<Record>>,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Tracing {
    /// Writes into `trace`, if there is one, what `shown` shows, and keeps it in `record`.
    pub(crate) fn new(
        shown: Box<dyn Reporter + Send>,
        trace: Option<TraceFile>,
        record: Arc<Mutex<Record>>,
    ) -> Self {
        Self {
            shown,
            trace,
            record,
        }
    }

    fn warn_of(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.trace = None;
            let text = error.to_string();
            let level = Level::Warn;
            self.shown.report(&Event::Message { level, text: &text });
        }
    }

    /// A line of a trace is a slot, a span a builder.
    fn write(&mut self, ended: &Ended) {
        let Some(trace) = &mut self.trace else { return };
        let begun = &ended.begun;
        if begun.place == Place::Fetch {
            return;
        }
        let added = trace.add(&Span {
            name: &begun.name,
            slot: begun.slot,
            start: micros(begun.start),
            end: micros(ended.end),
            good: ended.how == End::Good,
            args: args(ended),
        });
        self.warn_of(added);
    }
}

fn args(ended: &Ended) -> Value {
    let (path, good) = (&ended.begun.path, ended.how == End::Good);
    match ended.usage {
        Some(usage) => json!({
            "derivation": path,
            "cpu": micros(usage.cpu),
            "peakMemory": usage.peak_memory,
            "succeeded": good,
        }),
        None => json!({"derivation": path, "succeeded": good}),
    }
}

impl Reporter for Tracing {
    fn wants_outlook(&self) -> bool {
        self.shown.wants_outlook()
    }

    fn is_behind(&self) -> bool {
        self.shown.is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        let ended = mutex::lock(&self.record).note(event);
        if let Some(ended) = ended {
            self.write(&ended);
        }
        self.shown.report(event);
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let killed = mutex::lock(&self.record).end_all();
        for ended in &killed {
            self.write(ended);
        }
        if let Some(trace) = self.trace.take() {
            let finished = trace.finish();
            self.warn_of(finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use windrow_systems::report::Silent;

    use super::super::spans::tests::{exited, started};
    use super::*;

    #[test]
    fn a_trace_has_a_span_for_each_builder_in_its_slot() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trace.json");
        let trace = TraceFile::create(&file, "test").unwrap();
        let record = Arc::new(Mutex::new(Record::default()));
        let mut tracing = Tracing::new(Box::new(Silent), Some(trace), Arc::clone(&record));
        for event in [
            started(0, false, 0),
            started(1, false, 0),
            exited(0, true, 1),
            exited(1, false, 3),
            started(3, false, 3),
        ] {
            tracing.report(&event);
        }
        drop(tracing);
        let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let spans = events.iter().filter(|event| event["ph"] == "X");
        let spans: Vec<(&str, u64, bool)> = spans
            .map(|span| {
                let name = span["name"].as_str().unwrap();
                let good = span["args"]["succeeded"].as_bool().unwrap();
                (name, span["tid"].as_u64().unwrap(), good)
            })
            .collect();
        assert_eq!(
            spans,
            [
                ("seen", 0, true),
                ("elsewhere", 1, false),
                ("killed", 0, false)
            ]
        );
    }
}
