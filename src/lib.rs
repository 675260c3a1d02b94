//! windrow, a build engine that turns Nix derivations into valid store paths.
//!
//! A program that embeds it describes an [`Engine`], and submits [`Request`]s to it from any
//! thread. The engine reads the settings that Nix reads, and works on the store that Nix works on,
//! beside it.
//!
//! # Building
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use windrow::{Engine, Request, Store};
//!
//! let engine = Engine::builder(Store::In(dir.path().join("nix")))
//! #   .option("sandbox", "false").option("build-users-group", "")
//!     .max_jobs(2)
//!     .build()?;
//! let hello = r#"{ "derivations": { "hello": {
//!     "builder": "/bin/sh", "args": ["-c", "echo hello > $out"] } } }"#;
//! let outcome = engine.submit(Request::new().graph(hello))?.wait()?;
//! assert!(outcome.is_success());
//! let output = outcome.outputs().next().expect("an output");
//! assert_eq!(std::fs::read_to_string(output)?, "hello\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Hearing what happens
//!
//! A [`Reporter`] is told every event of a request as it happens; afterwards, the [`Outcome`] has a
//! result for each derivation.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use std::sync::mpsc::{Sender, channel};
//! use windrow::{Engine, Event, Reporter, Request, Store, Verdict};
//!
//! struct Names(Sender<String>);
//!
//! impl Reporter for Names {
//!     fn report(&mut self, event: &Event<'_>) {
//!         if let Event::Started { build, .. } = event {
//!             self.0.send(build.name.to_owned()).ok();
//!         }
//!     }
//! }
//!
//! let engine = Engine::builder(Store::In(dir.path().join("nix")))
//! #   .option("sandbox", "false").option("build-users-group", "")
//!     .build()?;
//! let broken = r#"{ "derivations": {
//!     "broken": { "builder": "/bin/sh", "args": ["-c", "echo oh; exit 3"] },
//!     "above": { "builder": "/bin/sh", "args": ["-c", "cat @{broken} > $out"] } } }"#;
//! let (names, heard) = channel();
//! let request = Request::new().graph(broken).reporter(Names(names));
//! let outcome = engine.submit(request)?.wait()?;
//! assert_eq!(heard.recv()?, "broken");
//! let (_, failure) = outcome.failures().next().expect("a failure");
//! assert_eq!(failure.log_tail, ["oh"]);
//! assert!(matches!(&outcome.results[0].verdict, Verdict::NotBuilt { because_of }
//!     if because_of.ends_with("-broken.drv")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Two requests at once
//!
//! What both need is built once, and goes on when one of them is cancelled.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use windrow::{Engine, Request, RequestEnd, Store};
//!
//! let engine = Engine::builder(Store::In(dir.path().join("nix")))
//! #   .option("sandbox", "false").option("build-users-group", "")
//!     .max_jobs(2)
//!     .build()?;
//! let graph = |name: &str, script: &str| format!(r#"{{ "derivations": {{
//!     "base": {{ "builder": "/bin/sh", "args": ["-c", "echo base > $out"] }},
//!     "{name}": {{ "builder": "/bin/sh", "args": ["-c", "{script} @{{base}} > $out"] }} }} }}"#);
//! let quick = engine.submit(Request::new().graph(graph("quick", "read line <")))?;
//! let slow = engine.submit(Request::new().graph(graph("slow", "kill -STOP $$; : <")))?;
//! assert!(quick.wait()?.is_success());
//! slow.cancel();
//! assert_eq!(slow.wait()?.end, RequestEnd::Cancelled);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A policy of one's own
//!
//! Which ready derivation is built first is a system of bevy_ecs. The fields of its plugin are its
//! parameters.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use std::sync::Arc;
//! use windrow::systems::ecs::prelude::{Res, ResMut, World};
//! use windrow::systems::policy::{Policy, PolicyPlugin, PolicySystems};
//! use windrow::systems::world::Scheduler;
//! use windrow::components::graph::BuildGraph;
//! use windrow::{Engine, Request, Store};
//!
//! /// Derivations with many inputs first, if they are more than the derivation before by `weight`.
//! #[derive(Debug)]
//! struct Inputs { weight: u64 }
//!
//! impl PolicyPlugin for Inputs {
//!     fn name(&self) -> &str { "inputs" }
//!
//!     fn plug_in(&self, _: &mut World, systems: &mut PolicySystems) {
//!         let weight = self.weight;
//!         systems.add_to_rank(move |mut scheduler: ResMut<Scheduler>, graph: Res<BuildGraph>| {
//!             scheduler.rank(|drv| u64::MAX - weight * graph.inputs(drv).len() as u64);
//!         });
//!     }
//! }
//!
//! let engine = Engine::builder(Store::In(dir.path().join("nix")))
//! #   .option("sandbox", "false").option("build-users-group", "")
//!     .policy(Policy::Other(Arc::new(Inputs { weight: 3 })))
//!     .build()?;
//! # let graph = r#"{ "derivations": { "x": {
//! #     "builder": "/bin/sh", "args": ["-c", ": > $out"] } } }"#;
//! # assert!(engine.submit(Request::new().graph(graph))?.wait()?.is_success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With a name it stands beside those that come with the engine: in `--policy` and in the setting
//! `policy` of a program that calls [`command_line`], and wherever a policy is parsed.
//!
//! ```
//! use windrow::systems::policy::{Policy, register};
//!
//! register("mine", |parameters| match parameters {
//!     "" => Ok(Policy::LongestFirst),
//!     other => Err(format!("the policy mine has no parameters, and `{other}` is one")),
//! });
//! assert_eq!("mine".parse::<Policy>()?, Policy::LongestFirst);
//! let args = ["windrow", "simulate", "chain:n=3", "--compare", "fifo,mine"];
//! windrow::command_line(args.map(Into::into));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Simulating
//!
//! The same systems run in simulated time, a million tasks in a fraction of a second.
//!
//! ```
//! use windrow::components::task_graph::Limits;
//! use windrow::formats::task_graph::Generator;
//! use windrow::systems::policy::Policy;
//! use windrow::systems::simulate::{Simulation, simulate};
//!
//! let graph = "random:n=1000,degree=3,time=exponential:10s".parse::<Generator>()?;
//! let graph = graph.generate(Limits::default())?;
//! let fifo = simulate(&graph, &Simulation::new(16, Policy::Fifo))?;
//! let best = simulate(&graph, &Simulation::new(16, Policy::CriticalPath))?;
//! assert!(fifo.makespan > 0 && best.makespan > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is not for users of the library
//!
//! Modules that this page does not show belong to the program `windrow`, its benchmarks and tests;
//! they change without notice. So do the crates of the engine, [`systems`], [`components`] and
//! [`formats`], beyond what policies, reporters and simulations need.
//!
//! The feature `huge-pages`, on by default, is for the program alone, which allocates large arrays
//! on huge pages. The library installs no allocator with or without it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod announcing;
mod auto_gc;
mod build_log;
mod caches;
mod cgroups;
#[doc(hidden)]
pub mod cli;
mod collecting;
mod conf;
mod copying;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod helpers;
#[cfg(feature = "huge-pages")]
#[doc(hidden)]
pub mod huge_pages;
mod installable;
mod isolation;
mod memory;
mod nix_store;
mod option_warnings;
mod outcome;
mod path_bar;
#[doc(hidden)]
pub mod progress;
mod pushing;
#[doc(hidden)]
pub mod realise;
mod recording;
mod reports;
mod running;
#[doc(hidden)]
pub mod session;
mod shell;
mod standard_input;
#[doc(hidden)]
pub mod task_graph;
#[doc(hidden)]
pub mod terminal;
mod trace;
mod units;
mod wanted;
mod whole_file;

use std::ffi::OsString;
use std::process::ExitCode;

pub use engine::{Engine, EngineBuilder, Outcome, Request, Store, Submitted};
pub use error::{Error, Result};
pub use windrow_components as components;
pub use windrow_components::request::RequestEnd;
pub use windrow_formats as formats;
pub use windrow_systems as systems;
pub use windrow_systems::failure::{Failure, FailureKind};
pub use windrow_systems::report::{Event, Reporter};
pub use windrow_systems::results::{GoalResult, Verdict};

/// Does what the program `windrow` does with these arguments, of which the first is its name: the
/// exit status. It is for programs that add policies to it ([`systems::policy::register`]), and the
/// last thing they do: it sets limits, signals and the umask of the process as the program does.
pub fn command_line(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::main(args)
}

/// Does the work of a builder that comes with the engine, such as `builtin:fetchurl`, if an engine
/// has started this process for that; the exit status to end with then. To be called before
/// anything else by programs whose engines are built
/// [`with_builtins`](EngineBuilder::with_builtins).
pub fn builtin_main() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    if first.as_encoded_bytes() != session::BUILTIN.to_bytes() {
        return None;
    }
    Some(match windrow_systems::builtin::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Its standard error is the log of the build.
            terminal::complain(&format!("error: {problem}"));
            ExitCode::FAILURE
        }
    })
}
