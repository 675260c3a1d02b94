//! An axis: where values lie on it, and where it has marks.

use std::ops::Range;

use super::Values;

/// An axis from one value to another, in even steps or in even factors.
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Between marks, if steps are even.
    step: f64,
    log: bool,
    pixels: Range<i32>,
}

impl Axis {
    /// From 0 to at least `high`, which ends at a mark.
    pub(super) fn from_zero(high: f64, values: Values, pixels: Range<i32>) -> Self {
        Self::between(0.0, high, values, pixels)
    }

    /// From a mark that is not above `low` to one that is not below `high`.
    pub(super) fn between(low: f64, high: f64, values: Values, pixels: Range<i32>) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let step = values.step((high - low) / 5.0);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
            log: false,
            pixels,
        }
    }

    /// In factors, from one positive value to another.
    pub(super) fn in_factors(low: f64, high: f64, pixels: Range<i32>) -> Self {
        Self {
            low,
            step: 0.0,
            high: if high > low { high } else { low * 2.0 },
            log: true,
            pixels,
        }
    }

    /// The pixel of a value.
    pub(super) fn place(&self, value: f64) -> i32 {
        let share = match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        let length = f64::from(self.pixels.end - self.pixels.start);
        self.pixels.start + (share.clamp(-0.1, 1.1) * length).round() as i32
    }

    /// Round values, some five of them.
    pub(super) fn marks(&self) -> Vec<f64> {
        if self.log {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let marks = decades.flat_map(|power| [1.0, 2.0, 5.0].map(|it| it * 10_f64.powi(power)));
            let inside = |it: &f64| *it >= self.low * 0.999 && *it <= self.high * 1.001;
            return marks.filter(inside).collect();
        }
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count)
            .map(|nth| self.low + nth as f64 * self.step)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_within() {
        let axis = Axis::from_zero(47.0, Values::Numbers, 100..200);
        assert_eq!(axis.marks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!([0.0, 25.0, 50.0].map(|it| axis.place(it)), [100, 150, 200]);
        let axis = Axis::between(1.04, 1.33, Values::Numbers, 0..100);
        assert_eq!(axis.marks().len(), 5);
        let axis = Axis::in_factors(1.0, 100.0, 0..100);
        assert_eq!(axis.marks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!([1.0, 10.0, 100.0].map(|it| axis.place(it)), [0, 50, 100]);
        assert_eq!(Axis::from_zero(0.0, Values::Numbers, 0..10).place(0.0), 0);
    }
}
