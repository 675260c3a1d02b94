//! The engine's thread: obeys commands, ticks while there is something to do, and answers requests
//! that have ended.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use windrow_components::goal::BuildMode;
use windrow_components::graph::BuildGraph;
use windrow_components::request::{ChildLimits, Request, RequestState};
use windrow_systems::ecs::prelude::Entity;
use windrow_systems::engine::Engine;
use windrow_systems::real;
use windrow_systems::report::{Event, Level, Reporter};
use windrow_systems::world::{Scheduler, Services};

use crate::engine::Outcome;
use crate::error::{Error, Result};
use crate::realise::{Wanted, assemble, target};
use crate::session::Session;

/// What is asked of the thread.
pub(super) enum Command {
    Submit(Submission),
    /// Ends the request of that number.
    Cancel(u64),
    /// Something to tell everybody.
    Notice(String),
    Stop,
}

/// A request on its way to the engine.
pub(super) struct Submission {
    pub(super) id: u64,
    pub(super) wanted: Vec<Wanted>,
    pub(super) mode: BuildMode,
    pub(super) keep_going: bool,
    pub(super) limits: Option<ChildLimits>,
    pub(super) reporter: Option<Box<dyn Reporter + Send>>,
    pub(super) answer: Sender<Result<Outcome>>,
}

/// A request under way.
struct UnderWay {
    id: u64,
    request: Entity,
    answer: Sender<Result<Outcome>>,
}

/// Something that ends the sleep of the thread.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// How the thread is told what to do.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Wake,
}

impl Line {
    /// Has a command obeyed.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(super) fn send(&self, command: Command) -> Result<()> {
        let sent = self.commands.send(command);
        sent.map_err(|_| Error::EngineEnded)?;
        (self.wake)();
        Ok(())
    }
}

/// The state of the thread.
struct Runner {
    engine: Engine,
    commands: Receiver<Command>,
    under_way: Vec<UnderWay>,
    /// Why nothing can be done any more.
    stopped: Option<String>,
}

/// Runs until it is told to stop. Tells `started` what wakes it, or why there is no engine.
pub(super) fn run(
    session: &Session,
    reporter: Box<dyn Reporter + Send>,
    (commands, notices): (Receiver<Command>, Sender<Command>),
    started: &Sender<Result<Wake>>,
) {
    let engine = session
        .open()
        .and_then(|store| assemble(session, store, reporter, Vec::new(), (true, None)));
    let mut engine = match engine {
        Ok(engine) => engine,
        Err(error) => return drop(started.send(Err(error))),
    };
    engine.keep_records();
    let wake: Wake = Arc::new(engine.waker());
    let woken = Arc::clone(&wake);
    let _watcher = crate::auto_gc::watch(session, move |text| {
        // Nobody is to be told when the engine has ended.
        if notices.send(Command::Notice(text.to_owned())).is_ok() {
            woken();
        }
    });
    if started.send(Ok(wake)).is_err() {
        return;
    }
    let runner = Runner {
        engine,
        commands,
        under_way: Vec::new(),
        stopped: None,
    };
    runner.run();
}

impl Runner {
    fn run(mut self) {
        loop {
            let is_idle =
                self.under_way.is_empty() && (self.stopped.is_some() || self.engine.is_idle());
            if is_idle {
                match self.commands.recv() {
                    Ok(Command::Stop) | Err(_) => return,
                    Ok(command) => self.obey(command),
                }
            }
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            if self.stopped.is_none() && !self.engine.is_idle() {
                self.engine.tick();
                self.look_for_an_end();
            }
            self.answer();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.submit(submission),
            Command::Cancel(id) => {
                let found = self.under_way.iter().find(|it| it.id == id);
                if let Some(&UnderWay { request, .. }) = found {
                    self.engine.cancel(request);
                }
            }
            Command::Notice(text) => {
                let (level, text) = (Level::Warn, &*text);
                let mut services = self.engine.world.non_send_mut::<Services>();
                services.reporter.report(&Event::Message { level, text });
            }
            Command::Stop => {}
        }
    }

    fn submit(&mut self, submission: Submission) {
        let Submission { id, answer, .. } = submission;
        if let Some(reason) = &self.stopped {
            let _ = answer.send(Err(Error::EngineStopped(reason.clone())));
            return;
        }
        let mut graph = self.engine.world.resource_mut::<BuildGraph>();
        let wanted = submission.wanted.iter();
        let targets: Result<Vec<_>> = wanted.map(|it| target(&mut graph, it)).collect();
        match targets {
            // Whoever waits has gone.
            Err(error) => drop(answer.send(Err(error))),
            Ok(targets) => {
                let request = Request {
                    targets,
                    mode: submission.mode,
                    keep_going: submission.keep_going,
                    limits: submission.limits,
                };
                let reporter = submission.reporter.map(|it| it as Box<dyn Reporter>);
                let request = self.engine.submit(request, reporter);
                self.under_way.push(UnderWay {
                    id,
                    request,
                    answer,
                });
            }
        }
    }

    /// Ends all requests if none can go on: for want of slots, with which others may come, or for
    /// good.
    fn look_for_an_end(&mut self) {
        let was_stuck = self.engine.world.resource::<Scheduler>().run.is_stuck;
        let ended = self.engine.check();
        let interrupted = self.engine.world.resource::<Scheduler>().run.interrupted;
        let reason = match (ended, interrupted) {
            (Err(error), _) => error.to_string(),
            (Ok(()), Some(signal)) => Error::Interrupted { signal }.to_string(),
            (Ok(()), None) => return,
        };
        if !was_stuck {
            // Nobody looks after its children any more.
            real::clean_up(&mut self.engine.world);
        }
        for UnderWay {
            request, answer, ..
        } in self.under_way.drain(..)
        {
            let _ = answer.send(Err(Error::EngineStopped(reason.clone())));
            if was_stuck {
                self.engine.cancel(request);
            }
        }
        match was_stuck {
            true => {
                let mut scheduler = self.engine.world.resource_mut::<Scheduler>();
                scheduler.run.is_stuck = false;
            }
            false => self.stopped = Some(reason),
        }
    }

    /// Answers those whose requests have ended.
    fn answer(&mut self) {
        let engine = &self.engine;
        let ended = self.under_way.extract_if(.., |it| {
            matches!(engine.state(it.request), RequestState::Ended(_))
        });
        for UnderWay {
            request, answer, ..
        } in ended
        {
            if let RequestState::Ended(end) = engine.state(request) {
                let results = engine.results(request);
                // Whoever waited may have gone.
                let _ = answer.send(Ok(Outcome { end, results }));
            }
        }
    }
}
