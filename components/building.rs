//! What only a goal that builds carries: child, pipes, deadlines, log. Comes and goes, so sparse.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::Component;

use crate::graph::BuildGraph;
use crate::ids::{DrvId, PathId};
use crate::log_line::{LogMessage, last_start};
use crate::request::ChildLimits;

/// The outputs to be made now: neither valid before nor made by someone else since then
/// (`missingPaths`). A goal that makes all of its outputs goes without.
#[derive(Debug, Clone, Component)]
#[component(storage = "SparseSet")]
pub struct MissingOutputs(pub Vec<PathId>);

impl MissingOutputs {
    /// The outputs that a goal for `drv` is to make.
    pub fn of(missing: Option<&Self>, graph: &BuildGraph, drv: DrvId) -> Vec<PathId> {
        match missing {
            Some(missing) => missing.0.clone(),
            None => graph.outputs(drv).iter().map(|row| row.path).collect(),
        }
    }
}

/// Outputs that are valid already and so are built under scratch names, to be thrown away
/// (`redirectedOutputs`).
#[derive(Debug, Clone, Default, Component)]
#[component(storage = "SparseSet")]
pub struct HashRewrites {
    /// One for each such output.
    pub scratch: Vec<ScratchOutput>,
}

/// An output and the scratch path that stands for it while its derivation is built.
#[derive(Debug, Clone)]
pub struct ScratchOutput {
    /// The hash part of the output itself.
    pub hash: [u8; 32],
    /// The hash part of the scratch path.
    pub scratch_hash: [u8; 32],
    /// The scratch path in full.
    pub scratch_path: String,
}

/// What a child of a goal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// The builder of a derivation.
    Builder,
    /// A substituter that fetches a path.
    Fetch,
    /// A build hook that has accepted a derivation, and builds it elsewhere.
    Hook,
    /// The program of `pre-build-hook`, called before the sandbox of a build is set up.
    PreBuildHook,
    /// The program of `post-build-hook`, called when the outputs of a build are valid.
    PostBuildHook,
    /// The program of `diff-hook`, called when an output came out different.
    DiffHook,
}

impl ChildKind {
    /// The setting that names the program, if it is one that is called before or after a build.
    /// What such a child writes is no part of the build's log.
    pub const fn setting(self) -> Option<&'static str> {
        match self {
            Self::PreBuildHook => Some("pre-build-hook"),
            Self::PostBuildHook => Some("post-build-hook"),
            Self::DiffHook => Some("diff-hook"),
            Self::Builder | Self::Fetch | Self::Hook => None,
        }
    }

    /// Whether the limits on silence and on time hold for it (Nix 1.8: `respectTimeouts`): a hook
    /// gets them as arguments.
    pub const fn has_time_limits(self) -> bool {
        !matches!(self, Self::Hook)
    }
}

/// The child process of a goal (Nix 1.8: `Child` and `Pid`), from when it is watched until it is
/// waited for. Programs that serve the engine itself have none of these: a substituter that is only
/// asked, and a hook that has not accepted a build.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct Child {
    /// What it is.
    pub kind: ChildKind,
    /// Its process id, which is its process group and session as well.
    pub pid: i32,
    /// Readable once it has exited.
    pub pidfd: OwnedFd,
    /// The read end of the pipe that its log comes through: a builder's standard output and error
    /// (Nix 1.8: `builderOut`), a substituter's standard error (`logPipe`), a hook's descriptor 4.
    /// `None` after its end.
    pub log: Option<OwnedFd>,
    /// When it did what.
    pub deadlines: Deadlines,
    /// Whether it is listed to be read from although nothing new is heard of it.
    pub is_listed: bool,
    /// Whether it is to be reaped: it has exited, and its log is at its end or was given time
    /// enough to be. It is waited for only then, so that its number stays its own.
    pub over: bool,
}

/// The directory the builder works in (Nix 1.8: `tmpDir`).
#[derive(Debug, Clone, Component)]
#[component(storage = "SparseSet")]
pub struct BuildDir(pub PathBuf);

/// When a silent child is checked next, in time since the run began.
///
/// Nix 1.8: `Child`.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// When the child was started.
    pub started: Duration,
    /// Whether the limits on silence and on time hold: [`ChildKind::has_time_limits`].
    pub limited: bool,
    /// When it last wrote something.
    pub last_output: Duration,
    /// When it exited.
    pub exited: Option<Duration>,
    /// How long the engine was stopped since it was started: that does not count as its time.
    pub stopped: Duration,
}

impl Deadlines {
    /// When the child will have been silent, or have run, for too long.
    pub fn next(&self, limits: ChildLimits) -> Option<Duration> {
        let after = |since: Duration, seconds: u64| {
            (seconds > 0).then(|| since + Duration::from_secs(seconds))
        };
        if !self.limited || self.exited.is_some() {
            return None;
        }
        let silent = after(self.last_output, limits.max_silent_time_s);
        silent.into_iter().chain(self.timeout(limits)).min()
    }

    /// When the child will have run for too long, together with the time that it takes to look at
    /// what it made.
    pub fn timeout(&self, limits: ChildLimits) -> Option<Duration> {
        let limit = Duration::from_secs(limits.timeout_s);
        (self.limited && !limit.is_zero()).then(|| self.started + self.stopped + limit)
    }

    /// The engine was stopped until `now` for that long, and could not hear it.
    pub fn engine_was_stopped(&mut self, now: Duration, stopped: Duration) {
        self.stopped += stopped;
        self.last_output = now.min(self.last_output + stopped);
    }

    /// Those of a child that was started then.
    pub fn new(now: Duration, limited: bool) -> Self {
        Self {
            started: now,
            limited,
            last_output: now,
            exited: None,
            stopped: Duration::ZERO,
        }
    }
}

/// The log of a build: how much there was, and its end for the report of a failure.
#[derive(Debug, Default, Component)]
#[component(storage = "SparseSet")]
pub struct BuildLog {
    /// Bytes received, for the limit on them.
    pub size: u64,
    /// The last bytes, some more than will be shown.
    pub tail: Vec<u8>,
}

impl BuildLog {
    /// How many bytes of the end are kept, at least.
    pub const TAIL_BYTES: usize = 32 * 1024;

    /// Takes in output of the builder.
    pub fn append(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.tail.len() + bytes.len() > 2 * Self::TAIL_BYTES {
            let drop = self.tail.len().saturating_sub(Self::TAIL_BYTES);
            self.tail.drain(..drop);
        }
        let keep = bytes.len().saturating_sub(Self::TAIL_BYTES);
        self.tail.extend_from_slice(&bytes[keep..]);
    }

    /// The last `count` lines of text, as they were written: whoever shows them takes out what a
    /// terminal would act on. Messages to the engine are no text.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.tail);
        let shown = text.lines().rev().map(last_start);
        let shown = shown.filter(|line| LogMessage::parse(line).is_none());
        let mut lines: Vec<String> = shown.take(count).map(str::to_owned).collect();
        lines.reverse();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_is_the_end() {
        let mut log = BuildLog::default();
        for n in 0..20_000 {
            log.append(format!("line {n}\n").as_bytes());
        }
        assert!(log.tail.len() <= 2 * BuildLog::TAIL_BYTES);
        assert_eq!(log.last_lines(2), ["line 19998", "line 19999"]);
        log.append(
            b"@nix {\"action\":\"setPhase\",\"phase\":\"x\"}\n@nix {no message\n1 %\r2 %\r\n",
        );
        assert_eq!(log.last_lines(3), ["line 19999", "@nix {no message", "2 %"]);
        log.append(&vec![b'x'; 1 << 20]);
        assert!(log.tail.len() <= 3 * BuildLog::TAIL_BYTES);
        assert_eq!(log.size, 20_000 * 11 - 11_110 + 65 + (1 << 20));
    }
}
