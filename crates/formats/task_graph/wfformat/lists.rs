//! The lists of a workflow, taken in one entry after the other: what an entry says goes into flat
//! arrays at once, so that no tree of the file is ever in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use windrow_components::progress;

use super::texts::{Interned, Texts};
use super::{Text, unsuitable};
use crate::task_graph::{TaskGraphError, TaskId};

/// A task as the file has it.
#[derive(serde::Deserialize)]
struct Task<'t> {
    #[serde(borrow)]
    name: Option<Text<'t>>,
    id: Option<Text<'t>>,
    /// Up to schema 1.3; migrated files may keep it beside the newer key.
    runtime: Option<f64>,
    #[serde(rename = "runtimeInSeconds")]
    runtime_in_seconds: Option<f64>,
    #[serde(default)]
    parents: Option<Vec<Text<'t>>>,
    #[serde(default)]
    children: Option<Vec<Text<'t>>>,
    /// Up to schema 1.4.
    priority: Option<f64>,
    /// What kind of task it is.
    category: Option<Text<'t>>,
    /// Up to schema 1.4.
    command: Option<Command<'t>>,
    /// Up to schema 1.4.
    cores: Option<f64>,
    /// Up to schema 1.3, in kB.
    memory: Option<f64>,
    #[serde(rename = "memoryInBytes")]
    memory_in_bytes: Option<f64>,
    /// Up to schema 1.4: what it reads and writes.
    #[serde(default)]
    files: Option<Vec<FileUse<'t>>>,
    /// From schema 1.5 on: ids of files.
    #[serde(rename = "inputFiles", default)]
    input_files: Option<Vec<Text<'t>>>,
    #[serde(rename = "outputFiles", default)]
    output_files: Option<Vec<Text<'t>>>,
}

#[derive(serde::Deserialize)]
struct Command<'t> {
    #[serde(borrow)]
    program: Option<Text<'t>>,
}

#[derive(serde::Deserialize)]
struct FileUse<'t> {
    #[serde(borrow)]
    id: Option<Text<'t>>,
    name: Option<Text<'t>>,
    /// `input` or `output`.
    link: Option<Text<'t>>,
    /// Up to schema 1.3.
    size: Option<f64>,
    #[serde(rename = "sizeInBytes")]
    size_in_bytes: Option<f64>,
}

#[derive(serde::Deserialize)]
struct Run<'t> {
    #[serde(borrow)]
    id: Text<'t>,
    runtime: Option<f64>,
    #[serde(rename = "runtimeInSeconds")]
    runtime_in_seconds: Option<f64>,
    command: Option<Command<'t>>,
    priority: Option<f64>,
    #[serde(rename = "coreCount")]
    core_count: Option<f64>,
    #[serde(rename = "memoryInBytes")]
    memory_in_bytes: Option<f64>,
}

/// From schema 1.5 on: a file that tasks name by its id.
#[derive(serde::Deserialize)]
struct File<'t> {
    #[serde(borrow)]
    id: Option<Text<'t>>,
    #[serde(rename = "sizeInBytes")]
    size_in_bytes: Option<f64>,
}

/// No task and no text has this number.
const NOTHING: u32 = u32::MAX;

/// A number of each entry or none, in no memory as long as none has one.
#[derive(Debug, Default)]
pub(super) struct Numbers(Vec<f64>);

impl Numbers {
    /// Sets that of an entry. JSON has nothing that is not a number.
    pub(super) fn set(&mut self, index: usize, number: Option<f64>) {
        let Some(number) = number else { return };
        if self.0.len() <= index {
            self.0.resize(index + 1, f64::NAN);
        }
        self.0[index] = number;
    }

    pub(super) fn get(&self, index: usize) -> Option<f64> {
        self.0.get(index).copied().filter(|number| !number.is_nan())
    }
}

/// Of each entry one of a few texts or none, in no memory as long as none has one.
#[derive(Debug, Default)]
pub(super) struct Words {
    texts: Interned,
    of: Vec<u32>,
}

impl Words {
    /// Sets that of an entry; none if there are too many bytes of them.
    fn set(&mut self, index: usize, text: Option<&Text<'_>>) -> Option<()> {
        let Some(text) = text else { return Some(()) };
        if self.of.len() <= index {
            self.of.resize(index + 1, NOTHING);
        }
        self.of[index] = self.texts.intern(&text.0)?;
        Some(())
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        let number = self.of.get(index).filter(|&&number| number != NOTHING)?;
        Some(self.texts.get(*number))
    }
}

/// Lists of numbers, one for each entry, back to back.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) ends: Vec<u32>,
    pub(super) all: Vec<u32>,
}

impl Lists {
    fn end(&mut self) {
        self.ends.push(self.all.len() as u32);
    }

    /// Where the list of an entry lies in `all`.
    pub(super) fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[index] as usize
    }

    pub(super) fn of(&self, index: usize) -> &[u32] {
        &self.all[self.range(index)]
    }
}

fn program<'a, 't>(command: Option<&'a Command<'t>>) -> Option<&'a Text<'t>> {
    command?.program.as_ref()
}

/// Why a list of tasks is no graph.
#[derive(Debug)]
pub(super) enum Problem {
    /// A task has no key.
    NoKey(usize),
    /// Two tasks have the key of this number.
    Twice(u32),
}

impl Problem {
    pub(super) fn of<const BY_ID: bool>(self, file: &str, tasks: &Tasks<BY_ID>) -> TaskGraphError {
        match self {
            Problem::NoKey(index) => {
                let what = if BY_ID { "id" } else { "name" };
                let number = index + 1;
                unsuitable(
                    file,
                    format!("task number {number} of the file has no `{what}`"),
                )
            }
            Problem::Twice(key) => TaskGraphError::DuplicateTask {
                origin: file.to_owned(),
                name: tasks.keys.get(key).to_owned(),
            },
        }
    }
}

/// The tasks of a list. Others refer to them by their ids from schema 1.5 on, before by their
/// names.
#[derive(Debug, Default)]
pub(super) struct Tasks<const BY_ID: bool> {
    /// What tasks are referred to by, whether such a task has come or not.
    keys: Interned,
    /// The task of each key.
    task_of: Vec<u32>,
    /// The key of each task.
    key_of: Vec<u32>,
    /// The first mistake.
    pub(super) problem: Option<Problem>,
    /// Empty where there is none.
    pub(super) names: Texts,
    pub(super) categories: Words,
    pub(super) programs: Words,
    pub(super) priorities: Numbers,
    pub(super) runtimes: Numbers,
    pub(super) cores: Numbers,
    /// In bytes.
    pub(super) memory: Numbers,
    /// The keys of each task's parents.
    pub(super) parents: Lists,
    /// The keys of each task's children.
    pub(super) children: Lists,
    /// Twice the numbers of the files that each task uses, and one more where it writes.
    uses: Lists,
    /// The files that tasks use.
    pub(super) files: Interned,
    /// Their sizes as tasks say them.
    pub(super) sizes: Numbers,
}

impl<const BY_ID: bool> Tasks<BY_ID> {
    pub(super) fn len(&self) -> usize {
        self.key_of.len()
    }

    /// What others refer to a task by.
    pub(super) fn key(&self, index: usize) -> &str {
        self.keys.get(self.key_of[index])
    }

    /// The task that others refer to so.
    pub(super) fn find(&self, key: &str) -> Option<TaskId> {
        self.task_of(self.keys.find(key)?).ok()
    }

    /// The task of a key, or how that is written.
    pub(super) fn task_of(&self, key: u32) -> Result<TaskId, &str> {
        match self.task_of.get(key as usize) {
            Some(&task) if task != NOTHING => Ok(TaskId::from_u32(task)),
            _ => Err(self.keys.get(key)),
        }
    }

    /// The files that a task uses, and whether it writes each.
    pub(super) fn uses(&self, index: usize) -> impl Iterator<Item = (u32, bool)> {
        let uses = self.uses.of(index).iter();
        uses.map(|&number| (number / 2, number % 2 == 1))
    }

    /// Whether no task uses a file.
    pub(super) fn use_nothing(&self) -> bool {
        self.uses.all.is_empty()
    }

    /// Adds a task; none if there are too many bytes of names.
    fn add(&mut self, task: &Task<'_>) -> Option<()> {
        let index = self.len();
        let key = if BY_ID { &task.id } else { &task.name };
        let key = key.as_ref().map_or("", |key| &*key.0);
        let number = self.keys.intern(key)?;
        if key.is_empty() {
            self.problem.get_or_insert(Problem::NoKey(index));
        } else {
            let place = number as usize;
            if self.task_of.len() <= place {
                self.task_of.resize(place + 1, NOTHING);
            }
            if self.task_of[place] == NOTHING {
                self.task_of[place] = index as u32;
            } else {
                self.problem.get_or_insert(Problem::Twice(number));
            }
        }
        self.key_of.push(number);
        let name = task.name.as_ref().map_or("", |name| &*name.0);
        if self.names.is_full(name) {
            return None;
        }
        self.names.push(name);
        self.categories.set(index, task.category.as_ref())?;
        self.programs.set(index, program(task.command.as_ref()))?;
        self.priorities.set(index, task.priority);
        self.runtimes
            .set(index, task.runtime_in_seconds.or(task.runtime));
        self.cores.set(index, task.cores);
        let kilobytes = task.memory.map(|kilobytes| kilobytes * 1e3);
        self.memory.set(index, task.memory_in_bytes.or(kilobytes));
        for (list, texts) in [
            (&mut self.parents, &task.parents),
            (&mut self.children, &task.children),
        ] {
            for text in texts.iter().flatten() {
                list.all.push(self.keys.intern(&text.0)?);
            }
            list.end();
        }
        self.add_uses(task)
    }

    fn add_uses(&mut self, task: &Task<'_>) -> Option<()> {
        for file in task.files.iter().flatten() {
            let Some(name) = file.id.as_ref().or(file.name.as_ref()) else {
                continue;
            };
            let number = self.files.intern(&name.0)?;
            let size = file.size_in_bytes.or(file.size);
            self.sizes.set(number as usize, size);
            let writes = match file.link.as_ref().map(|link| &*link.0) {
                Some("output") => true,
                Some("input") => false,
                _ => continue,
            };
            self.uses.all.push(2 * number + u32::from(writes));
        }
        for (files, writes) in [(&task.input_files, false), (&task.output_files, true)] {
            for file in files.iter().flatten() {
                let number = self.files.intern(&file.0)?;
                self.uses.all.push(2 * number + u32::from(writes));
            }
        }
        self.uses.end();
        Some(())
    }
}

/// What an execution says of tasks.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) ids: Texts,
    pub(super) programs: Words,
    pub(super) priorities: Numbers,
    pub(super) runtimes: Numbers,
    pub(super) cores: Numbers,
    /// In bytes.
    pub(super) memory: Numbers,
}

impl Runs {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    fn add(&mut self, run: &Run<'_>) -> Option<()> {
        let index = self.len();
        if self.ids.is_full(&run.id.0) {
            return None;
        }
        self.ids.push(&run.id.0);
        self.programs.set(index, program(run.command.as_ref()))?;
        self.priorities.set(index, run.priority);
        self.runtimes
            .set(index, run.runtime_in_seconds.or(run.runtime));
        self.cores.set(index, run.core_count);
        self.memory.set(index, run.memory_in_bytes);
        Some(())
    }
}

/// The files of a specification.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) ids: Texts,
    /// In bytes.
    pub(super) sizes: Numbers,
}

impl Files {
    fn add(&mut self, file: &File<'_>) -> Option<()> {
        let Some(id) = &file.id else { return Some(()) };
        if self.ids.is_full(&id.0) {
            return None;
        }
        self.sizes.set(self.ids.len(), file.size_in_bytes);
        self.ids.push(&id.0);
        Some(())
    }
}

/// How many tasks are read between two reports of it.
const BETWEEN_REPORTS: u64 = 4096;

/// Has entries added as they are read, and counted as progress if that is so said.
struct Adder<L, E>(L, fn(&mut L, &E) -> Option<()>, bool, PhantomData<E>);

impl<'de, L, E: Deserialize<'de>> Visitor<'de> for Adder<L, E> {
    type Value = L;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<L, A::Error> {
        let mut count = 0_u64;
        while let Some(entry) = entries.next_element::<E>()? {
            count += 1;
            if count.is_multiple_of(BETWEEN_REPORTS) && self.2 {
                progress::add(BETWEEN_REPORTS);
            }
            if (self.1)(&mut self.0, &entry).is_none() {
                return Err(A::Error::custom("the names in it have more than 4 GB"));
            }
        }
        Ok(self.0)
    }
}

impl<'de, const BY_ID: bool> Deserialize<'de> for Tasks<BY_ID> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |tasks: &mut Self, task: &Task<'de>| tasks.add(task);
        deserializer.deserialize_seq(Adder(Self::default(), add, true, PhantomData))
    }
}

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |runs: &mut Self, run: &Run<'de>| runs.add(run);
        deserializer.deserialize_seq(Adder(Self::default(), add, false, PhantomData))
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |files: &mut Self, file: &File<'de>| files.add(file);
        deserializer.deserialize_seq(Adder(Self::default(), add, false, PhantomData))
    }
}
