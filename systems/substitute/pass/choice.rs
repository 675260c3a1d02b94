//! Goals whose outputs substituters may have, and which are built nevertheless where that is known
//! to be much quicker (`prefer-build`).

use windrow_components::goal::{BuildMode, Stage, Target};
use windrow_components::ids::PathId;

use crate::error::Result;
use crate::helpers::choice::{Choice, Choosing};
use crate::report::{Event, Level};
use crate::substitute::pass::{Batch, Item, Pass};

impl Pass<'_, '_> {
    /// Takes out of `ask`, goals that may get what they lack from substituters, those that are to
    /// be built, and those that wait until it is known what a download would take.
    pub(super) fn choose_builds(&mut self, ask: &mut Vec<Item>, batch: &mut Batch) -> Result<()> {
        let Some(times) = self.times else {
            return Ok(());
        };
        for item in std::mem::take(ask) {
            let missing = self.missing_outputs(item)?;
            let is_wanted_by_itself = missing.iter().any(|&path| self.is_being_fetched(path));
            if item.mode != BuildMode::Normal || missing.is_empty() || is_wanted_by_itself {
                ask.push(item);
                continue;
            }
            let choosing = Choosing {
                times,
                speeds: self.speeds,
                options: &self.scheduler.options,
                now: self.scheduler.now,
            };
            let choice = choosing.choose(
                (self.graph, self.store),
                (item.drv, &missing),
                self.substituters,
            )?;
            match choice {
                Choice::Fetch => ask.push(item),
                Choice::Wait => {
                    self.scheduler.wait(item.goal, Stage::Info);
                    self.scheduler.ask_about(item.drv, &missing);
                }
                Choice::Build { .. } => {
                    let path = self.graph.full_path(self.graph.drv_path(item.drv));
                    if let Some(text) = &choice.describe(&path) {
                        let level = Level::Talkative;
                        self.reporter.report(&Event::Message { level, text });
                    }
                    batch.items.push(item);
                }
            }
        }
        Ok(())
    }

    /// The outputs that a goal is to make valid.
    fn missing_outputs(&mut self, item: Item) -> Result<Vec<PathId>> {
        let graph = &*self.graph;
        let rows = graph.outputs(item.drv).iter();
        let rows = rows.filter(|row| graph.output_sets.wants(item.wanted, row.name));
        let mut missing: Vec<PathId> = rows.map(|row| row.path).collect();
        let mut valid = self.store.valid(graph, &missing)?.into_iter();
        missing.retain(|_| valid.next() == Some(false));
        Ok(missing)
    }

    /// Whether a path is fetched in any case, for others that refer to it.
    fn is_being_fetched(&self, path: PathId) -> bool {
        let goal = self.scheduler.index.get(Target::Path(path));
        goal.is_some_and(|goal| self.scheduler.stage(goal).outcome().is_none())
    }
}
