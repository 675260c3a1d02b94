//! What tasks need and make, where a file says so: cores, memory, work, data. All in arrays beside
//! the graph, each empty if no task has any of that, and absent for graphs that have none of it.

use crate::machine::Machine;

use super::TaskId;

/// How many cores a task takes, and what they are worth to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cores {
    /// At least 1.
    pub least: u32,
    /// Not below `least`.
    pub most: u32,
    /// The share of its work that cores can't divide among them (Amdahl's law), from 0 to 1.
    pub alpha: f64,
}

impl Default for Cores {
    fn default() -> Self {
        Self {
            least: 1,
            most: 1,
            alpha: 0.0,
        }
    }
}

impl Cores {
    /// As many as a file measured it with: no fewer and no more, and its work counts the time on
    /// all of them.
    pub const fn rigid(count: u32) -> Self {
        Self {
            least: count,
            most: count,
            alpha: 1.0,
        }
    }

    /// How many times as fast as on one core it is on that many.
    pub fn speed_up(&self, cores: u32) -> f64 {
        1.0 / (self.alpha + (1.0 - self.alpha) / f64::from(cores))
    }
}

/// What kind of machine a task asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The platform it is for.
    pub system: Option<String>,
    /// What the machine has to offer.
    pub features: Vec<String>,
}

impl Kind {
    /// Whether a machine is of this kind.
    pub fn fits(&self, machine: &Machine) -> bool {
        let runs = |system: &String| machine.systems.is_empty() || machine.systems.contains(system);
        self.system.as_ref().is_none_or(runs)
            && self
                .features
                .iter()
                .all(|one| machine.features.contains(one))
    }
}

/// Lists of numbers of data, one for each task, back to back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataLists {
    ends: Vec<u32>,
    data: Vec<u32>,
}

impl DataLists {
    /// Adds the list of the next task.
    pub fn push(&mut self, data: impl IntoIterator<Item = u32>) {
        self.data.extend(data);
        self.ends.push(self.data.len() as u32);
    }

    fn of(&self, task: TaskId) -> &[u32] {
        let index = task.index();
        let Some(&end) = self.ends.get(index) else {
            return &[];
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.data[start as usize..end as usize]
    }
}

impl<L: IntoIterator<Item = u32>> FromIterator<L> for DataLists {
    fn from_iter<T: IntoIterator<Item = L>>(tasks: T) -> Self {
        let mut lists = Self::default();
        tasks.into_iter().for_each(|list| lists.push(list));
        lists
    }
}

/// The time of each task on machines of some names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    /// The names.
    pub machines: Vec<String>,
    /// For each task and each of the names the time in seconds; not a number where the file has
    /// none.
    pub seconds: Vec<f64>,
}

/// What the tasks of a graph need and make.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demands {
    /// The time of each task on one core of speed 1, in seconds, if that is finer than or differs
    /// from its duration.
    pub work: Vec<f64>,
    /// The cores of each task.
    pub cores: Vec<Cores>,
    /// The bytes that each task needs while it runs.
    pub memory: Vec<u64>,
    /// The kinds of machines that are asked for.
    pub kinds: Vec<Kind>,
    /// For each task, the one of those that it asks for.
    pub kind_of: Vec<u32>,
    /// Times that hold for some machines, instead of work over speed.
    pub times: Times,
    /// The size of each piece of data in bytes.
    pub sizes: Vec<u64>,
    /// The task that makes each piece of data; some are there from the beginning.
    pub makers: Vec<Option<TaskId>>,
    /// What each task needs, in the order of the file.
    pub inputs: DataLists,
    /// What each task makes, in the order of the file.
    pub outputs: DataLists,
}

impl Demands {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The cores of a task.
    pub fn cores(&self, task: TaskId) -> Cores {
        self.cores.get(task.index()).copied().unwrap_or_default()
    }

    /// The memory of a task, in bytes.
    pub fn memory(&self, task: TaskId) -> u64 {
        self.memory.get(task.index()).copied().unwrap_or(0)
    }

    /// The kind of machine that a task asks for, if it does.
    pub fn kind(&self, task: TaskId) -> Option<&Kind> {
        let kind = self.kind_of.get(task.index())?;
        self.kinds.get(*kind as usize)
    }

    /// The numbers of the data that a task needs.
    pub fn inputs(&self, task: TaskId) -> &[u32] {
        self.inputs.of(task)
    }

    /// The numbers of the data that a task makes.
    pub fn outputs(&self, task: TaskId) -> &[u32] {
        self.outputs.of(task)
    }

    /// How many tasks ask for what a run on identical slots has no regard for.
    pub fn demanding(&self, tasks: impl Iterator<Item = TaskId>) -> usize {
        let demands = |&task: &TaskId| {
            self.cores(task) != Cores::default()
                || self.memory(task) > 0
                || self.kind(task).is_some_and(|kind| *kind != Kind::default())
                || !self.times.machines.is_empty()
                || !self.inputs(task).is_empty()
                || !self.outputs(task).is_empty()
        };
        tasks.filter(demands).count()
    }

    /// What is wrong with it for a graph of that many tasks, if anything is.
    pub(super) fn problem(&self, tasks: usize) -> Option<String> {
        let lists = [
            ("work", self.work.len()),
            ("cores", self.cores.len()),
            ("memory", self.memory.len()),
            ("kinds", self.kind_of.len()),
            ("inputs", self.inputs.ends.len()),
            ("outputs", self.outputs.ends.len()),
        ];
        let wrong = |&&(_, length): &&(&str, usize)| length != 0 && length != tasks;
        if let Some((what, length)) = lists.iter().find(wrong) {
            return Some(format!("{what} of {length} tasks are given for {tasks}"));
        }
        let all = self.inputs.data.iter().chain(&self.outputs.data);
        let data = self.sizes.len().min(self.makers.len());
        if let Some(unknown) = all.copied().find(|&number| number as usize >= data) {
            return Some(format!("data {unknown} is used, and there are {data}"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_cores_help_as_much_as_amdahl_says() {
        let cores = Cores {
            least: 1,
            most: 8,
            alpha: 0.2,
        };
        assert_eq!(cores.speed_up(1), 1.0);
        assert!((cores.speed_up(4) - 2.5).abs() < 1e-12);
        assert_eq!(Cores::rigid(7).speed_up(7), 1.0);
    }

    #[test]
    fn lists_are_those_of_their_tasks() {
        let mut lists = DataLists::default();
        lists.push([4, 5]);
        lists.push([]);
        lists.push([6]);
        let of = |index| lists.of(TaskId::from_index(index)).to_vec();
        assert_eq!(
            [of(0), of(1), of(2), of(3)],
            [vec![4, 5], vec![], vec![6], vec![]]
        );
    }

    #[test]
    fn what_does_not_fit_the_graph_is_told() {
        let mut demands = Demands {
            memory: vec![1, 2],
            ..Demands::default()
        };
        assert_eq!(demands.problem(2), None);
        let problem = demands.problem(3).unwrap();
        assert_eq!(problem, "memory of 2 tasks are given for 3");
        demands.inputs.push([0]);
        demands.inputs.push([]);
        assert_eq!(
            demands.problem(2).unwrap(),
            "data 0 is used, and there are 0"
        );
    }
}
