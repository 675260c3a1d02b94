//! Children, substituters and a hook that fail as they are told to, in simulated time.

use crate::world::ReadyFetch;
use crate::world::Scheduler;
use crate::world::Services;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut, Resource};
use windrow_components::building::MissingOutputs;
use windrow_components::goal::Target;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::substitution::{SubstituteInfo, Substitution};

use crate::failure::{Failure, FailureKind};
use crate::helpers::Substituters;
use crate::world::BuiltOutput;
use crate::world::Reply;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// A build in a slot.
    Here(DrvId),
    /// A build of the hook.
    Away(DrvId),
    /// A path from the substituter whose turn it is.
    Fetch(PathId),
}

/// What runs, what will become of it, and what has.
#[derive(Resource)]
pub(crate) struct Faults {
    pub(crate) substituters: Vec<BTreeMap<PathId, Offer>>,
    pub(crate) builds: BTreeMap<DrvId, Build>,
    pub(crate) running: BinaryHeap<Reverse<(u64, Work, Entity)>>,
    pub(crate) offers: BTreeMap<DrvId, usize>,
    pub(crate) built: BTreeSet<DrvId>,
    pub(crate) random: u64,
}

impl Faults {
    pub(crate) fn start(&mut self, now: Duration, work: Work, goal: Entity) {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let duration = (self.random >> 33) % 8;
        let end = now.as_micros() as u64 + duration;
        self.running.push(Reverse((end, work, goal)));
    }
}

pub(crate) fn answer_questions(
    mut substituters: ResMut<Substituters>,
    faults: Res<Faults>,
    mut scheduler: ResMut<Scheduler>,
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
        for &path in &asked {
            if let Some(goal) = scheduler.index.get(Target::Path(path)) {
                scheduler.awaken(goal);
            }
        }
    }
}

pub(crate) fn answer_offers(mut scheduler: ResMut<Scheduler>, mut faults: ResMut<Faults>) {
    let Some(question) = scheduler.desk.take_question() else {
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
    scheduler
        .desk
        .answer(reply.copied().unwrap_or(Reply::Decline));
}

pub(crate) fn start(
    mut scheduler: ResMut<Scheduler>,
    mut faults: ResMut<Faults>,
    mut services: NonSendMut<Services>,
    graph: Res<BuildGraph>,
) {
    let here = scheduler.take_starting().into_iter();
    let away = scheduler.desk.take_accepted().into_iter();
    let fetched = scheduler.take_starting_fetches().into_iter();
    let work = here
        .map(|ready| (Work::Here(ready.drv), ready.goal))
        .chain(away.map(|ready| (Work::Away(ready.drv), ready.goal)))
        .chain(fetched.map(|ready| (Work::Fetch(ready.path), ready.goal)));
    for (work, goal) in work {
        scheduler.start(goal);
        if let Work::Here(drv) | Work::Away(drv) = work {
            let inputs: Vec<PathId> = graph.direct_inputs(drv).collect();
            let valid = services.store.valid(&graph, &inputs);
            assert!(
                valid.is_ok_and(|valid| !valid.contains(&false)),
                "{drv:?} starts before all its inputs are valid"
            );
        }
        faults.start(scheduler.now, work, goal);
    }
}

/// Lets time jump to the next end, or to when a postponed build is to be offered again.
pub(crate) fn advance(
    mut scheduler: ResMut<Scheduler>,
    mut faults: ResMut<Faults>,
    mut fetching: Query<&mut Substitution>,
    missing: Query<&MissingOutputs>,
    graph: Res<BuildGraph>,
) {
    let next = faults.running.peek().map(|Reverse((end, ..))| *end);
    let retry = scheduler.desk.next_retry().map(|at| at.as_micros() as u64);
    let Some(instant) = next.into_iter().chain(retry).min() else {
        scheduler.run.is_stuck = true;
        return;
    };
    scheduler.now = Duration::from_micros(instant);
    while let Some(&Reverse((end, work, goal))) = faults.running.peek()
        && end == instant
    {
        faults.running.pop();
        scheduler.exited(goal);
        let drv = match work {
            Work::Fetch(path) => {
                let Ok(mut substitution) = fetching.get_mut(goal) else {
                    continue;
                };
                let offer = faults.substituters[substitution.sub].get(&path);
                let offer = offer.cloned().unwrap_or_default();
                if offer.fails {
                    substitution.sub += 1;
                    scheduler.try_next(ReadyFetch { goal, path });
                } else {
                    let fetched = output(path, None, offer.references);
                    scheduler.complete(goal, None, [fetched]);
                }
                continue;
            }
            Work::Here(drv) | Work::Away(drv) => drv,
        };
        if let Some(kind) = faults.builds.get(&drv).and_then(|build| build.failure) {
            scheduler.fail(goal, Failure::new(kind, "it is to fail"));
            continue;
        }
        faults.built.insert(drv);
        let made = MissingOutputs::of(missing.get(goal).ok(), &graph, drv);
        let deriver = Some(graph.drv_path(drv));
        let made = made.into_iter();
        let made = made.map(|path| output(path, deriver, Vec::new()));
        scheduler.complete(goal, Some(drv), made);
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
