//! What a policy believes of how long tasks take, as a graph in which they take that long.

use std::fmt;
use std::str::FromStr;

use super::noise::{Draws, Noise};
use super::{TaskGraph, TaskGraphError, TaskId, TimeUnit};

/// What a policy believes.
///
/// As text: `exact`, `measured`, `file`, `kind-mean`, `noise:lognormal:0.3`, `history`, `blind`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Belief {
    /// What happens, noise included.
    Exact,
    /// What the graph says, or was given, before any noise.
    Measured,
    /// The estimates of the graph's file; for tasks without one, what it says they take.
    File,
    /// For each task the mean of all of its kind.
    KindMean,
    /// What the graph says, times a factor that is drawn for each task, apart from those of what
    /// happens.
    Noise(Noise),
    /// What builds took in a store.
    History,
    /// Nothing: all tasks are thought to take the same.
    Blind,
}

impl Belief {
    /// The graph as it is believed to be, if that differs from what is: `measured` is the graph
    /// before any noise. What the history knows is for the caller to find out.
    ///
    /// # Errors
    /// If estimates are asked for and there are none; as [`Noise::apply`].
    pub fn of(self, measured: &TaskGraph, seed: u64) -> Result<Option<TaskGraph>, TaskGraphError> {
        match self {
            Self::Exact | Self::History => Ok(None),
            Self::Measured => Ok(Some(measured.clone())),
            Self::File => estimated(measured).map(Some),
            Self::KindMean => means(measured).map(Some),
            Self::Noise(noise) => noise.apply(measured, seed, Draws::Belief).map(Some),
            Self::Blind => {
                let (count, times) = (measured.len(), seconds(measured).len());
                let nothing = vec![f64::NAN; times];
                let blind = measured.retimed(vec![1; count], vec![1.0; count], nothing);
                blind.map(Some)
            }
        }
    }
}

/// The times on machines that a graph has.
fn seconds(graph: &TaskGraph) -> &[f64] {
    graph
        .demands()
        .map_or(&[], |demands| &demands.times.seconds)
}

/// How many machines those are of.
fn width(graph: &TaskGraph) -> usize {
    let machines = graph.demands().map(|demands| demands.times.machines.len());
    machines.unwrap_or(0).max(1)
}

/// Each task takes what its file estimates.
fn estimated(graph: &TaskGraph) -> Result<TaskGraph, TaskGraphError> {
    let estimate = |task| graph.attributes().and_then(|known| known.estimate(task));
    if graph.tasks().all(|task| estimate(task).is_none()) {
        return Err(TaskGraphError::Unsuitable {
            file: "the graph".to_owned(),
            reason:
                "no task has an estimate that policies could believe; say `--belief measured`, \
                     or give tasks an `estimate`"
                    .to_owned(),
        });
    }
    let units = match graph.unit() {
        TimeUnit::Microseconds => 1e6,
        TimeUnit::Units => 1.0,
    };
    let duration = |task| match estimate(task) {
        Some(estimate) => (estimate * units).round() as u64,
        None => graph.duration(task),
    };
    let work = |task| estimate(task).unwrap_or_else(|| graph.work(task));
    let width = width(graph);
    let share = |at: usize, time: &f64| {
        let task = TaskId::from_index(at / width);
        match graph.work(task) {
            0.0 => *time,
            whole => time * work(task) / whole,
        }
    };
    let times = seconds(graph).iter().enumerate();
    graph.retimed(
        graph.tasks().map(duration).collect(),
        graph.tasks().map(work).collect(),
        times.map(|(at, time)| share(at, time)).collect(),
    )
}

/// Each task takes the mean of its kind; the same for times on machines, of those tasks that have
/// one there.
fn means(graph: &TaskGraph) -> Result<TaskGraph, TaskGraphError> {
    let (kind_of, kinds) = graph.kinds();
    let kind = |task: usize| kind_of[task] as usize;
    let mut counts = vec![0_u64; kinds];
    let (mut durations, mut work) = (vec![0_u128; kinds], vec![0.0_f64; kinds]);
    for task in graph.tasks() {
        let kind = kind(task.index());
        counts[kind] += 1;
        durations[kind] += u128::from(graph.duration(task));
        work[kind] += graph.work(task);
    }
    let width = width(graph);
    let mut times = vec![(0.0, 0_u64); kinds * width];
    let place = |at: usize| kind(at / width) * width + at % width;
    let known = seconds(graph).iter().enumerate();
    for (at, time) in known.clone().filter(|(_, time)| !time.is_nan()) {
        let (sum, count) = &mut times[place(at)];
        *sum += time;
        *count += 1;
    }
    let mean = |(at, time): (usize, &f64)| match time.is_nan() {
        true => f64::NAN,
        false => times[place(at)].0 / times[place(at)].1 as f64,
    };
    let rounded = |kind: usize| {
        let count = u128::from(counts[kind]);
        ((durations[kind] + count / 2) / count) as u64
    };
    graph.retimed(
        (0..graph.len()).map(|task| rounded(kind(task))).collect(),
        (0..graph.len())
            .map(|task| work[kind(task)] / counts[kind(task)] as f64)
            .collect(),
        known.map(mean).collect(),
    )
}

impl FromStr for Belief {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(noise) = text.strip_prefix("noise:") {
            return noise.parse().map(Self::Noise);
        }
        match text {
            "exact" => Ok(Self::Exact),
            "measured" => Ok(Self::Measured),
            "file" => Ok(Self::File),
            "kind-mean" => Ok(Self::KindMean),
            "history" => Ok(Self::History),
            "blind" => Ok(Self::Blind),
            _ => Err(
                "it should be exact, measured, file, kind-mean, noise:lognormal:0.3 (or normal:…, \
                 uniform:…), history or blind"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Belief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Measured => f.write_str("measured"),
            Self::File => f.write_str("file"),
            Self::KindMean => f.write_str("kind-mean"),
            Self::Noise(noise) => write!(f, "noise:{noise}"),
            Self::History => f.write_str("history"),
            Self::Blind => f.write_str("blind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Limits};
    use super::*;
    use windrow_components::task_graph::{Attributes, Demands, Times};

    /// Two of kind `a`, one of kind `b`; estimates for two; times on two machines.
    fn graph() -> TaskGraph {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        for (name, seconds) in [("a1", 1), ("a2", 4), ("b1", 7)] {
            builder
                .add_task(Some(name), Some(seconds * 1_000_000))
                .unwrap();
        }
        let mut graph = builder.finish().unwrap();
        let times = Times {
            machines: ["x", "y"].map(str::to_owned).to_vec(),
            seconds: vec![1.0, 2.0, f64::NAN, 6.0, 7.0, 8.0],
        };
        let demands = Demands {
            times,
            ..Demands::default()
        };
        graph.set_demands(demands).unwrap();
        let attributes = Attributes {
            estimates: vec![2.0, f64::NAN, 14.0],
            ..Attributes::default()
        };
        graph.set_attributes(attributes).unwrap();
        graph
    }

    fn believed(text: &str) -> (Vec<u64>, Vec<f64>, Vec<f64>) {
        let belief: Belief = text.parse().unwrap();
        assert_eq!(belief.to_string(), text);
        let graph = belief.of(&graph(), 1).unwrap().unwrap();
        let durations = graph.tasks().map(|task| graph.duration(task));
        let work = graph.tasks().map(|task| graph.work(task));
        (
            durations.collect(),
            work.collect(),
            seconds(&graph).to_vec(),
        )
    }

    #[test]
    fn beliefs_are_what_they_say() {
        let same = |one: &[f64], other: &[f64]| {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one == other || one.is_nan() && other.is_nan())
        };
        let nan = f64::NAN;
        for (text, durations, seconds) in [
            ("measured", [1, 4, 7], [1.0, 2.0, nan, 6.0, 7.0, 8.0]),
            ("noise:uniform:0", [1, 4, 7], [1.0, 2.0, nan, 6.0, 7.0, 8.0]),
            ("file", [2, 4, 14], [2.0, 4.0, nan, 6.0, 14.0, 16.0]),
        ] {
            let found = believed(text);
            assert_eq!(found.0, durations.map(|time| time * 1_000_000), "{text}");
            assert_eq!(found.1, durations.map(|time| time as f64), "{text}");
            assert!(same(&found.2, &seconds), "{text}: {found:?}");
        }
        let (durations, work, times) = believed("kind-mean");
        assert_eq!(durations, [2_500_000, 2_500_000, 7_000_000]);
        assert_eq!(work, [2.5, 2.5, 7.0]);
        assert!(same(&times, &[1.0, 4.0, nan, 4.0, 7.0, 8.0]), "{times:?}");
        let (durations, work, times) = believed("blind");
        assert_eq!((durations, work), (vec![1; 3], vec![1.0; 3]));
        assert!(times.iter().all(|time| time.is_nan()));
        let noisy = believed("noise:lognormal:0.5");
        assert_ne!(noisy.0, believed("measured").0);
        assert!(Belief::Exact.of(&graph(), 1).unwrap().is_none());
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["", "mean", "noise", "noise:", "noise:gamma:1", "exact:1"] {
            assert!(text.parse::<Belief>().is_err(), "{text}");
        }
        let mut plain = graph();
        plain.set_attributes(Attributes::default()).unwrap();
        let message = Belief::File.of(&plain, 1).unwrap_err().to_string();
        assert!(message.contains("no task has an estimate"), "{message}");
    }
}
