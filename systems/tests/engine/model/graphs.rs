//! Random graphs with substitutes, a hook, failures and mishaps of every kind.
//!
//! Where the result by Nix 1.8's rules depends on which goal happens to be first, the graphs are
//! made so that it does not: a path is referred to only if it is certain that it can be fetched, or
//! if one derivation alone is its way into the graph.

use std::collections::{BTreeMap, BTreeSet};

use windrow_components::derivation::Derivation;
use windrow_components::goal::Target;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::store_path::StoreDir;
use windrow_systems::engine::default_options;
use windrow_systems::failure::FailureKind;
use windrow_systems::simulate::mishaps::{Chance, IoError, Mishaps};
use windrow_systems::simulate::scenario::{Build, Later, Offer, Scenario};
use windrow_systems::world::{Options, Reply};

fn path(graph: &mut BuildGraph, number: usize, name: &str) -> PathId {
    let text = format!("/s/{number:0>32}-{name}");
    graph.path(&text).expect("a store path")
}

fn text(graph: &BuildGraph, path: PathId) -> String {
    graph.full_path(path)
}

/// Up to three requests for what was wanted in the first place, or for derivations of any kind, that come some time and may
/// be cancelled.
fn later(random: &mut Chance, wanted: &[Target], drvs: &[DrvId]) -> Vec<Later> {
    let any: Vec<Target> = drvs.iter().copied().map(Target::Derivation).collect();
    let targets = if random.percent(50) { wanted } else { &any };
    let count = 1 + random.below(3);
    let request = |_| {
        let tick = random.below(30);
        let wanted = (0..1 + random.below(3))
            .map(|_| targets[random.below(targets.len() as u64) as usize])
            .collect();
        Later {
            tick,
            wanted,
            keep_going: random.percent(50),
            cancel: random.percent(40).then(|| tick + random.below(15)),
        }
    };
    (0..count).map(request).collect()
}

/// What was made by chance, and what to ask for.
pub(super) struct Made {
    pub(super) scenario: Scenario,
    pub(super) wanted: Vec<Target>,
    /// What the seed says goes wrong once, and not again when the engine is started anew.
    pub(super) once: Vec<Mishaps>,
}

/// Offers a path at each substituter or not; tells whether it is certain to arrive, its references
/// given.
fn offer(
    random: &mut Chance,
    substituters: &mut [BTreeMap<PathId, Offer>],
    path: PathId,
    references: &[PathId],
    trouble: bool,
    unwritable: &mut BTreeSet<PathId>,
) -> bool {
    let mut arrives = false;
    let lands = !(trouble && random.percent(4));
    if !lands {
        unwritable.insert(path);
    }
    for substituter in substituters {
        if random.percent(60) {
            let fails = trouble && random.percent(30);
            arrives |= !fails && lands;
            let references = references.to_vec();
            substituter.insert(path, Offer { references, fails });
        }
    }
    arrives
}

pub(super) fn make(seed: u64) -> Made {
    let mut random = Chance::new(seed);
    let mut graph = BuildGraph::new(StoreDir::new("/s"));
    let count = 1 + random.below(9) as usize;
    let tree = random.percent(50);
    let trouble = random.percent(70);
    let mut substituters = vec![BTreeMap::new(); random.below(3) as usize];
    let mut valid = BTreeSet::new();
    let mut unwritable = BTreeSet::new();
    let mut builds = BTreeMap::new();
    let mut has_dependents = vec![false; count];
    let mut certain: Vec<Vec<PathId>> = Vec::new();
    let mut outputs: Vec<Vec<PathId>> = Vec::new();
    let mut drvs = Vec::new();

    let mut sources = Vec::new();
    for number in 0..3 {
        let source = path(&mut graph, 900 + number, "source");
        match random.below(4) {
            0 | 1 => {
                valid.insert(source);
            }
            2 => {
                offer(
                    &mut random,
                    &mut substituters,
                    source,
                    &[],
                    trouble,
                    &mut unwritable,
                );
            }
            _ => {}
        }
        sources.push(source);
    }
    let nowhere = path(&mut graph, 990, "nowhere");

    for index in 0..count {
        let drv_path = path(&mut graph, index, "d.drv");
        let drv = graph.drv(drv_path);
        let mut inputs: Vec<usize> = (0..index).filter(|_| random.percent(35)).collect();
        if tree {
            inputs.retain(|&input| !has_dependents[input]);
        }
        inputs
            .iter()
            .for_each(|&input| has_dependents[input] = true);
        let own_sources: Vec<PathId> = sources
            .iter()
            .copied()
            .filter(|_| random.percent(12))
            .collect();
        let outs: Vec<PathId> = (0..=usize::from(random.percent(25)))
            .map(|n| path(&mut graph, 100 + index * 2 + n, "out"))
            .collect();
        let prefer_local = random.percent(10);
        let forbidden = random.percent(10);
        let quoted = |items: Vec<String>| items.join(",");
        let contents = format!(
            "Derive([{}],[{}],[{}],\"sys\",\"b\",[],[(\"allowSubstitutes\",\"{}\"),(\"preferLocalBuild\",\"{}\")])",
            quoted(
                outs.iter()
                    .enumerate()
                    .map(|(n, &out)| {
                        let name = if n == 0 { "out" } else { "two" };
                        format!("(\"{name}\",\"{}\",\"\",\"\")", text(&graph, out))
                    })
                    .collect()
            ),
            quoted(
                inputs
                    .iter()
                    .map(|&input| {
                        let drv: DrvId = drvs[input];
                        let names = if outputs[input].len() == 1 {
                            "\"out\""
                        } else {
                            "\"out\",\"two\""
                        };
                        format!("(\"{}\",[{names}])", text(&graph, graph.drv_path(drv)))
                    })
                    .collect()
            ),
            quoted(
                own_sources
                    .iter()
                    .map(|&source| format!("\"{}\"", text(&graph, source)))
                    .collect()
            ),
            if forbidden { "" } else { "1" },
            if prefer_local { "1" } else { "" },
        );
        let contents = Derivation::parse(contents.as_bytes()).expect("a derivation");
        graph.load(drv, &contents).expect("paths of this store");

        if random.percent(8) {
            offer(
                &mut random,
                &mut substituters,
                drv_path,
                &[],
                trouble,
                &mut unwritable,
            );
        } else {
            valid.insert(drv_path);
        }
        let mut arriving = Vec::new();
        for &out in &outs {
            if random.percent(8) {
                valid.insert(out);
                continue;
            }
            if !random.percent(60) {
                continue;
            }
            let mut references: Vec<PathId> = Vec::new();
            for &input in &inputs {
                let from = if tree {
                    &outputs[input]
                } else {
                    &certain[input]
                };
                references.extend(from.iter().filter(|_| random.percent(50)));
            }
            if random.percent(25) {
                references.push(out);
            }
            if tree && random.percent(10) {
                references.push(nowhere);
            }
            let arrives = offer(
                &mut random,
                &mut substituters,
                out,
                &references,
                trouble,
                &mut unwritable,
            );
            // In a graph where others may ask for it, it must not depend on who asks first.
            if arrives && !prefer_local && !forbidden {
                arriving.push(out);
            }
        }
        let failure = (trouble && random.percent(15)).then(|| match random.below(4) {
            0 | 1 => FailureKind::Permanent,
            2 => FailureKind::TimedOut,
            _ => FailureKind::Other,
        });
        let mut replies = Vec::new();
        if random.percent(30) {
            replies.push(Reply::Postpone);
        }
        replies.push(if random.percent(50) {
            Reply::Accept
        } else {
            Reply::Decline
        });
        builds.insert(drv, Build { failure, replies });
        certain.push(arriving);
        outputs.push(outs);
        drvs.push(drv);
    }

    let mut options = default_options();
    options.max_jobs = random.below(4) as u32;
    let keep_going = random.percent(75);
    options.fallback = random.percent(50);
    options.platforms = vec!["sys".to_owned()];
    let mut wanted: Vec<Target> = (0..count)
        .filter(|&index| !has_dependents[index])
        .map(|index| Target::Derivation(drvs[index]))
        .collect();
    if random.percent(20) {
        wanted.push(Target::Path(sources[random.below(3) as usize]));
    }
    // Drawn apart, so that graphs stay what they are.
    let mut others = Chance::new(seed ^ 0xa5c0);
    let later = match others.percent(40) {
        true => later(&mut others, &wanted, &drvs),
        false => Vec::new(),
    };
    let hook = random.percent(40);
    let troubled = Troubled {
        graph: &graph,
        builds: &builds,
        substituters: &substituters,
        options: &options,
    };
    let mishaps = lasting(&mut random, troubled, trouble, unwritable);
    let once = once(&mut random, substituters.len(), &mishaps);
    Made {
        scenario: Scenario {
            graph,
            valid,
            substituters,
            builds,
            hook,
            options,
            keep_going,
            later,
            mishaps,
            seed,
        },
        wanted,
        once,
    }
}

/// What decides which mishaps change no result.
struct Troubled<'a> {
    graph: &'a BuildGraph,
    builds: &'a BTreeMap<DrvId, Build>,
    substituters: &'a [BTreeMap<PathId, Offer>],
    options: &'a Options,
}

/// Mishaps that happen in every life of the engine: those that nothing may come of, and those that
/// the rules know of.
fn lasting(
    random: &mut Chance,
    world: Troubled<'_>,
    trouble: bool,
    mut unwritable: BTreeSet<PathId>,
) -> Mishaps {
    let mut mishaps = Mishaps {
        shuffle: random.percent(80),
        ..Mishaps::default()
    };
    if random.percent(50) {
        mishaps.foreign_locks = 30;
        mishaps.no_user = 20;
    }
    let slots = world.options.max_jobs > 0;
    let hook_dies_building = random.percent(50);
    for &drv in world.builds.keys().filter(|_| trouble) {
        if random.percent(4) {
            mishaps.lost.insert(drv);
        }
        if hook_dies_building && random.percent(15) {
            mishaps.hook_dies_building.insert(drv);
        }
        let outputs = world.graph.outputs(drv).iter().map(|row| row.path);
        unwritable.extend(outputs.filter(|_| random.percent(2)));
    }
    // Without a slot it would make a difference that the hook did not take a build.
    if slots && mishaps.hook_dies_building.is_empty() && random.percent(50) {
        mishaps.hook_dies_asked = 30;
    }
    // What others make must be what would have come to be valid in any case.
    for (&drv, build) in world.builds.iter().filter(|_| slots) {
        let outputs = world.graph.outputs(drv).iter().map(|row| row.path);
        let outputs: Vec<PathId> = outputs.collect();
        let fails = build.failure.is_some()
            || mishaps.lost.contains(&drv)
            || mishaps.hook_dies_building.contains(&drv)
            || outputs.iter().any(|path| unwritable.contains(path))
            || world
                .substituters
                .iter()
                .any(|has| outputs.iter().any(|path| has.contains_key(path)));
        if !fails {
            mishaps.made_by_others.extend(outputs);
        }
    }
    // Outputs that can't be registered together are registered one by one, which is not tried
    // again.
    if unwritable.is_empty() && random.percent(50) {
        mishaps.busy = 20;
    }
    mishaps.unwritable = unwritable;
    mishaps
}

/// What goes wrong beside that before the engine comes to its end, life by life.
fn once(random: &mut Chance, substituters: usize, lasting: &Mishaps) -> Vec<Mishaps> {
    let mut lives = Vec::new();
    while lives.len() < 3 && random.percent(35) {
        let mut mishaps = lasting.clone();
        match random.below(4) {
            0 | 1 => mishaps.crash = Some(random.below(25)),
            2 => {
                let (call, lasts) = (random.below(30), random.percent(50));
                mishaps.io_error = Some(IoError { call, lasts });
            }
            _ if substituters > 0 => {
                let dying = random.below(substituters as u64) as usize;
                mishaps.substituter_dies = Some((dying, random.below(3)));
            }
            _ => mishaps.hook_dies_asked = 60,
        }
        lives.push(mishaps);
    }
    lives
}
