//! What numbers of a picture are: how they are written, and which of them are round.

use crate::time::{Unit, significant};

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Times in whole seconds or units.
    Times(Unit),
    /// Numbers.
    Numbers,
}

impl Values {
    /// A value, for people.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Times(unit) => unit.show((value * 1e6).round() as u64),
            Self::Numbers => significant(value),
        }
    }

    /// A round value, for people.
    pub(super) fn mark(self, value: f64) -> String {
        let text = self.show(value);
        let short = [" 00 s", " 00 min"]
            .iter()
            .find_map(|end| text.strip_suffix(end));
        short.map_or_else(|| text.clone(), str::to_owned)
    }

    /// The least round step that is not below `least`.
    pub(super) fn step(self, least: f64) -> f64 {
        const MINUTES: [f64; 12] = [
            60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0,
            86_400.0,
        ];
        // A little less is the same number.
        let least = least * 0.999;
        let minutes = match self {
            Self::Times(Unit::Seconds) if least > 30.0 => MINUTES.iter().find(|&&it| it >= least),
            _ => None,
        };
        let power = 10_f64.powf(least.log10().floor());
        let decimal = [1.0, 2.0, 5.0, 10.0].iter().map(|it| it * power);
        let mut steps = minutes.copied().into_iter().chain(decimal);
        steps.find(|&it| it >= least).unwrap_or(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_for_people() {
        let times = Values::Times(Unit::Seconds);
        assert_eq!(
            [0.3, 4.0, 31.0, 100.0, 4000.0, 90_000.0].map(|it| times.step(it)),
            [0.5, 5.0, 60.0, 120.0, 7200.0, 100_000.0]
        );
        assert_eq!(
            [0.02, 31.0, 100.0].map(|it| Values::Numbers.step(it)),
            [0.02, 50.0, 100.0]
        );
        assert_eq!(
            [300.0, 310.0].map(|it| times.mark(it)),
            ["5 min", "5 min 10 s"]
        );
    }
}
