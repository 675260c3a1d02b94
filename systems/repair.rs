//! Repair: looks at the contents of what is valid, in the background, and says what becomes of the goals that asked
//! (the seed's `checkPathValidity` with `checkHash`, and its `repairClosure`). Only runs that repair have this.

use std::sync::Arc;

use bevy_ecs::prelude::{
    Entity, IntoScheduleConfigs as _, NonSendMut, Query, Res, ResMut, Resource, Schedule, World,
};
use hashbrown::{HashMap, HashSet};
use windrow_components::goal::{DerivationGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_components::outputs::OutputSet;

use crate::engine::TickSet;
use crate::error::Result;
use crate::process::pool::Pool;
use crate::real::BuilderConfig;
use crate::report::Level;
use crate::store::PathInfo;
use crate::store::contents::Contents;
use crate::store::reader::Reader;
use crate::world::{Awake, Background, Completed, ReporterHandle, RunState};

/// What a goal wants to be looked at.
#[derive(Debug)]
pub struct Question {
    /// The goal.
    pub goal: Entity,
    /// The derivation whose outputs these are; `None` for a path by itself.
    pub drv_path: Option<String>,
    /// What is wanted of it now; more may be by the time of the answer.
    pub wanted: OutputSet,
    /// The outputs, and which of them are wanted.
    pub outputs: Vec<(PathId, String, bool)>,
}

/// What is found.
#[derive(Debug)]
pub enum Verdict {
    /// All that is wanted is good, and all that it refers to.
    Good,
    /// Something wanted is corrupt or missing.
    Bad,
    /// Only things it refers to are, and these goals can repair them.
    Closure(Vec<Target>),
    /// It can't be found out.
    Unknown(String),
}

/// Questions, and answers that have not been acted upon.
#[derive(Debug, Default, Resource)]
pub struct Repairs {
    /// To be looked at.
    pub questions: Vec<Question>,
    /// What was found, by goal.
    pub verdicts: HashMap<Entity, Verdict>,
    /// For what each goal that waits for its closure was looked at.
    pub judged: HashMap<Entity, OutputSet>,
    /// Valid outputs whose contents are bad.
    pub bad: HashSet<PathId>,
}

/// What comes back from the background.
struct Answer {
    goal: Entity,
    wanted: OutputSet,
    finding: Result<Finding>,
    bad: Vec<PathId>,
}

enum Finding {
    Good,
    Bad,
    /// Bad paths in the closure, and the derivation that makes each, if one is known.
    Closure(Vec<(String, Option<String>)>),
}

/// The thread that looks.
pub(crate) struct Verifier {
    pool: Pool<Answer>,
    contents: Arc<Contents>,
}

/// Adds what repairing takes to a run in the real world; `wake` interrupts its sleep.
pub fn plug_in(
    world: &mut World,
    schedule: &mut Schedule,
    wake: impl Fn() + Send + Sync + 'static,
) {
    world.insert_non_send(Verifier {
        // One question at a time: each is looked at by several threads.
        pool: Pool::new(1, wake),
        contents: Arc::default(),
    });
    schedule.add_systems((
        ask.in_set(TickSet::Substitute)
            .after(crate::substitute::substitute),
        answer
            .in_set(TickSet::PollIo)
            .after(crate::poll_io::poll_children),
        remember
            .in_set(TickSet::Finish)
            .after(crate::finish::reap::take_collected)
            .before(crate::finish::register),
    ));
}

/// Hands questions to the background.
pub(crate) fn ask(
    mut repairs: ResMut<Repairs>,
    mut background: ResMut<Background>,
    config: Res<BuilderConfig>,
    verifier: NonSendMut<Verifier>,
) {
    for question in repairs.questions.drain(..) {
        background.verifying += 1;
        let (reader, contents) = (Arc::clone(&config.reader), Arc::clone(&verifier.contents));
        verifier.pool.submit(move || {
            let mut bad = Vec::new();
            let finding = look(&question, &reader, &contents, &mut bad);
            Some(Answer {
                goal: question.goal,
                wanted: question.wanted,
                finding,
                bad,
            })
        });
    }
}

/// Takes answers, says what was found, and wakes those who asked.
pub(crate) fn answer(
    mut repairs: ResMut<Repairs>,
    mut background: ResMut<Background>,
    mut awake: ResMut<Awake>,
    mut graph: ResMut<BuildGraph>,
    mut reporter: NonSendMut<ReporterHandle>,
    mut run: ResMut<RunState>,
    (verifier, goals): (NonSendMut<Verifier>, Query<&DerivationGoal>),
) {
    while let Some(answer) = verifier.pool.take() {
        let Answer {
            goal,
            wanted,
            finding,
            bad,
        } = answer;
        background.verifying -= 1;
        repairs.bad.extend(bad);
        let verdict = match finding {
            Ok(Finding::Good) => Verdict::Good,
            Ok(Finding::Bad) => Verdict::Bad,
            Ok(Finding::Closure(broken)) => {
                for (path, _) in &broken {
                    reporter.0.say(Level::Error, || match goals.get(goal) {
                        Ok(known) => {
                            let drv_path = graph.full_path(graph.drv_path(known.drv));
                            format!(
                                "found corrupted or missing path '{path}' in the output closure of \
                                 '{drv_path}'"
                            )
                        }
                        Err(_) => format!("found corrupted or missing path '{path}'"),
                    });
                }
                match targets(&mut graph, broken) {
                    Ok(targets) => Verdict::Closure(targets),
                    Err(error) => Verdict::Unknown(error.to_string()),
                }
            }
            Err(error) if error.is_fatal() => {
                run.fatal = Some(error);
                return;
            }
            Err(error) => Verdict::Unknown(error.to_string()),
        };
        repairs.verdicts.insert(goal, verdict);
        repairs.judged.insert(goal, wanted);
        awake.goals.push(goal);
    }
}

/// The goals that repair these paths: of the derivation that made each, else of a substituter.
fn targets(graph: &mut BuildGraph, broken: Vec<(String, Option<String>)>) -> Result<Vec<Target>> {
    let mut targets = Vec::with_capacity(broken.len());
    for (path, deriver) in broken {
        let target = match deriver {
            Some(deriver) => {
                let path = graph.path(&deriver)?;
                Target::Derivation(graph.drv(path))
            }
            None => Target::Repair(graph.path(&path)?),
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Outputs that are about to be registered are good.
pub(crate) fn remember(
    completed: Res<Completed>,
    mut repairs: ResMut<Repairs>,
    graph: Res<BuildGraph>,
    verifier: NonSendMut<Verifier>,
) {
    for output in completed.outputs() {
        repairs.bad.remove(&output.path);
        verifier.contents.mark_good(graph.full_path(output.path));
    }
}

/// Looks at the contents of outputs and, if those wanted are good, of all that they refer to.
fn look(
    question: &Question,
    reader: &Reader,
    contents: &Contents,
    bad: &mut Vec<PathId>,
) -> Result<Finding> {
    let layout = reader.layout();
    let mut wanted_good = true;
    let mut wanted_paths = Vec::new();
    let mut own: HashMap<&str, bool> = HashMap::new();
    for (id, path, wanted) in &question.outputs {
        let info = reader.ask(|database| database.path_info(path))?;
        let good = info.is_some_and(|info| contents.are_good(layout, &[&info])[0]);
        if !good {
            bad.push(*id);
        }
        if *wanted {
            wanted_good &= good;
            wanted_paths.push(path.as_str());
        }
        own.insert(path, good);
    }
    if !wanted_good {
        return Ok(Finding::Bad);
    }
    let Some(drv_path) = &question.drv_path else {
        return Ok(Finding::Good);
    };
    let closure = reader.ask(|database| database.closure(wanted_paths))?;
    if closure
        .iter()
        .any(|info| own.get(info.path.as_str()) == Some(&false))
    {
        return Ok(Finding::Bad);
    }
    let others: Vec<&PathInfo> = closure
        .iter()
        .filter(|info| !own.contains_key(info.path.as_str()))
        .collect();
    let good = contents.are_good(layout, &others);
    let broken: Vec<&str> = others
        .iter()
        .zip(good)
        .filter(|(_, good)| !good)
        .map(|(info, _)| info.path.as_str())
        .collect();
    if broken.is_empty() {
        return Ok(Finding::Good);
    }
    // Whoever made one of them is among the derivations this one was made from.
    let inputs = reader.ask(|database| database.closure([drv_path.as_str()]))?;
    let inputs: HashSet<&str> = inputs.iter().map(|info| info.path.as_str()).collect();
    let mut found = Vec::with_capacity(broken.len());
    for path in broken {
        let derivers = reader.ask(|database| database.valid_derivers(path))?;
        let deriver = derivers.into_iter().find(|it| inputs.contains(it.as_str()));
        found.push((path.to_owned(), deriver));
    }
    Ok(Finding::Closure(found))
}
