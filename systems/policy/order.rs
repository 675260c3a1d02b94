//! Puts all derivations into the order of their ranks at once, in time proportional to their
//! number: a radix sort, eleven bits a pass from the least to the most, which leaves those of equal
//! rank in the order of their ids.

use windrow_components::ids::DrvId;

const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Those with the smallest rank first. Takes as many passes as the largest rank has digits.
pub(super) fn by_rank(ranks: &[u64]) -> Vec<DrvId> {
    let largest = ranks.iter().max().copied().unwrap_or(0);
    let mut order: Vec<u32> = Vec::new();
    for shift in (0..(u64::BITS - largest.leading_zeros()).max(1)).step_by(DIGIT_BITS as usize) {
        let digit = |rank: u64| (rank >> shift) as usize % DIGITS;
        let mut places = [0_u32; DIGITS];
        for &rank in ranks {
            places[digit(rank)] += 1;
        }
        let mut sum = 0;
        for place in &mut places {
            sum += std::mem::replace(place, sum);
        }
        // Memory that is new is zero, and need not be written twice.
        let mut sorted = vec![0; ranks.len()];
        let mut put = |drv: u32, rank: u64| {
            let place = &mut places[digit(rank)];
            sorted[*place as usize] = drv;
            *place += 1;
        };
        if shift == 0 {
            (0..).zip(ranks).for_each(|(drv, &rank)| put(drv, rank));
        } else {
            order.iter().for_each(|&drv| put(drv, ranks[drv as usize]));
        }
        order = sorted;
    }
    let drvs = order.into_iter();
    drvs.map(|drv| DrvId::from_index(drv as usize)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_stable_order(
            bits in 0..64_u32,
            ranks in proptest::collection::vec(any::<u64>(), 0..300),
        ) {
            let ranks: Vec<u64> = ranks.into_iter().map(|rank| rank >> bits).collect();
            let mut plain: Vec<usize> = (0..ranks.len()).collect();
            plain.sort_by_key(|&at| ranks[at]);
            let order: Vec<usize> = by_rank(&ranks).into_iter().map(DrvId::index).collect();
            prop_assert_eq!(order, plain);
        }
    }
}
