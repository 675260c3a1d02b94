//! The live region's lines: how far the run is, each child that runs, what waits for a lock, and
//! what comes next, as far as there is room.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use console::{Alignment, measure_text_width, pad_str};
use windrow_components::count::size;
use windrow_systems::report::{BuildRef, Counts, Outlook, Transfer};

use super::outlook::{Pace, Running, range};
use super::summary::whole_seconds;
use crate::terminal::{Line, Size, Tone, log_text, visible};

/// How often the speed of a fetch is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// How many of those that come next are shown.
const NEXT_SHOWN: usize = 5;

/// Narrower terminals have no room for expected times.
const WIDE: usize = 60;

/// What is known of a run that goes on.
#[derive(Debug)]
pub(super) struct Board {
    began: Instant,
    /// Whether what is fetched is a copy.
    copying: bool,
    pub(super) counts: Counts,
    pub(super) pace: Pace,
    children: Vec<Child>,
    waits: Vec<Wait>,
}

/// A child that runs, or a download.
#[derive(Debug)]
struct Child {
    id: u64,
    name: String,
    since: Instant,
    work: Work,
    phase: String,
    said: String,
    /// Whether its process has ended. What it made is being registered.
    has_exited: bool,
}

#[derive(Debug)]
enum Work {
    Build {
        expected: Option<Duration>,
        chain: Option<Duration>,
        needed_by: Vec<String>,
    },
    Fetch {
        transfer: Option<Transfer>,
        speed: Speed,
    },
}

/// How fast bytes come.
#[derive(Debug)]
struct Speed {
    since: Instant,
    bytes: u64,
    per_second: Option<f64>,
}

/// What waits for a lock.
#[derive(Debug)]
struct Wait {
    id: u64,
    name: String,
    since: Instant,
    what: String,
}

/// A line before it has its columns.
struct Row {
    kind: &'static str,
    name: String,
    time: String,
    rest: String,
}

impl Board {
    pub(super) fn new(copying: bool) -> Self {
        Self {
            began: Instant::now(),
            copying,
            counts: Counts::default(),
            pace: Pace::default(),
            children: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// A builder has been started.
    pub(super) fn start(&mut self, build: BuildRef<'_>, outlook: Outlook<'_>) {
        let needed_by = outlook.needed_by.iter();
        let work = Work::Build {
            expected: outlook.expected,
            chain: outlook.chain,
            needed_by: needed_by.map(|name| plain(name)).collect(),
        };
        self.add(build, work);
    }

    /// A path is being fetched.
    pub(super) fn fetch(&mut self, path: BuildRef<'_>, transfer: Option<&Transfer>) {
        let speed = Speed {
            since: Instant::now(),
            bytes: 0,
            per_second: None,
        };
        let transfer = transfer.cloned();
        self.add(path, Work::Fetch { transfer, speed });
    }

    fn add(&mut self, build: BuildRef<'_>, work: Work) {
        self.waits.retain(|wait| wait.id != build.id);
        self.children.push(Child {
            id: build.id,
            name: plain(build.name),
            since: Instant::now(),
            work,
            phase: String::new(),
            said: String::new(),
            has_exited: false,
        });
    }

    /// A builder's process has ended.
    pub(super) fn exit(&mut self, id: u64) {
        if let Some(child) = self.children.iter_mut().find(|child| child.id == id) {
            child.has_exited = true;
        }
    }

    /// Something waits for a lock, as has been looked up or not.
    pub(super) fn wait(&mut self, build: BuildRef<'_>, what: Option<&str>) {
        let text = plain(what.unwrap_or("for locks or build slots"));
        if let Some(wait) = self.waits.iter_mut().find(|wait| wait.id == build.id) {
            wait.what = text;
            return;
        }
        self.waits.push(Wait {
            id: build.id,
            name: plain(build.name),
            since: Instant::now(),
            what: text,
        });
    }

    /// A build or fetch has ended. Of a build that has ended `well` it is learnt how long it took.
    pub(super) fn end(&mut self, id: u64, well: bool) {
        self.waits.retain(|wait| wait.id != id);
        let Some(at) = self.children.iter().position(|child| child.id == id) else {
            return;
        };
        let child = self.children.remove(at);
        if let (Work::Build { expected, .. }, true) = (child.work, well) {
            self.pace.learn(expected, child.since.elapsed());
        }
    }

    /// A builder has come to another phase.
    pub(super) fn set_phase(&mut self, id: u64, phase: &str) {
        if let Some(child) = self.children.iter_mut().find(|child| child.id == id) {
            child.phase = plain(phase);
        }
    }

    /// A builder has written a line.
    pub(super) fn say(&mut self, id: u64, line: &str) {
        let text = plain(&log_text(line, false));
        if let Some(child) = self.children.iter_mut().find(|child| child.id == id)
            && !text.trim().is_empty()
        {
            child.said = text;
        }
    }

    /// The region for a terminal of that size.
    pub(super) fn lines(&mut self, size: Size) -> Vec<Line> {
        let mut lines = vec![self.head(size.columns)];
        let room = size.rows.saturating_sub(1);
        let waits = self.waits.len().min((room / 4).max(1)).min(room);
        let room_for_children = room - waits;
        let is_wide = size.columns >= WIDE;
        let count = self.children.len();
        let shown = match count > room_for_children {
            true => room_for_children.saturating_sub(1),
            false => count,
        };
        let children = self.children.iter_mut();
        let (ended, running): (Vec<_>, Vec<_>) = children.partition(|child| child.has_exited);
        let children = running.into_iter().chain(ended).take(shown);
        let mut rows: Vec<Row> = children.map(|child| child.row(is_wide)).collect();
        if self.copying {
            let fetches = rows.iter_mut().filter(|row| row.kind == "fetch");
            fetches.for_each(|row| row.kind = "copy");
        }
        if count > shown && room_for_children > 0 {
            rows.push(Row::note(format!("and {} more", count - shown)));
        }
        rows.extend(self.waits.iter().take(waits).map(Wait::row));
        let next = NEXT_SHOWN.min(room.saturating_sub(rows.len()));
        rows.extend(self.next().into_iter().take(next));
        lines.extend(in_columns(&rows, size.columns));
        lines
    }

    /// How far the run is. Where there is no room, the least important is left out.
    fn head(&self, columns: usize) -> Line {
        let counts = self.counts;
        let done = counts.built + counts.failed;
        let number = match (self.copying, counts.fetched) {
            (false, _) => format!("[{done}/{}]", counts.expected.max(done)),
            (true, 1) => "[1 path copied]".to_owned(),
            (true, copied) => format!("[{copied} paths copied]"),
        };
        let fetched = match self.copying {
            true => 0,
            false => counts.fetched,
        };
        let some = |count: u32, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let running: Vec<Running> = self.children.iter().filter_map(Child::running).collect();
        let left = self.pace.left(counts, &running);
        let left = left.map(|left| format!("{} left", range(left)));
        // In the order in which they stand, with how much each matters.
        let mut parts: Vec<(u8, Tone, String)> = [
            (1, Tone::Plain, some(fetched, "fetched")),
            (4, Tone::Bad, some(counts.failed, "failed")),
            (2, Tone::Bad, some(counts.not_built, "not built")),
            (5, Tone::Plain, Some(whole_seconds(self.began.elapsed()))),
            (3, Tone::Plain, left),
        ]
        .into_iter()
        .filter_map(|(rank, tone, text)| Some((rank, tone, text?)))
        .collect();
        let width = |parts: &[(u8, Tone, String)]| {
            let texts = parts.iter().map(|(.., text)| measure_text_width(text) + 2);
            number.len() + texts.sum::<usize>()
        };
        while width(&parts) > columns + 1
            && let Some(least) = parts.iter().map(|(rank, ..)| *rank).min()
        {
            parts.retain(|(rank, ..)| *rank != least);
        }
        let mut line = vec![(Tone::Strong, number.as_str())];
        for (nth, (_, tone, text)) in parts.iter().enumerate() {
            line.push((Tone::Plain, if nth == 0 { " " } else { ", " }));
            line.push((*tone, text));
        }
        Line::toned(&line)
    }

    /// What waits for builds that run.
    fn next(&self) -> Vec<Row> {
        let mut next: Vec<(&str, Vec<&str>)> = Vec::new();
        for child in &self.children {
            let Work::Build { needed_by, .. } = &child.work else {
                continue;
            };
            for name in needed_by {
                let (name, input) = (name.as_str(), child.name.as_str());
                match next.iter().position(|(other, _)| *other == name) {
                    Some(at) => next[at].1.push(input),
                    None if next.len() < NEXT_SHOWN => next.push((name, vec![input])),
                    None => {}
                }
            }
        }
        let rows = next.into_iter().map(|(name, after)| Row {
            kind: "then",
            name: name.to_owned(),
            time: String::new(),
            rest: format!("after {}", after.join(", ")),
        });
        rows.collect()
    }
}

impl Child {
    fn running(&self) -> Option<Running> {
        match self.work {
            Work::Build {
                expected, chain, ..
            } => Some(Running {
                elapsed: self.since.elapsed(),
                expected,
                chain,
            }),
            Work::Fetch { .. } => None,
        }
    }

    fn row(&mut self, is_wide: bool) -> Row {
        let mut time = whole_seconds(self.since.elapsed());
        let (kind, rest) = match &mut self.work {
            Work::Build { expected, .. } => {
                if let Some(expected) = expected.filter(|_| is_wide) {
                    time += &format!(" of {}", whole_seconds(expected));
                }
                let parts = match self.has_exited {
                    true => ["", "registering its outputs"],
                    false => [self.phase.as_str(), self.said.as_str()],
                };
                let parts = parts.into_iter().filter(|part| !part.is_empty());
                ("build", parts.collect::<Vec<_>>().join(": "))
            }
            Work::Fetch { transfer, speed } => {
                let text = transfer.as_ref().map(|transfer| speed.describe(transfer));
                ("fetch", text.unwrap_or_else(|| self.said.clone()))
            }
        };
        Row {
            kind,
            name: self.name.clone(),
            time,
            rest,
        }
    }
}

impl Speed {
    /// How much is here, and how fast it comes.
    fn describe(&mut self, transfer: &Transfer) -> String {
        let bytes = transfer.received.load(Ordering::Relaxed);
        let passed = self.since.elapsed();
        if passed >= MEASURED {
            let new = bytes.saturating_sub(self.bytes);
            self.per_second = Some(new as f64 / passed.as_secs_f64());
            (self.since, self.bytes) = (Instant::now(), bytes);
        }
        let speed = match self.per_second {
            Some(per_second) if bytes < transfer.size => {
                format!(", {}/s", size(per_second as u64))
            }
            _ => String::new(),
        };
        format!("{} of {}{speed}", size(bytes), size(transfer.size))
    }
}

impl Wait {
    fn row(&self) -> Row {
        Row {
            kind: "wait",
            name: self.name.clone(),
            time: whole_seconds(self.since.elapsed()),
            rest: self.what.clone(),
        }
    }
}

impl Row {
    fn note(text: String) -> Self {
        Self {
            kind: "",
            name: text,
            time: String::new(),
            rest: String::new(),
        }
    }
}

/// Text of somebody's on one line, as it is shown.
fn plain(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

/// Rows with their names and times below each other.
fn in_columns(rows: &[Row], columns: usize) -> Vec<Line> {
    let names = rows.iter().map(|row| measure_text_width(&row.name));
    let name_width = names.max().unwrap_or(0).min(columns * 2 / 5);
    let times = rows.iter().map(|row| measure_text_width(&row.time));
    let time_width = times.max().unwrap_or(0);
    let line = |row: &Row| {
        let cut = Some("…");
        let name = pad_str(&row.name, name_width, Alignment::Left, cut);
        let time = pad_str(&row.time, time_width, Alignment::Right, None);
        let text = format!("{:5} {name}  {time}  {}", row.kind, row.rest);
        let text = text.trim_end();
        let (kind, text) = text.split_at(row.kind.len());
        Line::toned(&[(Tone::Faint, kind), (Tone::Plain, text)])
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn build(id: u64, name: &'static str) -> BuildRef<'static> {
        BuildRef {
            id,
            drv_path: "/s/x.drv",
            name,
        }
    }

    fn texts(board: &mut Board, rows: usize, columns: usize) -> Vec<String> {
        let lines = board.lines(Size { rows, columns });
        lines.iter().map(|line| line.as_str().to_owned()).collect()
    }

    fn busy() -> Board {
        let mut board = Board::new(false);
        board.counts = Counts {
            expected: 34,
            built: 11,
            failed: 1,
            not_built: 2,
            fetched: 3,
            slots: 2,
            ..Counts::default()
        };
        let outlook = Outlook {
            expected: Some(Duration::from_secs(30)),
            chain: Some(Duration::from_secs(90)),
            needed_by: &["top"],
        };
        board.start(build(1, "first-1.0"), outlook);
        board.start(build(2, "second"), outlook);
        board.set_phase(1, "build\x1b[2JPhase");
        board.say(1, "cc\ta.c \x1b[31mred\x07");
        board.wait(build(3, "third"), None);
        board.start(build(5, "ended"), Outlook::default());
        board.exit(5);
        board.start(build(6, "last"), Outlook::default());
        board.end(6, false);
        board
    }

    #[test]
    fn what_runs_waits_and_comes_next_has_a_line() {
        let mut board = busy();
        board.wait(
            build(3, "third"),
            Some("the lock on 'x', held by process 7"),
        );
        let transfer = Transfer {
            size: 2048,
            received: Arc::default(),
        };
        board.fetch(build(4, "path"), Some(&transfer));
        transfer.received.store(1024, Ordering::Relaxed);
        let lines = texts(&mut board, 20, 100);
        assert_eq!(
            lines,
            [
                "[12/34] 3 fetched, 1 failed, 2 not built, 0 s",
                "build first-1.0  0 s of 30 s  build\\x1b[2JPhase: cc a.c red",
                "build second     0 s of 30 s",
                "fetch path               0 s  1.0 KiB of 2.0 KiB",
                "build ended              0 s  registering its outputs",
                "wait  third              0 s  the lock on 'x', held by process 7",
                "then  top                     after first-1.0, second",
            ]
        );
        for id in [1, 2, 3, 4, 5] {
            board.end(id, true);
        }
        let lines = texts(&mut board, 20, 100);
        assert_eq!(
            lines,
            ["[12/34] 3 fetched, 1 failed, 2 not built, 0 s, 1 s left"]
        );
    }

    #[test]
    fn where_there_is_no_room_the_least_important_is_left_out() {
        let mut board = busy();
        let lines = texts(&mut board, 8, 30);
        assert_eq!(lines[0], "[12/34] 1 failed, 0 s");
        assert!(
            lines[1].starts_with("build first-1.0  0 s  build"),
            "{lines:?}"
        );
        for id in 10..200 {
            board.start(build(id, "more"), Outlook::default());
        }
        for rows in 1..30 {
            let lines = texts(&mut board, rows, 80);
            assert!(lines.len() <= rows, "{rows}: {lines:#?}");
        }
        let lines = texts(&mut board, 8, 80);
        assert_eq!(lines[6].trim_end(), "      and 188 more");
        assert!(lines[7].starts_with("wait  third"), "{lines:#?}");
    }
}
