//! `windrow status`: what is being built in a store now, by which process, since when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};
use windrow_components::log_line::last_start;
use windrow_components::run_record::Work;

use super::{CommonArgs, print_lines};
use crate::error::Result;
use crate::progress::whole_seconds;
use crate::running::{Overview, Process, RunView, WorkView};
use crate::terminal::{complain, log_text};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// Print JSON: an object a line for each run of windrow, and for each lock of another program
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs) -> Result<()> {
    let session = args.common.session()?;
    let overview = Overview::gather(&session)?;
    if args.json {
        let runs = overview.runs.iter().map(run_as_json);
        let locked = overview.locked.iter();
        let locked = locked.map(|(path, process)| {
            json!({"kind": "lock", "path": path, "process": process_as_json(process)})
        });
        return print_lines(runs.chain(locked).map(|value| value.to_string()));
    }
    if overview.runs.is_empty() && overview.locked.is_empty() {
        complain("nothing is being built in this store");
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut lines = Vec::new();
    for run in &overview.runs {
        describe(run, now, &mut lines);
    }
    for (path, process) in &overview.locked {
        lines.push(format!("'{path}' is locked by {}", named(process)));
    }
    print_lines(lines)
}

/// A run, with a few lines for each thing that it has under way.
fn describe(run: &RunView, now: Duration, lines: &mut Vec<String>) {
    let counts = run.counts;
    let done = counts.built + counts.failed;
    let mut head = format!(
        "{}: {done}/{} built, {}",
        named(&run.process),
        counts.expected.max(done),
        since(run.began_ms, now)
    );
    for (count, what) in [
        (counts.fetched, "fetched"),
        (counts.failed, "failed"),
        (counts.not_built, "not built"),
    ] {
        if count > 0 {
            head += &format!(", {count} {what}");
        }
    }
    lines.push(head);
    for work in &run.works {
        describe_work(work, now, lines);
    }
}

fn describe_work(work: &WorkView, now: Duration, lines: &mut Vec<String>) {
    let (name, activity) = (&work.name, &work.activity);
    let mut time = since(activity.at, now);
    if let Some(expected) = work.expected {
        time += &format!(" of {}", whole_seconds(expected));
    }
    let (kind, rest) = match &activity.work {
        Work::Build { exited: true, .. } => ("build", "registering its outputs".to_owned()),
        Work::Build { phase, .. } => {
            let said = work.last_line.as_deref().unwrap_or_default();
            let said = log_text(last_start(said), false);
            let parts = [one_line(phase), one_line(&said)];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            ("build", parts.collect::<Vec<_>>().join(": "))
        }
        Work::Fetch => ("fetch", String::new()),
        Work::Wait { what } if what.is_empty() => ("wait", "for a lock or a build slot".to_owned()),
        Work::Wait { what } => ("wait", format!("for {}", one_line(what))),
    };
    let line = format!("  {kind} {name}  {time}  {rest}");
    lines.push(line.trim_end().to_owned());
    lines.push(format!("    {}", activity.path));
    lines.extend(
        work.log
            .iter()
            .map(|log| format!("    log {}", log.display())),
    );
}

/// Text of somebody's on one line.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

fn since(began_ms: u64, now: Duration) -> String {
    whole_seconds(now.saturating_sub(Duration::from_millis(began_ms)))
}

/// A process, as people know it.
fn named(process: &Process) -> String {
    let pid = process.pid;
    let words = process.command.iter().map(|word| match word.is_empty() {
        true => "''".to_owned(),
        false => one_line(word),
    });
    let command = words.collect::<Vec<_>>().join(" ");
    let user = match (&process.user, process.uid) {
        (Some(user), _) => format!(" of {user}"),
        (None, Some(uid)) => format!(" of user {uid}"),
        (None, None) => String::new(),
    };
    match command.as_str() {
        "" => format!("process {pid}{user}"),
        command => format!("process {pid}{user} ({command})"),
    }
}

fn process_as_json(process: &Process) -> Value {
    json!({
        "pid": process.pid,
        "uid": process.uid,
        "user": process.user,
        "command": process.command,
    })
}

fn run_as_json(run: &RunView) -> Value {
    let counts = run.counts;
    json!({
        "kind": "run",
        "process": process_as_json(&run.process),
        "began": run.began_ms,
        "expected": counts.expected,
        "built": counts.built,
        "failed": counts.failed,
        "notBuilt": counts.not_built,
        "fetched": counts.fetched,
        "work": run.works.iter().map(work_as_json).collect::<Vec<_>>(),
    })
}

fn work_as_json(work: &WorkView) -> Value {
    let activity = &work.activity;
    let mut value = json!({
        "name": work.name,
        "path": activity.path,
        "began": activity.at,
    });
    let more = match &activity.work {
        Work::Build {
            system,
            phase,
            exited,
            ..
        } => json!({
            "kind": "build",
            "system": system,
            "phase": (!phase.is_empty()).then_some(phase),
            "exited": exited,
            "expected": work.expected.map(|it| it.as_millis() as u64),
            "lastLine": work.last_line,
            "log": work.log.as_ref().map(|log| log.to_string_lossy()),
        }),
        Work::Fetch => json!({"kind": "fetch"}),
        Work::Wait { what } => {
            json!({"kind": "wait", "for": (!what.is_empty()).then_some(what)})
        }
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}
