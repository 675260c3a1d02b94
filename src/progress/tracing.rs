//! Writes a trace of a build while another reporter shows it: a slot is a line, a builder a span.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde_json::{Value, json};
use windrow_systems::report::{BuildRef, Event, Level, Reporter};

use crate::error::Result;
use crate::trace::{Span, TraceFile};

/// A reporter that writes a trace.
pub struct Tracing {
    shown: Box<dyn Reporter + Send>,
    /// Gone once it could not be written.
    trace: Option<TraceFile>,
    running: HashMap<u64, Builder>,
    /// Slots that nobody is in, the first of them last.
    free: Vec<u32>,
    slots: u32,
    /// When the run began, as far as what was told of it says: it is told afterwards.
    began: Option<Instant>,
}

struct Builder {
    name: String,
    drv_path: String,
    slot: u32,
    started: Duration,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Tracing {
    /// Writes into `trace` what `shown` shows.
    pub fn new(shown: Box<dyn Reporter + Send>, trace: TraceFile) -> Self {
        Self {
            shown,
            trace: Some(trace),
            running: HashMap::new(),
            free: Vec::new(),
            slots: 0,
            began: None,
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

    fn note(&mut self, at: Duration) {
        let began = Instant::now().checked_sub(at);
        self.began = [self.began, began].into_iter().flatten().min();
    }

    fn start(&mut self, build: BuildRef<'_>, at: Duration) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.note(at);
        let builder = Builder {
            name: build.name.to_owned(),
            drv_path: build.drv_path.to_owned(),
            slot,
            started: at,
        };
        self.running.insert(build.id, builder);
    }

    /// Ends a span, if it has not ended before.
    fn end(&mut self, id: u64, at: Duration, good: bool, args: impl FnOnce(&Builder) -> Value) {
        self.note(at);
        if let Some(builder) = self.running.remove(&id) {
            self.free.push(builder.slot);
            self.free.sort_unstable_by(|a, b| b.cmp(a));
            let args = args(&builder);
            self.add(&builder, at, good, args);
        }
    }

    fn add(&mut self, builder: &Builder, end: Duration, good: bool, args: Value) {
        let Some(trace) = &mut self.trace else { return };
        let added = trace.add(&Span {
            name: &builder.name,
            slot: builder.slot,
            start: micros(builder.started),
            end: micros(end),
            good,
            args,
        });
        self.warn_of(added);
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
        match event {
            Event::Started { build, at, .. } => self.start(*build, *at),
            Event::Exited {
                build,
                usage,
                good,
                at,
                ..
            } => {
                self.end(build.id, *at, *good, |builder| {
                    json!({
                        "derivation": builder.drv_path,
                        "cpu": micros(usage.cpu),
                        "peakMemory": usage.peak_memory,
                        "succeeded": good,
                    })
                });
            }
            // What ran elsewhere has no exit that could be seen here.
            Event::Succeeded { build, at } => self.end(
                build.id,
                *at,
                true,
                |builder| json!({"derivation": builder.drv_path, "succeeded": true}),
            ),
            Event::Failed { build, at, .. } | Event::Cancelled { build, at } => self.end(
                build.id,
                *at,
                false,
                |builder| json!({"derivation": builder.drv_path, "succeeded": false}),
            ),
            _ => {}
        }
        self.shown.report(event);
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // Builders that were killed just now because the run ended early.
        let now = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        let mut killed: Vec<Builder> = self.running.drain().map(|(_, builder)| builder).collect();
        killed.sort_by_key(|builder| builder.slot);
        for builder in killed {
            let args = json!({"derivation": builder.drv_path, "succeeded": false});
            self.add(&builder, now.max(builder.started), false, args);
        }
        if let Some(trace) = self.trace.take() {
            let finished = trace.finish();
            self.warn_of(finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use windrow_systems::report::{Silent, Usage};

    use super::*;

    #[test]
    fn every_start_has_an_end_and_slots_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trace.json");
        let trace = TraceFile::create(&file, "test").unwrap();
        let mut tracing = Tracing::new(Box::new(Silent), trace);
        let names = ["seen", "elsewhere", "next", "killed"];
        let build = |id: usize| BuildRef {
            id: id as u64,
            drv_path: names[id],
            name: names[id],
        };
        let second = Duration::from_secs;
        tracing.start(build(0), second(0));
        tracing.start(build(1), second(0));
        tracing.report(&Event::Exited {
            build: build(0),
            system: "",
            usage: Usage::default(),
            good: true,
            at: second(1),
        });
        tracing.start(build(2), second(2));
        for id in [0, 1, 2] {
            let build = build(id);
            tracing.report(&Event::Succeeded {
                build,
                at: second(3),
            });
        }
        tracing.start(build(3), second(3));
        // It was told of the last start just then.
        tracing.began = tracing.began.map(|began| began - second(2));
        drop(tracing);
        let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let spans = events.iter().filter(|event| event["ph"] == "X");
        let spans: Vec<(&str, u64, u64, bool)> = spans
            .map(|span| {
                let seconds = |key: &str| span[key].as_u64().unwrap() / 1_000_000;
                let name = span["name"].as_str().unwrap();
                let good = span["args"]["succeeded"].as_bool().unwrap();
                (name, span["tid"].as_u64().unwrap(), seconds("dur"), good)
            })
            .collect();
        assert_eq!(
            spans,
            [
                ("seen", 0, 1, true),
                ("elsewhere", 1, 3, true),
                ("next", 0, 1, true),
                ("killed", 0, 2, false),
            ]
        );
    }
}
