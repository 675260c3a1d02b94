//! Derivations with several outputs, of which some are valid and others are asked for one after the
//! other: goals that ended are taken up again while others wait for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;
use windrow_components::derivation::Derivation;
use windrow_components::goal::{Outcome, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::store_path::StoreDir;
use windrow_systems::engine::default_options;
use windrow_systems::simulate::mishaps::Mishaps;
use windrow_systems::simulate::scenario::{Later, Offer, Scenario, run};

const NAMES: [&str; 3] = ["dev", "man", "out"];

/// A derivation: how many outputs it has, which of them are valid, and which outputs it needs of
/// which others, all as bits.
#[derive(Debug, Clone)]
struct Drv {
    outputs: usize,
    valid: u8,
    inputs: Vec<(usize, u8)>,
}

fn drvs() -> impl Strategy<Value = Vec<Drv>> {
    let drv = (
        1..=3_usize,
        0..8_u8,
        prop::collection::vec((0..100_usize, 1..8_u8), 0..5),
    );
    prop::collection::vec(drv, 1..14).prop_map(|drvs| {
        let mut made: Vec<Drv> = Vec::new();
        for (index, (outputs, valid, inputs)) in drvs.into_iter().enumerate() {
            let mut needed = BTreeMap::new();
            for (input, bits) in inputs {
                if index > 0 {
                    *needed.entry(input % index).or_insert(0) |= bits;
                }
            }
            // At least one output that is there.
            let inputs = needed.into_iter().map(|(input, bits)| {
                let there = bits & ((1 << made[input].outputs) - 1);
                (input, if there == 0 { 1 } else { there })
            });
            let inputs = inputs.collect();
            made.push(Drv {
                outputs,
                valid,
                inputs,
            });
        }
        made
    })
}

fn path(graph: &mut BuildGraph, number: usize, name: &str) -> PathId {
    let path = format!("/s/{number:0>32}-{name}");
    graph.path(&path).expect("a store path")
}

fn load(graph: &mut BuildGraph, drvs: &[Drv]) -> (Vec<DrvId>, BTreeSet<PathId>) {
    let mut valid = BTreeSet::new();
    let mut ids = Vec::new();
    for (index, drv) in drvs.iter().enumerate() {
        let drv_path = path(graph, index, "d.drv");
        valid.insert(drv_path);
        let (mut outputs, mut inputs) = (Vec::new(), Vec::new());
        for (n, name) in NAMES.iter().enumerate().take(drv.outputs) {
            let output = path(graph, 100 + index * 3 + n, name);
            if drv.valid >> n & 1 == 1 {
                valid.insert(output);
            }
            outputs.push(format!(
                "(\"{name}\",\"{}\",\"\",\"\")",
                graph.full_path(output)
            ));
        }
        for &(input, bits) in &drv.inputs {
            let mut names = String::new();
            for (_, name) in NAMES.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1) {
                let comma = if names.is_empty() { "" } else { "," };
                write!(names, "{comma}\"{name}\"").expect("a string takes all");
            }
            let input = path(graph, input, "d.drv");
            inputs.push(format!("(\"{}\",[{names}])", graph.full_path(input)));
        }
        let contents = format!(
            "Derive([{}],[{}],[],\"sys\",\"b\",[],[])",
            outputs.join(","),
            inputs.join(",")
        );
        let id = graph.drv(drv_path);
        let contents = Derivation::parse(contents.as_bytes()).expect("a derivation");
        graph.load(id, &contents).expect("paths of this store");
        ids.push(id);
    }
    (ids, valid)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing fails here, so all ends well; that no build starts too early is checked by the
    /// scenario.
    #[test]
    fn all_that_is_asked_for_comes_to_be_valid(
        drvs in drvs(), jobs in 1..4_u32, seed in any::<u64>(),
    ) {
        let mut graph = BuildGraph::new(StoreDir::new("/s"));
        let (ids, valid) = load(&mut graph, &drvs);
        let needed: BTreeSet<usize> = drvs.iter().flat_map(|drv| &drv.inputs).map(|input| input.0).collect();
        let top: Vec<DrvId> = (0..drvs.len()).filter(|index| !needed.contains(index)).map(|index| ids[index]).collect();
        let outputs: Vec<Vec<PathId>> =
            ids.iter().map(|&id| graph.outputs(id).iter().map(|row| row.path).collect()).collect();
        let mut options = default_options();
        options.max_jobs = jobs;
        let scenario = Scenario {
            graph,
            valid: valid.clone(),
            substituters: Vec::new(),
            caches: 0,
            builds: BTreeMap::new(),
            hook: false,
            options,
            keep_going: false,
            later: Vec::new(),
            mishaps: Mishaps { shuffle: seed % 2 == 0, ..Mishaps::default() },
            seed,
        };
        let wanted: Vec<Target> = top.iter().map(|&drv| Target::Derivation(drv)).collect();
        let report = run(scenario, &wanted);
        prop_assert!(report.fatal.is_none(), "{:?}", report.fatal);
        let ended_well = |drv: &DrvId| report.derivations.get(drv) == Some(&Some(Outcome::Success));
        prop_assert!(top.iter().all(ended_well));
        prop_assert!(report.derivations.keys().all(ended_well));
        for (index, id) in ids.iter().enumerate() {
            let all = outputs[index].iter().all(|path| report.valid.contains(path));
            prop_assert!(all || !report.built.contains(id), "{} was built in part", index);
            // What was valid in the beginning need not be built, nor what nobody asked for.
            let before = outputs[index].iter().all(|path| valid.contains(path));
            prop_assert!(!(before && report.built.contains(id)), "{} was built for nothing", index);
        }
    }
}

/// What a substitute refers to is there once the inputs are, so it is asked for once more then,
/// also by a goal that is taken up again.
#[test]
fn a_goal_taken_up_again_tries_substitutes_again_with_its_inputs() {
    for (seed, tick) in (0..20).flat_map(|seed| (2..20).map(move |tick| (seed, tick))) {
        let drv = |inputs| Drv {
            outputs: 1,
            valid: 0,
            inputs,
        };
        let mut graph = BuildGraph::new(StoreDir::new("/s"));
        let (ids, valid) = load(&mut graph, &[drv(Vec::new()), drv(vec![(0, 1)])]);
        let [input, top] = [0, 1].map(|index| graph.outputs(ids[index])[0].path);
        let offer = Offer {
            references: vec![input],
            fails: false,
        };
        let again = |tick, cancel| Later {
            tick,
            wanted: vec![Target::Derivation(ids[1])],
            keep_going: false,
            cancel,
        };
        let scenario = Scenario {
            graph,
            valid,
            substituters: vec![BTreeMap::from([(top, offer)])],
            caches: 0,
            builds: BTreeMap::new(),
            hook: false,
            options: default_options(),
            keep_going: false,
            later: vec![again(1, Some(tick)), again(tick + 1, None)],
            mishaps: Mishaps::default(),
            seed,
        };
        let report = run(scenario, &[]);
        assert!(report.valid.contains(&top));
        assert!(
            !report.built.contains(&ids[1]),
            "seed {seed}, tick {tick}: what there is a substitute of was built"
        );
    }
}
