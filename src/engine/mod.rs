//! The engine for programs that embed it: runs on a thread of its own, takes requests from any
//! thread at any time, and cleans up when it is dropped.

mod builder;
mod request;
mod runner;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use windrow_components::goal::BuildMode;
use windrow_components::request::{ChildLimits, RequestEnd};
use windrow_store::local::LocalStore;
use windrow_sys::mutex::lock;
use windrow_systems::failure::Failure;
use windrow_systems::results::{GoalResult, Verdict};

use crate::error::{Error, Result};
use crate::installable::Installable;
use crate::realise::to_repair;
use crate::session::Session;
use crate::wanted::{add_graph_text, understand};
use runner::{Command, Line, Submission};

pub use builder::{EngineBuilder, Store};
pub use request::Request;

/// A build engine over one store.
///
/// It takes requests from any thread while others are under way; equal derivations are built once,
/// for all that need them. When it is dropped, all that runs is killed, and build directories and
/// locks are given up; so it is if a reporter panics. It blocks no signals, reads no standard
/// input and prints nothing. A signal that ends the program ends its builders too.
///
/// It does what the settings say, whose nix.conf it reads as the program `windrow` does. Among them
/// is `upload-caches`: what is built is pushed to these binary caches in the background, and what
/// has not arrived when the engine is dropped waits for `windrow push` or the next engine that
/// builds. An embedding program that wants none of that sets it to nothing
/// ([`EngineBuilder::option`]).
///
/// What the program's umask keeps from others is kept from them in a store that it creates as well;
/// the program `windrow` sets 022.
pub struct Engine {
    session: Session,
    store: Mutex<LocalStore>,
    line: Line,
    thread: Option<JoinHandle<()>>,
    last_id: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let store = &self.session.layout.real_store_dir;
        f.debug_struct("Engine").field("store", store).finish()
    }
}

impl Engine {
    /// Begins to describe an engine over a store.
    pub fn builder(store: Store) -> EngineBuilder {
        EngineBuilder::new(store)
    }

    fn start(session: Session, builder: EngineBuilder) -> Result<Self> {
        let store = session.open()?;
        let (commands, received) = channel();
        let (tell, started) = channel();
        let own = session.clone();
        let notices = commands.clone();
        let run = move || runner::run(&own, builder.reporter, (received, notices), &tell);
        let thread = windrow_sys::threads::spawn("windrow", run)
            .map_err(|source| windrow_systems::Error::Threads { source })?;
        let wake = started.recv().map_err(|_| Error::EngineEnded)??;
        Ok(Self {
            session,
            store: Mutex::new(store),
            line: Line { commands, wake },
            thread: Some(thread),
            last_id: AtomicU64::new(0),
        })
    }

    /// What was found strange in the settings, for people.
    pub fn warnings(&self) -> &[String] {
        &self.session.warnings
    }

    /// Takes a request. What it names is looked up, and graphs are added to the store, before this
    /// returns; the builds begin then.
    ///
    /// # Errors
    /// When something that it names can't be built, or a graph has a mistake, or the engine has
    /// ended.
    pub fn submit(&self, request: Request) -> Result<Submitted> {
        let mut store = lock(&self.store);
        let what = request.what.iter();
        let what = what.map(|what| Installable::parse(what, &self.session));
        let what = what.collect::<Result<Vec<_>>>()?;
        let mut wanted = understand(&what, &self.session, &mut store)?;
        for text in &request.graphs {
            wanted.extend(add_graph_text(&self.session, &mut store, text)?);
        }
        if request.mode == BuildMode::Repair {
            wanted = to_repair(&store, &wanted)?;
        }
        drop(store);
        let settings = &self.session.settings;
        let (answer, answered) = channel();
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let submission = Submission {
            id,
            wanted,
            mode: request.mode,
            keep_going: request.keep_going.unwrap_or(settings.keep_going),
            limits: request.limits.map(|own| ChildLimits {
                max_log_size: settings.max_build_log_size,
                ..own
            }),
            reporter: request.reporter,
            answer,
        };
        self.line.send(Command::Submit(submission))?;
        Ok(Submitted {
            id,
            answered,
            line: self.line.clone(),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.line.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic has been told by the hook, and to those who waited.
            let _ = thread.join();
        }
    }
}

/// A request that an engine has taken. When this is dropped, the request goes on.
pub struct Submitted {
    id: u64,
    answered: Receiver<Result<Outcome>>,
    line: Line,
}

impl std::fmt::Debug for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitted").field("id", &self.id).finish()
    }
}

impl Submitted {
    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the engine as a whole has failed or ended. That something could not be built is told by
    /// the outcome.
    pub fn wait(self) -> Result<Outcome> {
        self.answered.recv().map_err(|_| Error::EngineEnded)?
    }

    /// Has it end as cancelled. What no other request needs is killed.
    pub fn cancel(&self) {
        // If the engine has ended, so has the request.
        let _ = self.line.send(Command::Cancel(self.id));
    }
}

/// How a request ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Whether all of it was done, or it gave up at a failure, or was cancelled.
    pub end: RequestEnd,
    /// Every derivation and path that it needed, those it asked for first.
    pub results: Vec<GoalResult>,
}

impl Outcome {
    /// Whether everything that was asked for is valid.
    pub fn is_success(&self) -> bool {
        self.asked_for().all(|result| result.verdict.is_valid())
    }

    /// What was asked for.
    pub fn asked_for(&self) -> impl Iterator<Item = &GoalResult> {
        self.results.iter().filter(|result| result.was_asked_for)
    }

    /// The store paths that were asked for, of what is valid.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let valid = self.asked_for().filter(|result| result.verdict.is_valid());
        valid.flat_map(|result| result.outputs.iter().map(|(_, path)| path.as_str()))
    }

    /// What failed itself, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&GoalResult, &Failure)> {
        self.results
            .iter()
            .filter_map(|result| match &result.verdict {
                Verdict::Failed(failure) => Some((result, failure)),
                _ => None,
            })
    }
}
