//! The real hook: started when a build is first offered, kept until it accepts one, then left to
//! that build. Everything goes by events; a hook that dies, says nonsense or nothing costs its
//! build a message and no more.

use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::{NonSendMut, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::graph::BuildGraph;
use windrow_sandbox::process::launch::Spawned;

use crate::helpers::Inbox;
use crate::helpers::hook::instance::{HookError, Instance, Said};
use crate::process::helper;
use crate::process::helper::{HelperEnv, Pipes};
use crate::process::kill::{dismiss, dismiss_soon};
use crate::report::{Event, Level};
use crate::world::{HookQuestion, Host, Options, Reply, Reporters, Scheduler, Services};

/// How long a hook may take to answer, where no silence is limited by the settings. It may have to
/// look at machines far away, but it must not keep a build for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// After this many failures in a row the hook is not asked any more.
const FAILURES_MAX: u32 = 3;

/// The hook's program, and its process that has not accepted a build yet.
pub struct HookHandle {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) instance: Option<Instance>,
    pub(crate) starting: bool,
    pub(crate) offered: Option<HookQuestion>,
    /// When the offer was made.
    pub(crate) since: Duration,
    pub(crate) accepted: bool,
    pub(crate) failures: u32,
    pub(crate) env: HelperEnv,
    /// Its processes that have been started.
    pub(crate) inbox: Inbox<Result<Instance, HookError>>,
}

impl HookHandle {
    /// A hook that was not started yet.
    pub fn new(
        program: PathBuf,
        args: Vec<String>,
        env: HelperEnv,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            program,
            args,
            instance: None,
            starting: false,
            offered: None,
            since: Duration::ZERO,
            accepted: false,
            failures: 0,
            env,
            inbox: Inbox::new(wake),
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

pub(crate) fn patience(options: &Options) -> Duration {
    match options.limits.max_silent_time_s {
        0 => PATIENCE,
        seconds => Duration::from_secs(seconds),
    }
}

/// What talking to the hook touches.
#[derive(SystemParam)]
pub struct Talking<'w> {
    pub(crate) hook: NonSendMut<'w, HookHandle>,
    pub(crate) graph: ResMut<'w, BuildGraph>,
    pub(crate) host: NonSendMut<'w, Host>,
    pub(crate) services: NonSendMut<'w, Services>,
    pub(crate) scheduler: ResMut<'w, Scheduler>,
}

impl Talking<'_> {
    pub(crate) fn start(&mut self) {
        let args: Vec<&str> = self.hook.args.iter().map(String::as_str).collect();
        match helper::prepare(&self.hook.program, &args, &self.hook.env, Pipes::Hook) {
            Err(error) => self.broken(error.into()),
            Ok((launch, ends)) => {
                self.hook.starting = true;
                self.scheduler.launch();
                let send = self.hook.inbox.sender();
                self.host.launcher.submit(move || {
                    let started = launch.run().map(|child| Instance::new(child, ends));
                    send(started.map_err(HookError::from));
                    None
                });
            }
        }
    }

    pub(crate) fn welcome(&mut self, instance: Instance) {
        let watched = self
            .host
            .reactor
            .watch_hook(&instance.from_hook, &instance.child.pidfd);
        self.hook.instance = Some(instance);
        match watched {
            Ok(()) => self.tell_offer(),
            Err(error) => self.broken(error.into()),
        }
    }

    pub(crate) fn tell_offer(&mut self) {
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
            self.scheduler.desk.answer(Reply::Decline);
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

    /// Hears what the hook has said, up to a bound; tells whether there may be more.
    pub(crate) fn listen(&mut self) -> bool {
        let Some(instance) = &mut self.hook.instance else {
            return false;
        };
        let said = match instance.listen(&mut self.host.reactor.buffer) {
            Ok(said) => said,
            Err(error) => {
                self.broken(error);
                return false;
            }
        };
        let (closed, unread) = (instance.closed || instance.exited, instance.unread);
        for said in said {
            match said {
                Said::Line(line) => say(&mut self.services.reporter, &self.hook.program, &line),
                Said::Reply(reply) => {
                    if self.hook.offered.take().is_none() {
                        let reply = format!("{reply:?}").to_lowercase() + "' unasked for '";
                        self.broken(HookError::BadReply { reply });
                        return false;
                    }
                    self.hook.failures = 0;
                    self.hook.accepted = reply == Reply::Accept;
                    self.scheduler.desk.answer(reply);
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
        unread
    }

    /// Passes on what the hook has said of a line without ending it, when that is a second old.
    pub(crate) fn say_overdue(&mut self) {
        let overdue = self.hook.instance.as_mut().and_then(Instance::overdue);
        if let Some(line) = overdue {
            say(&mut self.services.reporter, &self.hook.program, &line);
        }
    }

    /// Ends the process that waits for offers; gives its raw wait status.
    pub(crate) fn end_instance(&mut self) -> Option<i32> {
        let instance = self.hook.instance.take()?;
        let (child, talk, _) = instance.into_parts();
        if let Some(pipe) = &talk.from_hook {
            self.host.reactor.forget(std::os::fd::AsFd::as_fd(pipe));
        }
        self.host
            .reactor
            .forget(std::os::fd::AsFd::as_fd(&child.pidfd));
        Some(match dismiss_soon(child) {
            Ok(status) => status,
            Err(child) => {
                self.host.pool.1.run(move || {
                    dismiss(&child);
                });
                libc::SIGTERM
            }
        })
    }

    /// The hook is of no use: its build is done here, or by the next hook.
    pub(crate) fn broken(&mut self, error: HookError) {
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
        self.services.reporter.report(&Event::Message {
            level: Level::Error,
            text: &text,
        });
        self.scheduler.desk.answer(if given_up {
            Reply::DeclinePermanently
        } else {
            Reply::Decline
        });
    }
}

/// Whether a text stands for itself in a line of words.
pub(crate) fn is_word(text: &str) -> bool {
    !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Passes on a line that a helper wrote for people.
pub(crate) fn say(reporter: &mut Reporters, program: &std::path::Path, line: &str) {
    let name = crate::helpers::querier::short_name(program);
    reporter.report(&Event::HelperOutput { name: &name, line });
}
