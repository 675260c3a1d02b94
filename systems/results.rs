//! What became of everything that a request needed.

use std::path::PathBuf;

use bevy_ecs::prelude::{Entity, World};
use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;
use windrow_components::goal::{Moment, Outcome, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::outputs::OutputSet;
use windrow_components::request::{Request, RequestBegan, RequestEnd, RequestState};
use windrow_store::logs::log_path;

use crate::failure::{Failure, FailureKind};
use crate::world::{Host, Scheduler};

/// What became of a derivation or a path.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It was built.
    Built,
    /// It was valid before.
    Valid,
    /// It came from a substituter.
    Fetched,
    /// It failed itself.
    Failed(Failure),
    /// It was not built because another one failed.
    NotBuilt {
        /// The derivation that did, by its store path.
        because_of: String,
    },
    /// Nobody has it, or not all that it refers to: neither is it valid, nor does a substituter
    /// have it.
    Missing,
    /// It had not ended when the request did, and is not needed by another.
    Cancelled,
}

impl Verdict {
    /// Whether its outputs are valid now.
    pub const fn is_valid(&self) -> bool {
        matches!(self, Self::Built | Self::Valid | Self::Fetched)
    }
}

/// A derivation or a path, and what became of it.
#[derive(Debug, Clone)]
pub struct GoalResult {
    /// The store path of the derivation, or the path.
    pub path: String,
    /// Whether the request asked for it itself.
    pub was_asked_for: bool,
    /// Its outputs, by name and store path; if it was asked for, those that were. A path is itself
    /// its only one, named `out`. Empty if the derivation could not be read.
    pub outputs: Vec<(String, String)>,
    /// What became of it.
    pub verdict: Verdict,
    /// The file that has its builder's log, compressed or not, if it was built here and logs are
    /// kept.
    pub log: Option<PathBuf>,
}

/// Looks up results.
struct Lookup<'w> {
    graph: &'w BuildGraph,
    scheduler: &'w Scheduler,
    host: Option<&'w Host>,
    /// When the request began.
    since: Moment,
    /// Whether all that it asked for has ended.
    is_done: bool,
    /// What it asked for.
    asked: HashMap<Target, SmallVec<[OutputSet; 1]>>,
}

/// What became of all that a request needed, what it asked for first.
pub(crate) fn of(world: &World, request: Entity) -> Vec<GoalResult> {
    let asked = world.get::<Request>(request);
    let asked = asked.expect("a request that was submitted");
    let mut wanted: HashMap<Target, SmallVec<[OutputSet; 1]>> = HashMap::new();
    for &(target, outputs) in &asked.targets {
        wanted.entry(target).or_default().push(outputs);
    }
    let lookup = Lookup {
        graph: world.resource::<BuildGraph>(),
        scheduler: world.resource::<Scheduler>(),
        host: world.get_non_send::<Host>(),
        since: world
            .get::<RequestBegan>(request)
            .map_or(Moment::NEVER, |began| began.0),
        is_done: world.get(request) == Some(&RequestState::Ended(RequestEnd::Done)),
        asked: wanted,
    };
    let mut seen = HashSet::new();
    let mut results = Vec::new();
    let targets = asked.targets.iter().map(|&(target, _)| target);
    let mut layer: Vec<Target> = targets.filter(|target| seen.insert(*target)).collect();
    let mut was_asked_for = true;
    while !layer.is_empty() {
        let mut next = Vec::new();
        for target in layer {
            let (result, has_inputs) = lookup.result(target, was_asked_for);
            results.push(result);
            if let (Target::Derivation(drv), true) = (target, has_inputs) {
                let inputs = lookup.graph.inputs(drv);
                let inputs = inputs.map(|input| Target::Derivation(input.drv));
                let there = inputs.filter(|it| lookup.scheduler.index.get(*it).is_some());
                next.extend(there.filter(|input| seen.insert(*input)));
            }
        }
        (layer, was_asked_for) = (next, false);
    }
    results
}

impl Lookup<'_> {
    /// What became of a target, and whether its inputs were needed for it.
    fn result(&self, target: Target, was_asked_for: bool) -> (GoalResult, bool) {
        let graph = self.graph;
        let (path, outputs) = match target {
            Target::Derivation(drv) => (graph.drv_path(drv), self.outputs(drv)),
            Target::Path(path) | Target::Repair(path) => {
                (path, vec![("out".to_owned(), graph.full_path(path))])
            }
        };
        let verdict = self.verdict(target);
        let is_loaded = matches!(target, Target::Derivation(drv) if graph.is_loaded(drv));
        let has_inputs = !matches!(verdict, Verdict::Valid | Verdict::Fetched) && is_loaded;
        let log = match verdict {
            Verdict::Built | Verdict::Failed(_) if is_loaded => {
                self.log(graph.paths.base_name(path))
            }
            _ => None,
        };
        let result = GoalResult {
            path: graph.full_path(path),
            was_asked_for,
            outputs,
            verdict,
            log,
        };
        (result, has_inputs)
    }

    fn outputs(&self, drv: DrvId) -> Vec<(String, String)> {
        let graph = self.graph;
        if !graph.is_loaded(drv) {
            return Vec::new();
        }
        let asked = self.asked.get(&Target::Derivation(drv));
        let wants = |name| {
            asked.is_none_or(|sets| sets.iter().any(|&set| graph.output_sets.wants(set, name)))
        };
        let rows = graph.outputs(drv).iter().filter(|row| wants(row.name));
        let named = rows.map(|row| {
            let name = graph.name_text(row.name).to_owned();
            (name, graph.full_path(row.path))
        });
        named.collect()
    }

    fn verdict(&self, target: Target) -> Verdict {
        let goal = self.scheduler.index.get(target);
        let outcome = goal.and_then(|goal| self.scheduler.stage(goal).outcome());
        // A derivation that had ended well may have been taken up again since, for more outputs
        // that another request needs.
        let was_done = self.is_done
            && matches!(target, Target::Derivation(_))
            && self.asked.contains_key(&target);
        let outcome = outcome.or(was_done.then_some(Outcome::Success));
        let (Some(goal), Some(outcome)) = (goal, outcome) else {
            return Verdict::Cancelled;
        };
        match (outcome, target) {
            (Outcome::Success, Target::Derivation(_)) if self.was_made(goal) => Verdict::Built,
            (Outcome::Success, Target::Path(_) | Target::Repair(_)) if self.was_made(goal) => {
                Verdict::Fetched
            }
            (Outcome::Success, Target::Derivation(drv)) if self.has_fetched_output(drv) => {
                Verdict::Fetched
            }
            (Outcome::Success, _) => Verdict::Valid,
            (Outcome::Failed, _) => self.failed(goal, target),
            (Outcome::NoSubstituters | Outcome::IncompleteClosure | Outcome::NotDelivered, _) => {
                Verdict::Missing
            }
            (Outcome::Cancelled, _) => Verdict::Cancelled,
        }
    }

    fn was_made(&self, goal: Entity) -> bool {
        let records = self.scheduler.records();
        records.is_some_and(|records| records.was_made(goal, self.since))
    }

    fn has_fetched_output(&self, drv: DrvId) -> bool {
        let mut rows = self.graph.outputs(drv).iter();
        rows.any(|row| {
            let goal = self.scheduler.index.get(Target::Path(row.path));
            goal.is_some_and(|goal| self.was_made(goal))
        })
    }

    fn failure(&self, goal: Entity) -> Option<&Failure> {
        self.scheduler.records()?.failure(goal)
    }

    fn failed(&self, goal: Entity, target: Target) -> Verdict {
        let failure = self.failure(goal);
        if let Target::Derivation(drv) = target
            && failure.is_some_and(|it| it.kind == FailureKind::Dependency)
            && let Some(cause) = self.cause(drv)
        {
            let because_of = self.graph.full_path(self.graph.drv_path(cause));
            return Verdict::NotBuilt { because_of };
        }
        // A path is not reported to have failed when its substituters have been.
        let unknown = || Failure::new(FailureKind::Other, "no substituter could deliver it");
        Verdict::Failed(failure.cloned().unwrap_or_else(unknown))
    }

    /// The first derivation below this one that has failed itself.
    fn cause(&self, drv: DrvId) -> Option<DrvId> {
        let mut seen = HashSet::new();
        let mut stack = vec![drv];
        while let Some(drv) = stack.pop() {
            let goal = self.scheduler.index.goal(drv);
            // What failed once may have gone better since.
            let failed =
                goal.filter(|&goal| self.scheduler.stage(goal).outcome() == Some(Outcome::Failed));
            let failure = failed.and_then(|goal| self.failure(goal));
            if failure.is_some_and(|failure| failure.kind != FailureKind::Dependency) {
                return Some(drv);
            }
            let mut inputs: Vec<DrvId> = self.graph.inputs(drv).map(|input| input.drv).collect();
            inputs.retain(|input| seen.insert(*input));
            stack.extend(inputs.into_iter().rev());
        }
        None
    }

    fn log(&self, base: &str) -> Option<PathBuf> {
        let config = &self.host?.config;
        let dir = config.log_dir.as_ref()?;
        let log = log_path(dir, base, config.compress_log);
        log.is_file().then_some(log)
    }
}
