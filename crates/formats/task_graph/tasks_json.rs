//! Reads graphs whose tasks have work, cores, memory and data: a JSON object with the lists `tasks`
//! and `data`, in which each is an object, or a list as in the graphs of published portfolios.

mod attributes;

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use windrow_components::task_graph::{Cores, Demands, Kind};

use super::distribution::bytes;
use super::wfformat::{duration, malformed};
use super::{Builder, Limits, TaskGraph, TaskGraphError, TaskId, TimeUnit, unspelt};

#[derive(Deserialize)]
struct Document<'t> {
    #[serde(borrow)]
    tasks: Vec<&'t RawValue>,
    #[serde(borrow, default)]
    data: Vec<&'t RawValue>,
}

/// A number, or a name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Number(u32),
    Name(String),
}

/// A number of cores, or the fewest and the most.
#[derive(Deserialize)]
#[serde(untagged)]
enum CoreRange {
    Exactly(u32),
    Between(u32, u32),
}

/// A number of bytes, or a number with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    WithUnit(String),
}

impl Size {
    fn bytes(&self) -> Result<u64, String> {
        match self {
            Self::Bytes(count) => Ok(*count),
            Self::WithUnit(text) => bytes(text, "B"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    name: Option<String>,
    work: Option<f64>,
    kind: Option<String>,
    estimate: Option<f64>,
    arrival: Option<f64>,
    priority: Option<f64>,
    retries: Option<u32>,
    cores: Option<CoreRange>,
    alpha: Option<f64>,
    memory: Option<Size>,
    system: Option<String>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    times: BTreeMap<String, f64>,
    #[serde(default)]
    inputs: Vec<Reference>,
    #[serde(default)]
    outputs: Vec<Reference>,
    #[serde(default)]
    after: Vec<Reference>,
}

/// Name, work, least cores, alpha, inputs, outputs.
type ListedTask = (String, f64, u32, f64, Vec<u32>, Vec<u32>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Datum {
    name: Option<String>,
    size: Size,
}

/// Its size in MB, and the number of the task that makes it.
type ListedDatum = (f64, Option<u32>);

/// The largest size of a piece of data in MB.
const MEGABYTES_MAX: f64 = 1e9;

/// Reads a graph.
///
/// # Errors
/// If the file is malformed or cut, or holds no valid graph.
pub(super) fn load(file: &str, text: &[u8], limits: Limits) -> Result<TaskGraph, TaskGraphError> {
    // Each byte may become part of a list of numbers, in the file and in the graph.
    limits.admit_file(file, 4 * text.len() as u64)?;
    let document: Document<'_> =
        serde_json::from_slice(text).map_err(|error| malformed(file, &error))?;
    limits.admit(document.tasks.len() as u64, 0)?;
    let mut reader = Reader::new(file, document.data.len());
    for (number, raw) in document.data.iter().enumerate() {
        reader.add_datum(number, raw.get())?;
    }
    let mut tasks = Vec::with_capacity(document.tasks.len());
    for (number, raw) in document.tasks.iter().enumerate() {
        tasks.push(task(raw.get()).map_err(|reason| reader.unsuitable("task", number, &reason))?);
    }
    reader.graph(&tasks, limits)
}

/// A task, whichever way it is written.
fn task(text: &str) -> Result<Task, String> {
    if !text.starts_with('[') {
        return parse(text);
    }
    let (name, work, least, alpha, inputs, outputs) = parse::<ListedTask>(text)?;
    let numbers = |list: Vec<u32>| list.into_iter().map(Reference::Number).collect();
    Ok(Task {
        name: Some(name),
        work: Some(work),
        kind: None,
        estimate: None,
        arrival: None,
        priority: None,
        retries: None,
        cores: Some(CoreRange::Between(least, u32::MAX)),
        alpha: Some(alpha),
        memory: None,
        system: None,
        features: Vec::new(),
        times: BTreeMap::new(),
        inputs: numbers(inputs),
        outputs: numbers(outputs),
        after: Vec::new(),
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What has been read so far.
struct Reader<'f> {
    file: &'f str,
    demands: Demands,
    data: HashMap<String, u32>,
    /// The tasks that make data, as the data says.
    said: Vec<Option<u32>>,
}

impl<'f> Reader<'f> {
    fn new(file: &'f str, data: usize) -> Self {
        Self {
            file,
            demands: Demands {
                makers: vec![None; data],
                ..Demands::default()
            },
            data: HashMap::new(),
            said: Vec::with_capacity(data),
        }
    }

    fn unsuitable(&self, what: &str, number: usize, reason: &str) -> TaskGraphError {
        TaskGraphError::Unsuitable {
            file: self.file.to_owned(),
            reason: format!("{what} number {number} (from 0): {reason}"),
        }
    }

    fn add_datum(&mut self, number: usize, text: &str) -> Result<(), TaskGraphError> {
        let wrong = |reason: &str| self.unsuitable("data", number, reason);
        let (bytes, maker, name) = if text.starts_with('[') {
            let (megabytes, maker): ListedDatum = parse(text).map_err(|e| wrong(&e))?;
            if !(0.0..=MEGABYTES_MAX).contains(&megabytes) {
                return Err(wrong("its size should be from 0 to 10^9 MB"));
            }
            ((megabytes * 1e6).round() as u64, maker, None)
        } else {
            let datum: Datum = parse(text).map_err(|e| wrong(&e))?;
            let bytes = datum.size.bytes().map_err(|e| wrong(&e))?;
            (bytes, None, datum.name)
        };
        self.demands.sizes.push(bytes);
        self.said.push(maker);
        if let Some(name) = name
            && self.data.insert(name, number as u32).is_some()
        {
            return Err(self.unsuitable("data", number, "another one has its name"));
        }
        Ok(())
    }

    /// The number of a piece of data.
    fn datum(&self, reference: &Reference) -> Result<u32, String> {
        let count = self.demands.sizes.len();
        match reference {
            Reference::Number(number) if (*number as usize) < count => Ok(*number),
            Reference::Number(number) => {
                Err(format!("it names data {number}, and there are {count}"))
            }
            Reference::Name(name) => match self.data.get(name) {
                Some(&number) => Ok(number),
                None => Err(format!("it names the data `{name}`, which there is not")),
            },
        }
    }

    fn graph(mut self, tasks: &[Task], limits: Limits) -> Result<TaskGraph, TaskGraphError> {
        let mut builder = Builder::new(self.file, TimeUnit::Microseconds, limits);
        let mut names = HashMap::with_capacity(tasks.len());
        for (number, task) in tasks.iter().enumerate() {
            let seconds = task.work.or_else(|| mean(&task.times));
            let seconds = seconds.unwrap_or(0.0);
            let name = task.name.as_deref();
            let shown = name.unwrap_or("");
            let time = duration(self.file, shown, seconds)?;
            let id = builder.add_task_bytes(name.map(unspelt).as_deref(), Some(time))?;
            self.demands.work.push(seconds);
            if let Some(name) = name
                && names.insert(name, id).is_some()
                && !task.after.is_empty()
            {
                return Err(self.unsuitable("task", number, "another one has its name"));
            }
        }
        self.add_needs(tasks)?;
        self.add_data(tasks)?;
        self.add_times(tasks, limits)?;
        for (number, task) in tasks.iter().enumerate() {
            let id = TaskId::from_index(number);
            for &input in self.demands.inputs(id) {
                if let Some(maker) = self.demands.makers[input as usize] {
                    builder.add_edge(maker, id)?;
                }
            }
            for before in &task.after {
                let before = match before {
                    Reference::Number(before) if (*before as usize) < tasks.len() => {
                        Some(TaskId::from_u32(*before))
                    }
                    Reference::Number(_) => None,
                    Reference::Name(name) => names.get(name.as_str()).copied(),
                };
                let unknown = "`after` names a task that there is not";
                let before = before.ok_or_else(|| self.unsuitable("task", number, unknown))?;
                builder.add_edge(before, id)?;
            }
        }
        let attributes = attributes::of(tasks);
        let attributes =
            attributes.map_err(|(number, reason)| self.unsuitable("task", number, &reason))?;
        let mut graph = builder.finish()?;
        graph.set_demands(self.demands)?;
        graph.set_attributes(attributes)?;
        Ok(graph)
    }

    /// Cores, memory and kinds of machines.
    fn add_needs(&mut self, tasks: &[Task]) -> Result<(), TaskGraphError> {
        let mut known: HashMap<Kind, u32> = HashMap::new();
        for (number, task) in tasks.iter().enumerate() {
            let wrong = |reason: &str| self.unsuitable("task", number, reason);
            let (least, most) = match task.cores {
                None => (1, 1),
                Some(CoreRange::Exactly(count)) => (count, count),
                Some(CoreRange::Between(least, most)) => (least, most),
            };
            let alpha = task.alpha.unwrap_or(0.0);
            if least == 0 || most < least || !(0.0..=1.0).contains(&alpha) {
                return Err(wrong(
                    "it needs at least one core, and alpha is from 0 to 1",
                ));
            }
            let memory = task.memory.as_ref().map_or(Ok(0), Size::bytes);
            let memory = memory.map_err(|e| wrong(&e))?;
            self.demands.cores.push(Cores { least, most, alpha });
            self.demands.memory.push(memory);
            let kind = Kind {
                system: task.system.clone(),
                features: task.features.clone(),
            };
            let next = known.len() as u32;
            let number = *known.entry(kind).or_insert_with_key(|kind| {
                self.demands.kinds.push(kind.clone());
                next
            });
            self.demands.kind_of.push(number);
        }
        Ok(())
    }

    /// What tasks need and make.
    fn add_data(&mut self, tasks: &[Task]) -> Result<(), TaskGraphError> {
        for (number, task) in tasks.iter().enumerate() {
            let wrong = |reason: String| self.unsuitable("task", number, &reason);
            let all = |list: &[Reference]| {
                let numbers = list.iter().map(|reference| self.datum(reference));
                numbers.collect::<Result<Vec<u32>, String>>()
            };
            let (inputs, outputs) = (all(&task.inputs), all(&task.outputs));
            let (inputs, outputs) = (inputs.map_err(wrong)?, outputs.map_err(wrong)?);
            for &output in &outputs {
                let said = self.said[output as usize];
                let maker = &mut self.demands.makers[output as usize];
                let other = maker.is_some() || said.is_some_and(|said| said as usize != number);
                *maker = Some(TaskId::from_index(number));
                if other {
                    let reason = format!("it makes data {output}, which another task makes");
                    return Err(self.unsuitable("task", number, &reason));
                }
            }
            self.demands.inputs.push(inputs);
            self.demands.outputs.push(outputs);
        }
        let unmade = self.said.iter().zip(&self.demands.makers);
        let unmade = unmade
            .enumerate()
            .find(|(_, (said, maker))| said.is_some() && maker.is_none());
        match unmade {
            Some((number, _)) => {
                let reason = "the task that should make it does not";
                Err(self.unsuitable("data", number, reason))
            }
            None => Ok(()),
        }
    }

    /// The times on machines of some names.
    fn add_times(&mut self, tasks: &[Task], limits: Limits) -> Result<(), TaskGraphError> {
        let mut names: Vec<String> = tasks.iter().flat_map(|t| t.times.keys()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        limits.admit_file(self.file, 8 * (names.len() * tasks.len()) as u64)?;
        for (number, task) in tasks.iter().enumerate() {
            for name in &names {
                let time = task.times.get(name).copied();
                if time.is_some_and(|time| !(0.0..=1e9).contains(&time)) {
                    let reason = "a time should be from 0 to 10^9 seconds";
                    return Err(self.unsuitable("task", number, reason));
                }
                self.demands.times.seconds.push(time.unwrap_or(f64::NAN));
            }
        }
        self.demands.times.machines = names;
        Ok(())
    }
}

/// What a task takes where nothing else is said: the mean of its times.
fn mean(times: &BTreeMap<String, f64>) -> Option<f64> {
    (!times.is_empty()).then(|| times.values().sum::<f64>() / times.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TaskGraph, TaskGraphError> {
        load("a.json", text.as_bytes(), Limits::default())
    }

    #[test]
    fn lists_are_read() {
        let text = r#"{"note":"x","tasks":[["a",2.5,1,0.1,[1],[0]],["b",1,2,0,[0,1],[]]],
            "data":[[0.5,0],[3,null]]}"#;
        let graph = read(text).unwrap();
        let [a, b] = [0, 1].map(TaskId::from_index);
        assert_eq!(graph.duration(a), 2_500_000);
        assert_eq!(graph.predecessors(b), [a]);
        let demands = graph.demands().unwrap();
        assert_eq!((demands.sizes[0], demands.sizes[1]), (500_000, 3_000_000));
        assert_eq!(demands.makers, [Some(a), None]);
        assert_eq!(demands.cores(b).least, 2);
        assert_eq!(
            (demands.inputs(b), demands.outputs(a)),
            (&[0, 1][..], &[0][..])
        );
        assert_eq!(demands.demanding(graph.tasks()), 2);
    }

    #[test]
    fn objects_are_read() {
        let text = r#"{"tasks":[
            {"name":"a","work":2,"cores":[1,4],"alpha":0.5,"memory":"2GB","outputs":["x"]},
            {"name":"b","times":{"P1":3,"P2":5},"inputs":["x"],"features":["kvm"]},
            {"name":"c","work":1,"cores":2,"after":["a",1]}],"data":[{"name":"x","size":"1kB"}]}"#;
        let graph = read(text).unwrap();
        let [a, b, c] = [0, 1, 2].map(TaskId::from_index);
        assert_eq!(
            (graph.predecessors(b), graph.predecessors(c)),
            (&[a][..], &[a, b][..])
        );
        let demands = graph.demands().unwrap();
        assert_eq!(
            (demands.memory(a), demands.cores(c).most),
            (2_000_000_000, 2)
        );
        assert_eq!(graph.duration(b), 4_000_000);
        assert_eq!(demands.times.seconds[2..4], [3.0, 5.0]);
        assert_eq!(demands.kind(b).unwrap().features, ["kvm"]);
        assert_eq!(graph.attributes(), None);
    }

    #[test]
    fn kinds_and_estimates_are_read() {
        let text = r#"{"tasks":[{"work":2,"kind":"x","estimate":1.5},{"work":2},{"kind":"x"}]}"#;
        let graph = read(text).unwrap();
        assert_eq!(graph.kinds(), (vec![0, 1, 0], 2));
        let attributes = graph.attributes().unwrap();
        let estimates = graph.tasks().map(|task| attributes.estimate(task));
        assert_eq!(estimates.collect::<Vec<_>>(), [Some(1.5), None, None]);
        assert!(attributes.arrivals.is_empty() && attributes.retries.is_empty());
    }

    #[test]
    fn arrivals_priorities_and_retries_are_read() {
        let text = r#"{"tasks":[{"arrival":2.5},{"priority":-1,"retries":3},{}]}"#;
        let graph = read(text).unwrap();
        let attributes = graph.attributes().unwrap();
        assert_eq!(attributes.arrivals, [2.5, 0.0, 0.0]);
        assert_eq!(attributes.priorities, [0.0, -1.0, 0.0]);
        assert_eq!(attributes.retries, [0, 3, 0]);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, wanted) in [
            (r#"{"tasks":[{"wrk":1}]}"#, "unknown field `wrk`"),
            (r#"{"tasks":[{"arrival":2e9}]}"#, "`arrival` should be"),
            (r#"{"tasks":[{"priority":1e16}]}"#, "`priority` should be"),
            (r#"{"tasks":[{"retries":-1}]}"#, "-1"),
            (
                r#"{"tasks":[{"estimate":-1}]}"#,
                "number 0 (from 0): `estimate` should be",
            ),
            (r#"{"tasks":[["a",1,0,0,[],[]]]}"#, "at least one core"),
            (r#"{"tasks":[["a",1,1,2,[],[]]]}"#, "alpha is from 0 to 1"),
            (
                r#"{"tasks":[["a",1,1,0,[3],[]]]}"#,
                "names data 3, and there are 0",
            ),
            (r#"{"tasks":[{"inputs":["x"]}]}"#, "names the data `x`"),
            (r#"{"tasks":[["a",-1,1,0,[],[]]]}"#, "negative duration"),
            (
                r#"{"tasks":[["a",1,1,0,[],[0]]],"data":[[1,3]]}"#,
                "another task makes",
            ),
            (
                r#"{"tasks":[["a",1,1,0,[],[]]],"data":[[1,0]]}"#,
                "should make it does not",
            ),
            (r#"{"tasks":[],"data":[[-1,null]]}"#, "from 0 to 10^9 MB"),
            (r#"{"tasks":[{"after":[4]}]}"#, "`after` names a task"),
            (r#"{"tasks":[{"memory":"1s"}]}"#, "no unit of bytes"),
            (
                r#"{"tasks":[["a",1,1,0,[0],[0]]],"data":[[1,0]]}"#,
                "a -> a",
            ),
            (r#"{"tasks":["#, "a.json:1:"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }
}
