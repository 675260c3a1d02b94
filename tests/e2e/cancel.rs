//! Goals that nobody wants any more: what runs for them is killed, and nothing of it is left, while
//! the engine goes on. Only a program that embeds the engine can do that, so these tests do.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use windrow::components::goal::{Outcome, Stage, Target};
use windrow::components::graph::BuildGraph;
use windrow::components::outputs::OutputSet;
use windrow::components::request::Request;
use windrow::helpers::helper_config;
use windrow::session::Session;
use windrow::systems::ecs::prelude::Entity;
use windrow::systems::engine::Engine;
use windrow::systems::real;
use windrow::systems::real_store::RealStore;
use windrow::systems::report::{Event, Reporter};
use windrow::systems::world::Scheduler;
use windrow_store::Layout;

use crate::harness::{Cache, LIMIT, World, graph_of, sh, text};

/// Keeps the names of events about builds and fetches.
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Reporter for Recorder {
    fn report(&mut self, event: &Event<'_>) {
        let (what, build) = match event {
            Event::Started { build, .. } => ("started", build),
            Event::FetchStarted { build, .. } => ("fetch started", build),
            Event::Succeeded { build, .. } => ("succeeded", build),
            Event::Failed { build, .. } => ("failed", build),
            Event::FetchFailed { build, .. } => ("fetch failed", build),
            Event::Cancelled { build, .. } => ("cancelled", build),
            _ => return,
        };
        let line = format!("{what} {}", build.name);
        self.0.lock().unwrap().push(line);
    }
}

/// An engine in the test's own process, over the store of a world.
struct Embedded {
    engine: Engine,
    events: Arc<Mutex<Vec<String>>>,
    /// The goals for what was asked for, in that order.
    goals: Vec<Entity>,
    /// The requests for each.
    requests: Vec<Entity>,
}

/// What an engine has to help it.
#[derive(Default)]
struct Helpers {
    hook: Option<PathBuf>,
    substituter: Option<PathBuf>,
}

impl Embedded {
    fn new(world: &World, wanted: &[&str], helpers: Helpers) -> Self {
        let tmp = world.at("tmp").display().to_string();
        let options = [
            ("sandbox", "false"),
            ("build-users-group", ""),
            ("max-jobs", "2"),
            ("keep-going", "true"),
            ("keep-failed", "true"),
            ("build-dir", &tmp),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut session = Session::new(&options, Some("own")).unwrap();
        session.layout = Layout {
            store_dir: world.store().display().to_string(),
            real_store_dir: world.store(),
            state_dir: world.state(),
            log_dir: world.at("log"),
        };
        let mut store = session.open().unwrap();
        let config = session.builder_config(&mut store, false).unwrap();
        let mut graph = BuildGraph::new(session.store_dir());
        let targets: Vec<Target> = wanted
            .iter()
            .map(|path| {
                let id = graph.path(path).unwrap();
                match path.ends_with(".drv") {
                    true => Target::Derivation(graph.drv(id)),
                    false => Target::Path(id),
                }
            })
            .collect();
        let events = Arc::<Mutex<Vec<String>>>::default();
        let mut engine = Engine::new(
            graph,
            Box::new(RealStore::from(store)),
            Box::new(Recorder(Arc::clone(&events))),
            session.engine_options(),
            session.policy.clone(),
        );
        real::plug_in(&mut engine.world, config, false).unwrap();
        let mut known = helper_config(&session.settings, &session.layout);
        known.hook = helpers.hook;
        known.substituters = helpers.substituter.into_iter().collect();
        real::helpers::plug_in(&mut engine.world, known, None).unwrap();
        let submit = |&target| {
            let request = Request {
                keep_going: true,
                ..Request::new([(target, OutputSet::ALL)])
            };
            engine.submit(request, None)
        };
        let requests = targets.iter().map(submit).collect();
        engine.tick();
        let index = &engine.world.resource::<Scheduler>().index;
        let goals = targets.iter().map(|&target| index.get(target).unwrap());
        let goals = goals.collect();
        Self {
            engine,
            events,
            goals,
            requests,
        }
    }

    fn stage(&self, nth: usize) -> Stage {
        let scheduler = self.engine.world.resource::<Scheduler>();
        scheduler.stage(self.goals[nth])
    }

    /// Ticks until something holds.
    #[track_caller]
    fn tick_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
            self.engine.tick();
        }
    }

    fn cancel(&mut self, nth: usize) {
        self.engine.cancel(self.requests[nth]);
    }

    #[track_caller]
    fn until_cancelled(&mut self, nth: usize) {
        let ended = |engine: &Self| engine.stage(nth).outcome().is_some();
        self.tick_until("the goal has ended", ended);
        assert_eq!(self.stage(nth), Stage::Done(Outcome::Cancelled));
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// Runs to the end; expects nothing to count as a failure.
    #[track_caller]
    fn end_well(mut self) -> Vec<String> {
        self.engine.run().unwrap();
        self.tick_until("all children are dead", |it| it.engine.is_idle());
        let scheduler = self.engine.world.resource::<Scheduler>();
        assert!(scheduler.run.failures.is_empty());
        let counts = scheduler.counts();
        assert_eq!((counts.failed, counts.running), (0, 0));
        assert_eq!(scheduler.free_slots(), 2, "all slots are free again");
        real::clean_up(&mut self.engine.world);
        self.events()
    }
}

/// A builder that says who it is and stays, unless the file "go" is there.
fn stays(world: &World, name: &str) -> serde_json::Value {
    let files = world.at("files");
    sh(&format!(
        "cd {0}\nif [ -e go ]; then echo ok > $out; exit; fi\n\
         echo half > $out; echo $$ > {name}.pid.new; mv {name}.pid.new {name}.pid\n\
         sleep 1000 & wait",
        files.display()
    ))
}

/// Whether the process whose number the file names is still there.
fn lives(world: &World, file: &str) -> bool {
    let pid = text(world.file(file));
    Path::new("/proc").join(pid.trim()).exists()
}

#[test]
fn a_cancelled_build_is_killed_and_gives_up_all_it_has() {
    let world = World::new();
    let one = world.add_one("one", stays(&world, "one"));
    let two = world.add_one("two", stays(&world, "two"));
    let mut engine = Embedded::new(&world, &[&one, &two], Helpers::default());
    let pids = ["one.pid", "two.pid"].map(|name| world.file(name));
    engine.tick_until("both run", |_| pids.iter().all(|pid| pid.exists()));
    engine.cancel(0);
    // Twice is once.
    engine.cancel(0);
    engine.until_cancelled(0);
    assert!(!lives(&world, "one.pid") && lives(&world, "two.pid"));
    // Nothing keeps another engine from building it now.
    world.write("go", "");
    world.windrow("build").arg(&one).ok();
    assert_eq!(engine.stage(1), Stage::Running);
    engine.cancel(1);
    engine.until_cancelled(1);
    // One that has ended is left alone.
    engine.cancel(1);
    let events = engine.end_well();
    assert_eq!(
        events[2..],
        ["cancelled one", "cancelled two"],
        "{events:?}"
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_does_not_depend_on_a_cancelled_build_goes_on() {
    let world = World::new();
    let one = world.add_one("one", stays(&world, "one"));
    let two = world.add_one("two", sh("sleep 0.2; echo ok > $out"));
    let mut engine = Embedded::new(&world, &[&one, &two], Helpers::default());
    let pid = world.file("one.pid");
    engine.tick_until("it runs", |_| pid.exists());
    engine.cancel(0);
    let events = engine.end_well();
    let ends = events.iter().filter(|event| !event.starts_with("started"));
    let mut ends: Vec<&str> = ends.map(String::as_str).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["cancelled one", "succeeded two"]);
    world.is_clean();
}

#[test]
fn a_build_is_cancelled_before_its_process_is_there() {
    let world = World::new();
    // Reference graphs are looked up by another thread before the process is made.
    let mut derivation = stays(&world, "one");
    derivation["env"] = serde_json::json!({"exportReferencesGraph": "graph @{dep}"});
    let graph = graph_of([("dep", sh("echo dep > $out")), ("one", derivation)]);
    let drv = world.add(&graph);
    let mut engine = Embedded::new(&world, &[&drv], Helpers::default());
    engine.tick_until("it is about to start", |engine| {
        matches!(engine.stage(0), Stage::Starting | Stage::Running)
    });
    engine.cancel(0);
    engine.until_cancelled(0);
    engine.end_well();
    world.is_clean();
}

#[test]
fn a_cancelled_hook_is_told_to_end_and_then_killed() {
    for on_word in ["echo told > told; exit", "echo told > told"] {
        let world = World::new();
        let drv = world.add_one("one", stays(&world, "one"));
        let hook = world.script(
            "hook.sh",
            &format!(
                "cd {}\nread x; echo '# accept' >&2; read inputs; read outputs\n\
                 trap '{on_word}' TERM\n\
                 echo $$ > hook.pid.new; mv hook.pid.new hook.pid\n\
                 while :; do sleep 1000 & wait; done",
                world.at("files").display()
            ),
        );
        let helpers = Helpers {
            hook: Some(hook),
            ..Helpers::default()
        };
        let mut engine = Embedded::new(&world, &[&drv], helpers);
        let pid = world.file("hook.pid");
        engine.tick_until("the hook builds", |engine| {
            pid.exists() && engine.stage(0) == Stage::Away
        });
        engine.cancel(0);
        engine.until_cancelled(0);
        assert!(!lives(&world, "hook.pid"));
        assert_eq!(text(world.file("told")), "told\n");
        let events = engine.end_well();
        assert_eq!(events, ["started one", "cancelled one"]);
        world.is_clean();
    }
}

#[test]
fn what_is_offered_to_the_hook_can_be_cancelled() {
    let world = World::new();
    let drv = world.add_one("one", stays(&world, "one"));
    for answer in ["accept", "decline", "postpone"] {
        let hook = world.script(
            "hook.sh",
            &format!(
                "cd {}\nread x; rm -f asked; echo > asked\n\
                 while [ ! -e answer ]; do sleep 0.01; done; echo '# {answer}' >&2; sleep 1000",
                world.at("files").display()
            ),
        );
        let helpers = Helpers {
            hook: Some(hook),
            ..Helpers::default()
        };
        let mut engine = Embedded::new(&world, &[&drv], helpers);
        let asked = world.file("asked");
        engine.tick_until("it is offered", |_| asked.exists());
        assert_eq!(engine.stage(0), Stage::Held);
        engine.cancel(0);
        world.write("answer", "");
        engine.until_cancelled(0);
        engine.end_well();
        world.is_clean();
        std::fs::remove_file(world.file("answer")).unwrap();
        std::fs::remove_file(asked).unwrap();
    }
}

#[test]
fn a_cancelled_fetch_is_killed() {
    let world = World::new();
    let cache = Cache::new(&world, "cache");
    let contents = world.write("contents", "text\n");
    let path = format!("{}/{:a>32}-fetched", world.store().display(), "");
    let known = crate::harness::Known {
        deriver: String::new(),
        references: Vec::new(),
        nar_size: 120,
        hash: String::new(),
    };
    cache.add(&path, &contents, &known);
    let stay =
        "echo half > $3; echo $$ > fetch.pid.new; mv fetch.pid.new ../fetch.pid; sleep 1000 & wait";
    let program = cache.program_with(&world, "", stay);
    let helpers = Helpers {
        substituter: Some(program),
        ..Helpers::default()
    };
    let mut engine = Embedded::new(&world, &[&path], helpers);
    let pid = world.file("fetch.pid");
    engine.tick_until("it is fetched", |engine| {
        pid.exists() && engine.stage(0) == Stage::Fetching
    });
    engine.cancel(0);
    engine.until_cancelled(0);
    assert!(!lives(&world, "fetch.pid"));
    let events = engine.end_well();
    assert_eq!(events, ["fetch started fetched", "cancelled fetched"]);
    assert!(!Path::new(&path).exists(), "what was fetched of it is gone");
    world.is_clean();
}
