//! Heuristics that plan one goal after the other: HEFT, CPOP, PEFT, lookahead and DLS.
//!
//! HEFT and CPOP: H. Topcuoglu, S. Hariri, M. Wu: Performance-effective and low-complexity task
//! scheduling for heterogeneous computing, IEEE TPDS 13(3), 2002. PEFT: H. Arabnejad, J. Barbosa:
//! List scheduling algorithm for heterogeneous systems by an optimistic cost table, IEEE TPDS
//! 25(3), 2014. Lookahead: L. Bittencourt, R. Sakellariou, E. Madeira: DAG scheduling using a
//! lookahead variant of the heterogeneous earliest finish time algorithm, PDP 2010. DLS: G. Sih, E.
//! Lee: A compile-time scheduling heuristic for interconnection-constrained heterogeneous processor
//! architectures, IEEE TPDS 4(2), 1993.

use windrow_components::ids::DrvId;

use super::planner::{Before, Planner, Spot};
use crate::machines::upward_ranks;

/// How far from the end each goal is, by mean times.
fn mean_ranks(planner: &Planner<'_>) -> Vec<f64> {
    let time = |drv| planner.mean_span(drv);
    upward_ranks(planner.workload, time, |bytes| planner.transfer(bytes))
}

/// All goals, those with the largest rank first, of equals one that others need before them.
fn by_rank(planner: &Planner<'_>, ranks: &[f64]) -> Vec<DrvId> {
    let mut order: Vec<DrvId> = planner.workload.in_order().collect();
    order.sort_by(|one, other| ranks[other.index()].total_cmp(&ranks[one.index()]));
    order
}

/// Takes goals that have all they need, and chooses one and its spot, until none is left.
pub(super) fn plan_ready(
    planner: &mut Planner<'_>,
    before: &Before,
    mut choose: impl FnMut(&Planner<'_>, &[DrvId]) -> Option<(DrvId, Spot)>,
) -> Vec<DrvId> {
    let mut left: Vec<usize> = before.0.iter().map(Vec::len).collect();
    let mut ready: Vec<DrvId> = planner
        .goals()
        .filter(|drv| left[drv.index()] == 0)
        .collect();
    let mut order = Vec::with_capacity(left.len());
    while let Some((drv, spot)) = choose(planner, &ready) {
        planner.take(drv, spot);
        order.push(drv);
        ready.retain(|&other| other != drv);
        for next in planner.workload.successors(drv) {
            left[next.index()] -= 1;
            if left[next.index()] == 0 {
                ready.push(next);
            }
        }
    }
    order
}

/// The goal with the largest value, of equals the one that comes first.
fn largest(goals: &[DrvId], value: impl Fn(DrvId) -> f64) -> Option<DrvId> {
    let mut best: Option<(DrvId, f64)> = None;
    for &drv in goals {
        let value = value(drv);
        if best.is_none_or(|(_, most)| value > most) {
            best = Some((drv, value));
        }
    }
    best.map(|(drv, _)| drv)
}

/// By rank, each where it ends first.
pub(super) fn heft(planner: &mut Planner<'_>, before: &Before) -> Vec<DrvId> {
    let order = by_rank(planner, &mean_ranks(planner));
    for &drv in &order {
        if let Some(spot) = planner.earliest_end(drv, before) {
            planner.take(drv, spot);
        }
    }
    order
}

/// What lies on the critical path all on the one machine that does that fastest, the rest where it
/// ends first.
pub(super) fn cpop(planner: &mut Planner<'_>, before: &Before) -> Vec<DrvId> {
    let up = mean_ranks(planner);
    let mut ranks = vec![0.0_f64; up.len()];
    for drv in planner.workload.in_order() {
        let own = ranks[drv.index()] + planner.mean_span(drv);
        for (next, sent) in planner.successors(drv) {
            ranks[next.index()] = ranks[next.index()].max(own + sent);
        }
    }
    for (rank, up) in ranks.iter_mut().zip(&up) {
        *rank += up;
    }
    let entries: Vec<DrvId> = planner
        .goals()
        .filter(|drv| before.0[drv.index()].is_empty())
        .collect();
    let mut critical = vec![false; ranks.len()];
    let mut path = Vec::new();
    let mut next = largest(&entries, |drv| ranks[drv.index()]);
    while let Some(drv) = next {
        critical[drv.index()] = true;
        path.push(drv);
        let after: Vec<DrvId> = planner.workload.successors(drv).collect();
        next = largest(&after, |drv| ranks[drv.index()]);
    }
    let whole = |place: usize| {
        let spans = path.iter().map(|&drv| planner.span(drv, place));
        spans.sum::<Option<f64>>()
    };
    let places = (0..planner.machines.len()).filter_map(|place| Some((place, whole(place)?)));
    let place = places
        .min_by(|one, other| one.1.total_cmp(&other.1))
        .map(|(place, _)| place);
    plan_ready(planner, before, |planner, ready| {
        let drv = largest(ready, |drv| ranks[drv.index()])?;
        let own = place.filter(|_| critical[drv.index()]);
        let spot = match own {
            Some(place) => planner.evaluate(drv, place, before),
            None => planner.earliest_end(drv, before),
        };
        Some((drv, spot?))
    })
}

/// Where a goal ends first, the least that must follow on each machine included.
pub(super) fn peft(planner: &mut Planner<'_>, before: &Before) -> Vec<DrvId> {
    let count = planner.machines.len();
    // For each goal and machine what must follow it at the least if it runs there.
    let mut costs = vec![0.0_f64; planner.workload.len() * count];
    let order: Vec<DrvId> = planner.workload.in_order().collect();
    for &drv in order.iter().rev() {
        for (next, sent) in planner.successors(drv) {
            for place in 0..count {
                let least = (0..count).filter_map(|other| {
                    let sent = if other == place { 0.0 } else { sent };
                    Some(costs[next.index() * count + other] + planner.span(next, other)? + sent)
                });
                let least = least.fold(f64::INFINITY, f64::min);
                let cost = &mut costs[drv.index() * count + place];
                *cost = cost.max(least);
            }
        }
    }
    let of = |drv: DrvId| &costs[drv.index() * count..][..count];
    plan_ready(planner, before, |planner, ready| {
        let drv = largest(ready, |drv| of(drv).iter().sum::<f64>() / count as f64)?;
        let spot = planner.best(drv, before, |spot| spot.end + of(drv)[spot.place])?;
        Some((drv, spot))
    })
}

/// By rank, each where the rest of the plan, made as HEFT does, ends first; or with only the goals
/// in mind that need it.
pub(super) fn lookahead(
    planner: &mut Planner<'_>,
    before: &Before,
    only_successors: bool,
) -> Vec<DrvId> {
    let order = by_rank(planner, &mean_ranks(planner));
    for (at, &drv) in order.iter().enumerate() {
        let after: Vec<DrvId> = planner.workload.successors(drv).collect();
        let is_seen = |other: &&DrvId| !only_successors || after.contains(*other);
        let rest: Vec<DrvId> = order[at + 1..].iter().filter(is_seen).copied().collect();
        let mut best: Option<(f64, Spot)> = None;
        for place in 0..planner.machines.len() {
            let Some(spot) = planner.evaluate(drv, place, before) else {
                continue;
            };
            let mut trial = planner.clone();
            let mut last = spot.end;
            trial.take(drv, spot.clone());
            for &next in &rest {
                if best.as_ref().is_some_and(|(least, _)| last >= *least) {
                    break;
                }
                if let Some(spot) = trial.earliest_end(next, before) {
                    last = last.max(spot.end);
                    trial.take(next, spot);
                }
            }
            if best.as_ref().is_none_or(|(least, _)| last < *least) {
                best = Some((last, spot));
            }
        }
        if let Some((_, spot)) = best {
            planner.take(drv, spot);
        }
    }
    order
}

/// The pair of goal and machine with the largest dynamic level: how far it is from the end, less
/// its start, and more the faster the machine is than the median.
pub(super) fn dls(planner: &mut Planner<'_>, before: &Before) -> Vec<DrvId> {
    let median = |drv: DrvId| {
        let mut spans: Vec<f64> = planner.spans(drv).collect();
        spans.sort_unstable_by(f64::total_cmp);
        match spans.len() {
            0 => 0.0,
            count if count % 2 == 1 => spans[count / 2],
            count => f64::midpoint(spans[count / 2], spans[count / 2 - 1]),
        }
    };
    let medians: Vec<f64> = planner.goals().map(median).collect();
    let time = |drv: DrvId| medians[drv.index()];
    let levels = upward_ranks(planner.workload, time, |bytes| planner.transfer(bytes));
    plan_ready(planner, before, |planner, ready| {
        let mut ready = ready.to_vec();
        ready.sort_by(|one, other| levels[other.index()].total_cmp(&levels[one.index()]));
        let mut best: Option<(f64, DrvId, Spot)> = None;
        for &drv in &ready {
            for place in 0..planner.machines.len() {
                let Some(spot) = planner.evaluate(drv, place, before) else {
                    continue;
                };
                let faster = time(drv) - (spot.end - spot.start);
                let level = levels[drv.index()] - spot.start + faster;
                if best.as_ref().is_none_or(|(most, ..)| level > *most) {
                    best = Some((level, drv, spot));
                }
            }
        }
        best.map(|(_, drv, spot)| (drv, spot))
    })
}
