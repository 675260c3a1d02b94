//! Writes a trace of a build while another reporter shows it: a slot is a line, a builder a span.

use std::time::Duration;

use hashbrown::HashMap;
use serde_json::json;
use windrow_systems::report::{Event, Level, Reporter};

use crate::error::Result;
use crate::trace::{Span, TraceFile};

/// A reporter that writes a trace.
pub struct Tracing {
    shown: Box<dyn Reporter>,
    /// Gone once it could not be written.
    trace: Option<TraceFile>,
    running: HashMap<u64, Builder>,
    /// Slots that nobody is in, the first of them last.
    free: Vec<u32>,
    slots: u32,
    last: Duration,
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
    pub fn new(shown: Box<dyn Reporter>, trace: TraceFile) -> Self {
        Self {
            shown,
            trace: Some(trace),
            running: HashMap::new(),
            free: Vec::new(),
            slots: 0,
            last: Duration::ZERO,
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

    fn add(&mut self, builder: &Builder, end: Duration, good: bool, args: serde_json::Value) {
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
    fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { build, at, .. } => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots += 1;
                    self.slots - 1
                });
                self.last = self.last.max(*at);
                let builder = Builder {
                    name: build.name.to_owned(),
                    drv_path: build.drv_path.to_owned(),
                    slot,
                    started: *at,
                };
                self.running.insert(build.id, builder);
            }
            Event::Exited {
                build,
                usage,
                good,
                at,
                ..
            } => {
                self.last = self.last.max(*at);
                if let Some(builder) = self.running.remove(&build.id) {
                    self.free.push(builder.slot);
                    self.free.sort_unstable_by(|a, b| b.cmp(a));
                    let args = json!({
                        "derivation": builder.drv_path,
                        "cpu": micros(usage.cpu),
                        "peakMemory": usage.peak_memory,
                        "succeeded": good,
                    });
                    self.add(&builder, *at, *good, args);
                }
            }
            _ => {}
        }
        self.shown.report(event);
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // Builders that were killed because the run ended early.
        let mut killed: Vec<Builder> = self.running.drain().map(|(_, builder)| builder).collect();
        killed.sort_by_key(|builder| builder.slot);
        for builder in killed {
            let args = json!({"derivation": builder.drv_path, "succeeded": false});
            self.add(&builder, self.last.max(builder.started), false, args);
        }
        if let Some(trace) = self.trace.take() {
            let finished = trace.finish();
            self.warn_of(finished);
        }
    }
}
