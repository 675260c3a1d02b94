//! The real hook: started when a build is first offered, kept until it accepts one, then left to that build. Everything
//! goes by events; a hook that dies, says nonsense or nothing costs its build a message and no more.

use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::{Commands, Component, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::{BuildMode, DerivationGoal, Stage};
use windrow_components::graph::BuildGraph;

use super::desk::{HookDesk, Question};
use super::instance::{HookError, Instance, Reply, Said, Talk, dismiss};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::helpers::{HelperNews, News};
use crate::poll_io::HelperEvents;
use crate::process::helper::{self, Pipes};
use crate::process::launch::Spawned;
use crate::process::log_writer::LogThread;
use crate::process::reactor::{Reactor, Readable};
use crate::real::{BuilderConfig, LauncherHandle};
use crate::report::{BuildRef, Event, Level, Reporter};
use crate::world::{
    Background, Failures, Now, Options, ReadyGoal, ReporterHandle, RunState, Running, StoreHandle,
};

/// How long a hook may take to answer, where no silence is limited by the settings. It may have to look at machines
/// far away, but it must not keep a build for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so many failures in a row the hook is not asked any more.
const FAILURES_MAX: u32 = 3;

/// A build that a hook does: what is still said and heard.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct HookBuild(pub Talk);

/// The hook's program, and its process that has not accepted a build yet.
pub struct HookHandle {
    program: PathBuf,
    args: Vec<String>,
    instance: Option<Instance>,
    starting: bool,
    offered: Option<Question>,
    /// When the offer was made.
    since: Duration,
    accepted: bool,
    failures: u32,
}

impl HookHandle {
    /// A hook that was not started yet.
    pub fn new(program: PathBuf, args: Vec<String>) -> Self {
        Self {
            program,
            args,
            instance: None,
            starting: false,
            offered: None,
            since: Duration::ZERO,
            accepted: false,
            failures: 0,
        }
    }

    /// Its program.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// When its patience is at an end.
    pub fn deadline(&self, options: &Options) -> Option<Duration> {
        self.offered.map(|_| self.since + patience(options))
    }

    /// Its process, to be ended.
    pub fn take_child(&mut self) -> Option<Spawned> {
        Some(self.instance.take()?.into_parts().0)
    }
}

fn patience(options: &Options) -> Duration {
    match options.max_silent_time_s {
        0 => PATIENCE,
        seconds => Duration::from_secs(seconds),
    }
}

/// What talking to the hook touches.
#[derive(SystemParam)]
pub struct Talking<'w, 's> {
    commands: Commands<'w, 's>,
    hook: NonSendMut<'w, HookHandle>,
    desk: ResMut<'w, HookDesk>,
    graph: ResMut<'w, BuildGraph>,
    now: Res<'w, Now>,
    options: Res<'w, Options>,
    reactor: NonSendMut<'w, Reactor>,
    reporter: NonSendMut<'w, ReporterHandle>,
    news: NonSendMut<'w, News>,
    launcher: NonSendMut<'w, LauncherHandle>,
    background: ResMut<'w, Background>,
}

/// Offers the hook what is to be offered, and starts it if need be.
pub fn offer_builds(mut params: Talking<'_, '_>) {
    let Some(question) = params.desk.take_question() else {
        return;
    };
    params.hook.offered = Some(question);
    params.hook.since = params.now.0;
    if params.hook.instance.is_some() {
        params.tell_offer();
    } else if !params.hook.starting {
        params.start();
    }
}

/// Hears what the hook has to say.
pub fn hear_hook(mut params: Talking<'_, '_>, mut events: ResMut<HelperEvents>) {
    let before = events.0.len();
    events.0.retain(|event| *event != Readable::Hook);
    if events.0.len() < before {
        params.listen();
    }
    while let Some(result) = params.news.take_hook() {
        params.background.launching -= 1;
        params.hook.starting = false;
        match result {
            Ok(instance) => params.welcome(instance),
            Err(error) => params.broken(error),
        }
    }
}

/// Gives up a hook that does not answer.
pub fn hurry_hook(mut params: Talking<'_, '_>) {
    let due = params.hook.deadline(&params.options);
    if due.is_some_and(|due| due <= params.now.0) {
        let seconds = patience(&params.options).as_secs();
        params.broken(HookError::Silent { seconds });
    }
}

impl Talking<'_, '_> {
    fn start(&mut self) {
        let args: Vec<&str> = self.hook.args.iter().map(String::as_str).collect();
        match helper::prepare(&self.hook.program, &args, &self.news.env, Pipes::Hook) {
            Err(error) => self.broken(error.into()),
            Ok((launch, ends)) => {
                self.hook.starting = true;
                self.background.launching += 1;
                let tell = self.news.teller();
                self.launcher.0.submit(move || {
                    let started = launch.run().map(|child| Instance::new(child, ends));
                    tell(HelperNews::Hook(started.map_err(HookError::from)));
                    None
                });
            }
        }
    }

    fn welcome(&mut self, instance: Instance) {
        let watched = self
            .reactor
            .watch_hook(&instance.from_hook, &instance.child.pidfd);
        self.hook.instance = Some(instance);
        match watched {
            Ok(()) => self.tell_offer(),
            Err(error) => self.broken(error.into()),
        }
    }

    fn tell_offer(&mut self) {
        let (Some(question), Some(instance)) = (self.hook.offered, &self.hook.instance) else {
            return;
        };
        let drv = question.ready.drv;
        let graph = &self.graph;
        let system = graph.system(drv).unwrap_or_default();
        let features = graph.required_features(drv);
        // The request is one line of words. What is no word would be read as another request.
        if !(is_word(system) && is_word(features)) {
            self.hook.offered = None;
            self.desk.answer(Reply::Decline);
            return;
        }
        let told = instance.offer(
            question.willing,
            system,
            &graph.full_path(graph.drv_path(drv)),
            features,
        );
        if let Err(error) = told {
            self.broken(error);
        }
    }

    fn listen(&mut self) {
        let Some(instance) = &mut self.hook.instance else {
            return;
        };
        let said = match instance.listen(&mut self.reactor.buffer) {
            Ok(said) => said,
            Err(error) => return self.broken(error),
        };
        let closed = instance.closed;
        for said in said {
            match said {
                Said::Line(line) => say(&mut *self.reporter.0, &self.hook.program, &line),
                Said::Reply(reply) => {
                    if self.hook.offered.take().is_none() {
                        let reply = format!("{reply:?}").to_lowercase() + "' unasked for '";
                        return self.broken(HookError::BadReply { reply });
                    }
                    self.hook.failures = 0;
                    self.hook.accepted = reply == Reply::Accept;
                    self.desk.answer(reply);
                }
            }
        }
        if closed && !self.hook.accepted {
            match self.hook.offered {
                Some(_) => self.broken(HookError::Died { status: 0 }),
                // One that ends after a refusal is started again for the next build.
                None => {
                    self.end_instance();
                }
            }
        }
    }

    /// Ends the process that waits for offers; gives its raw wait status.
    fn end_instance(&mut self) -> Option<i32> {
        let instance = self.hook.instance.take()?;
        let (child, talk, _) = instance.into_parts();
        if let Some(pipe) = &talk.from_hook {
            self.reactor.forget(std::os::fd::AsFd::as_fd(pipe));
        }
        self.reactor.forget(std::os::fd::AsFd::as_fd(&child.pidfd));
        Some(dismiss(&child))
    }

    /// The hook is of no use: its build is done here, or by the next hook.
    fn broken(&mut self, error: HookError) {
        let status = self.end_instance();
        let error = match (error, status) {
            // Had it ended itself, the signal that is to end it would have come too late.
            (HookError::Died { .. }, Some(libc::SIGTERM)) => HookError::HungUp,
            (HookError::Died { .. }, Some(status)) => HookError::Died { status },
            (error, _) => error,
        };
        self.hook.failures += 1;
        self.hook.accepted = false;
        let given_up = self.hook.failures >= FAILURES_MAX;
        let what = match (self.hook.offered.take(), given_up) {
            (Some(_), true) => "it is not asked any more",
            (Some(_), false) => "the build it was offered is done without it",
            (None, _) => "the next build is offered to a new one",
        };
        let program = self.hook.program.display();
        let text = format!("error: the build hook '{program}' failed: {error}; {what}");
        self.reporter.0.report(&Event::Message {
            level: Level::Error,
            text: &text,
        });
        self.desk.answer(if given_up {
            Reply::DeclinePermanently
        } else {
            Reply::Decline
        });
    }
}

/// Whether a text stands for itself in a line of words.
fn is_word(text: &str) -> bool {
    !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Passes on a line that a helper wrote for people.
pub(crate) fn say(reporter: &mut dyn Reporter, program: &std::path::Path, line: &str) {
    let name = crate::substitute::querier::short_name(program);
    reporter.report(&Event::HelperOutput { name: &name, line });
}

/// What handing a build over touches, beside the talk itself.
#[derive(SystemParam)]
pub struct HandingOver<'w, 's> {
    goals: Query<'w, 's, (&'static mut Stage, Option<&'static MissingOutputs>)>,
    store: NonSendMut<'w, StoreHandle>,
    logs: NonSendMut<'w, LogThread>,
    config: Res<'w, BuilderConfig>,
    running: ResMut<'w, Running>,
    failures: ResMut<'w, Failures>,
    run: ResMut<'w, RunState>,
}

/// Leaves hooks to the builds that they have accepted: tells them the inputs and the outputs, and watches them.
pub fn hand_over(mut params: Talking<'_, '_>, mut over: HandingOver<'_, '_>) {
    for ready in params.desk.take_accepted() {
        params.hook.accepted = false;
        let Some(instance) = params.hook.instance.take() else {
            let failure = Failure::new(FailureKind::Other, "the build hook is gone");
            over.failures.0.push((ready.goal, failure));
            continue;
        };
        if let Err(error) = params.begin(ready, instance, &mut over) {
            over.run.fatal = Some(error);
        }
    }
}

impl Talking<'_, '_> {
    fn begin(
        &mut self,
        ReadyGoal { goal, drv }: ReadyGoal,
        instance: Instance,
        over: &mut HandingOver<'_, '_>,
    ) -> Result<(), Error> {
        let drv_file = self.graph.drv_path(drv);
        let drv_path = self.graph.full_path(drv_file);
        // The derivation's own closure too, so that the store far away stays whole (the seed's complaint).
        let graph = &mut self.graph;
        let mut inputs = over.store.0.input_closure(graph, drv)?;
        inputs.extend(over.store.0.closure(graph, &[drv_file])?);
        let full = |paths: Vec<_>| {
            let mut paths: Vec<String> =
                paths.into_iter().map(|p| self.graph.full_path(p)).collect();
            paths.sort_unstable();
            paths.dedup();
            paths
        };
        let inputs = full(inputs);
        let Ok((mut stage, missing)) = over.goals.get_mut(goal) else {
            return Ok(());
        };
        let outputs = full(MissingOutputs::of(missing, &self.graph, drv));

        let (child, mut talk, builder_out) = instance.into_parts();
        if let Some(pipe) = &talk.from_hook {
            self.reactor.forget(std::os::fd::AsFd::as_fd(pipe));
        }
        self.reactor.forget(std::os::fd::AsFd::as_fd(&child.pidfd));
        talk.tell(inputs);
        talk.tell(outputs.iter().cloned());
        talk.send();
        let mut log_file = None;
        let mut watched = self.reactor.watch(goal, &builder_out, &child.pidfd);
        if let Some(pipe) = &talk.from_hook {
            watched = watched.and_then(|()| self.reactor.watch_said(goal, pipe));
        }
        if let Some(pipe) = &talk.to_hook {
            watched = watched.and_then(|()| self.reactor.watch_told(goal, pipe));
        }
        let mut ready_to_go = watched.map_err(|error| error.to_string());
        if ready_to_go.is_ok()
            && let Some(log_dir) = &over.config.log_dir
        {
            let base_name = self.graph.paths.base_name(drv_file);
            match over.logs.open(log_dir, base_name, over.config.compress_log) {
                Ok(log) => log_file = Some(log),
                Err(error) => ready_to_go = Err(error.to_string()),
            }
        }
        if let Err(error) = ready_to_go {
            dismiss(&child);
            let text = format!("cannot watch the build hook for '{drv_path}': {error}");
            let failure = Failure::new(FailureKind::Other, text);
            over.failures.0.push((goal, failure));
            return Ok(());
        }
        *stage = Stage::Running;
        over.running.0.push(goal);
        let at = self.now.0;
        self.reporter.0.say(Level::Talkative, || {
            format!("using hook to build path(s) '{}'", outputs.join("', '"))
        });
        self.reporter.0.report(&Event::Started {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &drv_path,
                name: self.graph.drv_name(drv),
            },
            system: self.graph.system(drv).unwrap_or_default(),
            log_file: &log_file
                .as_ref()
                .map(|log| log.path().display().to_string())
                .unwrap_or_default(),
            outputs: &outputs,
            mode: BuildMode::Normal,
            at,
        });
        let mut entity = self.commands.entity(goal);
        entity.insert((
            BuilderProcess {
                pid: child.pid,
                pidfd: child.pidfd,
                exited: false,
            },
            ChildPipes {
                log: Some(builder_out),
            },
            Deadlines::new(at, false),
            BuildLog::default(),
            HookBuild(talk),
        ));
        if let Some(log) = log_file {
            entity.insert(log);
        }
        Ok(())
    }
}

/// Talks on with hooks that build: reads what they say, and tells them what they did not take at once.
pub fn talk_on(
    events: Res<HelperEvents>,
    running: Res<Running>,
    mut builds: Query<(&DerivationGoal, &mut HookBuild)>,
    hook: NonSendMut<HookHandle>,
    mut reactor: NonSendMut<Reactor>,
    mut reporter: NonSendMut<ReporterHandle>,
) {
    for event in &events.0 {
        let (Readable::Said(index) | Readable::Told(index)) = *event else {
            continue;
        };
        let Some(&goal) = running.0.iter().find(|goal| goal.index_u32() == index) else {
            continue;
        };
        let Ok((_, mut build)) = builds.get_mut(goal) else {
            continue;
        };
        if matches!(event, Readable::Told(_)) {
            build.0.send();
            continue;
        }
        for line in build.0.listen(&mut reactor.buffer) {
            say(&mut *reporter.0, &hook.program, &line);
        }
    }
}
