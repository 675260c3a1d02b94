//! What the script draws, as JSON in columns: a hundred thousand spans take a few megabytes and are
//! read in a moment.

use serde::Serialize;

use super::Report;
use crate::run::{Kind, Run, Span, Verdict};

/// What the page's script reads.
#[derive(Serialize)]
struct Data<'a> {
    names: &'a [String],
    runs: Vec<RunData<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunData<'a> {
    symbol: &'static str,
    groups: Vec<(&'a str, &'a str, u32, bool)>,
    capacity: u64,
    end: u64,
    memory_is: &'a str,
    /// Each less the one before.
    start: Vec<u64>,
    length: Vec<u64>,
    name: Vec<u32>,
    lane: Vec<u32>,
    /// A digit for each span: 0 a build, 1 a fetch, 2 a hook's build.
    kind: String,
    /// A digit for each span: 0 good, 1 failed, 2 cancelled.
    verdict: String,
    /// The span it waited for, by place, plus one; 0 if there is none.
    after: Vec<u32>,
    chain: &'a [u32],
    /// Which spans have more lanes than one.
    more: Vec<(u32, &'a [u32])>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpu: Vec<Option<u64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    memory: Vec<Option<u64>>,
}

/// The data as JSON that may stand in an element `script`: nothing in it ends that.
pub(super) fn json(report: &Report) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(&Data {
        names: &report.names,
        runs: report.runs.iter().map(run_data).collect(),
    })?;
    // In JSON this character is only in texts, where it may be written in this way.
    Ok(match json.contains('<') {
        true => json.replace('<', "\\u003c"),
        false => json,
    })
}

/// A verdict in a word.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "",
        Verdict::Failed => "failed",
        Verdict::Cancelled => "ended early",
    }
}

fn run_data(run: &Run) -> RunData<'_> {
    let spans = run.spans();
    let mut before = 0;
    let start = spans.iter().map(|span| {
        let step = span.start - before;
        before = span.start;
        step
    });
    let start = start.collect();
    let digit = |number: u8| char::from(b'0' + number);
    let kind = |span: &Span| match span.kind {
        Kind::Build => digit(0),
        Kind::Fetch => digit(1),
        Kind::Hook => digit(2),
    };
    let ended = |span: &Span| match span.verdict {
        Verdict::Good => digit(0),
        Verdict::Failed => digit(1),
        Verdict::Cancelled => digit(2),
    };
    let after = (0..spans.len() as u32).map(|at| run.after(at).map_or(0, |it| it + 1));
    let more = (0..)
        .zip(spans)
        .filter(|(_, span)| !span.more_lanes.is_empty());
    let groups = run.groups.iter();
    RunData {
        symbol: run.unit.symbol(),
        groups: groups
            .map(|it| (it.name.as_str(), it.lane.as_str(), it.count, it.counts))
            .collect(),
        capacity: run.capacity,
        end: run.end(),
        memory_is: run.memory_is,
        start,
        length: spans.iter().map(Span::length).collect(),
        name: spans.iter().map(|span| span.name).collect(),
        lane: spans.iter().map(|span| span.lane).collect(),
        kind: spans.iter().map(kind).collect(),
        verdict: spans.iter().map(ended).collect(),
        after: after.collect(),
        chain: run.critical_path(),
        more: more
            .map(|(at, span)| (at, span.more_lanes.as_slice()))
            .collect(),
        cpu: known(spans, |span| span.cpu),
        memory: known(spans, |span| span.memory),
    }
}

/// A column that few runs have; empty if this one has not.
fn known(spans: &[Span], value: impl Fn(&Span) -> Option<u64>) -> Vec<Option<u64>> {
    match spans.iter().any(|span| value(span).is_some()) {
        true => spans.iter().map(value).collect(),
        false => Vec::new(),
    }
}
