//! A run as a report sees it: what ran where from when to when, what that waited for, and what came
//! of it. The same for builds and for simulations.

use crate::time::Unit;

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A builder, or a task of a simulation.
    Build,
    /// A fetch of a path, or a download of a simulation.
    Fetch,
    /// A build that a hook ran elsewhere.
    Hook,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Good,
    /// It failed.
    Failed,
    /// It was ended before it was done: nobody wanted it any more, or the run was interrupted.
    Cancelled,
}

/// Something that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What, by its place in [`Report::names`](crate::page::Report::names).
    pub name: u32,
    /// Where, by its place among all lanes of the run.
    pub lane: u32,
    /// Further lanes that it took: the other cores of a machine.
    pub more_lanes: Vec<u32>,
    /// From when, in the run's unit.
    pub start: u64,
    /// Until when; not before `start`.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
    /// How it ended.
    pub verdict: Verdict,
    /// Its processor time, in microseconds, if that is known.
    pub cpu: Option<u64>,
    /// The most memory that it had, in bytes, if that is known.
    pub memory: Option<u64>,
}

impl Span {
    /// How long it ran, in the run's unit.
    pub const fn length(&self) -> u64 {
        self.end - self.start
    }

    /// How many lanes it took.
    pub const fn lanes(&self) -> u64 {
        1 + self.more_lanes.len() as u64
    }
}

/// Lanes that belong together: all slots, or the cores of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneGroup {
    /// What they are called together.
    pub name: String,
    /// What one of them is called; its number stands behind it.
    pub lane: String,
    /// How many there are.
    pub count: u32,
    /// Whether their use counts as utilisation.
    pub counts: bool,
}

/// A failure with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub name: String,
    /// Why.
    pub message: String,
    /// The end of its log, line by line, as it was written.
    pub log: Vec<String>,
}

/// How a figure of the head is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As a figure.
    Plain,
    /// As good news.
    Good,
    /// As bad news.
    Bad,
}

impl Tone {
    /// Its name in the style sheet.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// A figure of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Of what.
    pub label: String,
    /// The figure.
    pub value: String,
    /// What explains it; may be empty.
    pub note: String,
    /// How it is to be taken.
    pub tone: Tone,
}

impl Figure {
    /// A figure that is neither good nor bad.
    pub fn new(label: &str, value: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            label: label.to_owned(),
            value: value.into(),
            note: note.into(),
            tone: Tone::Plain,
        }
    }

    /// The same as good or bad news.
    #[must_use]
    pub fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// A run: what [`Run::new`] makes of its spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What it is called among other runs.
    pub name: String,
    /// What times are counted in.
    pub unit: Unit,
    /// Where things run, as far as something ran there.
    pub groups: Vec<LaneGroup>,
    /// How many lanes there were whose use counts, also those where nothing ran; 0 if that is not
    /// known.
    pub capacity: u64,
    /// Figures of the head that only the caller knows, in order.
    pub figures: Vec<Figure>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Names of what was not run because of these, the first of them.
    pub not_run: Vec<String>,
    /// What the memory of its spans is.
    pub memory_is: &'static str,
    /// In the order of their starts.
    spans: Vec<Span>,
    /// For each span, the one that it needed and that ended last.
    after: Vec<Option<u32>>,
    chain: Vec<u32>,
    longest: u64,
}

/// Spans and which needs which: `(needing, needed)`, by their places.
pub type Needs = Vec<(u32, u32)>;

impl Run {
    /// A run of these spans, in any order. A pair in `needs` of which the one needed had not ended
    /// when the needing one began has no effect: it was not what that waited for.
    pub fn new(name: impl Into<String>, unit: Unit, spans: Vec<Span>, needs: Needs) -> Self {
        let mut order: Vec<u32> = (0..spans.len() as u32).collect();
        order.sort_by_key(|&at| (spans[at as usize].start, spans[at as usize].end));
        let mut place = vec![0_u32; spans.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old as usize] = new as u32;
        }
        let mut old: Vec<Option<Span>> = spans.into_iter().map(Some).collect();
        let taken = order.iter().filter_map(|&at| old[at as usize].take());
        let spans: Vec<Span> = taken.collect();
        let mut needs: Needs = needs
            .into_iter()
            .map(|(needing, needed)| (place[needing as usize], place[needed as usize]))
            .filter(|&(needing, needed)| {
                needed < needing && spans[needed as usize].end <= spans[needing as usize].start
            })
            .collect();
        needs.sort_unstable();
        let (after, longest) = chains(&spans, &needs);
        let chain = match needs.is_empty() {
            // Nothing is known to have waited for anything.
            true => Vec::new(),
            false => last_chain(&spans, &after),
        };
        Self {
            name: name.into(),
            unit,
            groups: Vec::new(),
            capacity: 0,
            figures: Vec::new(),
            failures: Vec::new(),
            not_run: Vec::new(),
            memory_is: "",
            spans,
            after,
            chain,
            longest,
        }
    }

    /// What ran, in the order of the starts.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Of what a span needed, the one that ended last; by place in [`spans`](Self::spans).
    pub fn after(&self, span: u32) -> Option<u32> {
        self.after[span as usize]
    }

    /// The critical path of what happened: the span that ended last, before it the one it waited
    /// for longest, and so on; by place in [`spans`](Self::spans), the first one first.
    pub fn critical_path(&self) -> &[u32] {
        &self.chain
    }

    /// The time that the longest chain of needs takes without any wait: no number of lanes could
    /// have ended sooner.
    pub fn longest_chain(&self) -> u64 {
        self.longest
    }

    /// When the last span ended.
    pub fn end(&self) -> u64 {
        self.spans.iter().map(|span| span.end).max().unwrap_or(0)
    }

    /// For each lane whether its use counts.
    fn counted_lanes(&self) -> Vec<bool> {
        let groups = self.groups.iter();
        groups
            .flat_map(|group| std::iter::repeat_n(group.counts, group.count as usize))
            .collect()
    }

    /// The share of all lanes' time that something ran, where that counts.
    pub fn utilisation(&self) -> f64 {
        let counted = self.counted_lanes();
        let counts = |span: &&Span| counted.get(span.lane as usize) == Some(&true);
        let spans = self.spans.iter().filter(counts);
        let busy: f64 = spans
            .map(|span| span.length() as f64 * span.lanes() as f64)
            .sum();
        let room = self.end() as f64 * self.capacity as f64;
        if room > 0.0 { busy / room } else { 0.0 }
    }

    /// How long a span waited before it began, after all that it needed was there.
    pub fn wait(&self, span: u32) -> u64 {
        let ready = self.after(span).map_or(0, |it| self.spans[it as usize].end);
        self.spans[span as usize].start - ready
    }
}

/// What each span waited for, and the time of the longest chain.
fn chains(spans: &[Span], needs: &[(u32, u32)]) -> (Vec<Option<u32>>, u64) {
    let mut after: Vec<Option<u32>> = vec![None; spans.len()];
    // What a span needs stands before it, so its own time is known when it is asked for.
    let mut time: Vec<u64> = vec![0; spans.len()];
    let mut needs = needs.iter().peekable();
    for at in 0..spans.len() {
        let mut before = 0;
        while let Some(&(_, needed)) = needs.next_if(|(needing, _)| *needing as usize == at) {
            before = before.max(time[needed as usize]);
            let end = |it: u32| spans[it as usize].end;
            if after[at].is_none_or(|best| end(best) < end(needed)) {
                after[at] = Some(needed);
            }
        }
        time[at] = before + spans[at].length();
    }
    let longest = time.into_iter().max().unwrap_or(0);
    (after, longest)
}

fn last_chain(spans: &[Span], after: &[Option<u32>]) -> Vec<u32> {
    let last = (0..spans.len() as u32).max_by_key(|&at| spans[at as usize].end);
    let mut chain: Vec<u32> = std::iter::successors(last, |&at| after[at as usize]).collect();
    chain.reverse();
    chain
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn span(name: u32, lane: u32, start: u64, end: u64) -> Span {
        Span {
            name,
            lane,
            more_lanes: Vec::new(),
            start,
            end,
            kind: Kind::Build,
            verdict: Verdict::Good,
            cpu: None,
            memory: None,
        }
    }

    #[test]
    fn the_critical_path_is_what_the_end_waited_for() {
        // b and c need a, d needs b and c; e needs nothing and ends before d.
        let spans = vec![
            span(3, 0, 70, 90),
            span(0, 0, 0, 10),
            span(1, 0, 10, 20),
            span(2, 1, 15, 60),
            span(4, 2, 0, 80),
        ];
        let mut run = Run::new(
            "x",
            Unit::Seconds,
            spans,
            vec![(0, 2), (0, 3), (2, 1), (3, 1)],
        );
        let names: Vec<u32> = run
            .critical_path()
            .iter()
            .map(|&at| run.spans()[at as usize].name)
            .collect();
        assert_eq!(names, [0, 2, 3]);
        let waits: Vec<u64> = run.critical_path().iter().map(|&at| run.wait(at)).collect();
        assert_eq!(waits, [0, 5, 10]);
        assert_eq!((run.longest_chain(), run.end()), (80, 90));
        run.groups.push(LaneGroup {
            name: "slots".to_owned(),
            lane: "slot".to_owned(),
            count: 3,
            counts: true,
        });
        run.capacity = 3;
        assert!((run.utilisation() - 165.0 / 270.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_that_ran_has_no_critical_path() {
        let run = Run::new("x", Unit::Seconds, Vec::new(), Vec::new());
        assert_eq!(
            (run.critical_path(), run.end(), run.utilisation()),
            (&[][..], 0, 0.0)
        );
    }

    proptest! {
        #[test]
        fn chains_follow_needs_and_never_go_back_in_time(
            lengths in proptest::collection::vec((0..50_u64, 0..50_u64), 1..60),
            needs in proptest::collection::vec((0..60_u32, 0..60_u32), 0..200),
        ) {
            let count = lengths.len() as u32;
            let spans: Vec<Span> = (0..).zip(&lengths).map(|(at, &(start, length))| span(at, at, start, start + length)).collect();
            let needs: Needs = needs.into_iter().map(|(a, b)| (a % count, b % count)).collect();
            let run = Run::new("x", Unit::Seconds, spans, needs.clone());
            for pair in run.critical_path().windows(2) {
                let (before, it) = (&run.spans()[pair[0] as usize], &run.spans()[pair[1] as usize]);
                prop_assert!(before.end <= it.start);
                prop_assert!(needs.contains(&(it.name, before.name)));
            }
            if let Some(last) = run.critical_path().last() {
                prop_assert_eq!(run.spans()[*last as usize].end, run.end());
            }
            let path: u64 = run.critical_path().iter().map(|&at| run.spans()[at as usize].length()).sum();
            prop_assert!(path <= run.longest_chain() && run.longest_chain() <= run.end());
        }
    }
}
