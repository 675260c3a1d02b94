//! How the program of a policy is asked which goal comes first.

use bevy_ecs::prelude::{NonSendMut, ResMut};
use windrow_components::ids::DrvId;

use super::messages::{Message, Ranks};
use super::talk::Silence;
use super::{Asked, Known};
use crate::policy::names::rank_of;
use crate::world::{Scheduler, Services};

/// The rank of what the program has said nothing of.
const LAST: u64 = u64::MAX - 1;

/// Asks for the ranks of goals that have become ready; where there are machines, the program says
/// where they go instead.
pub(super) fn rank(
    mut scheduler: ResMut<Scheduler>,
    mut asked: NonSendMut<Asked>,
    mut services: NonSendMut<Services>,
    known: Known<'_, '_>,
) {
    let instant = u64::try_from(scheduler.now.as_micros()).unwrap_or(u64::MAX);
    if known.fleet.is_some() || asked.talk.is_none() {
        scheduler.rank(|_| instant);
        return;
    }
    let ready: Vec<u32> = scheduler
        .newly_ready()
        .iter()
        .map(|drv| drv.index() as u32)
        .collect();
    match asked.ask_for_ranks(&known, &ready, &scheduler) {
        Ok(has_changed) => {
            let ranks = &asked.ranks;
            let rank = |drv: DrvId| ranks.get(drv.index()).copied().unwrap_or(LAST);
            if has_changed {
                scheduler.queue().rank_again(rank);
            }
            scheduler.rank(rank);
        }
        Err(silence) => {
            let is_simulated = known.graph.is_of_tasks();
            asked.fail(silence, is_simulated, (&mut *scheduler, &mut *services));
            scheduler.rank(|_| instant);
        }
    }
}

impl Asked {
    /// Asks, and tells whether goals that waited already have other ranks now.
    fn ask_for_ranks(
        &mut self,
        known: &Known<'_, '_>,
        ready: &[u32],
        scheduler: &Scheduler,
    ) -> Result<bool, Silence> {
        let mut lines = Vec::new();
        self.introduce(known, scheduler.options.max_jobs, &mut lines);
        let ended = std::mem::take(&mut self.ended);
        let question = Message::Rank {
            time: known.time(scheduler),
            ready,
            ended: &ended,
            free: scheduler.free_slots(),
        };
        question.write(&mut lines);
        let count = known.graph.drv_count();
        let answer = self.ask(&lines, |answer: &Ranks| {
            if let Some(unknown) = answer.ranks.keys().find(|&&task| task as usize >= count) {
                return Err(format!("there is no task {unknown}"));
            }
            match ready.iter().find(|task| !answer.ranks.contains_key(*task)) {
                Some(missing) => Err(format!("the rank of task {missing} is missing")),
                None => Ok(()),
            }
        })?;
        self.ranks.resize(count, LAST);
        let has_changed = answer.ranks.len() > ready.len();
        for (task, number) in answer.ranks {
            self.ranks[task as usize] = rank_of(number);
        }
        Ok(has_changed)
    }
}
