//! Graphs made by rule: layered, chain, fan, tree, random, scale-free. The same text makes the same
//! graph everywhere. Generated tasks have no names; they are called by their number.

use std::str::FromStr;

use super::random::Random;
use super::{Builder, Distribution, Limits, TaskGraph, TaskGraphError, TaskId, TimeUnit};

/// How the edges of a layered graph are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerEdges {
    /// Task i depends on the tasks at (7 i + 13 k) mod width of the layer before, for k from 0
    /// below the degree.
    Fixed,
    /// On that many drawn from the layer before.
    Random,
}

/// The rule for edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Layers of `width` tasks (the last one may be smaller), each task depending on the layer
    /// before.
    Layered {
        /// Tasks on a layer.
        width: u32,
        /// Which of the layer before.
        edges: LayerEdges,
    },
    /// Every task depends on the `degree` tasks right before it.
    Chain,
    /// A task, `degree` tasks that depend on it, a task that depends on all of them, and so on.
    Fan,
    /// From one root, every task has `degree` tasks that depend on it.
    Tree,
    /// The same tree the other way round: every task depends on `degree` others, down to one last
    /// task.
    InTree,
    /// Every task depends on up to `degree` tasks drawn from all before it.
    Random,
    /// Every task depends on up to `degree` earlier ones, each drawn uniformly and then, in half of
    /// the cases, exchanged for something it depends on: the more depend on a task, the more will.
    ScaleFree,
}

/// A graph to be made.
///
/// As text: a shape and its settings,
/// `layered:n=1000000,width=1000,degree=4,time=uniform:1..10s,seed=7`. Shapes are `layered`,
/// `chain`, `fan`, `tree`, `in-tree`, `random` and `scale-free`. Settings: `n` (tasks, required),
/// `degree`, `width` and `edges` (`fixed` or `random`; layered only), `time` (a [`Distribution`]),
/// `seed`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generator {
    /// The rule for edges.
    pub shape: Shape,
    /// How many tasks.
    pub tasks: u32,
    /// How many edges a task has, as the shape says.
    pub degree: u32,
    /// How long tasks take.
    pub durations: Distribution,
    /// Where randomness comes from.
    pub seed: u64,
}

/// The stream of a seed that edges are drawn from.
const STREAM: u64 = 0;

impl Generator {
    /// An upper bound for the number of edges.
    pub fn edges_at_most(&self) -> u64 {
        let tasks = u64::from(self.tasks);
        match self.shape {
            Shape::Tree | Shape::InTree => tasks,
            Shape::Fan => 2 * tasks,
            Shape::Layered { width, .. } => tasks * u64::from(self.degree.min(width)),
            _ => tasks * u64::from(self.degree.min(self.tasks)),
        }
    }

    /// Makes the graph.
    ///
    /// # Errors
    /// If it would exceed the limits, which is found before anything is made.
    pub fn generate(&self, limits: Limits) -> Result<TaskGraph, TaskGraphError> {
        let edges = self.edges_at_most();
        limits.admit(u64::from(self.tasks), edges)?;
        let mut builder = Builder::new("generator", TimeUnit::Microseconds, limits);
        builder.reserve(self.tasks as usize, edges as usize)?;
        for _ in 0..self.tasks {
            builder.add_task(None, None)?;
        }
        let mut random = Random::new(self.seed, STREAM);
        // What each task was given, doubles included; the scale-free rule looks back at it.
        let mut picks: Vec<u32> = Vec::new();
        let mut row: Vec<u32> = Vec::new();
        for task in 0..self.tasks {
            row.clear();
            self.predecessors(task, &mut random, &picks, &mut row);
            for &predecessor in &row {
                builder.add_edge(TaskId::from_u32(predecessor), TaskId::from_u32(task))?;
            }
            if self.shape == Shape::ScaleFree {
                picks.extend_from_slice(&row);
            }
        }
        drop(picks);
        let mut graph = builder.finish()?;
        graph.set_durations(
            TimeUnit::Microseconds,
            self.durations.sample(self.tasks as usize, self.seed),
        )?;
        Ok(graph)
    }

    fn predecessors(&self, task: u32, random: &mut Random, picks: &[u32], row: &mut Vec<u32>) {
        let degree = self.degree.max(1);
        match self.shape {
            Shape::Layered { width, .. } if task < width => {}
            Shape::Layered { width, edges } => {
                let width = width.max(1);
                let before = (task / width - 1) * width;
                let width = u64::from(width);
                row.extend((0..u64::from(degree).min(width)).map(|k| match edges {
                    LayerEdges::Fixed => before + ((u64::from(task) * 7 + k * 13) % width) as u32,
                    LayerEdges::Random => before + random.below(width) as u32,
                }));
            }
            Shape::Chain => row.extend(task.saturating_sub(degree)..task),
            Shape::Fan => {
                // A block is `degree` tasks in the middle and the one that joins them.
                let block = u64::from(degree) + 1;
                match u64::from(task) % block {
                    0 if task > 0 => row.extend(task - degree..task),
                    0 => {}
                    place => row.push(task - place as u32),
                }
            }
            Shape::Tree => row.extend(task.checked_sub(1).map(|before| before / degree)),
            Shape::InTree => {
                let last = self.tasks - 1;
                let first = u64::from(last - task) * u64::from(degree) + 1;
                let children = first..(first + u64::from(degree)).min(u64::from(self.tasks));
                row.extend(children.map(|child| last - child as u32));
            }
            Shape::Random => {
                row.extend((0..degree.min(task)).map(|_| random.below(u64::from(task)) as u32));
            }
            Shape::ScaleFree => row.extend((0..degree.min(task)).map(|_| {
                let model = random.below(u64::from(task)) as u32;
                let inherited = picks_of(picks, model, degree);
                if inherited.is_empty() || random.bits() & 1 == 0 {
                    model
                } else {
                    inherited[random.below(inherited.len() as u64) as usize]
                }
            })),
        }
    }
}

/// What `task` was given, where the first tasks have 0, 1, 2 and so on until `degree` is reached.
fn picks_of(picks: &[u32], task: u32, degree: u32) -> &[u32] {
    let (task, degree) = (task as usize, degree as usize);
    let short = task.min(degree);
    let start = short * short.saturating_sub(1) / 2 + (task - short) * degree;
    &picks[start..start + short]
}

impl FromStr for Generator {
    type Err = TaskGraphError;

    fn from_str(text: &str) -> Result<Self, TaskGraphError> {
        parse(text).map_err(|reason| TaskGraphError::BadSpec {
            spec: text.to_owned(),
            what: "generator",
            reason,
        })
    }
}

/// The settings of a generator, as far as they were given.
#[derive(Default)]
struct Given {
    tasks: Option<u32>,
    degree: Option<u32>,
    width: Option<u32>,
    edges: Option<LayerEdges>,
    durations: Option<Distribution>,
    seed: Option<u64>,
}

impl Given {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || match value.parse::<u32>() {
            Ok(number) if number > 0 && number < u32::MAX => Ok(number),
            _ => Err(format!(
                "`{key}` should be a whole number from 1 to 4294967294"
            )),
        };
        let again = match key {
            "n" => self.tasks.replace(number()?).is_some(),
            "degree" => self.degree.replace(number()?).is_some(),
            "width" => self.width.replace(number()?).is_some(),
            "seed" => {
                let seed = value.parse();
                let seed = seed.map_err(|_| format!("`{value}` is no 64-bit seed"))?;
                self.seed.replace(seed).is_some()
            }
            "time" => {
                let durations = value.parse();
                let durations = durations.map_err(|error: TaskGraphError| error.to_string())?;
                self.durations.replace(durations).is_some()
            }
            "edges" => {
                let edges = match value {
                    "fixed" => LayerEdges::Fixed,
                    "random" => LayerEdges::Random,
                    _ => return Err("`edges` should be `fixed` or `random`".to_owned()),
                };
                self.edges.replace(edges).is_some()
            }
            _ => {
                return Err(format!(
                    "`{key}` is not known; there are n, degree, width, edges, time and seed"
                ));
            }
        };
        match again {
            true => Err(format!("`{key}` is given twice")),
            false => Ok(()),
        }
    }
}

fn parse(text: &str) -> Result<Generator, String> {
    let (kind, settings) = text
        .split_once(':')
        .ok_or("settings are missing, at least `:n=1000`")?;
    let mut given = Given::default();
    for setting in settings.split(',') {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("`{setting}` is not `key=value`"))?;
        given.set(key, value)?;
    }
    Ok(Generator {
        shape: shape(kind, &given)?,
        tasks: given.tasks.ok_or("`n`, the number of tasks, is missing")?,
        degree: given.degree.unwrap_or(4),
        durations: given.durations.unwrap_or(Distribution::Unit),
        seed: given.seed.unwrap_or(0),
    })
}

fn shape(kind: &str, given: &Given) -> Result<Shape, String> {
    Ok(match kind {
        "layered" => Shape::Layered {
            width: given.width.unwrap_or(100),
            edges: given.edges.unwrap_or(LayerEdges::Fixed),
        },
        _ if given.width.is_some() || given.edges.is_some() => {
            return Err("`width` and `edges` are for layered graphs only".to_owned());
        }
        "chain" => Shape::Chain,
        "fan" => Shape::Fan,
        "tree" => Shape::Tree,
        "in-tree" => Shape::InTree,
        "random" => Shape::Random,
        "scale-free" => Shape::ScaleFree,
        _ => {
            return Err(format!(
                "`{kind}` is not known; there are layered, chain, fan, tree, in-tree, random and \
                 scale-free"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> TaskGraph {
        text.parse::<Generator>()
            .unwrap()
            .generate(Limits::default())
            .unwrap()
    }

    fn rows(graph: &TaskGraph) -> Vec<Vec<u32>> {
        let row = |task| {
            graph
                .predecessors(task)
                .iter()
                .map(|pred| pred.index() as u32)
                .collect()
        };
        graph.tasks().map(row).collect()
    }

    #[test]
    fn layered_follows_the_fixed_rule() {
        let graph = made("layered:n=500,width=100,degree=3");
        for (i, row) in rows(&graph).into_iter().enumerate() {
            let mut wanted: Vec<u32> = (0..if i < 100 { 0 } else { 3 })
                .map(|k| ((i / 100 - 1) * 100 + (i * 7 + k * 13) % 100) as u32)
                .collect();
            wanted.sort_unstable();
            assert_eq!(row, wanted);
        }
        let stats = graph.stats();
        assert_eq!((stats.depth, stats.width, stats.edges), (5, 100, 1_200));
    }

    #[test]
    fn the_small_shapes() {
        assert_eq!(
            rows(&made("chain:n=4,degree=2")),
            [vec![], vec![0], vec![0, 1], vec![1, 2]]
        );
        assert_eq!(
            rows(&made("fan:n=6,degree=2")),
            [vec![], vec![0], vec![0], vec![1, 2], vec![3], vec![3]]
        );
        assert_eq!(
            rows(&made("tree:n=6,degree=2")),
            [vec![], vec![0], vec![0], vec![1], vec![1], vec![2]]
        );
        assert_eq!(
            rows(&made("in-tree:n=6,degree=2")),
            [vec![], vec![], vec![], vec![0], vec![1, 2], vec![3, 4]]
        );
    }

    #[test]
    fn random_shapes_depend_on_the_seed_alone() {
        for kind in [
            "random:n=300",
            "scale-free:n=300",
            "layered:n=300,edges=random",
        ] {
            let graph = made(&format!("{kind},degree=3,time=exponential:1s,seed=5"));
            assert_eq!(
                graph,
                made(&format!("{kind},degree=3,time=exponential:1s,seed=5"))
            );
            assert_ne!(
                rows(&graph),
                rows(&made(&format!("{kind},degree=3,seed=6")))
            );
            assert_eq!(
                rows(&graph),
                rows(&made(&format!("{kind},degree=3,seed=5")))
            );
        }
    }

    #[test]
    fn scale_free_graphs_have_hubs_and_random_ones_have_not() {
        let largest = |text| {
            let successors = made(text).successors();
            (0..20_000)
                .map(|task| successors.of(TaskId::from_u32(task)).len())
                .max()
                .unwrap()
        };
        assert!(largest("scale-free:n=20000,degree=3") > 300);
        assert!(largest("random:n=20000,degree=3") < 100);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "layered",
            "layered:",
            "layered:n=0",
            "layered:n=10,width=0",
            "chain:n=5,width=3",
            "blob:n=5",
            "tree:n=5,degree=x",
            "tree:n=-5",
            "tree:degree=3",
            "tree:n=5,time=soon",
            "tree:n=5,colour=red",
            "tree:n=5,n=6",
            "tree:n=99999999999",
            "layered:n=5,edges=some",
        ] {
            assert!(text.parse::<Generator>().is_err(), "{text}");
        }
    }

    #[test]
    fn more_than_memory_holds_is_refused_before_it_is_made() {
        let generator: Generator = "random:n=4000000000,degree=1000".parse().unwrap();
        let refused = generator
            .generate(Limits {
                memory_bytes: 1 << 34,
            })
            .unwrap_err();
        assert!(
            matches!(refused, TaskGraphError::OverMemory { .. }),
            "{refused}"
        );
    }
}
