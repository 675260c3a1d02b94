//! Random numbers that are the same on every machine and in every version: xoshiro256++, integers
//! and plain IEEE arithmetic only. Not for secrets.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    /// The stream of a seed; each `stream` of it is independent of the others.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mixed = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(Xoshiro256PlusPlus::seed_from_u64(mixed))
    }

    /// Any 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`, which is above 0. Its bias is below `limit` / 2^64.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// A number above 0 and at most 1, in steps of 2^-53.
    pub(super) fn fraction(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal, mean 0 and deviation 1: the sum of twelve uniform numbers, so within 6 of the
    /// mean.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.fraction()).sum::<f64>() - 6.0
    }
}

/// The natural logarithm of a positive normal number, from exactly rounded operations only: the
/// platform's own differs between machines in the last bit.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12)
        .rev()
        .fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

/// `e` to the power of `x`, for `x` between -500 and 500, from exactly rounded operations only.
pub(super) fn exp(x: f64) -> f64 {
    let power = (x / std::f64::consts::LN_2).round();
    let rest = x - power * std::f64::consts::LN_2;
    let series = (1..16)
        .rev()
        .fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    series * f64::from_bits(((power as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_streams_differ() {
        let first = |seed, stream| Random::new(seed, stream).bits();
        assert_eq!(first(0, 0), 0x53175d61490b23df);
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
    }

    #[test]
    fn logarithm_and_exponential_agree_with_the_platforms() {
        for x in [1e-16, 0.1, 0.5, 1.0, 1.42, 2.0, 3.5, 1e9] {
            assert!((ln(x) - x.ln()).abs() < 1e-13, "{x}");
        }
        for x in [-20.0, -1.0, -0.1, 0.0, 0.3, 1.0, 10.0] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn moments() {
        let mut random = Random::new(7, 0);
        let mean = (0..100_000).map(|_| random.fraction()).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let variance = (0..100_000).map(|_| random.normal().powi(2)).sum::<f64>() / 1e5;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert!((0..1_000).all(|_| random.below(3) < 3));
    }
}
