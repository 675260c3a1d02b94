//! What an event of a hook's build costs the scheduler while very many hooks build at once: the
//! hook accepts everything, makes its outputs, and sleeps until it is let go.
//!
//!     ulimit -n 60000
//!     cargo bench --bench side_by_side -- hooks              10, 1,000 and 10,000 hooks
//!     cargo bench --bench side_by_side -- hooks 10 2000
//!
//! Each hook is a shell, and four descriptors of the engine: its exit, its log, what it says, and a
//! lock. Where that is more than a process may have, hooks close their pipes, which leaves two.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use windrow::components::goal::Target;
use windrow::components::graph::BuildGraph;
use windrow::components::outputs::OutputSet;
use windrow::components::request::Request;
use windrow::helpers::helper_config;
use windrow::systems::engine::Engine;
use windrow::systems::policy::Policy;
use windrow::systems::real;
use windrow::systems::real_store::RealStore;
use windrow::systems::report::{Counts, Silent};
use windrow::systems::world::Scheduler;

use crate::common::{Scratch, measuring, numbers};
use crate::idle::{add_real, middle, processor_time, session};

/// How many events are measured while all but these hooks build.
const EVENTS: usize = 200;

pub(crate) fn run_all() {
    let sizes = match measuring() {
        true => numbers(&[10, 1_000, 10_000]),
        false => vec![3],
    };
    let mut first: Option<[f64; 2]> = None;
    for count in sizes {
        // As many events of each kind for all sizes, though few hooks have few.
        let events = EVENTS.min(count);
        let rounds = if measuring() { EVENTS / events } else { 1 };
        let closes_pipes = count * 4 + SPARE > descriptors();
        let run = |_| run(count, events, closes_pipes);
        let costs: Vec<[f64; 2]> = (0..rounds).map(run).collect();
        let cost = [0, 1].map(|which| middle(costs.iter().map(|cost| cost[which]).collect()));
        let first = *first.get_or_insert(cost);
        println!(
            "{count:>6} hooks at once{}: {:.1} µs of the scheduler's own to start one ({:.2} times), {:.1} µs to \
             end one ({:.2} times)   (at most 1.5)",
            if closes_pipes {
                ", which close their pipes"
            } else {
                ""
            },
            cost[0] * 1e6,
            cost[0] / first[0],
            cost[1] * 1e6,
            cost[1] / first[1],
        );
    }
}

/// How many descriptors the engine has for other things.
const SPARE: usize = 100;

/// How many descriptors a process may have.
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("a kernel that tells");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    soft.unwrap_or(usize::MAX)
}

/// A hook that accepts one build, makes what is missing, and ends when it has read a line of the
/// pipe `go`.
fn hook(dir: &Path, closes_pipes: bool) -> std::path::PathBuf {
    let close = if closes_pipes {
        "exec >&- 2>&- 4>&-"
    } else {
        ":"
    };
    let hook = dir.join("hook");
    let text = format!(
        "#!/bin/sh\nread offer\necho '# accept' >&2\nread inputs\nread outputs\n\
         for output in $outputs; do : > $output; done\n{close}\nread go < {}/go\n",
        dir.display()
    );
    std::fs::write(&hook, text).expect("a file");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a script");
    hook
}

/// Processor time of the scheduler's thread, in seconds, for each of the last `events` hooks to
/// start, and then for each of as many to end, one after the other.
fn run(count: usize, events: usize, closes_pipes: bool) -> [f64; 2] {
    let scratch = Scratch::new();
    let mut session = session(&scratch);
    session.settings.keep_build_log = false;
    let mut store = session.open().expect("a store");
    let file = scratch.path().join("graph.json");
    let top = add_real(&mut store, &file, count, &session.settings.system);
    let config = session
        .builder_config(&mut store, false)
        .expect("a configuration");
    let mut helpers = helper_config(&session.settings, &session.layout);
    helpers.hook = Some(hook(scratch.path(), closes_pipes));
    let gate = scratch.path().join("go");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a pipe with a name");
    let mut gate: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(gate)
        .expect("the pipe");
    let mut graph = BuildGraph::new(session.store_dir());
    let top = graph.path(&top).expect("a path");
    let top = graph.drv(top);
    let mut engine = Engine::new(
        graph,
        Box::new(RealStore::from(store)),
        Box::new(Silent),
        session.engine_options(),
        Policy::Fifo,
    );
    real::plug_in(&mut engine.world, config, false).expect("a world");
    real::helpers::plug_in(&mut engine.world, helpers, None).expect("threads");
    let target = (Target::Derivation(top), OutputSet::ALL);
    engine.submit(Request::new([target]), None);

    let mut tick_until = |done: &dyn Fn(Counts) -> bool| {
        loop {
            let counts = engine.world.resource::<Scheduler>().counts();
            assert_eq!(counts.failed, 0);
            if done(counts) {
                return;
            }
            engine.tick();
        }
    };
    tick_until(&|counts| counts.running as usize >= count - events);
    let before = processor_time();
    tick_until(&|counts| counts.running as usize == count);
    let start = (processor_time() - before) / events as f64;
    let before = processor_time();
    // The derivation that needs all is not begun.
    let ends = events - usize::from(events == count);
    for ended in 1..=ends {
        gate.write_all(b"\n").expect("a reader");
        tick_until(&|counts| counts.built as usize == ended);
    }
    let end = (processor_time() - before) / ends as f64;
    real::clean_up(&mut engine.world);
    [start, end]
}
