//! Calls the pre-build hook for a person's program, and waits for it: its sandbox shows what the
//! builder's would show.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_sandbox::process::kill::kill_and_reap;
use windrow_sandbox::process::launch::Spawned;
use windrow_sys::interrupt;

use crate::failure::{Failure, FailureKind, describe_status};
use crate::process::hook::Call;
use crate::process::hook_answer;
use crate::process::side_channel::SAID_MAX;
use crate::spawn::builder::has_sandbox;
use crate::spawn::pre_build::root_of;
use crate::world::children::PreBuilt;
use crate::world::{BuilderConfig, Store};

/// What the hook wants shown, if there is one and the derivation is to have a sandbox. `tell` is
/// given what it has written to its errors.
///
/// # Errors
/// When it can't be called, fails, or wants what can't be shown.
pub fn call_pre_build(
    graph: &mut BuildGraph,
    store: &mut dyn Store,
    config: &BuilderConfig,
    (drv, tell): (DrvId, impl FnOnce(&str)),
) -> Result<PreBuilt, Failure> {
    let Some(program) = &config.hooks.pre_build else {
        return Ok(PreBuilt::default());
    };
    if !has_sandbox(graph, config, drv) {
        return Ok(PreBuilt::default());
    }
    let drv_path = graph.full_path(graph.drv_path(drv));
    let root = root_of(config, &drv_path);
    let call = Call {
        program,
        args: &[OsStr::new(&drv_path), &root],
        env: &config.hooks.env,
        variables: &[],
        cwd: c".",
        user: None,
    };
    let failed = |reason: String| {
        let program = program.display();
        let text = format!("the pre-build-hook '{program}' for '{drv_path}' {reason}");
        Failure::new(FailureKind::Other, text)
    };
    let (called, status) =
        ask(&call).map_err(|error| failed(format!("can't be called: {error}")))?;
    tell(&String::from_utf8_lossy(&called.errors.text));
    let said = &called.answer.text;
    let answer = match status {
        // Else it was hung up on.
        status if status != 0 && said.len() < SAID_MAX => Err(describe_status(status)),
        _ => hook_answer::read(said),
    };
    let paths = answer.map_err(failed)?;
    let shown = PreBuilt::showing(&paths, graph, store, &config.layout);
    shown
        .map_err(|error| Failure::of_error(&error))?
        .map_err(failed)
}

/// A hook that was called.
struct Called {
    answer: Heard,
    errors: Heard,
}

/// What it has written to one of its pipes so far.
struct Heard {
    /// `None` at its end, or once it has written too much.
    pipe: Option<File>,
    text: Vec<u8>,
}

/// What it writes to its output and to its errors, and its raw wait status.
fn ask(call: &Call<'_>) -> io::Result<(Called, i32)> {
    let (launch, errors, answer) = call.prepare_to_hear()?;
    let hook = launch.run().map_err(|error| error.source)?;
    let mut called = Called {
        answer: Heard::new(answer),
        errors: Heard::new(errors),
    };
    let mut has_ended = false;
    while !has_ended && !interrupt::has_come() {
        has_ended = called.wait(&hook);
        called.answer.listen();
        called.errors.listen();
    }
    // If it has ended that tells how.
    Ok((called, kill_and_reap(hook.pid)))
}

impl Called {
    /// Sleeps until it writes or ends, or a signal comes. Tells whether it has ended.
    fn wait(&self, hook: &Spawned) -> bool {
        let pipes = [&self.answer, &self.errors].into_iter();
        let pipes = pipes.filter_map(|heard| Some(heard.pipe.as_ref()?.as_fd()));
        let all = [hook.pidfd.as_fd()].into_iter().chain(pipes);
        let all = all.chain(interrupt::event());
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = nix::poll::poll(&mut all, PollTimeout::NONE);
        all[0].any().unwrap_or(false)
    }
}

impl Heard {
    fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe: Some(pipe.into()),
            text: Vec::new(),
        }
    }

    /// Takes what was written, up to so much that nobody wants more.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(count) if count > 0 && self.text.len() < SAID_MAX => {
                    self.text.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => self.pipe = None,
            }
        }
    }
}
