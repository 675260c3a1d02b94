//! Traces that windrow wrote (`--trace`), as runs: a line of a trace is a lane. They do not tell
//! what needed what, so there is no critical path.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::run::{Figure, Kind, LaneGroup, Run, Span, Verdict};
use crate::time::{Unit, duration};

/// An event, as it is written. What else stands there is passed over.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    ph: String,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    pid: u64,
    #[serde(default)]
    tid: u32,
    #[serde(default)]
    cname: String,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    #[serde(default)]
    name: String,
    #[serde(default)]
    cpu: Option<u64>,
    #[serde(default)]
    peak_memory: Option<u64>,
    #[serde(default)]
    bytes: Option<u64>,
}

/// Lines of one process of a trace.
#[derive(Default)]
struct Process {
    name: String,
    lane: String,
    lanes: u32,
    /// How many lanes there are before its own.
    first: u32,
}

/// The most lines that a trace may have: each is drawn. What is in others is passed over.
const LANES: u32 = 1 << 20;

/// The run that a trace is of, called `called`; its spans' names are added to `names`. A trace that
/// was cut short ends with its last whole event.
///
/// # Errors
/// When it is no such trace.
pub fn read(text: &str, called: &str, names: &mut Vec<String>) -> Result<Run, serde_json::Error> {
    let events = events(text)?;
    let mut processes: BTreeMap<u64, Process> = BTreeMap::new();
    for event in &events {
        let process = processes.entry(event.pid).or_default();
        match (event.ph.as_str(), event.name.as_str()) {
            ("M", "process_name") => process.name.clone_from(&event.args.name),
            ("M", "thread_name") => {
                let name = event
                    .args
                    .name
                    .trim_end_matches(|c: char| c.is_ascii_digit());
                name.trim_end().clone_into(&mut process.lane);
            }
            ("X", _) => process.lanes = process.lanes.max(event.tid.saturating_add(1)),
            _ => {}
        }
    }
    let mut lanes = 0;
    for process in processes.values_mut() {
        process.first = lanes;
        process.lanes = process.lanes.min(LANES - lanes);
        lanes += process.lanes;
    }
    let mut spans = Vec::new();
    for event in events {
        let process = &processes[&event.pid];
        if event.ph != "X" || event.tid >= process.lanes {
            continue;
        }
        spans.push(span(&event, process.first, names.len() as u32));
        names.push(event.name);
    }
    let failed = spans
        .iter()
        .filter(|span| span.verdict == Verdict::Failed)
        .count();
    let count = spans.len();
    let mut run = Run::new(called, Unit::Seconds, spans, Vec::new());
    let shown = processes.into_values().filter(|it| it.lanes > 0);
    run.groups = shown.map(group).collect();
    let counted = run.groups.iter().filter(|group| group.counts);
    run.capacity = counted.map(|group| u64::from(group.count)).sum();
    run.memory_is = "Memory over time: the peaks of all that ran, added up";
    run.figures = vec![
        Figure::new("Time", duration(run.end()), ""),
        Figure::new("Spans", count.to_string(), ""),
        Figure::new("Failed", failed.to_string(), ""),
    ];
    Ok(run)
}

fn span(event: &Event, first: u32, name: u32) -> Span {
    Span {
        name,
        lane: first + event.tid,
        more_lanes: Vec::new(),
        start: event.ts,
        end: event.ts.saturating_add(event.dur),
        kind: match event.args.bytes {
            Some(_) => Kind::Fetch,
            None => Kind::Build,
        },
        verdict: match event.cname.as_str() {
            "terrible" => Verdict::Failed,
            _ => Verdict::Good,
        },
        cpu: event.args.cpu,
        memory: event.args.peak_memory,
    }
}

fn group(process: Process) -> LaneGroup {
    LaneGroup {
        counts: process.lane != "connection",
        name: process.name,
        lane: process.lane,
        count: process.lanes,
    }
}

fn events(text: &str) -> Result<Vec<Event>, serde_json::Error> {
    let whole = serde_json::from_str(text);
    let Err(error) = &whole else { return whole };
    if !error.is_eof() {
        return whole;
    }
    // An event stands in a line.
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let event = |line: &&str| serde_json::from_str::<Event>(line.trim_end_matches(',')).ok();
    let read: Vec<Event> = lines.iter().map_while(event).collect();
    match read.len() + 1 >= lines.len() && !read.is_empty() {
        true => Ok(read),
        false => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"[
{"name":"process_name","ph":"M","pid":1,"tid":0,"args":{"name":"windrow build"}},
{"name":"thread_name","ph":"M","pid":1,"tid":0,"args":{"name":"slot 0"}},
{"name":"a","ph":"X","ts":0,"dur":2000000,"pid":1,"tid":0,"cname":"good","args":{"cpu":5,"peakMemory":7}},
{"name":"thread_name","ph":"M","pid":1,"tid":1,"args":{"name":"slot 1"}},
{"name":"b","ph":"X","ts":1000000,"dur":3000000,"pid":1,"tid":1,"cname":"terrible","args":{"task":1}}
]
"#;

    #[test]
    fn a_trace_is_a_run() {
        let mut names = vec!["there before".to_owned()];
        let run = read(TRACE, "t", &mut names).unwrap();
        assert_eq!(names, ["there before", "a", "b"]);
        let [a, b] = run.spans() else {
            panic!("{run:?}")
        };
        assert_eq!(
            (a.name, a.lane, a.end, a.cpu, a.memory),
            (1, 0, 2_000_000, Some(5), Some(7))
        );
        assert_eq!((b.lane, b.verdict), (1, Verdict::Failed));
        assert_eq!(
            (run.groups[0].lane.as_str(), run.groups[0].count),
            ("slot", 2)
        );
        assert!(run.critical_path().is_empty());
    }

    #[test]
    fn a_trace_that_was_cut_short_is_read_as_far_as_it_goes() {
        let mut names = Vec::new();
        for end in [
            TRACE.rfind("\n]").unwrap(),
            TRACE.rfind(r#","args":{"task"#).unwrap(),
        ] {
            names.clear();
            let run = read(&TRACE[..end], "t", &mut names).unwrap();
            assert_eq!(run.spans()[0].end, 2_000_000);
        }
        assert_eq!(names, ["a"]);
        let far = r#"[{"name":"a","ph":"X","dur":3,"pid":1,"tid":4294967295},{"ph":"X","pid":2,"tid":4294967295}]"#;
        assert!(read(far, "t", &mut names).unwrap().spans().is_empty());
        for other in ["", "[", "[\nnot json", "{}", "[1, 2]", "[\n{\"a\":"] {
            assert!(read(other, "t", &mut names).is_err(), "{other}");
        }
    }
}
