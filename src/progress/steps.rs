//! A line on terminals about long work that is not a build: what is done, how much of it, how fast,
//! and how long it will take still. Nothing is shown of what is over within a second.

use std::time::Duration;

use windrow_components::progress::{Work, under_way};

use super::summary::whole_seconds;
use crate::terminal::{Line, Live, Tone};

/// How long work takes before it is spoken of.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows what is under way, as long as this lives.
pub struct Steps(Option<Live>);

impl Steps {
    /// From now on, if standard error is a terminal.
    #[expect(clippy::new_without_default, reason = "what it does is no default")]
    pub fn new() -> Self {
        Self(Live::begin(|_| {
            let work = under_way();
            let work = work.filter(|work| work.began.elapsed() >= PATIENCE);
            let text = work.map(|work| text(&work, work.began.elapsed()));
            Vec::from_iter(text.map(|text| Line::toned(&[(Tone::Plain, &text)])))
        }))
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        // Before what is printed next.
        drop(self.0.take());
    }
}

/// What is said of work after so much time.
fn text(work: &Work, time: Duration) -> String {
    let (what, unit, done) = (&work.what, work.unit, work.done());
    if done == 0 {
        return format!("{what}, {}", whole_seconds(time));
    }
    let rate = done as f64 / time.as_secs_f64();
    let rate = format!("{}/s", grouped(rate as u64));
    let Some(total) = work.total else {
        return format!("{what}: {} {unit}, {rate}", grouped(done));
    };
    let left = total.saturating_sub(done) as f64 / done as f64 * time.as_secs_f64();
    let left = whole_seconds(Duration::from_secs(left.ceil() as u64));
    let (done, total) = (grouped(done), grouped(total));
    format!("{what}: {done} of {total} {unit}, {rate}, {left} left")
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use windrow_components::progress::{add, begin};

    use super::*;

    #[test]
    fn rate_and_time_left_are_told_where_they_are_known() {
        let _writing = begin("writing derivations", "derivations", Some(100_000));
        let after = Duration::from_secs(2);
        let told = || text(&under_way().unwrap(), after);
        assert_eq!(told(), "writing derivations, 2 s");
        add(40_000);
        let expected = "writing derivations: 40,000 of 100,000 derivations, 20,000/s, 3 s left";
        assert_eq!(told(), expected);
        let _reading = begin("reading g.json", "tasks", None);
        add(999);
        assert_eq!(told(), "reading g.json: 999 tasks, 499/s");
    }
}
