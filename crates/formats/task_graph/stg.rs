//! Reads files of the Standard Task Graph Set: a count, then a line a task with its time and its
//! predecessors. The dummy entry and exit tasks and their edges are dropped; tasks keep their
//! numbers as names.

use super::{Builder, Limits, MAX_DURATION, Place, TaskGraph, TaskGraphError, TaskId, TimeUnit};

/// Reads a graph.
///
/// # Errors
/// If the file is malformed or cut, or holds no valid graph.
pub(super) fn load(file: &str, text: &[u8], limits: Limits) -> Result<TaskGraph, TaskGraphError> {
    let mut words = Words {
        file,
        text,
        pos: 0,
        start: 0,
    };
    let count = words.number("the number of tasks")?;
    if count >= u64::from(u32::MAX) - 1 {
        return Err(words.wrong(format!("{count} tasks are more than can be named")));
    }
    let exit = count + 1;
    let mut builder = Builder::new(file, TimeUnit::Units, limits);
    for number in 0..=exit {
        if words.number("the number of the task")? != number {
            return Err(words.wrong(format!("task {number} of 0 to {exit} should stand here")));
        }
        let dummy = number == 0 || number == exit;
        let duration = words.duration(number)?;
        if dummy && duration != 0 {
            return Err(words.wrong(format!("the dummy task {number} should take no time")));
        }
        let predecessors = words.number("the number of predecessors")?;
        if number == 0 && predecessors != 0 {
            return Err(words.wrong("the entry task 0 should have no predecessors".to_owned()));
        }
        if !dummy {
            builder.add_task(Some(&number.to_string()), Some(duration))?;
        }
        for _ in 0..predecessors {
            let predecessor = words.number("a predecessor")?;
            if predecessor >= exit {
                return Err(TaskGraphError::DanglingEdge {
                    origin: words.place().to_string(),
                    task: number.to_string(),
                    missing: predecessor.to_string(),
                });
            }
            if !dummy && predecessor != 0 {
                let predecessor = TaskId::from_index(predecessor as usize - 1);
                builder.add_edge(predecessor, TaskId::from_index(number as usize - 1))?;
            }
        }
    }
    if let Some(word) = words.next() {
        let word = String::from_utf8_lossy(word).into_owned();
        return Err(words.wrong(format!("`{word}` stands after the last task")));
    }
    builder.finish()
}

/// The words of a file, without the comments that run from `#` to the end of a line.
struct Words<'t> {
    file: &'t str,
    text: &'t [u8],
    pos: usize,
    /// Where the latest word began.
    start: usize,
}

impl<'t> Words<'t> {
    fn next(&mut self) -> Option<&'t [u8]> {
        loop {
            while self.text.get(self.pos).is_some_and(u8::is_ascii_whitespace) {
                self.pos += 1;
            }
            if self.text.get(self.pos) != Some(&b'#') {
                break;
            }
            let comment = &self.text[self.pos..];
            self.pos += memchr::memchr(b'\n', comment).unwrap_or(comment.len());
        }
        self.start = self.pos;
        let rest = &self.text[self.pos..];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'#';
        self.pos += rest.iter().position(ends).unwrap_or(rest.len());
        (self.pos > self.start).then(|| &self.text[self.start..self.pos])
    }

    fn word(&mut self, what: &str) -> Result<&'t str, TaskGraphError> {
        match self.next() {
            None => Err(self.wrong(format!("the file ends where {what} should stand"))),
            Some(word) => std::str::from_utf8(word)
                .map_err(|_| self.wrong(format!("{what} should stand here, not binary data"))),
        }
    }

    fn number(&mut self, what: &str) -> Result<u64, TaskGraphError> {
        let word = self.word(what)?;
        word.parse().map_err(|_| {
            self.wrong(format!(
                "{what} should stand here, not `{}`",
                word.escape_debug()
            ))
        })
    }

    fn duration(&mut self, number: u64) -> Result<u64, TaskGraphError> {
        let word = self.word("a processing time")?;
        let (origin, task) = (self.place().to_string(), number.to_string());
        let duration = word.escape_debug().to_string();
        let value = word.parse::<f64>().ok();
        let whole = value.filter(|value| (0.0..=MAX_DURATION as f64).contains(value));
        match (word.parse::<u64>(), whole) {
            (Ok(units), _) if units <= MAX_DURATION => Ok(units),
            (Err(_), Some(value)) if value.fract() == 0.0 => Ok(value as u64),
            (Err(_), Some(_)) => Err(self.wrong(format!(
                "task `{task}` has the duration {duration}, but processing times are whole numbers \
                 here; count them in a smaller unit"
            ))),
            _ if value.is_some_and(|value| value < 0.0) => Err(TaskGraphError::NegativeDuration {
                origin,
                task,
                duration,
            }),
            _ => Err(TaskGraphError::AbsurdDuration {
                origin,
                task,
                duration,
            }),
        }
    }

    fn place(&self) -> Place {
        Place::of_offset(self.file, self.text, self.start)
    }

    fn wrong(&self, reason: String) -> TaskGraphError {
        TaskGraphError::Malformed {
            place: self.place(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "3\n0 0 0\n1 5 1 0\n2 7 1 0\n3 2 2 1 2\n4 0 1 3\n# by hand\n";

    fn read(text: &str) -> Result<TaskGraph, TaskGraphError> {
        load("a.stg", text.as_bytes(), Limits::default())
    }

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn dummies_are_dropped() {
        let graph = read(SMALL).unwrap();
        let stats = graph.stats();
        assert_eq!(
            (stats.tasks, stats.edges, stats.work, stats.critical_path),
            (3, 2, 14, 9)
        );
        assert_eq!(graph.name(TaskId::from_u32(2)), "3");
        assert_eq!(graph.unit(), TimeUnit::Units);
    }

    #[test]
    fn whole_numbers_may_be_written_as_others() {
        for word in ["5.0", "5e0", "05", "50e-1"] {
            let graph = read(&SMALL.replace("1 5 1 0", &format!("1 {word} 1 0"))).unwrap();
            assert_eq!(graph.stats().work, 14, "{word}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_before_its_last_number_is_refused() {
        let last = SMALL.rfind("3\n#").unwrap();
        for cut in 0..last {
            assert!(read(&SMALL[..cut]).is_err(), "cut at {cut}");
        }
        assert!(refusal("3\n0 0 0\n1 5").contains("a.stg:3:4: the file ends where"));
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (from, to, wanted) in [
            (
                "1 5 1 0",
                "1 -5 1 0",
                "a.stg:3:3: task `1` has the negative duration -5",
            ),
            (
                "1 5 1 0",
                "1 nan 1 0",
                "a.stg:3:3: task `1` has the duration nan, which",
            ),
            ("1 5 1 0", "1 99999999999999999 1 0", "beyond reason"),
            ("1 5 1 0", "1 1e300 1 0", "beyond reason"),
            (
                "1 5 1 0",
                "1 5.5 1 0",
                "a.stg:3:3: task `1` has the duration 5.5, but processing times are whole numbers",
            ),
            ("1 5 1 0", "1 -0.5 1 0", "negative duration -0.5"),
            ("3 2 2 1 2", "3 2 2 1 9", "a.stg:5:9: task `3` names `9`"),
            ("3 2 2 1 2", "3 2 2 1 4", "a.stg:5:9: task `3` names `4`"),
            (
                "1 5 1 0",
                "1 5 1 3",
                "cycle, each task needs the next: 1 -> 3 -> 1",
            ),
            (
                "2 7 1 0",
                "2 7 1 x",
                "a.stg:4:7: a predecessor should stand here, not `x`",
            ),
            (
                "2 7 1 0",
                "8 7 1 0",
                "a.stg:4:1: task 2 of 0 to 4 should stand here",
            ),
            (
                "2 7 1 0",
                "2 7 1 \u{b}",
                "a predecessor should stand here, not `\\u{b}`",
            ),
            ("1 5 1 0", "1 \u{1b} 1 0", "has the duration \\u{1b}, which"),
            ("4 0 1 3", "4 9 1 3", "a.stg:6:3: the dummy task 4"),
            (
                "# by hand",
                "7",
                "a.stg:7:1: `7` stands after the last task",
            ),
        ] {
            let message = refusal(&SMALL.replace(from, to));
            assert!(message.contains(wanted), "{message}");
        }
    }
}
