//! Durations from a file: a line a task, or the log that ninja keeps. Reads text that it is given;
//! which tasks it is about is looked up by name.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::distribution::time;
use super::load::refuse_byte_order_mark;
use super::{MAX_DURATION, Place, TaskGraph, TaskGraphError, TaskId, TimeUnit, spelt, unspelt};

/// How the first line of a `.ninja_log` begins.
const NINJA_LOG: &[u8] = b"# ninja log v";

/// The versions of that log whose lines are known.
const NINJA_VERSIONS: std::ops::RangeInclusive<u32> = 4..=7;

/// Gives a graph durations from a file, which are counted in microseconds from then on. `file` is
/// what messages call it. Returns how many tasks the file does not name.
///
/// A line is a duration, blanks, and the name of a task: `1.5s obj/main.o`. Durations are decimal
/// numbers with `us`, `ms`, `s`, `m` or `h`; seconds if nothing stands there. `*` stands for all
/// tasks that no line names. Empty lines and those that begin with `#` are skipped. Without a `*`,
/// unnamed tasks keep the durations they have in microseconds; a graph that has none must have
/// every task named.
///
/// A file that begins as `.ninja_log` does is read as one: the latest entry of an output counts,
/// and tasks without an entry take no time, or what they took before.
///
/// # Errors
/// If a line is malformed, names no task or one named before, or has a duration that is negative or
/// above [`MAX_DURATION`]; if tasks are left without a duration; if all add up to more than 64 bits
/// hold.
pub fn read_durations(
    graph: &mut TaskGraph,
    file: &str,
    text: &[u8],
) -> Result<usize, TaskGraphError> {
    refuse_byte_order_mark(file, text)?;
    let is_log = text.starts_with(NINJA_LOG);
    let found = if is_log {
        ninja_log(graph, file, text)?
    } else {
        lines(graph, file, text)?
    };
    let unnamed = found.iter().filter(|duration| duration.is_none()).count();
    let has_own = graph.has_durations() && graph.unit() == TimeUnit::Microseconds;
    if unnamed > 0 && !has_own && !is_log {
        let first = found.iter().position(Option::is_none).unwrap_or_default();
        let name = graph.name(TaskId::from_index(first)).into_owned();
        return Err(TaskGraphError::Unsuitable {
            file: file.to_owned(),
            reason: format!(
                "{unnamed} of {} tasks have no duration, `{name}` for one; a line `1s *` gives one to all \
                 that have none",
                graph.len()
            ),
        });
    }
    let own = |index: usize| {
        let task = TaskId::from_index(index);
        if has_own { graph.duration(task) } else { 0 }
    };
    let durations = found
        .into_iter()
        .enumerate()
        .map(|(index, found)| found.unwrap_or_else(|| own(index)))
        .collect();
    graph.set_durations(TimeUnit::Microseconds, durations)?;
    Ok(unnamed)
}

/// The tasks by name. Of two that share one, the first counts.
struct Names<'g>(HashMap<Cow<'g, [u8]>, usize>);

impl<'g> Names<'g> {
    fn of(graph: &'g TaskGraph) -> Self {
        let mut names = HashMap::with_capacity(graph.len());
        for task in graph.tasks() {
            names.entry(graph.name_bytes(task)).or_insert(task.index());
        }
        Self(names)
    }

    /// The task of that name, as it is or as it is spelt.
    fn find(&self, name: &[u8]) -> Option<usize> {
        let spelt = || {
            let name = unspelt(str::from_utf8(name).ok()?);
            self.0.get(&*name)
        };
        self.0.get(name).or_else(spelt).copied()
    }
}

/// The lines, counted from 1, without what ends them.
fn numbered(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    lines.map(|(index, line)| (index + 1, without_returns(line)))
}

/// A field that is text.
fn text_of<'t>(file: &str, number: usize, field: &'t [u8]) -> Result<&'t str, TaskGraphError> {
    str::from_utf8(field).map_err(|_| malformed(file, number, "this is not UTF-8 text"))
}

fn without_returns(mut line: &[u8]) -> &[u8] {
    while let [before @ .., b'\r'] = line {
        line = before;
    }
    line
}

fn malformed(file: &str, line: usize, reason: impl Into<String>) -> TaskGraphError {
    TaskGraphError::Malformed {
        place: place(file, line),
        reason: reason.into(),
    }
}

fn place(file: &str, line: usize) -> Place {
    let file = file.to_owned();
    Place {
        file,
        line,
        column: 0,
    }
}

fn lines(graph: &TaskGraph, file: &str, text: &[u8]) -> Result<Vec<Option<u64>>, TaskGraphError> {
    let names = Names::of(graph);
    let mut found = vec![None; graph.len()];
    let mut rest = None;
    for (number, line) in numbered(text) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let Some(blank) = line.iter().position(u8::is_ascii_whitespace) else {
            let line = spelt(line);
            let reason =
                format!("a duration and the name of a task should stand here, not `{line}`");
            return Err(malformed(file, number, reason));
        };
        let duration = text_of(file, number, &line[..blank])?;
        let name = line[blank..].trim_ascii_start();
        let place = place(file, number).to_string();
        let (task, text) = (spelt(name).into_owned(), duration.to_owned());
        let duration = if duration.starts_with('-') && time(&duration[1..], "s").is_ok() {
            return Err(TaskGraphError::NegativeDuration {
                origin: place,
                task,
                duration: text,
            });
        } else {
            time(duration, "s").map_err(|reason| malformed(file, number, reason))?
        };
        let slot = if name == b"*" {
            &mut rest
        } else {
            let index = names.find(name).ok_or_else(|| {
                let reason = format!("the graph has no task `{}`", spelt(name));
                malformed(file, number, reason)
            })?;
            &mut found[index]
        };
        if slot.replace(duration).is_some() {
            let reason = format!("`{}` has a duration already", spelt(name));
            return Err(malformed(file, number, reason));
        }
    }
    if rest.is_some() {
        found.iter_mut().for_each(|slot| *slot = slot.or(rest));
    }
    Ok(found)
}

/// Start and end in milliseconds, modification time, output, hash of the command; separated by
/// tabs.
fn ninja_log(
    graph: &TaskGraph,
    file: &str,
    text: &[u8],
) -> Result<Vec<Option<u64>>, TaskGraphError> {
    let names = Names::of(graph);
    let mut found = vec![None; graph.len()];
    for (number, line) in numbered(text) {
        if number == 1 {
            let version = text_of(file, number, &line[NINJA_LOG.len()..])?.trim();
            if !version
                .parse()
                .is_ok_and(|version| NINJA_VERSIONS.contains(&version))
            {
                let reason = format!("version `{version}` of ninja's log is not known; 4 to 7 are");
                return Err(malformed(file, number, reason));
            }
            continue;
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        let [start, end, _, output, _] = fields[..] else {
            let reason =
                "five fields should stand here: start, end, modification time, output, hash";
            return Err(malformed(file, number, reason));
        };
        let milliseconds = |text: &[u8]| {
            let time = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            time.ok_or_else(|| {
                let text = spelt(text);
                let reason = format!("a time in milliseconds should stand here, not `{text}`");
                malformed(file, number, reason)
            })
        };
        let (start, end): (u64, u64) = (milliseconds(start)?, milliseconds(end)?);
        // An entry that no task of the graph has is left from an older graph.
        let Some(index) = names.find(output) else {
            continue;
        };
        let duration = || format!("{start} to {end} ms");
        let (origin, task) = (place(file, number).to_string(), spelt(output).into_owned());
        let Some(took) = end.checked_sub(start) else {
            return Err(TaskGraphError::NegativeDuration {
                origin,
                task,
                duration: duration(),
            });
        };
        match took.checked_mul(1_000).filter(|&took| took <= MAX_DURATION) {
            Some(took) => found[index] = Some(took),
            None => {
                return Err(TaskGraphError::AbsurdDuration {
                    origin,
                    task,
                    duration: duration(),
                });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::task_graph::{Builder, Limits};

    fn graph(own: Option<[u64; 3]>) -> TaskGraph {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        for (index, name) in ["a", "b.o", "with blank"].into_iter().enumerate() {
            builder
                .add_task(Some(name), own.map(|own| own[index]))
                .unwrap();
        }
        builder.finish().unwrap()
    }

    fn durations(graph: &TaskGraph) -> Vec<u64> {
        graph.tasks().map(|task| graph.duration(task)).collect()
    }

    #[test]
    fn lines_name_tasks() {
        let mut named = graph(None);
        let text = b"# made by hand\n\n  1.5 a\r\n20ms\tb.o\n1m   with blank\n";
        assert_eq!(read_durations(&mut named, "d", text).unwrap(), 0);
        assert_eq!(durations(&named), [1_500_000, 20_000, 60_000_000]);
        assert_eq!(named.unit(), TimeUnit::Microseconds);

        let mut rest = graph(None);
        assert_eq!(read_durations(&mut rest, "d", b"2s *\n1s b.o").unwrap(), 0);
        assert_eq!(durations(&rest), [2_000_000, 1_000_000, 2_000_000]);

        let mut own = graph(Some([7, 8, 9]));
        assert_eq!(read_durations(&mut own, "d", b"1us b.o").unwrap(), 2);
        assert_eq!(durations(&own), [7, 1, 9]);
    }

    #[test]
    fn names_are_bytes() {
        let graph = || {
            let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
            for name in [&b"caf\xe9.o"[..], b"caf\xe8.o"] {
                builder.add_task_bytes(Some(name), None).unwrap();
            }
            builder.finish().unwrap()
        };
        for text in [
            &b"1s caf\xe9.o\n2s caf\xe8.o\n"[..],
            b"1s caf\\xe9.o\n2s caf\\xe8.o\r\n",
            b"# ninja log v5\n0\t1000\t0\tcaf\xe9.o\tf\n0\t2000\t0\tcaf\xe8.o\tf\n\
              0\t1\t0\tcaf\xea.o\tf\n",
        ] {
            let mut graph = graph();
            assert_eq!(read_durations(&mut graph, "d", text).unwrap(), 0);
            assert_eq!(durations(&graph), [1_000_000, 2_000_000]);
        }
        for (text, expected) in [
            (
                &b"1s caf\xea.o\n"[..],
                r"d:1: the graph has no task `caf\xea.o`",
            ),
            (
                b"1s caf\xe9.o\n1s caf\xe9.o\n",
                r"d:2: `caf\xe9.o` has a duration",
            ),
            (b"1s caf\xe9.o\n", r"`caf\xe8.o` for one"),
            (
                b"\xef\xbb\xbf1s *\n",
                "d:1:1: the file begins with a byte order mark",
            ),
        ] {
            let error = read_durations(&mut graph(), "d", text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, expected) in [
            (
                "1s a\n1s",
                "d:2: a duration and the name of a task should stand here, not `1s`",
            ),
            ("1s a\n\nx b.o\n", "d:3: `x` is no unit of time"),
            ("1s c\n", "d:1: the graph has no task `c`"),
            ("1s a\n2s a\n", "d:2: `a` has a duration already"),
            ("1s *\n2s *\n", "d:2: `*` has a duration already"),
            ("-1s a\n", "d:1: task `a` has the negative duration -1s"),
            ("1e30s a\n", "d:1: `1e30s` is"),
            ("2000000h a\n", "above 1,000,000,000 seconds"),
            ("nan a\n", "d:1: `nan` is"),
            ("1y a\n", "`y` is no unit of time"),
            ("1s a\n", "d: 2 of 3 tasks have no duration, `b.o` for one"),
            ("", "d: 3 of 3 tasks have no duration"),
        ] {
            let error = read_durations(&mut graph(None), "d", text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let error = read_durations(&mut graph(None), "d", b"1s a\n\xff b\n").unwrap_err();
        assert!(
            error.to_string().starts_with("d:2: this is not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn ninjas_log_is_understood() {
        let mut built = graph(None);
        let log = b"# ninja log v5\n0\t10\t0\ta\tffff\n5\t9\t0\told.o\tffff\n10\t35\t0\tb.o\tffff\n0\t30\t0\ta\tffff\n";
        assert_eq!(read_durations(&mut built, ".ninja_log", log).unwrap(), 1);
        assert_eq!(durations(&built), [30_000, 25_000, 0]);
        for (text, expected) in [
            (
                "# ninja log v99\n",
                ":1: version `99` of ninja's log is not known",
            ),
            ("# ninja log v5\n0\t10\t0\ta\n", ":2: five fields"),
            (
                "# ninja log v5\n0\tx\t0\ta\tf\n",
                ":2: a time in milliseconds should stand here, not `x`",
            ),
            (
                "# ninja log v5\n9\t1\t0\ta\tf\n",
                ":2: task `a` has the negative duration 9 to 1 ms",
            ),
            (
                "# ninja log v5\n0\t9999999999999999\t0\ta\tf\n",
                "beyond reason",
            ),
        ] {
            let error = read_durations(&mut graph(None), "l", text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
