//! How far what happens is from what was measured: factors by which durations are multiplied, of
//! mean 1, drawn for each task by itself. The same on every machine.

use std::fmt;
use std::str::FromStr;

use super::random::{Random, exp, ln};
use super::{MAX_DURATION, TaskGraph, TaskGraphError, TimeUnit};

/// The distribution of a factor whose mean is 1.
///
/// As text: `lognormal:0.3`, `normal:0.1`, `uniform:0.2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// e^(sigma z) over the mean of that, where z is nearly normal: the sum of twelve uniform
    /// numbers less six. The parameter is sigma, the deviation of the logarithm, from 0 to 3.
    LogNormal(f64),
    /// 1 + sigma z, where z is cut off on both sides so that no factor is below 0, and none above
    /// 2. The parameter is sigma, the deviation, from 0 to 1.
    Normal(f64),
    /// From 1 - w to 1 + w, all equally likely. The parameter is w, from 0 to 1.
    Uniform(f64),
}

/// What factors are drawn for. Those for one are independent of those for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draws {
    /// What happens.
    Truth = 3,
    /// What is believed.
    Belief = 4,
    /// When machines fail, and come back.
    Outages = 5,
}

/// A number of the exponential distribution of mean 1: it depends on the seed and its place among
/// those that are drawn for the same purpose alone.
pub fn exponential(seed: u64, draws: Draws, place: usize) -> f64 {
    -ln(of_task(seed, draws, place).fraction())
}

impl Noise {
    /// The factor of a task: it depends on the seed and the task's place in the graph alone.
    pub fn factor(self, seed: u64, draws: Draws, task: usize) -> f64 {
        let mut random = of_task(seed, draws, task);
        match self {
            Self::LogNormal(sigma) => exp(sigma * random.normal()) / mean_of_exp(sigma),
            Self::Normal(sigma) => 1.0 + (sigma * random.normal()).clamp(-1.0, 1.0),
            Self::Uniform(width) => 1.0 - width + 2.0 * width * random.fraction(),
        }
    }

    /// The same graph, in which each task takes as long as it does times a factor. Where durations
    /// are whole numbers of abstract units, each is rounded up or down by chance, so that the mean
    /// stays; work on machines keeps all its digits.
    ///
    /// # Errors
    /// If a duration gets too long, or all together do.
    pub fn apply(
        self,
        graph: &TaskGraph,
        seed: u64,
        draws: Draws,
    ) -> Result<TaskGraph, TaskGraphError> {
        let factors: Vec<f64> = (0..graph.len())
            .map(|task| self.factor(seed, draws, task))
            .collect();
        let is_whole = graph.unit() == TimeUnit::Units;
        let durations = graph.tasks().map(|task| {
            let duration = graph.duration(task) as f64 * factors[task.index()];
            let rounded = match is_whole {
                true => (duration + of_rounding(seed, draws, task.index())).floor(),
                false => duration.round(),
            };
            // What is above the limit is refused with the graph.
            rounded.min(MAX_DURATION as f64 * 2.0) as u64
        });
        let durations = durations.collect();
        let work = graph
            .tasks()
            .map(|task| graph.work(task) * factors[task.index()]);
        let (work, times) = (
            work.collect(),
            graph.demands().map(|demands| &demands.times),
        );
        let seconds = times.map_or(Vec::new(), |times| {
            let width = times.machines.len().max(1);
            let pairs = times.seconds.iter().enumerate();
            pairs
                .map(|(at, seconds)| seconds * factors[at / width])
                .collect()
        });
        graph.retimed(durations, work, seconds)
    }
}

/// The mean of e^(sigma z), z the sum of twelve numbers uniform between -1/2 and 1/2.
fn mean_of_exp(sigma: f64) -> f64 {
    if sigma < 1e-4 {
        // The quotient below loses its digits; this is as exact.
        return 1.0 + sigma * sigma / 2.0;
    }
    let one = (exp(sigma / 2.0) - exp(-sigma / 2.0)) / sigma;
    (0..12).fold(1.0, |product, _| product * one)
}

/// The stream of a task, or of whatever numbers are drawn for.
fn of_task(seed: u64, draws: Draws, task: usize) -> Random {
    let task = (task as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Random::new(seed.wrapping_add(task), draws as u64)
}

/// A number below 1, and not below 0, of another stream.
fn of_rounding(seed: u64, draws: Draws, task: usize) -> f64 {
    1.0 - of_task(!seed, draws, task).fraction()
}

impl FromStr for Noise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = "it should be `lognormal:0.3`, `normal:0.1` or `uniform:0.2`";
        let (kind, figure) = text.split_once(':').ok_or(forms)?;
        let figure = figure.parse::<f64>();
        let within = |most: f64| match &figure {
            Ok(figure) if (0.0..=most).contains(figure) => Ok(*figure),
            _ => Err(format!("`{kind}` takes a number from 0 to {most}")),
        };
        match kind {
            "lognormal" => Ok(Self::LogNormal(within(3.0)?)),
            "normal" => Ok(Self::Normal(within(1.0)?)),
            "uniform" => Ok(Self::Uniform(within(1.0)?)),
            _ => Err(forms.to_owned()),
        }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogNormal(sigma) => write!(f, "lognormal:{sigma}"),
            Self::Normal(sigma) => write!(f, "normal:{sigma}"),
            Self::Uniform(width) => write!(f, "uniform:{width}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Generator, Limits};
    use super::*;
    use windrow_components::task_graph::{Demands, Times};

    fn noise(text: &str) -> Noise {
        text.parse().unwrap()
    }

    #[test]
    fn noise_is_read_and_printed() {
        for text in ["lognormal:0.3", "normal:1", "uniform:0"] {
            assert_eq!(noise(text).to_string(), text);
        }
        for (text, wanted) in [
            ("", "`lognormal:0.3`, `normal:0.1` or `uniform:0.2`"),
            ("lognormal", "`lognormal:0.3`"),
            ("gamma:1", "`lognormal:0.3`"),
            ("lognormal:4", "a number from 0 to 3"),
            ("normal:-1", "a number from 0 to 1"),
            ("uniform:x", "a number from 0 to 1"),
            ("uniform:nan", "a number from 0 to 1"),
        ] {
            let message = text.parse::<Noise>().unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }

    #[test]
    fn the_mean_is_kept_and_so_is_the_spread() {
        for (text, deviation) in [
            ("lognormal:0.3", (0.09f64.exp() - 1.0).sqrt()),
            ("lognormal:1", 1.27),
            ("normal:0.1", 0.1),
            ("uniform:0.2", 0.2 / 3f64.sqrt()),
            ("normal:0", 0.0),
            ("lognormal:0.00001", 0.0),
        ] {
            let noise = noise(text);
            let factors: Vec<f64> = (0..200_000)
                .map(|task| noise.factor(5, Draws::Truth, task))
                .collect();
            let mean = factors.iter().sum::<f64>() / factors.len() as f64;
            let squares: f64 = factors.iter().map(|one| (one - mean).powi(2)).sum();
            let found = (squares / factors.len() as f64).sqrt();
            assert!((mean - 1.0).abs() < 0.01, "{text}: mean {mean}");
            assert!((found - deviation).abs() < 0.05, "{text}: {found}");
            assert!(factors.iter().all(|&factor| factor >= 0.0), "{text}");
        }
        let wide = (0..50_000).map(|task| noise("normal:1").factor(1, Draws::Truth, task));
        assert!((wide.sum::<f64>() / 50_000.0 - 1.0).abs() < 0.02);
    }

    #[test]
    fn exponential_numbers_have_the_mean_1() {
        let drawn = (0..100_000).map(|place| exponential(2, Draws::Outages, place));
        let mean = drawn.clone().sum::<f64>() / 100_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(drawn.clone().all(|one| one >= 0.0));
        let above = drawn.filter(|&one| one > 1.0).count();
        assert!((36_000..37_600).contains(&above), "{above}");
    }

    #[test]
    fn a_factor_depends_on_its_task_seed_and_purpose_alone() {
        let noise = noise("lognormal:0.3");
        let of = |seed, draws, task| noise.factor(seed, draws, task).to_bits();
        let first = of(1, Draws::Truth, 7);
        assert_eq!(first, of(1, Draws::Truth, 7));
        for other in [
            of(2, Draws::Truth, 7),
            of(1, Draws::Truth, 8),
            of(1, Draws::Belief, 7),
        ] {
            assert_ne!(first, other);
        }
        let graph = |tasks: usize| {
            let text = format!("chain:n={tasks},time=constant:10s");
            let graph = text.parse::<Generator>().unwrap();
            let graph = graph.generate(Limits::default()).unwrap();
            noise.apply(&graph, 3, Draws::Truth).unwrap()
        };
        let (small, large) = (graph(5), graph(50));
        for task in small.tasks() {
            assert_eq!(small.duration(task), large.duration(task));
        }
    }

    #[test]
    fn whole_units_are_rounded_so_that_the_mean_stays() {
        let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
        for _ in 0..20_000 {
            builder.add_task(None, None).unwrap();
        }
        let graph = builder.finish().unwrap();
        let noisy = noise("uniform:0.5").apply(&graph, 1, Draws::Truth).unwrap();
        let sum: u64 = noisy.tasks().map(|task| noisy.duration(task)).sum();
        assert!((19_600..20_400).contains(&sum), "{sum}");
        let work: f64 = noisy.tasks().map(|task| noisy.work(task)).sum();
        assert!((work - 20_000.0).abs() < 200.0, "{work}");
        assert!(noisy.tasks().all(|task| noisy.work(task) >= 0.5));
    }

    #[test]
    fn times_on_machines_have_the_factor_of_their_task() {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        for _ in 0..3 {
            builder.add_task(None, Some(2_000_000)).unwrap();
        }
        let mut graph = builder.finish().unwrap();
        let times = Times {
            machines: ["a", "b"].map(str::to_owned).to_vec(),
            seconds: vec![1.0, 2.0, 3.0, f64::NAN, 5.0, 6.0],
        };
        let demands = Demands {
            times,
            ..Demands::default()
        };
        graph.set_demands(demands).unwrap();
        let noise = noise("normal:0.2");
        let noisy = noise.apply(&graph, 9, Draws::Truth).unwrap();
        let seconds = &noisy.demands().unwrap().times.seconds;
        for task in graph.tasks() {
            let factor = noise.factor(9, Draws::Truth, task.index());
            assert_eq!(noisy.work(task), 2.0 * factor);
            assert_eq!(noisy.duration(task), (2e6 * factor).round() as u64);
            for column in 0..2 {
                let at = task.index() * 2 + column;
                let wanted = graph.demands().unwrap().times.seconds[at] * factor;
                assert!(seconds[at] == wanted || seconds[at].is_nan() && wanted.is_nan());
            }
        }
    }

    #[test]
    fn a_duration_that_gets_too_long_is_refused() {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        for _ in 0..100 {
            builder.add_task(None, Some(MAX_DURATION)).unwrap();
        }
        let graph = builder.finish().unwrap();
        let refused = noise("normal:0.1").apply(&graph, 1, Draws::Truth);
        assert!(refused.is_err());
    }
}
