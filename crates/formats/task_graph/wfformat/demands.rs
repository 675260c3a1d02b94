//! What the tasks of a workflow need: the cores they ran on, their memory, files with their sizes.

use hashbrown::{HashMap, HashSet};
use windrow_components::task_graph::{Cores, Demands};

use super::lists::{Files, Numbers, Runs, Tasks};
use crate::task_graph::{TaskGraph, TaskId};

/// A number of a file as a whole one; what is no number of anything counts as none.
fn whole(number: f64) -> u64 {
    if number.is_finite() {
        number.round() as u64
    } else {
        0
    }
}

/// What the tasks of that graph need, as they say so and as their runs do; `ran` is the task of
/// each run.
pub(super) fn of<const BY_ID: bool>(
    graph: &TaskGraph,
    tasks: &Tasks<BY_ID>,
    files: &Files,
    runs: &Runs,
    ran: &[TaskId],
) -> Demands {
    let mut demands = Demands::default();
    let as_run = |of_tasks: &Numbers, of_runs: &Numbers| {
        let mut numbers: Vec<_> = (0..tasks.len()).map(|index| of_tasks.get(index)).collect();
        for (run, task) in ran.iter().enumerate() {
            let number = &mut numbers[task.index()];
            *number = of_runs.get(run).or(*number);
        }
        numbers
    };
    let count = |cores: Option<f64>| u32::try_from(whole(cores.unwrap_or(1.0))).unwrap_or(u32::MAX);
    let cores = as_run(&tasks.cores, &runs.cores);
    let cores = cores.into_iter().map(|cores| count(cores).max(1));
    let cores: Vec<u32> = cores.collect();
    if cores.iter().any(|&cores| cores > 1) {
        let rigid = |cores: u32| {
            if cores > 1 {
                Cores::rigid(cores)
            } else {
                Cores::default()
            }
        };
        demands.cores = cores.into_iter().map(rigid).collect();
    }
    let memory = as_run(&tasks.memory, &runs.memory);
    if memory.iter().flatten().any(|&memory| memory > 0.0) {
        let bytes = |bytes: Option<f64>| whole(bytes.unwrap_or(0.0));
        demands.memory = memory.into_iter().map(bytes).collect();
    }
    add_data(&mut demands, graph, tasks, files);
    demands
}

/// Files as data. A file has one maker: the first task that writes it and does not read it, or
/// else the first that writes it.
fn add_data<const BY_ID: bool>(
    demands: &mut Demands,
    graph: &TaskGraph,
    tasks: &Tasks<BY_ID>,
    files: &Files,
) {
    if tasks.use_nothing() {
        return;
    }
    let count = tasks.files.len();
    demands.sizes = vec![0; count];
    for index in 0..files.ids.len() {
        if let Some(number) = tasks.files.find(files.ids.get(index)) {
            let size = files.sizes.get(index).unwrap_or(0.0);
            demands.sizes[number as usize] = whole(size);
        }
    }
    for (number, bytes) in demands.sizes.iter_mut().enumerate() {
        if let Some(size) = tasks.sizes.get(number) {
            *bytes = whole(size);
        }
    }
    let mut updated = vec![false; count];
    demands.makers = vec![None; count];
    for index in 0..tasks.len() {
        let of_kind = |wanted| {
            tasks
                .uses(index)
                .filter(move |&(_, writes)| writes == wanted)
        };
        let read: HashSet<u32> = of_kind(false).map(|(file, _)| file).collect();
        for (file, _) in of_kind(true) {
            let (number, reads) = (file as usize, read.contains(&file));
            let maker = &mut demands.makers[number];
            if maker.is_none() || updated[number] && !reads {
                updated[number] = reads;
                *maker = Some(TaskId::from_index(index));
            }
        }
    }
    let mut lists = Vec::with_capacity(tasks.len());
    for index in 0..tasks.len() {
        let id = TaskId::from_index(index);
        let makers = &demands.makers;
        // Of a file that is changed in place it is not known which state a task needs.
        let known = |&number: &u32| match makers[number as usize] {
            Some(maker) => graph.predecessors(id).binary_search(&maker).is_ok(),
            None => true,
        };
        let list = |wanted: bool| {
            let of_kind = tasks.uses(index).filter(|&(_, writes)| writes == wanted);
            let mut list: Vec<u32> = of_kind.map(|(file, _)| file).collect();
            let mut seen = HashSet::new();
            list.retain(|&number| seen.insert(number));
            list
        };
        let inputs: Vec<u32> = list(false).into_iter().filter(known).collect();
        let made = |&number: &u32| makers[number as usize] == Some(id);
        let outputs: Vec<u32> = list(true).into_iter().filter(made).collect();
        lists.push((inputs, outputs));
    }
    keep_used(demands, lists);
}

/// Numbers data in the order in which tasks need and make it, and drops what no task does.
fn keep_used(demands: &mut Demands, lists: Vec<(Vec<u32>, Vec<u32>)>) {
    let (sizes, makers) = (&demands.sizes, &demands.makers);
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let (mut new_sizes, mut new_makers) = (Vec::new(), Vec::new());
    let mut number = |old: u32| {
        *numbers.entry(old).or_insert_with(|| {
            new_sizes.push(sizes[old as usize]);
            new_makers.push(makers[old as usize]);
            new_sizes.len() as u32 - 1
        })
    };
    for (inputs, outputs) in lists {
        demands.inputs.push(inputs.into_iter().map(&mut number));
        demands.outputs.push(outputs.into_iter().map(&mut number));
    }
    demands.sizes = new_sizes;
    demands.makers = new_makers;
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use crate::task_graph::{Limits, TaskId};

    #[test]
    fn cores_memory_and_files_are_read() {
        let text = r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[
            {"id":"a","name":"a","outputFiles":["x"],"inputFiles":["src"]},
            {"id":"b","name":"b","inputFiles":["x","x"],"outputFiles":["y"]}],
            "files":[{"id":"x","sizeInBytes":1500},{"id":"src","sizeInBytes":7}]},
            "execution":{"tasks":[{"id":"b","runtimeInSeconds":2,"coreCount":4,"memoryInBytes":9e9},
            {"id":"a","runtimeInSeconds":1}]}}}"#;
        let graph = load("a.json", text.as_bytes(), Limits::default()).unwrap();
        let demands = graph.demands().unwrap();
        let [a, b] = [0, 1].map(TaskId::from_index);
        assert_eq!((demands.cores(a).least, demands.cores(b).least), (1, 4));
        assert_eq!((demands.memory(a), demands.memory(b)), (0, 9_000_000_000));
        let of = |list: &[u32]| {
            list.iter()
                .map(|&n| demands.sizes[n as usize])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (of(demands.inputs(b)), of(demands.inputs(a))),
            (vec![1500], vec![7])
        );
        assert_eq!(demands.makers[demands.inputs(b)[0] as usize], Some(a));
    }

    #[test]
    fn older_schemas_have_them_in_the_task() {
        let text = r#"{"schemaVersion":"1.3","workflow":{"tasks":[
            {"name":"a","cores":2,"memory":50,"files":[{"name":"x","link":"output","size":8}]},
            {"name":"b","files":[{"name":"x","link":"input","size":8}]}]}}"#;
        let graph = load("a.json", text.as_bytes(), Limits::default()).unwrap();
        let demands = graph.demands().unwrap();
        let [a, b] = [0, 1].map(TaskId::from_index);
        assert_eq!((demands.cores(a).least, demands.memory(a)), (2, 50_000));
        assert_eq!(
            (demands.inputs(b), &demands.sizes[..]),
            (&[0][..], &[8][..])
        );
    }

    #[test]
    fn a_file_changed_in_place_is_sent_from_who_made_it() {
        let text = r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[
            {"id":"u","name":"u","inputFiles":["f"],"outputFiles":["f"]},
            {"id":"m","name":"m","outputFiles":["f"]}]}}}"#;
        let graph = load("a.json", text.as_bytes(), Limits::default()).unwrap();
        let demands = graph.demands().unwrap();
        assert_eq!(demands.makers, [Some(TaskId::from_index(1))]);
        assert_eq!(demands.inputs(TaskId::from_index(0)), [0]);
    }
}
