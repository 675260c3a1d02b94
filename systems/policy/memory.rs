//! Depth first by memory: an idle slot takes the goal after which the most inputs are needed no
//! more.
//!
//! An output is kept from its making until the last goal that needs it has ended; the policy keeps
//! few at a time. Of the goals that release equally many inputs comes first the one that a
//! sequential, depth-first order meets first, each subtree with the larger need before its sisters:
//! for a tree on one slot this is the order of Sethi and Ullman (The generation of optimal code for
//! arithmetic expressions, J. ACM 17(4), 1970), whose need of registers is minimal. To put what
//! releases inputs before new leaves is what "ParInnerFirst" does for trees on several processors
//! (Eyraud-Dubois, Marchal, Sinnen, Vivien: Parallel scheduling of task trees with limited memory,
//! ACM TOPC 2(2), 2015). For graphs in general to find the minimum is NP-complete (Sethi: Complete
//! register allocation problems, SIAM J. Comput. 4(3), 1975).

use bevy_ecs::prelude::{Res, ResMut, Resource, World};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use crate::policy::{Extent, PolicySystems};
use crate::world::{End, Scheduler};

/// Adds the policy to a run.
pub(super) fn plug_in(world: &mut World, systems: &mut PolicySystems) {
    world.init_resource::<Releases>();
    world.resource_mut::<Scheduler>().queue().let_ranks_change();
    systems.add_to_rank(depth_first_by_memory);
    systems.add_at_ends(note_ends);
}

/// Who still needs which output, and the depth-first order. All by derivation id.
#[derive(Debug, Default, Resource)]
pub struct Releases {
    extent: Extent,
    /// How many derivations that have not ended need it.
    users: Vec<u32>,
    /// The ids of those, combined by exclusive or: if there is one, this is its id.
    mixed: Vec<u32>,
    /// How many of its inputs no other derivation needs any more.
    sole: Vec<u32>,
    /// Its place in the depth-first order.
    place: Vec<u32>,
    /// Whether it has ended.
    ended: Vec<bool>,
    /// Whether its inputs are counted in `users`.
    counted: Vec<bool>,
}

impl Releases {
    /// The rank of a goal: the more inputs it releases the better, then by its place in the
    /// depth-first order.
    pub fn rank(&self, drv: DrvId) -> u64 {
        let sole = self.sole.get(drv.index()).copied().unwrap_or(0);
        let place = self.place.get(drv.index()).copied().unwrap_or(u32::MAX);
        u64::from(u32::MAX - 1 - sole) << 32 | u64::from(place)
    }

    /// Takes note that `drv` has ended, in whatever way, and calls `improved` for every derivation
    /// that thereby releases one input more.
    pub fn end(&mut self, graph: &BuildGraph, drv: DrvId, mut improved: impl FnMut(&Self, DrvId)) {
        let index = drv.index();
        if self.ended.len() <= index {
            self.ended.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.ended[index], true)
            || !self.counted.get(index).copied().unwrap_or(false)
        {
            return;
        }
        for input in graph.inputs(drv) {
            let input = input.drv.index();
            self.users[input] -= 1;
            self.mixed[input] ^= index as u32;
            if self.users[input] == 1 {
                let last = DrvId::from_index(self.mixed[input] as usize);
                self.sole[last.index()] += 1;
                improved(self, last);
            }
        }
    }

    /// Counts everything from the graph as it is now.
    fn count(&mut self, graph: &BuildGraph) {
        let count = graph.drv_count();
        let drvs = || (0..count).map(DrvId::from_index);
        self.ended.resize(count, false);
        for list in [&mut self.users, &mut self.mixed, &mut self.sole] {
            list.clear();
            list.resize(count, 0);
        }
        self.counted.clear();
        self.counted.resize(count, false);
        for drv in drvs().filter(|drv| !self.ended[drv.index()]) {
            self.counted[drv.index()] = graph.inputs(drv).len() > 0;
            for input in graph.inputs(drv) {
                self.users[input.drv.index()] += 1;
                self.mixed[input.drv.index()] ^= drv.index() as u32;
            }
        }
        for input in drvs().filter(|input| self.users[input.index()] == 1) {
            self.sole[self.mixed[input.index()] as usize] += 1;
        }
        self.place = depth_first(graph);
    }
}

/// The place of each derivation in a depth-first order in which inputs come first, of the inputs of
/// one the one with the largest need, and of equals the one met first.
fn depth_first(graph: &BuildGraph) -> Vec<u32> {
    let count = graph.drv_count();
    let drvs = || (0..count).map(DrvId::from_index);
    let mut users = graph.count_dependents();
    let ends: Vec<DrvId> = drvs().filter(|drv| users[drv.index()] == 0).collect();
    // From the ends down, so that read backwards inputs come first.
    let mut order = ends.clone();
    let mut at = 0;
    while let Some(&drv) = order.get(at) {
        at += 1;
        for input in graph.inputs(drv) {
            let users = &mut users[input.drv.index()];
            *users -= 1;
            if *users == 0 {
                order.push(input.drv);
            }
        }
    }
    let mut need = users;
    let mut inputs = Vec::new();
    for &drv in order.iter().rev() {
        sort_inputs(graph, drv, &need, &mut inputs);
        need[drv.index()] = need_of(inputs.iter().map(|input: &DrvId| need[input.index()]));
    }
    drop(order);

    let mut place = vec![u32::MAX; count];
    let mut next = 0;
    let mut seen = vec![false; count];
    // A derivation whose inputs have been put on top of it is marked, and has its turn when it is
    // met again.
    let mut stack: Vec<(DrvId, bool)> = Vec::new();
    let mut ends = ends;
    ends.sort_by_key(|drv| std::cmp::Reverse(need[drv.index()]));
    stack.extend(ends.into_iter().rev().map(|drv| (drv, false)));
    while let Some((drv, opened)) = stack.pop() {
        if opened {
            place[drv.index()] = next;
            next += 1;
            continue;
        }
        if std::mem::replace(&mut seen[drv.index()], true) {
            continue;
        }
        stack.push((drv, true));
        sort_inputs(graph, drv, &need, &mut inputs);
        let unseen = inputs.iter().rev().filter(|input| !seen[input.index()]);
        stack.extend(unseen.map(|&input| (input, false)));
    }
    place
}

fn sort_inputs(graph: &BuildGraph, drv: DrvId, need: &[u32], inputs: &mut Vec<DrvId>) {
    inputs.clear();
    inputs.extend(graph.inputs(drv).map(|input| input.drv));
    inputs.sort_unstable_by_key(|input| (std::cmp::Reverse(need[input.index()]), *input));
}

/// How many outputs are kept at a time when inputs of these needs, largest first, are made one
/// after the other, and then what needs them all.
fn need_of(inputs: impl Iterator<Item = u32>) -> u32 {
    let mut made = 0;
    let mut most = 0;
    for need in inputs {
        most = most.max(need.saturating_add(made));
        made += 1;
    }
    most.max(made + 1)
}

/// Ranks goals by the inputs they release.
pub fn depth_first_by_memory(
    mut scheduler: ResMut<Scheduler>,
    graph: Res<BuildGraph>,
    mut releases: ResMut<Releases>,
) {
    let releases = &mut *releases;
    if releases.extent.outgrown(&graph, !scheduler.is_awake()) {
        releases.count(&graph);
        scheduler.queue().rank_again(|drv| releases.rank(drv));
    }
    scheduler.rank(|drv| releases.rank(drv));
}

/// What ends may leave an input to a single goal that is ready, which is ranked better then.
fn note_ends(
    mut scheduler: ResMut<Scheduler>,
    graph: Res<BuildGraph>,
    mut releases: ResMut<Releases>,
) {
    let ends = scheduler.ended().iter().filter_map(End::drv);
    for drv in ends.collect::<Vec<_>>() {
        releases.end(&graph, drv, |releases, drv| {
            scheduler.queue().improve(drv, releases.rank(drv));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use windrow_components::task_graph::{Builder, Limits, TaskId, TimeUnit};

    fn graph(tasks: usize, edges: &[(usize, usize)]) -> BuildGraph {
        let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
        for _ in 0..tasks {
            builder.add_task(None, None).unwrap();
        }
        for &(input, task) in edges {
            builder
                .add_edge(TaskId::from_index(input), TaskId::from_index(task))
                .unwrap();
        }
        BuildGraph::from_tasks(&builder.finish().unwrap())
    }

    #[test]
    fn the_larger_subtree_comes_first() {
        // 6 needs 0 and 5; 5 needs 1, 2, 3 and 4.
        let graph = graph(7, &[(0, 6), (5, 6), (1, 5), (2, 5), (3, 5), (4, 5)]);
        assert_eq!(depth_first(&graph), [5, 0, 1, 2, 3, 4, 6]);
        assert_eq!(need_of([5, 1].into_iter()), 5);
        assert_eq!(need_of([3, 3].into_iter()), 4);
        assert_eq!(need_of([].into_iter()), 1);
    }

    proptest! {
        #[test]
        fn counts_kept_step_by_step_are_those_counted_anew(
            edges in proptest::collection::vec((0..15_usize, 0..15_usize), 0..60),
            order in Just((0..15_usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let edges: Vec<_> = edges.into_iter().filter(|(input, task)| input < task).collect();
            let graph = graph(15, &edges);
            let mut kept = Releases::default();
            kept.count(&graph);
            for drv in order.into_iter().map(DrvId::from_index) {
                let mut improved = Vec::new();
                let before = kept.sole.clone();
                kept.end(&graph, drv, |_, drv| improved.push(drv));
                for drv in improved {
                    prop_assert!(kept.sole[drv.index()] > before[drv.index()]);
                }
                let mut anew = Releases { ended: kept.ended.clone(), ..Releases::default() };
                anew.count(&graph);
                for other in (0..15).filter(|&other| !kept.ended[other]) {
                    prop_assert_eq!(kept.sole[other], anew.sole[other], "of {}", other);
                }
                prop_assert_eq!(&kept.users, &anew.users);
            }
            let mut places = depth_first(&graph);
            for task in (0..15).map(DrvId::from_index) {
                for input in graph.inputs(task) {
                    prop_assert!(places[input.drv.index()] < places[task.index()]);
                }
            }
            places.sort_unstable();
            prop_assert_eq!(places, (0..15).collect::<Vec<_>>());
        }
    }
}
