//! What it costs to start a child while very many goals wait in the same world: real builders, one
//! after the other, beside goals that can't start before all of them are done. Only these are not
//! on disk.
//!
//!     cargo bench --bench side_by_side -- idle               1,000 and 1,000,000 idle goals
//!     cargo bench --bench side_by_side -- idle 1000 100000

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use windrow::components::building::HashRewrites;
use windrow::components::derivation::{Derivation, InputDrv, Output};
use windrow::components::goal::Target;
use windrow::components::graph::BuildGraph;
use windrow::components::ids::{DrvId, PathId};
use windrow::components::outputs::OutputSet;
use windrow::components::request::Request;
use windrow::session::Session;
use windrow::systems::Result;
use windrow::systems::engine::Engine;
use windrow::systems::instantiate::instantiate_file;
use windrow::systems::policy::Policy;
use windrow::systems::real;
use windrow::systems::real_store::RealStore;
use windrow::systems::report::{Event, Reporter};
use windrow::systems::world::{NewOutput, OutputLocks, Scheduler, Store};
use windrow_store::Layout;
use windrow_store::local::LocalStore;

use crate::common::{Scratch, measuring, numbers};

pub(crate) fn run_all() {
    let (sizes, starts, rounds) = if measuring() {
        (numbers(&[1_000, 1_000_000]), 500, 5)
    } else {
        (vec![10, 300], 5, 1)
    };
    for policy in [Policy::Fifo, Policy::CriticalPath] {
        let mut costs = vec![(Vec::new(), Vec::new()); sizes.len()];
        for _ in 0..rounds {
            for (&idle, (between, busy)) in sizes.iter().zip(&mut costs) {
                let cost = run(idle, starts, &policy);
                between.push(cost.between);
                busy.push(cost.busy);
            }
        }
        let mut first: Option<[f64; 2]> = None;
        for (idle, (between, busy)) in sizes.iter().zip(costs) {
            let cost = [between, busy].map(middle);
            let first = *first.get_or_insert(cost);
            println!(
                "{:<14} {idle:>8} idle goals: {:.1} µs from start to start ({:.3} times), {:.1} µs of the scheduler's \
                 own ({:.3} times)   (at most 1.1)",
                policy.name(),
                cost[0] * 1e6,
                cost[0] / first[0],
                cost[1] * 1e6,
                cost[1] / first[1],
            );
        }
    }
}

pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// In seconds.
struct Cost {
    /// The median from one start to the next.
    between: f64,
    /// Processor time of the scheduler's thread for a build, from the first start to the last end.
    busy: f64,
}

/// A session without a sandbox, in a store of its own.
pub(crate) fn session(scratch: &Scratch) -> Session {
    let options = [
        ("sandbox", "false"),
        ("build-users-group", ""),
        ("substituters", ""),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut session = Session::new(&options, None).expect("a session");
    let directory = |name: &str| scratch.path().join(name);
    session.layout = Layout {
        store_dir: directory("store").display().to_string(),
        real_store_dir: directory("store"),
        state_dir: directory("state"),
        log_dir: directory("log"),
    };
    session.settings.max_jobs = 1;
    session
}

fn run(idle: usize, starts: usize, policy: &Policy) -> Cost {
    let scratch = Scratch::new();
    let session = session(&scratch);
    let mut store = session.open().expect("a store");
    let file = scratch.path().join("graph.json");
    let gate = add_real(&mut store, &file, starts, &session.settings.system);
    let config = session
        .builder_config(&mut store, false)
        .expect("a configuration");
    let store = IdleStore {
        inner: store.into(),
        count: idle,
        store_dir: session.layout.store_dir.clone(),
        system: session.settings.system.clone(),
        gate,
    };
    let mut graph = BuildGraph::new(session.store_dir());
    let top = graph.path(&store.path(idle, ".drv")).expect("a path");
    let top = graph.drv(top);
    let began = Rc::new(RefCell::new(Vec::new()));
    let reporter = Box::new(Starts(Rc::clone(&began)));
    let mut engine = Engine::new(
        graph,
        Box::new(store),
        reporter,
        session.engine_options(),
        policy.clone(),
    );
    real::plug_in(&mut engine.world, config, false).expect("a world");
    let target = (Target::Derivation(top), OutputSet::ALL);
    engine.submit(Request::new([target]), None);
    let tick = |engine: &mut Engine| {
        engine.tick();
        let over = engine.is_over();
        assert!(!over, "what was asked for waits for the gate");
        engine.world.resource::<Scheduler>().counts()
    };
    while tick(&mut engine).built == 0 {}
    let before = processor_time();
    let built = loop {
        let counts = tick(&mut engine);
        assert_eq!(counts.failed, 0);
        // The gate is left to stand closed.
        if counts.built as usize + 1 >= starts {
            break counts.built;
        }
    };
    let busy = (processor_time() - before) / f64::from(built - 1);
    assert!(engine.world.resource::<Scheduler>().counts().expected as usize >= idle);
    real::clean_up(&mut engine.world);
    let began = began.borrow();
    let between = began
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64());
    Cost {
        between: middle(between.collect()),
        busy,
    }
}

/// What the calling thread has run for, in seconds.
pub(crate) fn processor_time() -> f64 {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel that counts");
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|text| text.parse::<u64>().ok());
    nanoseconds.expect("a number") as f64 / 1e9
}

/// Adds derivations that do next to nothing, and one that needs all of them, the gate; its path.
pub(crate) fn add_real(store: &mut LocalStore, file: &Path, count: usize, system: &str) -> String {
    let mut derivations = Map::new();
    let mut script = String::from("> $out");
    for number in 0..count {
        let drv = json!({"builder": "/bin/sh", "args": ["-c", "echo > $out"]});
        derivations.insert(format!("real-{number}"), drv);
        script.push_str(&format!(" # @{{real-{number}}}"));
    }
    let gate = json!({"builder": "/bin/sh", "args": ["-c", script]});
    derivations.insert("gate".to_owned(), gate);
    let graph = Value::from(Map::from_iter([(
        "derivations".to_owned(),
        derivations.into(),
    )]));
    std::fs::write(file, graph.to_string()).expect("a file");
    let graph = instantiate_file(store, file, system).expect("derivations");
    let gate = graph.derivations.into_iter().find(|drv| drv.key == "gate");
    gate.expect("the gate").drv_path
}

/// When builders were started.
struct Starts(Rc<RefCell<Vec<Instant>>>);

impl Reporter for Starts {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Started { .. } = event {
            self.0.borrow_mut().push(Instant::now());
        }
    }
}

/// A real store that also says to have derivations that nobody ever wrote: layers that wait for
/// each other, the first for the gate, and one on top of the last.
struct IdleStore {
    inner: RealStore,
    count: usize,
    store_dir: String,
    system: String,
    gate: String,
}

const WIDTH: usize = 1000;

impl IdleStore {
    fn path(&self, number: usize, end: &str) -> String {
        format!("{}/{number:032}-idle-{number}{end}", self.store_dir)
    }

    /// What an idle derivation waits for; that of the highest number is the one on top.
    fn inputs(&self, number: usize) -> Vec<String> {
        let path = |number| self.path(number, ".drv");
        if number == self.count {
            (number.saturating_sub(WIDTH)..number).map(path).collect()
        } else if number < WIDTH {
            vec![self.gate.clone()]
        } else {
            let beside = number + 1 - WIDTH * usize::from(number % WIDTH == WIDTH - 1);
            let mut inputs = [path(number - WIDTH), path(beside - WIDTH)];
            inputs.sort();
            inputs.into()
        }
    }

    fn is_idle(graph: &BuildGraph, path: PathId) -> bool {
        graph.paths.name(path).starts_with("idle-")
    }
}

impl Store for IdleStore {
    fn add_temp_roots(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<()> {
        let real = paths
            .iter()
            .copied()
            .filter(|&path| !Self::is_idle(graph, path));
        let real: Vec<PathId> = real.collect();
        self.inner.add_temp_roots(graph, &real)
    }

    fn valid(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        let real = paths
            .iter()
            .copied()
            .filter(|&path| !Self::is_idle(graph, path));
        let real: Vec<PathId> = real.collect();
        let mut known = self.inner.valid(graph, &real)?.into_iter();
        let valid = paths.iter().map(|&path| match Self::is_idle(graph, path) {
            true => graph.paths.name(path).ends_with(".drv"),
            false => known.next().unwrap_or(false),
        });
        Ok(valid.collect())
    }

    fn load(&mut self, graph: &mut BuildGraph, drv: DrvId) -> Result<()> {
        let number = graph.drv_name(drv).strip_prefix("idle-");
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            return self.inner.load(graph, drv);
        };
        let output = Output {
            name: "out".into(),
            path: self.path(number, "").into(),
            hash_algo: "".into(),
            hash: "".into(),
        };
        let inputs = self.inputs(number).into_iter();
        let inputs = inputs.map(|path| InputDrv {
            path: path.into(),
            outputs: vec!["out".into()],
        });
        let contents = Derivation {
            outputs: vec![output],
            input_drvs: inputs.collect(),
            system: self.system.as_str().into(),
            builder: b"/bin/sh".as_slice().into(),
            ..Derivation::default()
        };
        Ok(graph.load(drv, &contents)?)
    }

    fn check_output_paths(&mut self, graph: &BuildGraph, drv: DrvId) -> Result<()> {
        self.inner.check_output_paths(graph, drv)
    }

    fn nar_hash(&mut self, graph: &BuildGraph, path: PathId) -> Result<Option<[u8; 32]>> {
        self.inner.nar_hash(graph, path)
    }

    fn try_lock(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Option<OutputLocks>> {
        self.inner.try_lock(graph, paths)
    }

    fn scratch_outputs(
        &mut self,
        graph: &BuildGraph,
        drv: DrvId,
        valid: &[PathId],
    ) -> Result<HashRewrites> {
        self.inner.scratch_outputs(graph, drv, valid)
    }

    fn unlock(&mut self, locks: OutputLocks, delete: bool) {
        self.inner.unlock(locks, delete);
    }

    fn close(&mut self, graph: &BuildGraph) {
        self.inner.close(graph);
    }

    fn input_closure(&mut self, graph: &mut BuildGraph, drv: DrvId) -> Result<Vec<PathId>> {
        self.inner.input_closure(graph, drv)
    }

    fn closure(&mut self, graph: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>> {
        self.inner.closure(graph, paths)
    }

    fn register(&mut self, graph: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        self.inner.register(graph, outputs)
    }
}
