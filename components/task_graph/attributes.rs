//! What a file says of tasks beside what they need: of which kind each is, how long it was thought
//! to take, when it comes, how much it matters. All in arrays beside the graph, each empty if
//! nothing is said of any task.

use hashbrown::HashMap;

use super::{TaskGraph, TaskId};

/// What a file says of tasks beside what they need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes {
    /// The kinds of tasks: a category, or the program that does the work.
    pub kinds: Vec<String>,
    /// For each task, the one of those that it is of.
    pub kind_of: Vec<u32>,
    /// How long each task was thought to take, in seconds of a core of speed 1, or in units; not a
    /// number where nothing is said.
    pub estimates: Vec<f64>,
    /// When each task comes, before which it can't start, in seconds, or in units.
    pub arrivals: Vec<f64>,
    /// How much each task matters: the largest number the most.
    pub priorities: Vec<f64>,
    /// How often each task is tried again when it fails.
    pub retries: Vec<u32>,
}

impl Attributes {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says of which kind each task is, in order. Tasks of no kind make up one that has no name;
    /// nothing is said if that are all.
    pub fn set_kinds<'k>(&mut self, kinds: impl IntoIterator<Item = Option<&'k str>>) {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        self.kind_of.clear();
        for kind in kinds {
            let next = numbers.len() as u32;
            self.kind_of
                .push(*numbers.entry(kind.unwrap_or("")).or_insert(next));
        }
        let mut named: Vec<(&str, u32)> = numbers.into_iter().collect();
        named.sort_unstable_by_key(|&(_, number)| number);
        self.kinds = named.iter().map(|(name, _)| (*name).to_owned()).collect();
        if self.kinds.iter().all(String::is_empty) {
            self.kinds.clear();
            self.kind_of.clear();
        }
    }

    /// How long a task was thought to take, if that is said.
    pub fn estimate(&self, task: TaskId) -> Option<f64> {
        let estimate = self.estimates.get(task.index()).copied();
        estimate.filter(|estimate| !estimate.is_nan())
    }

    /// When a task comes: at the beginning, if nothing is said.
    pub fn arrival(&self, task: TaskId) -> f64 {
        self.arrivals.get(task.index()).copied().unwrap_or(0.0)
    }

    /// Whether any task comes later than at the beginning.
    pub fn has_arrivals(&self) -> bool {
        self.arrivals.iter().any(|&time| time > 0.0)
    }

    /// What is wrong with it for a graph of that many tasks, if anything is.
    pub(super) fn problem(&self, tasks: usize) -> Option<String> {
        let lists = [
            ("kinds", self.kind_of.len()),
            ("estimates", self.estimates.len()),
            ("arrivals", self.arrivals.len()),
            ("priorities", self.priorities.len()),
            ("retries", self.retries.len()),
        ];
        let wrong = |&&(_, length): &&(&str, usize)| length != 0 && length != tasks;
        if let Some((what, length)) = lists.iter().find(wrong) {
            return Some(format!("{what} of {length} tasks are given for {tasks}"));
        }
        let kinds = self.kinds.len();
        let unknown = self.kind_of.iter().find(|&&kind| kind as usize >= kinds);
        unknown.map(|kind| format!("kind {kind} is used, and there are {kinds}"))
    }
}

/// The name of a task without the number that tells it from others of its kind, as `blast` of
/// `blast_ID0000042`.
fn stem(name: &str) -> &str {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return name;
    }
    let stem = stem.strip_suffix("ID").unwrap_or(stem);
    let stem = stem.trim_end_matches(['_', '-', '.', ' ', '#']);
    if stem.is_empty() { name } else { stem }
}

impl TaskGraph {
    /// For each task the number of its kind, and how many there are: as the file says, else tasks
    /// whose names differ only in the number at their end are of one kind, and those without names
    /// all of one.
    pub fn kinds(&self) -> (Vec<u32>, usize) {
        if let Some(attributes) = self.attributes()
            && !attributes.kind_of.is_empty()
        {
            return (attributes.kind_of.clone(), attributes.kinds.len());
        }
        if !self.has_names() {
            return (vec![0; self.len()], 1);
        }
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut kind_of = Vec::with_capacity(self.len());
        for task in self.tasks() {
            let name = self.name(task);
            let stem = stem(&name);
            let number = numbers.get(stem).copied().unwrap_or_else(|| {
                let next = numbers.len() as u32;
                numbers.insert(stem.to_owned(), next);
                next
            });
            kind_of.push(number);
        }
        (kind_of, numbers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Limits, TimeUnit};
    use super::*;

    #[test]
    fn numbers_at_the_end_do_not_tell_kinds_apart() {
        for (name, wanted) in [
            ("blast_ID0000042", "blast"),
            ("mProject-7", "mProject"),
            ("blast", "blast"),
            ("42", "42"),
            ("n42", "n"),
            ("ID7", "ID7"),
            ("obj/v8.o", "obj/v8.o"),
        ] {
            assert_eq!(stem(name), wanted);
        }
    }

    #[test]
    fn kinds_are_those_of_the_file_or_of_names() {
        let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
        for name in ["a1", "b1", "a2"] {
            builder.add_task(Some(name), None).unwrap();
        }
        let mut graph = builder.finish().unwrap();
        assert_eq!(graph.kinds(), (vec![0, 1, 0], 2));
        let mut attributes = Attributes::default();
        attributes.set_kinds([None, Some("x"), Some("x")]);
        assert_eq!(attributes.kinds, ["", "x"]);
        graph.set_attributes(attributes.clone()).unwrap();
        assert_eq!(graph.kinds(), (vec![0, 1, 1], 2));
        attributes.estimates = vec![1.0];
        let wrong = graph.set_attributes(attributes.clone()).unwrap_err();
        assert!(
            wrong
                .to_string()
                .contains("estimates of 1 tasks are given for 3"),
            "{wrong}"
        );
        attributes.set_kinds([None, None, None]);
        assert!(attributes.kind_of.is_empty());
    }
}
