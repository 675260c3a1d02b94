//! What holds of the state between any two ticks, as a check for the faulty world; and what that
//! world does to the state: another order wherever none is promised, and deliberate mistakes, which
//! the check must find.

use hashbrown::HashSet;
use windrow_components::goal::{Stage, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use super::{ReadyGoal, Scheduler, Waiting};

/// A mistake that the faulty world makes on purpose, to show that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// What a builder left behind is registered although it failed.
    RegistersFailures,
    /// The exit of a child that failed is missed, so that its slot is not given back.
    KeepsSlot,
    /// What could not be locked stays held.
    KeepsPaths,
    /// Who waits for an output goes on before it is registered.
    WakesEarly,
}

/// Puts a list into another order; `below` draws a number below another.
fn shuffle<T>(list: &mut [T], below: &mut impl FnMut(usize) -> usize) {
    for last in (1..list.len()).rev() {
        list.swap(last, below(last + 1));
    }
}

impl Scheduler {
    /// Puts into another order what is worked through in no promised order: goals that are awake,
    /// that wait for a lock or a slot, that are to be started, that are complete or have failed.
    /// Ends keep theirs, in which a goal may stand twice.
    pub(crate) fn shuffle(&mut self, mut below: impl FnMut(usize) -> usize) {
        let below = &mut below;
        shuffle(&mut self.awake.goals, below);
        shuffle(&mut self.awake.derivations, below);
        shuffle(&mut self.newly_ready, below);
        shuffle(self.fetches.make_contiguous(), below);
        shuffle(&mut self.starting, below);
        shuffle(&mut self.starting_fetches, below);
        shuffle(&mut self.parked, below);
        shuffle(&mut self.any_goal, below);
        shuffle(&mut self.failures, below);
        self.completed.reorder(|builds| shuffle(builds, below));
    }

    /// Asserts what holds between any two ticks.
    ///
    /// # Panics
    /// If slots, children or held paths are not those of the goals whose stages have them, or more
    /// slots are taken than there are.
    pub(crate) fn assert_sound(&self, graph: &BuildGraph) {
        let (mut slots, mut fetches, mut children, mut holding) = (0, 0, 0, 0);
        let mut held: HashSet<PathId> = HashSet::new();
        for (target, goal) in self.index.all() {
            let stage = self.stage(goal);
            slots += u32::from(stage.has_slot());
            fetches += u32::from(stage.has_fetch_slot());
            children += u32::from(stage.is_running());
            if !stage.holds_paths() {
                continue;
            }
            holding += 1;
            for path in self.paths_of(graph, target) {
                assert!(held.insert(path), "{path:?} is held by two goals");
                assert!(self.holds(path), "{target:?} does not hold {path:?}");
            }
        }
        assert_eq!(
            self.held_paths(graph),
            held.len(),
            "a path is held by no goal"
        );
        assert_eq!(
            self.used, slots,
            "slots that are taken, and goals that have one"
        );
        assert_eq!(
            self.bound.holding, holding,
            "goals that are counted as holding paths, and those that do"
        );
        assert_eq!(
            self.counts.running, children,
            "children, and goals that have one"
        );
        assert_eq!(
            self.used_by_fetches, fetches,
            "slots for fetches that are taken, and goals that have one"
        );
        let most = self.options.max_jobs;
        assert!(slots <= most, "{slots} slots of {most} are taken");
        // One fetch may run however few may.
        let most = self.options.max_substitution_jobs.max(1);
        assert!(fetches <= most, "{fetches} fetches of {most} run");
    }

    /// Asserts what holds once all that was asked for has ended, if nothing was given up.
    ///
    /// # Panics
    /// If a goal still has something, or stands in a list.
    pub(crate) fn assert_settled(&self, graph: &BuildGraph) {
        assert_eq!(
            (self.used, self.used_by_fetches, self.counts.running),
            (0, 0, 0),
            "slots and children"
        );
        assert!(self.awaiting.is_empty(), "a path waits for its archive");
        assert_eq!(self.held_paths(graph), 0, "paths are held");
        assert!(self.starting.is_empty() && self.starting_fetches.is_empty());
        assert!(self.completed.is_empty() && self.failures.is_empty());
        assert!(self.parked.is_empty() && self.any_goal.is_empty());
        assert!(!self.desk.is_asking() && !self.desk.is_pending());
        assert!(!self.is_busy(), "other threads work for goals");
    }

    fn held_paths(&self, graph: &BuildGraph) -> usize {
        let paths = (0..graph.paths.len()).map(PathId::from_index);
        paths.filter(|&path| self.holds(path)).count()
    }

    fn paths_of(&self, graph: &BuildGraph, target: Target) -> Vec<PathId> {
        match target {
            Target::Derivation(drv) => {
                let mut paths: Vec<_> = graph.outputs(drv).iter().map(|row| row.path).collect();
                paths.sort_unstable();
                paths.dedup();
                paths
            }
            Target::Path(path) | Target::Repair(path) => vec![path],
        }
    }

    /// Makes a mistake on purpose, when there is an occasion. Called when children have exited,
    /// before anything of theirs is registered.
    pub(crate) fn err(&mut self, graph: &BuildGraph, mistake: Mistake) {
        match mistake {
            // The world makes these itself.
            Mistake::RegistersFailures | Mistake::KeepsSlot => {}
            Mistake::KeepsPaths => {
                let parked = self.parked.iter().map(|parked| parked.waiting);
                for waiting in parked.collect::<Vec<_>>() {
                    let target = match waiting {
                        Waiting::Build(ready) => Target::Derivation(ready.drv),
                        Waiting::Fetch(fetch) => Target::Path(fetch.path),
                    };
                    let paths = self.paths_of(graph, target);
                    self.hold(&paths);
                }
            }
            Mistake::WakesEarly => {
                let complete = self
                    .completed
                    .builds()
                    .filter_map(|(complete, _)| complete.drv);
                let waiters = complete.flat_map(|drv| graph.dependents(drv));
                let waiters = waiters.filter_map(|drv| {
                    let goal = self.index.goal(drv)?;
                    Some(ReadyGoal { goal, drv })
                });
                for ReadyGoal { goal, drv } in waiters.collect::<Vec<_>>() {
                    if self.stage(goal) == Stage::Inputs {
                        self.make_ready(goal, drv);
                    }
                }
            }
        }
    }
}
