//! What a few measurements of the same tell: their mean with its interval, their quartiles.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The mean of measurements, and from where to where the true one lies with 95 % confidence, if
/// they come from a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// How many there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Half of the interval's width; `None` for a single measurement.
    pub half: Option<f64>,
}

impl Mean {
    /// The mean of measurements; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let half = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let error = (squares / (count - 1) as f64 / count as f64).sqrt();
            let student = StudentsT::new(0.0, 1.0, (count - 1) as f64);
            student.map_or(f64::NAN, |it| it.inverse_cdf(0.975)) * error
        });
        Some(Self { count, mean, half })
    }

    /// From where to where it lies.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.half.map(|half| (self.mean - half, self.mean + half))
    }
}

/// The quartiles of measurements, interpolated between neighbours (Hyndman and Fan's type 7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quartiles {
    /// A quarter of them is not above this.
    pub first: f64,
    /// The one in the middle.
    pub median: f64,
    /// A quarter of them is not below this.
    pub third: f64,
}

impl Quartiles {
    /// The quartiles of measurements; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (low, high) = (place.floor() as usize, place.ceil() as usize);
            sorted[low] + (sorted[high] - sorted[low]) * place.fract()
        };
        Some(Self {
            first: at(0.25),
            median: at(0.5),
            third: at(0.75),
        })
    }

    /// Beyond these a measurement counts as an outlier (Tukey).
    fn fences(&self) -> (f64, f64) {
        let reach = 1.5 * (self.third - self.first);
        (self.first - reach, self.third + reach)
    }

    /// The least measurement that is no outlier, the quartiles, and the greatest one.
    pub fn whiskers(&self, values: &[f64]) -> [f64; 5] {
        let (low, high) = self.fences();
        let inside = || {
            values
                .iter()
                .copied()
                .filter(|it| (low..=high).contains(it))
        };
        let least = inside().fold(self.first, f64::min);
        let greatest = inside().fold(self.third, f64::max);
        [least, self.first, self.median, self.third, greatest]
    }

    /// The outliers.
    pub fn outliers(&self, values: &[f64]) -> Vec<f64> {
        let (low, high) = self.fences();
        let outside = |it: &f64| !(low..=high).contains(it);
        values.iter().copied().filter(outside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_student() {
        let mean = Mean::of(&[4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        assert_eq!((mean.count, mean.mean), (5, 6.0));
        // t(0.975; 4) = 2.776445, and the standard error is the root of a half.
        assert!((mean.half.unwrap() - 2.776_445 * 0.5_f64.sqrt()).abs() < 1e-5);
        assert_eq!(Mean::of(&[3.0]).unwrap().interval(), None);
        assert_eq!(Mean::of(&[]), None);
        let same = Mean::of(&[2.0, 2.0, 2.0]).unwrap();
        assert_eq!(same.interval(), Some((2.0, 2.0)));
    }

    #[test]
    fn quartiles_and_outliers_are_tukeys() {
        let values = [1.0, 2.0, 3.0, 4.0, 100.0];
        let quartiles = Quartiles::of(&values).unwrap();
        assert_eq!(
            (quartiles.first, quartiles.median, quartiles.third),
            (2.0, 3.0, 4.0)
        );
        assert_eq!(quartiles.whiskers(&values), [1.0, 2.0, 3.0, 4.0, 4.0]);
        assert_eq!(quartiles.outliers(&values), [100.0]);
        assert_eq!(Quartiles::of(&[]), None);
        assert_eq!(Quartiles::of(&[7.0]).unwrap().whiskers(&[7.0]), [7.0; 5]);
    }
}
