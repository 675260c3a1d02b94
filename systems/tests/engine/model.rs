//! The engine against a naive model: random graphs with substitutes, a hook and failures of every kind go through the
//! simulated world, and through a recursion that does what the rules of Nix 1.8 say and nothing else. Both must come to
//! the same.
//!
//! Where the result of Nix 1.8 depends on which goal happens to be first, the graphs are made so that it does not: a path is
//! referred to only if it is certain that it can be fetched, or if one derivation alone is its way into the graph.

use std::collections::{BTreeMap, BTreeSet};

use windrow_components::derivation::Derivation;
use windrow_components::goal::{Outcome, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::store_path::StoreDir;
use windrow_systems::Error;
use windrow_systems::engine::default_options;
use windrow_systems::failure::{FailureKind, FailureKinds};
use windrow_systems::simulate::scenario::{Build, Offer, Report, Scenario, run};
use windrow_systems::world::Reply;

/// How many graphs are tried.
const GRAPHS: u64 = 10_000;

/// Numbers by chance, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

fn path(graph: &mut BuildGraph, number: usize, name: &str) -> PathId {
    let text = format!("/s/{number:0>32}-{name}");
    graph.path(&text).expect("a store path")
}

fn text(graph: &BuildGraph, path: PathId) -> String {
    graph.full_path(path)
}

/// What was made by chance, and what to ask for.
struct Made {
    scenario: Scenario,
    wanted: Vec<Target>,
}

/// Offers a path at each substituter or not; tells whether it is certain to arrive, its references given.
fn offer(
    random: &mut Random,
    substituters: &mut [BTreeMap<PathId, Offer>],
    path: PathId,
    references: &[PathId],
    trouble: bool,
) -> bool {
    let mut arrives = false;
    for substituter in substituters {
        if random.percent(60) {
            let fails = trouble && random.percent(30);
            arrives |= !fails;
            let references = references.to_vec();
            substituter.insert(path, Offer { references, fails });
        }
    }
    arrives
}

fn make(seed: u64) -> Made {
    let mut random = Random(seed);
    let mut graph = BuildGraph::new(StoreDir::new("/s"));
    let count = 1 + random.below(9) as usize;
    let tree = random.percent(50);
    let trouble = random.percent(70);
    let mut substituters = vec![BTreeMap::new(); random.below(3) as usize];
    let mut valid = BTreeSet::new();
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
                offer(&mut random, &mut substituters, source, &[], trouble);
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
            offer(&mut random, &mut substituters, drv_path, &[], trouble);
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
            let arrives = offer(&mut random, &mut substituters, out, &references, trouble);
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
    options.keep_going = random.percent(75);
    options.fallback = random.percent(50);
    options.platforms = vec!["sys".to_owned()];
    let mut wanted: Vec<Target> = (0..count)
        .filter(|&index| !has_dependents[index])
        .map(|index| Target::Derivation(drvs[index]))
        .collect();
    if random.percent(20) {
        wanted.push(Target::Path(sources[random.below(3) as usize]));
    }
    Made {
        scenario: Scenario {
            graph,
            valid,
            substituters,
            builds,
            hook: random.percent(40),
            options,
            seed,
        },
        wanted,
    }
}

/// How something ends by the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    Failed,
    NoSubstituters,
    IncompleteClosure,
    /// Never: it needs a slot and there is none.
    Waits,
}

/// The rules of Nix 1.8, one function for each kind of goal.
struct Model<'a> {
    world: &'a Scenario,
    valid: BTreeSet<PathId>,
    derivations: BTreeMap<DrvId, End>,
    failed_paths: BTreeSet<PathId>,
    built: BTreeSet<DrvId>,
    failures: FailureKinds,
    any_failure: bool,
}

impl Model<'_> {
    /// `SubstitutionGoal`: the first substituter that has it decides on its references, each may fail to deliver.
    fn path(&mut self, path: PathId) -> End {
        if self.valid.contains(&path) {
            return End::Success;
        }
        if self.failed_paths.contains(&path) {
            return End::Failed;
        }
        let world = self.world;
        let mut has_substitute = false;
        for substituter in &world.substituters {
            let Some(offer) = substituter.get(&path) else {
                continue;
            };
            has_substitute = true;
            let others = offer.references.iter().filter(|&&other| other != path);
            let ends: Vec<End> = others.map(|&other| self.path(other)).collect();
            if ends.iter().any(|&end| end != End::Success) {
                let lacks = [End::NoSubstituters, End::IncompleteClosure];
                if ends.iter().any(|end| lacks.contains(end)) {
                    return End::IncompleteClosure;
                }
                return self.path_failed(path);
            }
            if !offer.fails {
                self.valid.insert(path);
                return End::Success;
            }
        }
        if has_substitute {
            return self.path_failed(path);
        }
        End::NoSubstituters
    }

    fn path_failed(&mut self, path: PathId) -> End {
        self.failed_paths.insert(path);
        self.any_failure = true;
        End::Failed
    }

    /// `DerivationGoal`.
    fn derivation(&mut self, drv: DrvId) -> End {
        if let Some(&end) = self.derivations.get(&drv) {
            return end;
        }
        let end = match self.realise(drv) {
            Ok(end) => end,
            Err(kind) => {
                self.failures.add(kind);
                self.any_failure = true;
                End::Failed
            }
        };
        self.derivations.insert(drv, end);
        end
    }

    fn missing(&self, drv: DrvId) -> Vec<PathId> {
        let rows = self.world.graph.outputs(drv).iter().map(|row| row.path);
        rows.filter(|path| !self.valid.contains(path)).collect()
    }

    /// Substitutes of the outputs; tells whether one lacked references.
    fn substitute(&mut self, drv: DrvId) -> Result<bool, FailureKind> {
        let missing = self.missing(drv);
        let ends: Vec<End> = missing.into_iter().map(|path| self.path(path)).collect();
        if ends.contains(&End::Failed) && !self.world.options.fallback {
            return Err(FailureKind::Other);
        }
        Ok(ends.contains(&End::IncompleteClosure))
    }

    fn realise(&mut self, drv: DrvId) -> Result<End, FailureKind> {
        let world = self.world;
        if self.path(world.graph.drv_path(drv)) != End::Success {
            return Err(FailureKind::Other);
        }
        if self.missing(drv).is_empty() {
            return Ok(End::Success);
        }
        let traits = world.graph.traits(drv);
        let substitutes = traits.allow_substitutes && !traits.prefer_local;
        let retry = substitutes && self.substitute(drv)?;
        if self.missing(drv).is_empty() {
            return Ok(End::Success);
        }
        let inputs = world.graph.inputs(drv).map(|input| input.drv);
        let mut ends: Vec<End> = inputs.map(|input| self.derivation(input)).collect();
        let sources = world.graph.sources(drv).to_vec();
        ends.extend(sources.into_iter().map(|source| self.path(source)));
        if ends.contains(&End::Waits) {
            return Ok(End::Waits);
        }
        if ends.iter().any(|&end| end != End::Success) {
            return Err(FailureKind::Dependency);
        }
        if retry {
            self.substitute(drv)?;
            if self.missing(drv).is_empty() {
                return Ok(End::Success);
            }
        }
        let build = &world.builds[&drv];
        let accepts = build.replies.last() == Some(&Reply::Accept);
        let away = world.hook && !traits.prefer_local && accepts;
        if !away && world.options.max_jobs == 0 {
            return Ok(End::Waits);
        }
        if let Some(kind) = build.failure {
            return Err(kind);
        }
        let missing = self.missing(drv);
        self.valid.extend(missing);
        self.built.insert(drv);
        Ok(End::Success)
    }
}

fn end(outcome: Option<Outcome>) -> End {
    let Some(outcome) = outcome else {
        return End::Waits;
    };
    match outcome {
        Outcome::Success => End::Success,
        Outcome::Failed => End::Failed,
        Outcome::NoSubstituters => End::NoSubstituters,
        Outcome::IncompleteClosure => End::IncompleteClosure,
    }
}

fn check(seed: u64) -> (bool, bool) {
    let Made { scenario, wanted } = make(seed);
    let mut model = Model {
        valid: scenario.valid.clone(),
        world: &scenario,
        derivations: BTreeMap::new(),
        failed_paths: BTreeSet::new(),
        built: BTreeSet::new(),
        failures: FailureKinds::default(),
        any_failure: false,
    };
    let mut top = Vec::new();
    for target in &wanted {
        top.push(match *target {
            Target::Derivation(drv) => model.derivation(drv),
            Target::Path(path) | Target::Repair(path) => model.path(path),
        });
    }
    let Model {
        valid,
        derivations,
        built,
        failures,
        any_failure,
        ..
    } = model;
    let exact = scenario.options.keep_going || !any_failure;
    let outputs: BTreeMap<DrvId, Vec<PathId>> = derivations
        .keys()
        .map(|&drv| {
            (
                drv,
                scenario
                    .graph
                    .outputs(drv)
                    .iter()
                    .map(|row| row.path)
                    .collect(),
            )
        })
        .collect();
    let report: Report = run(scenario, &wanted);
    let stuck = match &report.fatal {
        None => false,
        Some(Error::NoSlots) => true,
        Some(error) => panic!("seed {seed}: {error}"),
    };
    // A goal that has ended well has made everything valid, whatever else went wrong.
    for (drv, &how) in &report.derivations {
        if how == Some(Outcome::Success) {
            let all = outputs.get(drv).map_or(&[][..], Vec::as_slice);
            assert!(
                all.iter().all(|path| report.valid.contains(path)),
                "seed {seed}: {drv:?}"
            );
        }
    }
    if !exact {
        let failed = report.derivations.values().chain(report.paths.values());
        let failed = failed.filter(|&&how| how == Some(Outcome::Failed)).count();
        assert!(failed > 0 || stuck, "seed {seed}: something was to fail");
        return (true, stuck);
    }
    let ends: BTreeMap<DrvId, End> = report
        .derivations
        .iter()
        .map(|(&drv, &how)| (drv, end(how)))
        .collect();
    assert_eq!(
        ends, derivations,
        "seed {seed}: the same goals end in the same way"
    );
    assert_eq!(
        report.built, built,
        "seed {seed}: the same derivations are built"
    );
    assert_eq!(report.valid, valid, "seed {seed}: the same paths are valid");
    assert_eq!(
        report.failures, failures,
        "seed {seed}: the exit status is the same"
    );
    assert_eq!(
        stuck,
        top.contains(&End::Waits),
        "seed {seed}: slots are lacking"
    );
    (any_failure, stuck)
}

#[test]
fn runs_end_as_the_rules_of_nix_1_8_say() {
    let (mut failed, mut stuck) = (0, 0);
    for seed in 0..GRAPHS {
        let (any_failure, is_stuck) = check(seed);
        failed += u64::from(any_failure);
        stuck += u64::from(is_stuck);
    }
    // Graphs without any trouble would show nothing.
    assert!(
        failed > GRAPHS / 5 && failed < GRAPHS * 4 / 5,
        "{failed} fail"
    );
    assert!(stuck > GRAPHS / 50, "{stuck} lack slots");
}
