//! Times as people write them, and distributions to draw durations from, given as text like
//! `uniform:1..10s`. Distributions are deterministic on every machine.

use std::fmt;
use std::str::FromStr;

use super::random::{Random, exp, ln};
use super::{MAX_DURATION, TaskGraphError};

/// Rounds seconds to whole microseconds; `None` if they are negative, no number, or above
/// [`MAX_DURATION`].
pub(super) fn microseconds(seconds: f64) -> Option<u64> {
    let rounded = (seconds * 1e6).round();
    (0.0..=MAX_DURATION as f64)
        .contains(&rounded)
        .then_some(rounded as u64)
}

/// Where durations come from. All figures in microseconds, each at most [`MAX_DURATION`].
///
/// As text: `unit`, `constant:5s`, `uniform:1..10s`, `exponential:2s` (the mean),
/// `lognormal:2s/0.8` (the median and the deviation of the logarithm). Times are decimal numbers
/// with `us`, `ms`, `s`, `m` or `h`; seconds if nothing stands there, or in a range the unit of its
/// upper end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// None at all: every task counts 1.
    Unit,
    /// Always the same.
    Constant(u64),
    /// Every whole number of microseconds from the first to the second, equally often.
    Uniform(u64, u64),
    /// Exponential with that mean: the mean times -ln(u), u uniform above 0 and at most 1.
    Exponential(u64),
    /// Log-normal in all but the far tails: the median times e^(sigma z), where z is the sum of
    /// twelve uniform numbers less six, so no draw is beyond e^(6 sigma) times the median.
    LogNormal {
        /// The median.
        median: u64,
        /// The deviation of the logarithm, from 0 to 10.
        sigma: f64,
    },
}

/// The stream of a seed that durations are drawn from, so that they do not change with the edges.
const STREAM: u64 = 1;

/// The stream that sizes are drawn from.
const SIZES: u64 = 2;

/// How a number with a unit is read, in which the second text is the unit if there is none.
type Number = fn(&str, &str) -> Result<u64, String>;

impl Distribution {
    /// Durations of `count` tasks in microseconds; an empty list for [`Distribution::Unit`].
    pub fn sample(&self, tasks: usize, seed: u64) -> Vec<u64> {
        if *self == Self::Unit {
            return Vec::new();
        }
        let mut random = Random::new(seed, STREAM);
        (0..tasks).map(|_| self.draw(&mut random)).collect()
    }

    /// Sizes of the outputs of `count` tasks in bytes; 1 each for [`Distribution::Unit`].
    pub fn sample_sizes(&self, tasks: usize, seed: u64) -> Vec<u64> {
        let mut random = Random::new(seed, SIZES);
        (0..tasks).map(|_| self.draw(&mut random)).collect()
    }

    /// A distribution of sizes: `constant:1MB`, `uniform:1..10MB`, `exponential:2MB`,
    /// `lognormal:1MB/1.5`.
    ///
    /// # Errors
    /// When it is none.
    pub fn of_sizes(text: &str) -> Result<Self, String> {
        let forms = "`constant:1MB`, `uniform:1..10MB`, `exponential:2MB` or `lognormal:1MB/1.5`";
        parse(text, (bytes, "B"), forms)
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let rounded = |value: f64| (value.round() as u64).min(MAX_DURATION);
        match *self {
            Self::Unit => 1,
            Self::Constant(duration) => duration,
            Self::Uniform(low, high) => {
                low + random.below(high.saturating_sub(low).saturating_add(1))
            }
            Self::Exponential(mean) => rounded(mean as f64 * -ln(random.fraction())),
            Self::LogNormal { median, sigma } => {
                rounded(median as f64 * exp(sigma * random.normal()))
            }
        }
    }
}

impl FromStr for Distribution {
    type Err = TaskGraphError;

    fn from_str(text: &str) -> Result<Self, TaskGraphError> {
        if text == "unit" {
            return Ok(Self::Unit);
        }
        let forms =
            "`unit`, `constant:5s`, `uniform:1..10s`, `exponential:2s` or `lognormal:2s/0.8`";
        parse(text, (time, "s"), forms).map_err(|reason| TaskGraphError::BadSpec {
            spec: text.to_owned(),
            what: "distribution of durations",
            reason,
        })
    }
}

/// Reads a distribution of numbers of some kind.
fn parse(text: &str, (number, unit): (Number, &str), forms: &str) -> Result<Distribution, String> {
    let parts = text.split_once(':');
    let (kind, argument) = parts.ok_or_else(|| format!("it should be {forms}"))?;
    match kind {
        "constant" => Ok(Distribution::Constant(number(argument, unit)?)),
        "exponential" => Ok(Distribution::Exponential(number(argument, unit)?)),
        "uniform" => {
            let (low, high) = argument
                .split_once("..")
                .ok_or_else(|| format!("`uniform` takes a range like `1..10{unit}`"))?;
            let high_unit = high.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let unit = if high_unit.is_empty() {
                unit
            } else {
                high_unit
            };
            let (low, high) = (number(low, unit)?, number(high, unit)?);
            if low > high {
                return Err("the range ends before it begins".to_owned());
            }
            Ok(Distribution::Uniform(low, high))
        }
        "lognormal" => {
            let (median, sigma) = argument
                .split_once('/')
                .ok_or_else(|| format!("`lognormal` takes a median and a sigma, `2{unit}/0.8`"))?;
            let sigma: f64 = sigma
                .parse()
                .map_err(|_| format!("`{sigma}` is no number"))?;
            if !(0.0..=10.0).contains(&sigma) {
                return Err("sigma should be from 0 to 10".to_owned());
            }
            Ok(Distribution::LogNormal {
                median: number(median, unit)?,
                sigma,
            })
        }
        _ => Err(format!("`{kind}` is not known")),
    }
}

/// A decimal number with a unit of bytes, powers of 1000 or, with an `i`, of 1024.
///
/// # Errors
/// When it is none, or above 10^15.
pub fn bytes(text: &str, default_unit: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text, default_unit);
    let factor = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => f64::from(1 << 10),
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        _ => {
            return Err(format!(
                "`{unit}` is no unit of bytes; use B, kB, MB, GB, KiB, MiB or GiB"
            ));
        }
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no size"))?;
    let value = (number * factor).round();
    match (0.0..=1e15).contains(&value) {
        true => Ok(value as u64),
        false => Err(format!("`{text}` is negative or above 1,000,000 GB")),
    }
}

/// A number and its unit.
fn split_unit<'a>(text: &'a str, default_unit: &'a str) -> (&'a str, &'a str) {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    match &text[digits.len()..] {
        "" => (digits, default_unit),
        unit => (digits, unit),
    }
}

/// A decimal number with a unit, in microseconds.
///
/// # Errors
/// When it is none, or above 1,000,000,000 seconds.
pub fn time(text: &str, default_unit: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text, default_unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(format!(
                "`{unit}` is no unit of time; use us, ms, s, m or h"
            ));
        }
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no time"))?;
    microseconds(number * seconds)
        .ok_or_else(|| format!("`{text}` is negative or above 1,000,000,000 seconds"))
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => write!(f, "unit"),
            Self::Constant(duration) => write!(f, "constant:{duration}us"),
            Self::Uniform(low, high) => write!(f, "uniform:{low}..{high}us"),
            Self::Exponential(mean) => write!(f, "exponential:{mean}us"),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{median}us/{sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_printed() {
        for (text, wanted) in [
            ("unit", "unit"),
            ("constant:1.5s", "constant:1500000us"),
            ("uniform:1..10s", "uniform:1000000..10000000us"),
            ("uniform:500ms..1m", "uniform:500000..60000000us"),
            ("uniform:0..2", "uniform:0..2000000us"),
            ("exponential:2h", "exponential:7200000000us"),
            ("lognormal:20ms/0.5", "lognormal:20000us/0.5"),
        ] {
            let distribution: Distribution = text.parse().unwrap();
            assert_eq!(distribution.to_string(), wanted);
            assert_eq!(
                distribution.to_string().parse::<Distribution>().unwrap(),
                distribution
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "uniform",
            "uniform:1",
            "uniform:5..2s",
            "constant:",
            "constant:-1s",
            "constant:NaN",
            "constant:1e99s",
            "constant:inf",
            "exponential:1y",
            "lognormal:1s",
            "lognormal:1s/-1",
            "gamma:1s",
            "constant:1s2",
            "lognormal:1s/nan",
        ] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_drawn_apart_from_durations() {
        for (text, wanted) in [
            ("constant:1.5MB", Distribution::Constant(1_500_000)),
            ("uniform:1..10KiB", Distribution::Uniform(1024, 10_240)),
            ("exponential:7", Distribution::Exponential(7)),
        ] {
            assert_eq!(Distribution::of_sizes(text), Ok(wanted));
        }
        for text in [
            "unit",
            "1MB",
            "constant:1s",
            "constant:1e99GB",
            "constant:-1B",
        ] {
            assert!(Distribution::of_sizes(text).is_err(), "{text}");
        }
        let drawn = Distribution::Uniform(0, 1_000_000);
        assert_eq!(drawn.sample_sizes(5, 1), drawn.sample_sizes(5, 1));
        assert_ne!(drawn.sample_sizes(5, 1), drawn.sample(5, 1));
    }

    #[test]
    fn draws_have_the_mean_they_should() {
        let mean = |text: &str| {
            let drawn = text.parse::<Distribution>().unwrap().sample(200_000, 3);
            drawn.iter().sum::<u64>() as f64 / 200_000.0 / 1e6
        };
        assert_eq!(mean("constant:3s"), 3.0);
        assert!((mean("uniform:1..10s") - 5.5).abs() < 0.05);
        assert!((mean("exponential:2s") - 2.0).abs() < 0.03);
        assert!((mean("lognormal:1s/0.5") - 0.125f64.exp()).abs() < 0.02);
    }

    #[test]
    fn the_same_seed_draws_the_same_everywhere() {
        let drawn = |text: &str| text.parse::<Distribution>().unwrap().sample(2, 42);
        assert_eq!(drawn("uniform:1..10s"), drawn("uniform:1..10s"));
        assert_eq!(drawn("exponential:1s"), [2256708, 523790]);
        assert_eq!(drawn("lognormal:1s/1"), [629721, 14458365]);
    }

    #[test]
    fn seconds_become_whole_microseconds() {
        assert_eq!(microseconds(0.0000014), Some(1));
        assert_eq!(microseconds(-0.1), None);
        assert_eq!(microseconds(f64::NAN), None);
        assert_eq!(microseconds(1e9), Some(MAX_DURATION));
        assert_eq!(microseconds(1.1e9), None);
    }
}
