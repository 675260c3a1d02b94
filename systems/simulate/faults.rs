//! Children, substituters and a hook that fail as they are told to, in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut, Resource};
use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::substitution::{SubstituteInfo, Substitution};

use crate::failure::{Failure, FailureKind};
use crate::helpers::Substituters;
use crate::simulate::memory::SharedDisk;
use crate::simulate::mishaps::{Chance, Mishaps, Mistake};
use crate::world::{
    Backoff, BuiltOutput, OutputLocks, ReadyFetch, ReadyGoal, Reply, Scheduler, Services, Waiting,
};

/// After how many failures the hook is not asked any more.
const HOOK_FAILURES: u32 = 3;

/// How often a build finds no user, at most.
const WITHOUT_USER: u32 = 3;

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
    pub(super) substituters: Vec<BTreeMap<PathId, Offer>>,
    pub(super) builds: BTreeMap<DrvId, Build>,
    pub(super) mishaps: Mishaps,
    pub(super) running: BinaryHeap<Reverse<(u64, Work, Entity)>>,
    pub(super) offers: BTreeMap<DrvId, usize>,
    /// What substituters have been asked and answer later, and when.
    pub(super) late: BinaryHeap<Reverse<(u64, usize, Vec<PathId>)>>,
    pub(super) built: BTreeSet<DrvId>,
    pub(super) disk: SharedDisk,
    /// How long everything takes.
    pub(super) chance: Chance,
    /// In which order everything is done; apart, so that nothing else changes with it.
    pub(super) order: Chance,
    /// How many answers the substituter that is to die has given.
    pub(super) answers: u64,
    pub(super) hook_failures: u32,
    pub(super) without_user: BTreeMap<DrvId, u32>,
}

impl Faults {
    fn start(&mut self, now: Duration, work: Work, goal: Entity) {
        let end = now.as_micros() as u64 + self.chance.below(8);
        self.running.push(Reverse((end, work, goal)));
    }

    /// What ends at that instant.
    fn take_ends(&mut self, instant: u64) -> Vec<(Work, Entity)> {
        let mut ends = Vec::new();
        while let Some(&Reverse((end, work, goal))) = self.running.peek()
            && end == instant
        {
            self.running.pop();
            ends.push((work, goal));
        }
        if self.mishaps.shuffle {
            for last in (1..ends.len()).rev() {
                ends.swap(last, self.order.below(last as u64 + 1) as usize);
            }
        }
        ends
    }

    fn is_dead(&self, sub: usize) -> bool {
        let dies = self.mishaps.substituter_dies;
        dies.is_some_and(|(dying, answers)| dying == sub && self.answers > answers)
    }

    /// Why a build fails, if it does.
    fn failure(&self, drv: DrvId, away: bool) -> Option<Failure> {
        if let Some(kind) = self.builds.get(&drv).and_then(|build| build.failure) {
            return Some(Failure::new(kind, "it is to fail"));
        }
        if self.mishaps.lost.contains(&drv) {
            return Some(Failure::new(FailureKind::Other, "its child is lost"));
        }
        let dies = away && self.mishaps.hook_dies_building.contains(&drv);
        let status = libc::SIGKILL;
        dies.then(|| Failure::new(FailureKind::Hook { status }, "its hook died"))
    }
}

impl Faults {
    /// Whether an exit goes unnoticed, as a deliberate mistake.
    fn misses(&self, work: Work) -> bool {
        let fails = match work {
            Work::Here(drv) => self.failure(drv, false).is_some(),
            Work::Away(_) | Work::Fetch(_) => false,
        };
        fails && self.mishaps.mistake == Some(Mistake::KeepsSlot)
    }
}

/// Puts everything into another order whose order is not promised.
pub(crate) fn shuffle(mut scheduler: ResMut<Scheduler>, mut faults: ResMut<Faults>) {
    if faults.mishaps.shuffle {
        scheduler.shuffle(|limit| faults.order.below(limit as u64) as usize);
    }
}

pub(crate) fn answer_questions(
    mut substituters: ResMut<Substituters>,
    mut faults: ResMut<Faults>,
    mut scheduler: ResMut<Scheduler>,
) {
    for (sub, asked) in substituters.take_questions() {
        let late = faults.mishaps.late_answers;
        if faults.order.percent(late) {
            // Much sooner than a better substituter is not waited for any more.
            let at = scheduler.now.as_micros() as u64 + faults.order.below(8);
            faults.late.push(Reverse((at, sub, asked)));
        } else {
            answer(&mut substituters, &mut faults, &mut scheduler, (sub, asked));
        }
    }
}

/// A substituter answers, or dies of it.
fn answer(
    substituters: &mut Substituters,
    faults: &mut Faults,
    scheduler: &mut Scheduler,
    (sub, asked): (usize, Vec<PathId>),
) {
    let dying = faults.mishaps.substituter_dies;
    faults.answers += u64::from(dying.is_some_and(|(dying, _)| dying == sub));
    let answered = if faults.is_dead(sub) {
        substituters.disable(sub)
    } else {
        let info = |&path: &PathId| {
            let references = faults.substituters[sub].get(&path)?.references.clone();
            let info = SubstituteInfo {
                references: references.into(),
                ..SubstituteInfo::default()
            };
            Some((path, info))
        };
        let infos = asked.iter().filter_map(info);
        substituters.set_priority(sub, 0);
        substituters.answer(sub, &asked, infos, scheduler.now);
        asked
    };
    scheduler.wake_askers(answered);
}

pub(crate) fn answer_offers(mut scheduler: ResMut<Scheduler>, mut faults: ResMut<Faults>) {
    let Some(question) = scheduler.desk.take_question() else {
        return;
    };
    let drv = question.ready.drv;
    let faults = &mut *faults;
    if faults.chance.percent(faults.mishaps.hook_dies_asked) {
        faults.hook_failures += 1;
        scheduler.desk.answer(match faults.hook_failures {
            HOOK_FAILURES.. => Reply::DeclinePermanently,
            _ => Reply::Decline,
        });
        return;
    }
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
    mut commands: Commands,
    mut scheduler: ResMut<Scheduler>,
    mut faults: ResMut<Faults>,
    mut services: NonSendMut<Services>,
    mut locks: Query<&mut OutputLocks>,
    missing: Query<&MissingOutputs>,
    graph: Res<BuildGraph>,
) {
    let faults = &mut *faults;
    for ready in scheduler.take_starting() {
        let tried = faults.without_user.entry(ready.drv).or_default();
        if *tried < WITHOUT_USER && faults.chance.percent(faults.mishaps.no_user) {
            *tried += 1;
            if let Ok(mut held) = locks.get_mut(ready.goal) {
                services.store.unlock(std::mem::take(&mut *held), false);
            }
            let mut entity = commands.entity(ready.goal);
            entity.remove::<(OutputLocks, MissingOutputs, HashRewrites)>();
            let wait = Backoff::Doubling(Duration::from_micros(3));
            scheduler.wait_a_while(&graph, Waiting::Build(ready), wait);
            continue;
        }
        start_build(&mut scheduler, faults, &graph, &missing, (ready, false));
    }
    for ready in scheduler.desk.take_accepted() {
        start_build(&mut scheduler, faults, &graph, &missing, (ready, true));
    }
    for ready in scheduler.take_starting_fetches() {
        scheduler.start(ready.goal);
        faults.start(scheduler.now, Work::Fetch(ready.path), ready.goal);
    }
}

/// Starts a build, here or away, for which all must be there, and not all be done.
fn start_build(
    scheduler: &mut Scheduler,
    faults: &mut Faults,
    graph: &BuildGraph,
    missing: &Query<&MissingOutputs>,
    (ReadyGoal { goal, drv }, away): (ReadyGoal, bool),
) {
    scheduler.start(goal);
    let disk = faults.disk.look();
    assert!(
        graph
            .direct_inputs(drv)
            .all(|path| disk.valid.contains(&path)),
        "{drv:?} starts before all its inputs are valid"
    );
    let makes = MissingOutputs::of(missing.get(goal).ok(), graph, drv);
    assert!(
        makes.iter().all(|path| !disk.valid.contains(path)) && !makes.is_empty(),
        "{drv:?} is built although its outputs are valid"
    );
    drop(disk);
    let work = match away {
        true => Work::Away(drv),
        false => Work::Here(drv),
    };
    faults.start(scheduler.now, work, goal);
}

/// Kills what is not wanted any more. What has not started yet runs to its end.
pub(crate) fn kill(mut scheduler: ResMut<Scheduler>, mut faults: ResMut<Faults>) {
    for goal in scheduler.take_cancelled() {
        let before = faults.running.len();
        faults.running.retain(|Reverse((.., other))| *other != goal);
        if faults.running.len() < before {
            scheduler.exited(goal);
            scheduler.fail(goal, Failure::cancelled());
        }
    }
}

/// Lets time jump to the next end, or to when a postponed build is to be offered or a lock to be
/// tried again.
pub(crate) fn advance(
    mut scheduler: ResMut<Scheduler>,
    mut faults: ResMut<Faults>,
    mut services: NonSendMut<Services>,
    mut fetching: Query<(&Substitution, Option<&mut OutputLocks>)>,
    mut substituters: ResMut<Substituters>,
    missing: Query<&MissingOutputs>,
    graph: Res<BuildGraph>,
) {
    let next = faults.running.peek().map(|Reverse((end, ..))| *end);
    let late = faults.late.peek().map(|Reverse((at, ..))| *at);
    let retries = [scheduler.desk.next_retry(), scheduler.next_retry()];
    let retries = retries.into_iter().flatten();
    let retries = retries.map(|at| at.as_micros() as u64);
    let Some(instant) = next.into_iter().chain(late).chain(retries).min() else {
        scheduler.run.is_stuck = true;
        return;
    };
    scheduler.now = Duration::from_micros(instant).max(scheduler.now);
    let faults = &mut *faults;
    while faults.late.peek().is_some_and(|late| late.0.0 <= instant)
        && let Some(Reverse((_, sub, asked))) = faults.late.pop()
    {
        answer(&mut substituters, faults, &mut scheduler, (sub, asked));
    }
    for (work, goal) in faults.take_ends(instant) {
        if faults.misses(work) {
            continue;
        }
        scheduler.exited(goal);
        let (drv, away) = match work {
            Work::Fetch(path) => {
                let Ok((substitution, locks)) = fetching.get_mut(goal) else {
                    continue;
                };
                let fetch = ReadyFetch { goal, path };
                let arrived = fetched(&mut scheduler, faults, substitution.sub, fetch);
                if !arrived {
                    substituters.could_not_deliver(substitution.sub, path);
                }
                if let Some(mut locks) = locks.filter(|_| !arrived) {
                    services.store.unlock(std::mem::take(&mut *locks), false);
                }
                continue;
            }
            Work::Here(drv) => (drv, false),
            Work::Away(drv) => (drv, true),
        };
        if let Some(failure) = faults.failure(drv, away)
            && faults.mishaps.mistake != Some(Mistake::RegistersFailures)
        {
            scheduler.fail(goal, failure);
            continue;
        }
        faults.built.insert(drv);
        let made = MissingOutputs::of(missing.get(goal).ok(), &graph, drv);
        let deriver = Some(graph.drv_path(drv));
        let made = made.into_iter();
        let made = made.map(|path| output(path, deriver, Vec::new()));
        scheduler.complete(goal, Some(drv), made);
    }
    if let Some(mistake) = faults.mishaps.mistake {
        scheduler.err(&graph, mistake);
    }
}

/// A substituter has delivered a path, or failed to; tells whether it has.
fn fetched(
    scheduler: &mut Scheduler,
    faults: &Faults,
    sub: usize,
    ReadyFetch { goal, path }: ReadyFetch,
) -> bool {
    let offer = faults.substituters[sub].get(&path);
    let offer = offer.cloned().unwrap_or_default();
    if offer.fails || faults.is_dead(sub) {
        scheduler.try_next(ReadyFetch { goal, path });
        return false;
    }
    let fetched = output(path, None, offer.references);
    scheduler.complete(goal, None, [fetched]);
    true
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
        sigs: Vec::new(),
        drv_outputs: Vec::new(),
    }
}
