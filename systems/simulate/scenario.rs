//! The faulty world as a plugin: derivations with substitutes, a hook, and failures of every kind, all in memory. Shows on
//! thousands of graphs that the same systems keep the engine's promises whatever fails, and in whatever order.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use bevy_ecs::prelude::{
    Entity, IntoScheduleConfigs as _, NonSendMut, Query, Res, ResMut, Resource,
};
use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::goal::{DerivationGoal, Outcome, Stage, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::{SubstituteInfo, Substitution};

use super::children::idle;
use crate::engine::{Engine, TickSet, plug_in_others};
use crate::error::{Error, Result};
use crate::failure::{Failure, FailureKind, FailureKinds};
use crate::lock::fetch::FetchQueue;
use crate::policy::Policy;
use crate::report::Silent;
use crate::spawn::hook::desk::HookDesk;
use crate::spawn::hook::instance::Reply;
use crate::store::path_lock::OutputLocks;
use crate::substitute::substituters::Substituters;
use crate::world::{
    Awake, BuiltOutput, Completed, Failures, GoalIndex, LockWaiters, NewOutput, Now, Options, Pace,
    RunState, Slots, Starting, Store, StoreHandle,
};

/// A path at a substituter.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// What it says that the path refers to.
    pub references: Vec<PathId>,
    /// Whether it fails to deliver it.
    pub fails: bool,
}

/// What becomes of a derivation that is built.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// How the build ends badly, if it does.
    pub failure: Option<FailureKind>,
    /// What the hook answers, one offer after the other; the last answer stays.
    pub replies: Vec<Reply>,
}

/// A world with its faults.
#[derive(Debug)]
pub struct Scenario {
    /// All derivations, loaded.
    pub graph: BuildGraph,
    /// The paths that are valid in the beginning.
    pub valid: BTreeSet<PathId>,
    /// What each substituter has.
    pub substituters: Vec<BTreeMap<PathId, Offer>>,
    /// What becomes of derivations; one that is not named is built without trouble.
    pub builds: BTreeMap<DrvId, Build>,
    /// Whether there is a hook.
    pub hook: bool,
    /// How the run is to go about it.
    pub options: Options,
    /// For how long everything takes.
    pub seed: u64,
}

/// How a run through a scenario ended.
#[derive(Debug)]
pub struct Report {
    /// How each derivation's goal ended; one that was never asked for is not named.
    pub derivations: BTreeMap<DrvId, Option<Outcome>>,
    /// How each path's goal ended.
    pub paths: BTreeMap<PathId, Option<Outcome>>,
    /// The derivations that were built.
    pub built: BTreeSet<DrvId>,
    /// The paths that are valid in the end.
    pub valid: BTreeSet<PathId>,
    /// The kinds of failures seen.
    pub failures: FailureKinds,
    /// What ended the run before its goals had.
    pub fatal: Option<Error>,
}

type Valid = Rc<RefCell<BTreeSet<PathId>>>;

struct MemoryStore {
    valid: Valid,
    shared: bool,
}

impl Store for MemoryStore {
    fn add_temp_roots(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<()> {
        Ok(())
    }

    fn valid(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        let valid = self.valid.borrow();
        Ok(paths.iter().map(|path| valid.contains(path)).collect())
    }

    fn load(&mut self, _: &mut BuildGraph, _: DrvId) -> Result<()> {
        Ok(())
    }

    fn check_output_paths(&mut self, _: &BuildGraph, _: DrvId) -> Result<()> {
        Ok(())
    }

    fn nar_hash(&mut self, _: &BuildGraph, _: PathId) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn try_lock(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<Option<OutputLocks>> {
        Ok(Some(OutputLocks::default()))
    }

    fn scratch_outputs(&mut self, _: &BuildGraph, _: DrvId, _: &[PathId]) -> Result<HashRewrites> {
        Ok(HashRewrites::default())
    }

    fn unlock(&mut self, _: OutputLocks, _: bool) {}

    fn input_closure(&mut self, _: &mut BuildGraph, _: DrvId) -> Result<Vec<PathId>> {
        Ok(Vec::new())
    }

    fn closure(&mut self, _: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>> {
        Ok(paths.to_vec())
    }

    fn register(&mut self, _: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        let mut valid = self.valid.borrow_mut();
        valid.extend(outputs.iter().map(|output| output.path));
        for reference in outputs
            .iter()
            .filter_map(|output| output.built.as_ref())
            .flat_map(|built| &built.references)
        {
            assert!(
                valid.contains(reference),
                "a path is valid only with its references"
            );
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// A build in a slot.
    Here(DrvId),
    /// A build of the hook.
    Away(DrvId),
    /// A path from the substituter whose turn it is.
    Fetch(PathId),
}

/// What runs, what will become of it, and what has.
#[derive(Resource)]
struct Faults {
    substituters: Vec<BTreeMap<PathId, Offer>>,
    builds: BTreeMap<DrvId, Build>,
    running: BinaryHeap<Reverse<(u64, Work, Entity)>>,
    offers: BTreeMap<DrvId, usize>,
    built: BTreeSet<DrvId>,
    random: u64,
}

impl Faults {
    fn start(&mut self, now: Duration, work: Work, goal: Entity) {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let duration = (self.random >> 33) % 8;
        let end = now.as_micros() as u64 + duration;
        self.running.push(Reverse((end, work, goal)));
    }
}

/// Runs the engine's own systems through a scenario until all of `wanted` have ended.
///
/// # Panics
/// When a path would become valid without its references, or a build starts before all its inputs are valid: a promise is
/// broken.
pub fn run(scenario: Scenario, wanted: &[Target]) -> Report {
    let valid: Valid = Rc::new(RefCell::new(scenario.valid));
    let mut engine = Engine::new(
        scenario.graph,
        Box::new(MemoryStore {
            valid: Rc::clone(&valid),
            // Locks are taken one way or the other, and nothing may come of that.
            shared: scenario.seed.is_multiple_of(2),
        }),
        Box::new(Silent),
        scenario.options,
        Policy::default(),
    );
    let world = &mut engine.world;
    world.insert_resource(Pace {
        goals_per_tick: usize::MAX,
        slots_before_paperwork: false,
    });
    let names = (0..scenario.substituters.len()).map(|n| n.to_string());
    world.insert_resource(Substituters::new(names));
    if scenario.hook {
        world.insert_resource(HookDesk::open());
    }
    world.insert_resource(Faults {
        substituters: scenario.substituters,
        builds: scenario.builds,
        running: BinaryHeap::new(),
        offers: BTreeMap::new(),
        built: BTreeSet::new(),
        random: scenario.seed,
    });
    plug_in_others(&mut engine.schedule);
    engine.schedule.add_systems((
        answer_questions
            .in_set(TickSet::Substitute)
            .after(crate::substitute::substitute),
        (answer_offers, start).chain().in_set(TickSet::Spawn),
        advance.run_if(idle).in_set(TickSet::PollIo),
    ));
    for &target in wanted {
        engine.want(target, OutputSet::ALL);
    }
    while !engine.world.resource::<RunState>().is_over() {
        engine.schedule.run(&mut engine.world);
    }
    let world = &mut engine.world;
    let mut derivations = world.query::<(&DerivationGoal, &Stage)>();
    let derivations = derivations.iter(world);
    let derivations = derivations.map(|(goal, stage)| (goal.drv, stage.outcome()));
    let derivations = derivations.collect();
    let mut paths = world.query::<(&SubstitutionGoal, &Stage)>();
    let paths = paths.iter(world);
    let paths = paths.map(|(goal, stage)| (goal.path, stage.outcome()));
    let paths = paths.collect();
    let built = std::mem::take(&mut world.resource_mut::<Faults>().built);
    let mut state = world.resource_mut::<RunState>();
    Report {
        derivations,
        paths,
        built,
        valid: valid.borrow().clone(),
        failures: state.failures,
        fatal: state.fatal.take(),
    }
}

fn answer_questions(
    mut substituters: ResMut<Substituters>,
    faults: Res<Faults>,
    index: Res<GoalIndex>,
    mut awake: ResMut<Awake>,
) {
    for (sub, asked) in substituters.take_questions() {
        let info = |&path: &PathId| {
            let references = faults.substituters[sub].get(&path)?.references.clone();
            let info = SubstituteInfo {
                references: references.into(),
                ..SubstituteInfo::default()
            };
            Some((path, info))
        };
        substituters.answer(sub, &asked, asked.iter().filter_map(info));
        let goals = asked
            .iter()
            .filter_map(|&path| index.get(Target::Path(path)));
        awake.goals.extend(goals);
    }
}

fn answer_offers(mut desk: ResMut<HookDesk>, mut faults: ResMut<Faults>) {
    let Some(question) = desk.take_question() else {
        return;
    };
    let drv = question.ready.drv;
    let faults = &mut *faults;
    let offers = faults.offers.entry(drv).or_default();
    let replies = faults
        .builds
        .get(&drv)
        .map_or(&[][..], |build| &build.replies[..]);
    let reply = replies.get(*offers).or(replies.last());
    *offers += 1;
    desk.answer(reply.copied().unwrap_or(Reply::Decline));
}

fn start(
    mut starting: ResMut<Starting>,
    mut fetches: ResMut<FetchQueue>,
    mut desk: ResMut<HookDesk>,
    mut faults: ResMut<Faults>,
    mut stages: Query<&mut Stage>,
    mut store: NonSendMut<StoreHandle>,
    (graph, now): (Res<BuildGraph>, Res<Now>),
) {
    let here = starting
        .0
        .drain(..)
        .map(|ready| (Work::Here(ready.drv), ready.goal));
    let away = desk.take_accepted().into_iter();
    let away = away.map(|ready| (Work::Away(ready.drv), ready.goal));
    let fetched = fetches.starting.drain(..);
    let fetched = fetched.map(|ready| (Work::Fetch(ready.path), ready.goal));
    for (work, goal) in here.chain(away).chain(fetched) {
        if let Ok(mut stage) = stages.get_mut(goal) {
            *stage = Stage::Running;
        }
        if let Work::Here(drv) | Work::Away(drv) = work {
            let inputs: Vec<PathId> = graph.direct_inputs(drv).collect();
            let valid = store.0.valid(&graph, &inputs);
            assert!(
                valid.is_ok_and(|valid| !valid.contains(&false)),
                "{drv:?} starts before all its inputs are valid"
            );
        }
        faults.start(now.0, work, goal);
    }
}

/// Lets time jump to the next end, or to when a postponed build is to be offered again.
#[expect(clippy::too_many_arguments, reason = "one system, many queues")]
fn advance(
    mut faults: ResMut<Faults>,
    mut now: ResMut<Now>,
    mut completed: ResMut<Completed>,
    mut failures: ResMut<Failures>,
    mut slots: ResMut<Slots>,
    mut run: ResMut<RunState>,
    (mut waiting, mut awake): (ResMut<LockWaiters>, ResMut<Awake>),
    mut fetching: Query<(&mut Substitution, &mut Stage)>,
    missing: Query<&MissingOutputs>,
    (graph, options, desk): (Res<BuildGraph>, Res<Options>, Res<HookDesk>),
) {
    let next = faults.running.peek().map(|Reverse((end, ..))| *end);
    let retry = desk.next_retry().map(|at| at.as_micros() as u64);
    let Some(instant) = next.into_iter().chain(retry).min() else {
        run.fatal = Some(match options.max_jobs {
            0 => Error::NoSlots,
            _ => Error::Stuck,
        });
        return;
    };
    now.0 = Duration::from_micros(instant);
    while let Some(&Reverse((end, work, goal))) = faults.running.peek()
        && end == instant
    {
        faults.running.pop();
        let drv = match work {
            Work::Fetch(path) => {
                slots.used -= 1;
                let Ok((mut substitution, mut stage)) = fetching.get_mut(goal) else {
                    continue;
                };
                let offer = faults.substituters[substitution.sub].get(&path);
                let offer = offer.cloned().unwrap_or_default();
                if offer.fails {
                    waiting.held.remove(path);
                    substitution.sub += 1;
                    *stage = Stage::Info;
                    awake.goals.push(goal);
                } else {
                    let fetched = output(path, None, offer.references);
                    completed.push(goal, None, [fetched]);
                }
                continue;
            }
            Work::Here(drv) => {
                slots.used -= 1;
                drv
            }
            Work::Away(drv) => drv,
        };
        if let Some(kind) = faults.builds.get(&drv).and_then(|build| build.failure) {
            failures.0.push((goal, Failure::new(kind, "it is to fail")));
            continue;
        }
        faults.built.insert(drv);
        let made = MissingOutputs::of(missing.get(goal).ok(), &graph, drv);
        let deriver = Some(graph.drv_path(drv));
        completed.push(
            goal,
            Some(drv),
            made.into_iter()
                .map(|path| output(path, deriver, Vec::new())),
        );
    }
}

fn output(path: PathId, deriver: Option<PathId>, references: Vec<PathId>) -> BuiltOutput {
    BuiltOutput {
        path,
        ultimate: deriver.is_some(),
        deriver,
        nar_hash: [0; 32],
        nar_size: 0,
        references,
        content_address: None,
        drv_outputs: Vec::new(),
    }
}
