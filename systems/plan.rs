//! What a build would do, without doing it: the derivations to build, in an order that works, and
//! how deep they lie.

mod substitutes;

use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;

use crate::error::Result;
use crate::world::Store;

pub use substitutes::{Learnt, Substitutes};

/// What would be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// The derivations to build, each after those it needs.
    pub builds: Vec<DrvId>,
    /// How many of them come one after the other in the longest chain.
    pub depth: u32,
    /// The paths to fetch from substituters.
    pub fetches: Vec<PathId>,
    /// How many bytes that would fetch, as far as the substituters know.
    pub download_size: u64,
    /// How long the NARs of these paths are together, in bytes, as far as the substituters know.
    pub nar_size: u64,
    /// Derivations and paths that are needed, but neither valid nor to be had.
    pub unknown: Vec<PathId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Its outputs in this set are valid, as far as they were asked for.
    Valid(OutputSet),
    ToBuild,
    Unknown,
}

/// Works out what realising `wanted` takes. Derivations are loaded wave by wave, so that each wave
/// shares its queries.
///
/// # Errors
/// When the store or one of the derivations can't be read, or derivations form a circle.
pub fn plan(
    graph: &mut BuildGraph,
    store: &mut dyn Store,
    wanted: &[(DrvId, OutputSet)],
    substitutes: &mut Substitutes,
) -> Result<Plan> {
    let mut found: Vec<Option<Found>> = Vec::new();
    let mut plan = Plan::default();
    let mut wave: Vec<(DrvId, OutputSet)> = wanted.to_vec();
    let mut to_build = Vec::new();
    while !wave.is_empty() {
        found.resize(graph.drv_count(), None);
        let asked = unanswered(graph, &found, std::mem::take(&mut wave));
        let present = load(graph, store, &asked, &mut found, &mut plan)?;
        let mut missing = missing_outputs(graph, store, &present, &mut found)?;
        substitutes.prefer((&mut *graph, &mut *store), &mut missing, &mut plan)?;
        let mut sources = Vec::new();
        for &(drv, _) in &missing {
            found[drv.index()] = Some(Found::ToBuild);
            to_build.push(drv);
            wave.extend(graph.inputs(drv).map(|input| (input.drv, input.wanted)));
            sources.extend_from_slice(graph.sources(drv));
        }
        sources.sort_unstable();
        sources.dedup();
        substitutes.fetch((&mut *graph, &mut *store), sources, &mut plan)?;
    }
    plan.unknown.sort_unstable();
    plan.unknown.dedup();
    order(graph, &to_build, &mut plan)?;
    Ok(plan)
}

/// What of a wave has not been looked at for the same outputs before, each derivation once.
fn unanswered(
    graph: &mut BuildGraph,
    found: &[Option<Found>],
    mut wave: Vec<(DrvId, OutputSet)>,
) -> Vec<(DrvId, OutputSet)> {
    wave.sort_unstable_by_key(|(drv, _)| *drv);
    let mut merged: Vec<(DrvId, OutputSet)> = Vec::with_capacity(wave.len());
    for (drv, wanted) in wave {
        match merged.last_mut() {
            Some((last, known)) if *last == drv => {
                *known = graph.output_sets.union(*known, wanted);
            }
            _ => merged.push((drv, wanted)),
        }
    }
    merged.retain(|&(drv, wanted)| match found[drv.index()] {
        None => true,
        Some(Found::ToBuild | Found::Unknown) => false,
        Some(Found::Valid(known)) => graph.output_sets.union(known, wanted) != known,
    });
    merged
}

fn load(
    graph: &mut BuildGraph,
    store: &mut dyn Store,
    asked: &[(DrvId, OutputSet)],
    found: &mut [Option<Found>],
    plan: &mut Plan,
) -> Result<Vec<(DrvId, OutputSet)>> {
    let paths: Vec<PathId> = asked.iter().map(|&(drv, _)| graph.drv_path(drv)).collect();
    let valid = store.valid(graph, &paths)?;
    let mut present = Vec::with_capacity(asked.len());
    for (&(drv, wanted), valid) in asked.iter().zip(valid) {
        if !valid {
            found[drv.index()] = Some(Found::Unknown);
            plan.unknown.push(graph.drv_path(drv));
            continue;
        }
        if !graph.is_loaded(drv) {
            store.load(graph, drv)?;
        }
        present.push((drv, wanted));
    }
    Ok(present)
}

fn missing_outputs(
    graph: &BuildGraph,
    store: &mut dyn Store,
    present: &[(DrvId, OutputSet)],
    found: &mut [Option<Found>],
) -> Result<Vec<(DrvId, OutputSet)>> {
    let mut outputs = Vec::new();
    let mut ends = Vec::with_capacity(present.len());
    for &(drv, wanted) in present {
        let rows = graph.outputs(drv).iter();
        let rows = rows.filter(|row| graph.output_sets.wants(wanted, row.name));
        outputs.extend(rows.map(|row| row.path));
        ends.push(outputs.len());
    }
    let valid = store.valid(graph, &outputs)?;
    let mut missing = Vec::new();
    let mut start = 0;
    for (&(drv, wanted), end) in present.iter().zip(ends) {
        let all_valid = valid[start..end].iter().all(|&valid| valid);
        start = end;
        // What is missing may be fetched; what must be built is told from that when that is known.
        found[drv.index()] = Some(Found::Valid(wanted));
        if !all_valid {
            missing.push((drv, wanted));
        }
    }
    Ok(missing)
}

/// Puts the builds into an order that works and measures the longest chain (Kahn's algorithm).
fn order(graph: &BuildGraph, to_build: &[DrvId], plan: &mut Plan) -> Result<()> {
    let mut place = vec![u32::MAX; graph.drv_count()];
    for (index, drv) in to_build.iter().enumerate() {
        place[drv.index()] = index as u32;
    }
    let mut left = vec![0_u32; to_build.len()];
    let mut waiters: Vec<Vec<u32>> = vec![Vec::new(); to_build.len()];
    for (index, &drv) in to_build.iter().enumerate() {
        for input in graph.inputs(drv) {
            let input = place[input.drv.index()];
            if input != u32::MAX {
                waiters[input as usize].push(index as u32);
                left[index] += 1;
            }
        }
    }
    let mut depth = vec![1_u32; to_build.len()];
    let mut ready: Vec<u32> = (0..to_build.len() as u32)
        .filter(|&i| left[i as usize] == 0)
        .collect();
    let mut next = 0;
    while let Some(&index) = ready.get(next) {
        next += 1;
        plan.depth = plan.depth.max(depth[index as usize]);
        plan.builds.push(to_build[index as usize]);
        for &waiter in &waiters[index as usize] {
            let waiter = waiter as usize;
            depth[waiter] = depth[waiter].max(depth[index as usize] + 1);
            left[waiter] -= 1;
            if left[waiter] == 0 {
                ready.push(waiter as u32);
            }
        }
    }
    match left.iter().position(|&left| left > 0) {
        None => Ok(()),
        Some(index) => {
            let path = graph.full_path(graph.drv_path(to_build[index]));
            Err(windrow_components::derivation::DerivationError::Cycle { path }.into())
        }
    }
}
