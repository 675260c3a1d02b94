//! Heuristics that look at all goals at once that have what they need: min-min, max-min, sufferage
//! and ETF.
//!
//! The first three: M. Maheswaran and others: Dynamic mapping of a class of independent tasks onto
//! heterogeneous computing systems, JPDC 59(2), 1999. ETF: J. Hwang and others: Scheduling
//! precedence graphs in systems with interprocessor communication times, SIAM J. Comput. 18(2),
//! 1989.

use windrow_components::ids::DrvId;

use super::planner::{Before, Planner, Spot};
use super::plans::plan_ready;
use crate::machines::upward_ranks;

/// Which goal is planned next, each of them where it ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The one that ends first.
    MinMin,
    /// The one that ends last.
    MaxMin,
    /// The one that would lose the most if it had to take its second best machine.
    Sufferage,
}

pub(super) fn batch(planner: &mut Planner<'_>, before: &Before, rule: Rule) -> Vec<DrvId> {
    plan_ready(planner, before, |planner, ready| {
        let mut best: Option<(f64, DrvId, Spot)> = None;
        for &drv in ready {
            let places = 0..planner.machines.len();
            let spots = places.filter_map(|place| planner.evaluate(drv, place, before));
            let (mut first, mut second): (Option<Spot>, f64) = (None, f64::INFINITY);
            for spot in spots {
                match &first {
                    Some(known) if spot.end >= known.end => second = second.min(spot.end),
                    _ => second = first.replace(spot).map_or(second, |known| known.end),
                }
            }
            let Some(spot) = first else { continue };
            let value = match rule {
                Rule::MinMin => -spot.end,
                Rule::MaxMin => spot.end,
                // With one machine alone it loses all.
                Rule::Sufferage => second - spot.end,
            };
            if best.as_ref().is_none_or(|(most, ..)| value > *most) {
                best = Some((value, drv, spot));
            }
        }
        best.map(|(_, drv, spot)| (drv, spot))
    })
}

/// The pair of goal and machine that can start first, of equals the goal that is the farthest from
/// the end.
pub(super) fn etf(planner: &mut Planner<'_>, before: &Before) -> Vec<DrvId> {
    let time = |drv| planner.mean_span(drv);
    let levels = upward_ranks(planner.workload, time, |_| 0.0);
    plan_ready(planner, before, |planner, ready| {
        let mut best: Option<(DrvId, Spot)> = None;
        for &drv in ready {
            let Some(spot) = planner.best(drv, before, |spot| spot.start) else {
                continue;
            };
            let is_better = best.as_ref().is_none_or(|(other, known)| {
                let level = |drv: DrvId| levels[drv.index()];
                spot.start < known.start || spot.start == known.start && level(drv) > level(*other)
            });
            if is_better {
                best = Some((drv, spot));
            }
        }
        best
    })
}
