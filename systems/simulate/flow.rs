//! How long jobs take from their arrivals on. A job is all tasks that hang together, whichever way
//! their edges point; it comes with the first of those of its tasks that need no other.

use windrow_components::task_graph::{TaskGraph, TaskId};

/// How long jobs took, in the unit in which times were given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flow {
    /// How many jobs there were of which all tasks ended well; the others do not count.
    pub jobs: u64,
    /// The mean of the times from their arrivals to their ends.
    pub mean: f64,
    /// The longest of these.
    pub max: f64,
    /// The mean of these times over those that each would take alone, with as many slots or
    /// machines as it can use, all of them the fastest.
    pub mean_slowdown: f64,
    /// The largest of these quotients.
    pub max_slowdown: f64,
}

/// Sets of tasks that hang together.
struct Jobs {
    parents: Vec<u32>,
}

impl Jobs {
    fn of(tasks: &TaskGraph) -> Self {
        let mut jobs = Self {
            parents: (0..tasks.len() as u32).collect(),
        };
        for task in tasks.tasks() {
            for before in tasks.predecessors(task) {
                let (one, other) = (jobs.root(task.index()), jobs.root(before.index()));
                // The first task of a job stands for it.
                jobs.parents[one.max(other)] = one.min(other) as u32;
            }
        }
        jobs
    }

    fn root(&mut self, mut task: usize) -> usize {
        while self.parents[task] as usize != task {
            let above = self.parents[self.parents[task] as usize];
            self.parents[task] = above;
            task = above as usize;
        }
        task
    }
}

/// What is known of a job.
#[derive(Clone, Copy)]
struct Job {
    arrival: f64,
    end: f64,
    /// Whether all its tasks have ended well.
    is_done: bool,
    /// When it would end alone.
    ideal: f64,
}

impl Flow {
    /// That of tasks that come when the graph says, end then (not a number where one has not ended
    /// well), and take that long at the least.
    pub(super) fn of(tasks: &TaskGraph, ends: &[f64], least: impl Fn(TaskId) -> f64) -> Self {
        let attributes = tasks.attributes();
        let arrival = |task| attributes.map_or(0.0, |known| known.arrival(task));
        let mut alone = vec![0.0_f64; tasks.len()];
        for task in tasks.topological_order() {
            let before = tasks.predecessors(task).iter();
            let ready = before.fold(arrival(task), |ready, it| ready.max(alone[it.index()]));
            alone[task.index()] = ready + least(task);
        }
        let mut jobs = Jobs::of(tasks);
        let mut known: Vec<Option<Job>> = vec![None; tasks.len()];
        for task in tasks.tasks() {
            let job = known[jobs.root(task.index())].get_or_insert(Job {
                arrival: f64::INFINITY,
                end: 0.0,
                is_done: true,
                ideal: 0.0,
            });
            if tasks.predecessors(task).is_empty() {
                job.arrival = job.arrival.min(arrival(task));
            }
            job.ideal = job.ideal.max(alone[task.index()]);
            let end = ends[task.index()];
            job.is_done &= !end.is_nan();
            job.end = job.end.max(end);
        }
        Self::sum(known.into_iter().flatten())
    }

    fn sum(jobs: impl Iterator<Item = Job>) -> Self {
        let mut flow = Self::default();
        for job in jobs.filter(|job| job.is_done) {
            let (time, ideal) = (job.end - job.arrival, job.ideal - job.arrival);
            let slowdown = if ideal > 0.0 { time / ideal } else { 1.0 };
            flow.jobs += 1;
            flow.mean += time;
            flow.max = flow.max.max(time);
            flow.mean_slowdown += slowdown;
            flow.max_slowdown = flow.max_slowdown.max(slowdown);
        }
        let count = flow.jobs.max(1) as f64;
        flow.mean /= count;
        flow.mean_slowdown /= count;
        flow
    }
}

/// When each task ended well, as those runs say: the task, its end, and whether it did.
pub(super) fn ends(tasks: usize, runs: impl Iterator<Item = (u32, f64, bool)>) -> Vec<f64> {
    let mut ends = vec![f64::NAN; tasks];
    for (task, end, _) in runs.filter(|&(.., is_good)| is_good) {
        ends[task as usize] = end;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::task_graph::{Attributes, Builder, Limits, TimeUnit};

    #[test]
    fn jobs_are_what_hangs_together() {
        let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
        let ids: Vec<TaskId> = (0..5)
            .map(|_| builder.add_task(None, Some(2)).unwrap())
            .collect();
        for (before, task) in [(0, 3), (2, 3)] {
            builder.add_edge(ids[before], ids[task]).unwrap();
        }
        let mut graph = builder.finish().unwrap();
        let attributes = Attributes {
            arrivals: vec![1.0, 0.0, 5.0, 0.0, 9.0],
            ..Attributes::default()
        };
        graph.set_attributes(attributes).unwrap();
        let flow = Flow::of(&graph, &[4.0, 2.0, 8.0, 11.0, f64::NAN], |_| 2.0);
        // Tasks 0, 2 and 3 came at 1, could have ended at 9, and did at 11; task 1 took no longer
        // than it must; task 4 did not end.
        assert_eq!((flow.jobs, flow.mean, flow.max), (2, 6.0, 10.0));
        let slowest = 10.0 / 8.0;
        assert_eq!(flow.max_slowdown, slowest);
        assert_eq!(flow.mean_slowdown, f64::midpoint(slowest, 1.0));
    }
}
