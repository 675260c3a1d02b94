//! The report of a build, from the record that was kept of it.

use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use windrow_components::log_line::last_start;
use windrow_report::page::Report;
use windrow_report::run::{Failure, Figure, Kind, LaneGroup, Run, Span, Tone, Verdict};
use windrow_report::time::{Unit, duration};

use super::PROGRAM;
use crate::progress::{End, Place, Record};
use crate::terminal::log_text;

/// What the report says of the run beside what the record has.
pub(crate) struct About<'a> {
    /// What was asked for, as given.
    pub(crate) what: Vec<String>,
    /// How many builders could run at a time.
    pub(crate) jobs: u32,
    /// In which order.
    pub(crate) policy: &'a str,
    /// The store's directory.
    pub(crate) store: String,
    /// Why the command failed, if it did.
    pub(crate) error: Option<String>,
    /// Whether that is because it was interrupted.
    pub(crate) is_interrupted: bool,
}

/// The report of a build.
pub(crate) fn of_build(record: &Record, about: &About<'_>) -> Report {
    let (spans, names, groups) = spans(record);
    let mut run = Run::new("build", Unit::Seconds, spans, record.needs());
    run.groups = groups;
    run.capacity = u64::from(about.jobs);
    run.memory_is = "Memory over time: the peaks of all that ran, added up";
    run.figures = figures(record, about);
    let failures = record.tally().failures.iter();
    let failures = failures.map(|failed| Failure {
        name: name_of(&failed.drv_path),
        message: failed.message.clone(),
        log: failed
            .log_tail
            .iter()
            .map(|line| log_text(last_start(line), true))
            .collect(),
    });
    run.failures = failures.collect();
    run.not_run = record.tally().not_built_names().to_vec();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let jobs = match about.jobs {
        1 => "1 slot".to_owned(),
        many => format!("{many} slots"),
    };
    let (policy, store) = (about.policy, &about.store);
    Report {
        title: format!("Build of {}", named(&about.what)),
        subtitle: format!("{PROGRAM} · {date} · {jobs} · policy {policy} · store {store}"),
        names,
        runs: vec![run],
        ..Report::default()
    }
}

/// What was asked for, in a title.
fn named(what: &[String]) -> String {
    match what {
        [] => "windrow.json".to_owned(),
        [one] if one == "-" => "what standard input names".to_owned(),
        [one] => one.clone(),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    }
}

/// The name in the path of a derivation, without its hash.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.split_once('-').map_or(file, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name).to_owned()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What ran, names, and the lanes of builders, of hooks and of fetches.
fn spans(record: &Record) -> (Vec<Span>, Vec<String>, Vec<LaneGroup>) {
    let ended = record.ended();
    let place = |at: usize| ended[at].begun.place;
    let lanes = [Place::Here, Place::Hook, Place::Fetch].map(|wanted| {
        let these = (0..ended.len()).filter(|&at| place(at) == wanted);
        lanes(these.map(|at| (at, ended[at].begun.start, ended[at].end)))
    });
    let [here, hook, fetch] = [0, 1, 2].map(|group: usize| lanes[group].1);
    let first = [0, here, here + hook];
    let mut names = Vec::new();
    let mut spans = Vec::new();
    for (at, ended) in ended.iter().enumerate() {
        let (group, kind) = match ended.begun.place {
            Place::Here => (0, Kind::Build),
            Place::Hook => (1, Kind::Hook),
            Place::Fetch => (2, Kind::Fetch),
        };
        spans.push(Span {
            name: names.len() as u32,
            lane: first[group] + lanes[group].0[&at],
            more_lanes: Vec::new(),
            start: micros(ended.begun.start),
            end: micros(ended.end),
            kind,
            verdict: match ended.how {
                End::Good => Verdict::Good,
                End::Failed => Verdict::Failed,
                End::Cancelled => Verdict::Cancelled,
            },
            cpu: ended.usage.map(|usage| micros(usage.cpu)),
            memory: ended.usage.and_then(|usage| usage.peak_memory),
        });
        names.push(ended.begun.name.clone());
    }
    let group = |name: &str, lane: &str, count, counts| LaneGroup {
        name: name.to_owned(),
        lane: lane.to_owned(),
        count,
        counts,
    };
    let groups = [
        group("slots", "slot", here, true),
        group("hooks", "hook", hook, false),
        group("fetches", "fetch", fetch, false),
    ];
    let groups = groups.into_iter().filter(|group| group.count > 0);
    (spans, names, groups.collect())
}

/// Gives each span, which comes with its number, start and end, the first lane that is free then;
/// tells how many lanes that takes.
fn lanes(spans: impl Iterator<Item = (usize, Duration, Duration)>) -> (HashMap<usize, u32>, u32) {
    use std::cmp::Reverse;
    use std::collections::{BTreeSet, BinaryHeap};
    let mut spans: Vec<_> = spans.collect();
    spans.sort_by_key(|&(_, start, end)| (start, end));
    let mut running = BinaryHeap::new();
    let (mut free, mut count) = (BTreeSet::new(), 0);
    let mut lanes = HashMap::new();
    for (at, start, end) in spans {
        while let Some(&Reverse((ended, lane))) = running.peek()
            && ended <= start
        {
            running.pop();
            free.insert(lane);
        }
        let lane = free.pop_first().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        running.push(Reverse((end, lane)));
        lanes.insert(at, lane);
    }
    (lanes, count)
}

/// The figures of the head.
fn figures(record: &Record, about: &About<'_>) -> Vec<Figure> {
    let totals = record.tally().totals();
    let result = match &about.error {
        None => Figure::new("Result", "succeeded", "").toned(Tone::Good),
        Some(error) => {
            let value = match about.is_interrupted {
                true => "interrupted",
                false => "failed",
            };
            // What failed is told below, in full.
            let note = match record.tally().failures.is_empty() {
                true => error.as_str(),
                false => "",
            };
            Figure::new("Result", value, note).toned(Tone::Bad)
        }
    };
    let there = match totals.there {
        0 => String::new(),
        count => format!("{count} were there before"),
    };
    let mut figures = vec![
        result,
        Figure::new("Time", duration(micros(totals.last)), ""),
        Figure::new("Built", totals.built.to_string(), there),
    ];
    for (label, count) in [
        ("Checked", totals.checked),
        ("Repaired", totals.repaired),
        ("Fetched", totals.fetched),
    ] {
        figures.extend((count > 0).then(|| Figure::new(label, count.to_string(), "")));
    }
    for (label, count) in [("Failed", totals.failed), ("Not built", totals.not_built)] {
        let figure = || Figure::new(label, count.to_string(), "").toned(Tone::Bad);
        figures.extend((count > 0).then(figure));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_has_the_first_lane_that_is_free() {
        let second = Duration::from_secs;
        let spans = [(0, 0, 5), (1, 1, 2), (2, 2, 3), (3, 2, 9), (4, 5, 6)];
        let spans = spans.into_iter();
        let (lanes, count) = lanes(spans.map(|(at, start, end)| (at, second(start), second(end))));
        let order: Vec<u32> = (0..5).map(|at| lanes[&at]).collect();
        assert_eq!((order.as_slice(), count), (&[0, 1, 1, 2, 0][..], 3));
    }

    #[test]
    fn a_title_names_what_was_asked_for() {
        let named =
            |what: &[&str]| named(&what.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(named(&["a.json"]), "a.json");
        assert_eq!(named(&["a", "b", "c"]), "a and 2 more");
        assert_eq!(name_of("/nix/store/x-a-1.drv"), "a-1");
    }
}
