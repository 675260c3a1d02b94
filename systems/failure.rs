//! Why a goal failed, in words for people and in kinds for the exit status.

use std::io;
use std::path::PathBuf;

use windrow_sandbox::process::kill::UNKNOWN_STATUS;
use windrow_store::Error as StoreError;
use windrow_sys::Error as FileError;
use windrow_sys::limits::{lacks_means, remedy};
use windrow_sys::space::Shortage;

use crate::error::Error;

/// What kind of failure a goal ended with; decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The builder failed and would fail again.
    Permanent,
    /// It was silent or ran for too long.
    TimedOut,
    /// A fixed output has another hash than it should.
    HashMismatch,
    /// The builder was content, but what it made can't be accepted.
    Rejected,
    /// It wrote more to its log than it may.
    LogLimit,
    /// It failed before, and failures are remembered.
    Cached,
    /// The build hook could not do what it had accepted.
    Hook {
        /// Its raw wait status.
        status: i32,
    },
    /// Built again, an output came out different.
    NotDeterministic,
    /// It is for a platform whose programs do not run here.
    Platform,
    /// It could not be started for want of descriptors, processes or memory, and nothing else was
    /// under way that would give some back.
    Means,
    /// Anything else, which may go better another time or elsewhere.
    Other,
    /// Something it needs failed.
    Dependency,
    /// Nobody wanted it any more. Its goal ends as cancelled, and nothing counts or reports it as a
    /// failure.
    Cancelled,
}

impl FailureKind {
    /// The kind of failure that an error about a build's outputs makes.
    pub fn of_outputs(error: &Error) -> Self {
        let Error::Store(error) = error else {
            return Self::Other;
        };
        match error {
            StoreError::File(
                FileError::UnsupportedFileType { .. } | FileError::ForeignOwner { .. },
            )
            | StoreError::ReferenceCycle { .. } => Self::Rejected,
            _ => Self::Other,
        }
    }
}

/// Why a goal failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// One message: what failed and why.
    pub message: String,
    /// The end of the builder's log, if it ran.
    pub log_tail: Vec<String>,
    /// The directory it worked in, if that stays.
    pub kept: Option<PathBuf>,
}

impl Failure {
    /// A failure without a log.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            log_tail: Vec::new(),
            kept: None,
        }
    }

    /// A failure for an error of the store or a file.
    pub fn of_error(error: &Error) -> Self {
        let kind = match error {
            Error::Store(StoreError::File(FileError::Io { source, .. })) => kind_of(source),
            _ => FailureKind::Other,
        };
        Self::new(kind, error.to_string())
    }

    /// A failure to start something, with what helps: one that is put off where others may give
    /// back what it lacks.
    pub fn to_start(source: &io::Error, message: String) -> Self {
        Self::new(kind_of(source), message + &remedy(source))
    }

    /// The end of a goal that nobody wants any more.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "nobody wants it any more")
    }
}

/// The kind of failure to start something.
fn kind_of(source: &io::Error) -> FailureKind {
    match lacks_means(source) {
        true => FailureKind::Means,
        false => FailureKind::Other,
    }
}

/// Which kinds of failures a run has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailureKinds {
    /// A builder failed for good.
    pub permanent: bool,
    /// A build took too long.
    pub timed_out: bool,
    /// A fixed output had another hash.
    pub hash_mismatch: bool,
    /// An output came out different when it was built again.
    pub not_deterministic: bool,
    /// Anything failed at all.
    pub any: bool,
}

impl FailureKinds {
    /// Takes note of a failure.
    pub fn add(&mut self, kind: FailureKind) {
        self.any |= kind != FailureKind::Cancelled;
        match kind {
            FailureKind::Permanent | FailureKind::Cached => self.permanent = true,
            FailureKind::TimedOut => self.timed_out = true,
            FailureKind::HashMismatch => self.hash_mismatch = true,
            FailureKind::NotDeterministic => self.not_deterministic = true,
            FailureKind::Rejected
            | FailureKind::LogLimit
            | FailureKind::Hook { .. }
            | FailureKind::Platform
            | FailureKind::Means
            | FailureKind::Other
            | FailureKind::Dependency
            | FailureKind::Cancelled => {}
        }
    }

    /// Whether there was none.
    pub fn is_empty(self) -> bool {
        !self.any
    }

    /// The exit status of a run with these failures (`Worker::failingExitStatus`): 1, or 96 with
    /// bits for builds that failed, timeouts, hash mismatches and differences.
    ///
    /// Nix 1.8: `Worker::exitStatus`.
    pub fn exit_status(self) -> u8 {
        let timed_out = u8::from(self.timed_out);
        let mismatch = u8::from(self.hash_mismatch) << 1;
        let build = u8::from(self.permanent || self.timed_out || self.hash_mismatch) << 2;
        let different = u8::from(self.not_deterministic) << 3;
        let bits = different | build | mismatch | timed_out;
        if bits == 0 { 1 } else { 96 | bits }
    }
}

/// What is added to the message of a failure that a want of space may have caused: then it is not
/// the builder's fault.
pub fn why_perhaps(shortage: &Shortage) -> String {
    let remedy = shortage.remedy();
    format!("; {shortage}, which may be the reason: {remedy} and try again")
}

/// How a wait status reads in a message (Nix 1.8: `statusToString`).
pub fn describe_status(status: i32) -> String {
    if libc::WIFEXITED(status) {
        match libc::WEXITSTATUS(status) {
            0 => "succeeded".to_owned(),
            code => format!("failed with exit code {code}"),
        }
    } else if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("failed due to signal {signal} ({name})"),
            Err(_) => format!("failed due to signal {signal}"),
        }
    } else if status == UNKNOWN_STATUS {
        "ended in a way that is not known, for this program ignores SIGCHLD".to_owned()
    } else {
        "died abnormally".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_those_of_nix() {
        let status = |kinds: &[FailureKind]| {
            let mut all = FailureKinds::default();
            kinds.iter().for_each(|&kind| all.add(kind));
            all.exit_status()
        };
        assert_eq!(status(&[FailureKind::Other, FailureKind::Dependency]), 1);
        assert_eq!(status(&[FailureKind::Rejected, FailureKind::LogLimit]), 1);
        assert_eq!(status(&[FailureKind::Permanent]), 100);
        assert_eq!(status(&[FailureKind::Cached, FailureKind::Other]), 100);
        assert_eq!(status(&[FailureKind::NotDeterministic]), 104);
        assert_eq!(
            status(&[FailureKind::NotDeterministic, FailureKind::TimedOut]),
            109
        );
        assert_eq!(status(&[FailureKind::TimedOut]), 101);
        assert_eq!(
            status(&[FailureKind::HashMismatch, FailureKind::Permanent]),
            102
        );
        assert_eq!(
            status(&[FailureKind::HashMismatch, FailureKind::TimedOut]),
            103
        );
    }

    #[test]
    fn statuses_are_spelled_out() {
        assert_eq!(describe_status(1 << 8), "failed with exit code 1");
        assert_eq!(describe_status(9), "failed due to signal 9 (SIGKILL)");
    }
}
