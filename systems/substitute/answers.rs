//! Between what goals want to know of substituters and the threads that ask them: questions go out once a tick, all
//! together; answers wake the goals that wait for them.

use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use hashbrown::HashMap;
use windrow_components::goal::{Stage, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_components::substitution::{SubstituteInfo, Substitution};

use super::querier::{Answer, Queriers, Question};
use super::query::RawInfo;
use super::substituters::Substituters;
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::report::{Event, Level};
use crate::world::{Awake, Failures, GoalIndex, ReporterHandle, RunState};

/// What asking and hearing substituters touches.
#[derive(SystemParam)]
pub struct Asking<'w> {
    substituters: ResMut<'w, Substituters>,
    queriers: NonSendMut<'w, Queriers>,
    graph: ResMut<'w, BuildGraph>,
    index: Res<'w, GoalIndex>,
    awake: ResMut<'w, Awake>,
    reporter: NonSendMut<'w, ReporterHandle>,
}

/// Hands out what goals want to know, one question for each substituter.
pub fn ask(mut params: Asking<'_>) {
    for (sub, paths) in params.substituters.take_questions() {
        let graph = &params.graph;
        let questions: Vec<Question> = paths
            .into_iter()
            .map(|path| (path, graph.full_path(path)))
            .collect();
        if let Err(error) = params.queriers.ask(sub, questions) {
            let reason = format!("it can't be asked: {error}");
            params.disable(sub, Some(&reason));
        }
    }
}

/// Takes in the answers that have come.
pub fn take_answers(mut params: Asking<'_>) {
    while let Some(answer) = params.queriers.take() {
        match answer {
            Answer::Known { sub, asked, infos } => params.known(sub, &asked, infos),
            Answer::Disabled { sub, reason } => {
                let reason = reason.map(|reason| reason.to_string());
                params.disable(sub, reason.as_deref());
            }
            Answer::Said { sub, line } => {
                let program = std::path::PathBuf::from(params.substituters.program(sub));
                crate::spawn::hook::talk::say(&mut *params.reporter.0, &program, &line);
            }
            Answer::Restarted { sub, reason } => {
                let program = params.substituters.program(sub);
                let text = format!("error: substituter '{program}': {reason}; it is started again");
                params.complain(&text);
            }
        }
    }
}

impl Asking<'_> {
    fn known(&mut self, sub: usize, asked: &[Question], infos: Vec<RawInfo>) {
        let ids: HashMap<&str, PathId> = asked.iter().map(|(id, path)| (&**path, *id)).collect();
        let mut known = Vec::with_capacity(infos.len());
        for info in infos {
            let Some(&id) = ids.get(info.path.as_str()) else {
                let program = self.substituters.program(sub);
                let text = format!(
                    "error: substituter '{program}' answers for '{}', which it was not asked for",
                    info.path
                );
                self.complain(&text);
                continue;
            };
            match understand(&mut self.graph, &info) {
                Ok(info) => known.push((id, info)),
                Err(error) => {
                    let program = self.substituters.program(sub);
                    let text = format!(
                        "error: what substituter '{program}' says of '{}' can't be: {error}",
                        info.path
                    );
                    self.complain(&text);
                }
            }
        }
        let asked: Vec<PathId> = asked.iter().map(|(id, _)| *id).collect();
        self.substituters.answer(sub, &asked, known);
        self.wake(&asked);
    }

    fn disable(&mut self, sub: usize, reason: Option<&str>) {
        if let Some(reason) = reason {
            let program = self.substituters.program(sub);
            let text =
                format!("error: substituter '{program}': {reason}; it is not asked any more");
            self.complain(&text);
        }
        let owed = self.substituters.disable(sub);
        self.wake(&owed);
    }

    fn wake(&mut self, paths: &[PathId]) {
        for &path in paths {
            let goals = [Target::Path(path), Target::Repair(path)];
            let goals = goals.map(|target| self.index.get(target));
            self.awake.goals.extend(goals.into_iter().flatten());
        }
    }

    fn complain(&mut self, text: &str) {
        let level = Level::Error;
        self.reporter.0.report(&Event::Message { level, text });
    }
}

pub(crate) fn understand(
    graph: &mut BuildGraph,
    info: &RawInfo,
) -> windrow_components::Result<SubstituteInfo> {
    let deriver = match info.deriver.as_str() {
        "" => None,
        deriver => Some(graph.path(deriver)?),
    };
    let mut references = Vec::with_capacity(info.references.len());
    for reference in &info.references {
        references.push(graph.path(reference)?);
    }
    references.sort_unstable();
    references.dedup();
    Ok(SubstituteInfo {
        deriver,
        references: references.into(),
        download_size: info.download_size,
        nar_size: info.nar_size,
    })
}

/// When nothing is left that could wake anyone, paths wait for each other in a circle: their substituter's mistake, which
/// one of them has to answer for.
pub fn break_circle(
    mut run: ResMut<RunState>,
    mut failures: ResMut<Failures>,
    goals: Query<(Entity, &SubstitutionGoal, &Stage, &Substitution)>,
    substituters: Res<Substituters>,
    index: Res<GoalIndex>,
    graph: Res<BuildGraph>,
) {
    if !matches!(run.fatal, Some(Error::Stuck)) {
        return;
    }
    let waiting = |goal: Entity| {
        let (_, known, stage, substitution) = goals.get(goal).ok()?;
        (*stage == Stage::Inputs).then_some((known.path, substitution))
    };
    let next = |goal: Entity| {
        let (path, substitution) = waiting(goal)?;
        let references = &substituters.info(substitution.sub, path)?.references;
        let goals = references.iter().filter(|reference| **reference != path);
        goals
            .filter_map(|&reference| index.get(Target::Path(reference)))
            .find(|&goal| waiting(goal).is_some())
    };
    // Whoever waits for nobody that waits is not to blame; from anyone else the way leads into a circle.
    let mut seen = hashbrown::HashSet::new();
    let Some(mut at) = goals
        .iter()
        .map(|(goal, ..)| goal)
        .find(|&goal| next(goal).is_some())
    else {
        return;
    };
    while seen.insert(at) {
        let Some(goal) = next(at) else { return };
        at = goal;
    }
    let Some((path, _)) = waiting(at) else { return };
    run.fatal = None;
    let message = format!(
        "path '{}' can't be substituted: by what its substituter says, its references lead back to it",
        graph.full_path(path)
    );
    failures
        .0
        .push((at, Failure::new(FailureKind::Other, message)));
}
