//! The trace lines of Nix 1.8, `@ build-started …` and others, for programs that watch a
//! build.

use windrow_systems::failure::FailureKind;
use windrow_systems::report::{Event, Reporter};

use crate::terminal::Line;

pub(super) struct Trace;

impl Reporter for Trace {
    fn report(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Started {
                build,
                system,
                log_file,
                ..
            } => format!("@ build-started {} - {system} {log_file}", build.drv_path),
            Event::Succeeded { build, .. } => format!("@ build-succeeded {} -", build.drv_path),
            Event::Failed {
                build,
                kind,
                system,
                started,
                message,
                ..
            } => {
                let path = build.drv_path;
                if *kind == FailureKind::Platform {
                    Line::for_programs(&format!("@ unsupported-platform {path} {system}")).write();
                }
                match failed(path, *kind, *started, &one_line(message)) {
                    Some(line) => line,
                    None => return,
                }
            }
            Event::FetchStarted { build, program, .. } => {
                format!("@ substituter-started {} {program}", build.drv_path)
            }
            Event::FetchSucceeded { build, .. } => {
                format!("@ substituter-succeeded {}", build.drv_path)
            }
            Event::FetchFailed {
                build,
                status,
                message,
                ..
            } => {
                let reason = match status {
                    None => "timeout".to_owned(),
                    Some(status) => format!("{status} {}", one_line(message)),
                };
                format!("@ substituter-failed {} {reason}", build.drv_path)
            }
            Event::Message { .. }
            | Event::Output { .. }
            | Event::HelperOutput { .. }
            | Event::SecondPassed
            | Event::Exited { .. }
            | Event::Cancelled { .. }
            | Event::LockAwaited { .. }
            | Event::Progress(_)
            | Event::Used { .. }
            | Event::Over => return,
        };
        Line::for_programs(&line).write();
    }
}

/// The line about a build that failed; none if it failed for its inputs: it never began, and Nix
/// 1.8 says nothing of it.
fn failed(path: &str, kind: FailureKind, started: bool, message: &str) -> Option<String> {
    Some(match kind {
        FailureKind::Dependency => return None,
        // Nix 1.8 cancels what writes too much in the same way.
        FailureKind::TimedOut | FailureKind::LogLimit => {
            format!("@ build-failed {path} - timeout")
        }
        FailureKind::Cached => format!("@ build-failed {path} - cached"),
        FailureKind::Platform => format!("@ build-failed {path} - 0 {message}"),
        FailureKind::Hook { status } => format!("@ hook-failed {path} - {status} {message}"),
        _ => format!("@ build-failed {path} - {} {message}", u8::from(started)),
    })
}

fn one_line(message: &str) -> String {
    message.replace('\n', " ")
}
