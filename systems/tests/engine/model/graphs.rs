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

/// Up to three requests for what was wanted in the first place, or for derivations of any kind,
/// that come some time and may be cancelled.
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

/// A graph in the making, and the world around it.
struct Making {
    random: Chance,
    graph: BuildGraph,
    /// Whether each derivation has one dependent at most.
    tree: bool,
    /// Whether builds and fetches may fail.
    trouble: bool,
    substituters: Vec<BTreeMap<PathId, Offer>>,
    valid: BTreeSet<PathId>,
    /// What can't be registered when it was fetched.
    unwritable: BTreeSet<PathId>,
    builds: BTreeMap<DrvId, Build>,
    sources: Vec<PathId>,
    /// A path that nobody has.
    nowhere: PathId,
    drvs: Vec<DrvId>,
    /// The outputs of each derivation, and those of them that are certain to arrive.
    outputs: Vec<Vec<PathId>>,
    certain: Vec<Vec<PathId>>,
    has_dependents: Vec<bool>,
}

/// What a derivation in the making is given by chance.
struct Plan {
    inputs: Vec<usize>,
    sources: Vec<PathId>,
    outputs: Vec<PathId>,
    prefer_local: bool,
    /// Whether its outputs may not be fetched.
    forbidden: bool,
}

pub(super) fn make(seed: u64) -> Made {
    let mut random = Chance::new(seed);
    let mut graph = BuildGraph::new(StoreDir::new("/s"));
    let count = 1 + random.below(9) as usize;
    let tree = random.percent(50);
    let trouble = random.percent(70);
    let substituters = vec![BTreeMap::new(); random.below(3) as usize];
    let nowhere = path(&mut graph, 990, "nowhere");
    let mut making = Making {
        random,
        graph,
        tree,
        trouble,
        substituters,
        valid: BTreeSet::new(),
        unwritable: BTreeSet::new(),
        builds: BTreeMap::new(),
        sources: Vec::new(),
        nowhere,
        drvs: Vec::new(),
        outputs: Vec::new(),
        certain: Vec::new(),
        has_dependents: vec![false; count],
    };
    making.add_sources();
    for index in 0..count {
        making.add_derivation(index);
    }
    making.finish(seed)
}

impl Making {
    /// Offers a path at each substituter or not; tells whether it is certain to arrive, its
    /// references given.
    fn offer(&mut self, path: PathId, references: &[PathId]) -> bool {
        let (random, trouble) = (&mut self.random, self.trouble);
        let mut arrives = false;
        let lands = !(trouble && random.percent(4));
        if !lands {
            self.unwritable.insert(path);
        }
        for substituter in &mut self.substituters {
            if random.percent(60) {
                let fails = trouble && random.percent(30);
                arrives |= !fails && lands;
                let references = references.to_vec();
                substituter.insert(path, Offer { references, fails });
            }
        }
        arrives
    }

    fn add_sources(&mut self) {
        for number in 0..3 {
            let source = path(&mut self.graph, 900 + number, "source");
            match self.random.below(4) {
                0 | 1 => drop(self.valid.insert(source)),
                2 => drop(self.offer(source, &[])),
                _ => {}
            }
            self.sources.push(source);
        }
    }

    fn add_derivation(&mut self, index: usize) {
        let drv_path = path(&mut self.graph, index, "d.drv");
        let drv = self.graph.drv(drv_path);
        let plan = self.plan(index);
        let text = self.derivation(&plan);
        let contents = Derivation::parse(text.as_bytes()).expect("a derivation");
        self.graph
            .load(drv, &contents)
            .expect("paths of this store");
        if self.random.percent(8) {
            self.offer(drv_path, &[]);
        } else {
            self.valid.insert(drv_path);
        }
        let mut arriving = Vec::new();
        for &out in &plan.outputs {
            if self.offer_output(&plan, out) {
                arriving.push(out);
            }
        }
        let build = self.build();
        self.builds.insert(drv, build);
        self.certain.push(arriving);
        self.outputs.push(plan.outputs);
        self.drvs.push(drv);
    }

    fn plan(&mut self, index: usize) -> Plan {
        let random = &mut self.random;
        let mut inputs: Vec<usize> = (0..index).filter(|_| random.percent(35)).collect();
        if self.tree {
            inputs.retain(|&input| !self.has_dependents[input]);
        }
        for &input in &inputs {
            self.has_dependents[input] = true;
        }
        let sources = self.sources.iter().copied();
        let sources = sources.filter(|_| random.percent(12)).collect();
        let outputs = (0..=usize::from(random.percent(25)))
            .map(|n| path(&mut self.graph, 100 + index * 2 + n, "out"))
            .collect();
        Plan {
            inputs,
            sources,
            outputs,
            prefer_local: random.percent(10),
            forbidden: random.percent(10),
        }
    }

    /// The text of a derivation.
    fn derivation(&self, plan: &Plan) -> String {
        let graph = &self.graph;
        let outputs = plan.outputs.iter().zip(["out", "two"]);
        let outputs =
            outputs.map(|(&out, name)| format!("(\"{name}\",\"{}\",\"\",\"\")", text(graph, out)));
        let inputs = plan.inputs.iter().map(|&input| {
            let names = match self.outputs[input].len() {
                1 => "\"out\"",
                _ => "\"out\",\"two\"",
            };
            let drv = text(graph, graph.drv_path(self.drvs[input]));
            format!("(\"{drv}\",[{names}])")
        });
        let sources = plan.sources.iter();
        let sources = sources.map(|&source| format!("\"{}\"", text(graph, source)));
        let joined = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(",");
        format!(
            "Derive([{}],[{}],[{}],\"sys\",\"b\",[],[(\"allowSubstitutes\",\"{}\"),(\"preferLocalBuild\",\"{}\")])",
            joined(&mut { outputs }),
            joined(&mut { inputs }),
            joined(&mut { sources }),
            if plan.forbidden { "" } else { "1" },
            if plan.prefer_local { "1" } else { "" },
        )
    }

    /// Makes an output valid, or offers it, or neither; tells whether others may count on it.
    fn offer_output(&mut self, plan: &Plan, out: PathId) -> bool {
        if self.random.percent(8) {
            self.valid.insert(out);
            return false;
        }
        if !self.random.percent(60) {
            return false;
        }
        let mut references: Vec<PathId> = Vec::new();
        for &input in &plan.inputs {
            let from = match self.tree {
                true => &self.outputs[input],
                false => &self.certain[input],
            };
            references.extend(from.iter().filter(|_| self.random.percent(50)));
        }
        if self.random.percent(25) {
            references.push(out);
        }
        if self.tree && self.random.percent(10) {
            references.push(self.nowhere);
        }
        let arrives = self.offer(out, &references);
        // In a graph where others may ask for it, it must not depend on who asks first.
        arrives && !plan.prefer_local && !plan.forbidden
    }

    /// How a build ends, and what a hook says to it.
    fn build(&mut self) -> Build {
        let random = &mut self.random;
        let failure = (self.trouble && random.percent(15)).then(|| match random.below(4) {
            0 | 1 => FailureKind::Permanent,
            2 => FailureKind::TimedOut,
            _ => FailureKind::Other,
        });
        let mut replies = Vec::new();
        if random.percent(30) {
            replies.push(Reply::Postpone);
        }
        replies.push(match random.percent(50) {
            true => Reply::Accept,
            false => Reply::Decline,
        });
        Build { failure, replies }
    }

    /// Chooses options, what is asked for, and what goes wrong.
    fn finish(mut self, seed: u64) -> Made {
        let random = &mut self.random;
        let mut options = default_options();
        options.max_jobs = random.below(4) as u32;
        let keep_going = random.percent(75);
        options.fallback = random.percent(50);
        options.platforms = vec!["sys".to_owned()];
        let mut wanted: Vec<Target> = (0..self.drvs.len())
            .filter(|&index| !self.has_dependents[index])
            .map(|index| Target::Derivation(self.drvs[index]))
            .collect();
        if random.percent(20) {
            wanted.push(Target::Path(self.sources[random.below(3) as usize]));
        }
        // Drawn apart, so that graphs stay what they are.
        let mut others = Chance::new(seed ^ 0xa5c0);
        let later = match others.percent(40) {
            true => later(&mut others, &wanted, &self.drvs),
            false => Vec::new(),
        };
        let caches = others.below(self.substituters.len() as u64 + 1) as usize;
        let hook = random.percent(40);
        let troubled = Troubled {
            graph: &self.graph,
            builds: &self.builds,
            substituters: &self.substituters,
            options: &options,
        };
        let mut mishaps = lasting(random, troubled, self.trouble, self.unwritable);
        mishaps.late_answers = others.below(2) * 40;
        let once = once(random, self.substituters.len(), &mishaps);
        Made {
            scenario: Scenario {
                graph: self.graph,
                valid: self.valid,
                substituters: self.substituters,
                caches,
                builds: self.builds,
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
