//! The seed's trace lines, `@ build-started …` and its sisters, for programs that watch a build.

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
            } => {
                format!("@ build-started {} - {system} {log_file}", build.drv_path)
            }
            Event::Succeeded { build, .. } => format!("@ build-succeeded {} -", build.drv_path),
            Event::Failed {
                build,
                // The seed cancels what writes too much in the same way.
                kind: FailureKind::TimedOut | FailureKind::LogLimit,
                ..
            } => {
                format!("@ build-failed {} - timeout", build.drv_path)
            }
            Event::Failed {
                build,
                kind: FailureKind::Platform,
                system,
                message,
                ..
            } => {
                let path = build.drv_path;
                let message = message.replace('\n', " ");
                Line::for_programs(&format!("@ unsupported-platform {path} {system}")).write();
                format!("@ build-failed {path} - 0 {message}")
            }
            Event::Failed {
                build,
                kind: FailureKind::Cached,
                ..
            } => format!("@ build-failed {} - cached", build.drv_path),
            Event::Failed {
                build,
                kind: FailureKind::Hook { status },
                message,
                ..
            } => {
                let message = message.replace('\n', " ");
                format!("@ hook-failed {} - {status} {message}", build.drv_path)
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
            } => match status {
                None => format!("@ substituter-failed {} timeout", build.drv_path),
                Some(status) => {
                    let message = message.replace('\n', " ");
                    format!("@ substituter-failed {} {status} {message}", build.drv_path)
                }
            },
            // What fails for its inputs never began, and the seed says nothing of it.
            Event::Failed {
                kind: FailureKind::Dependency,
                ..
            } => return,
            Event::Failed {
                build,
                started,
                message,
                ..
            } => {
                let message = message.replace('\n', " ");
                format!(
                    "@ build-failed {} - {} {message}",
                    build.drv_path,
                    u8::from(*started)
                )
            }
            Event::Message { .. }
            | Event::Output { .. }
            | Event::HelperOutput { .. }
            | Event::Exited { .. }
            | Event::Progress(_) => return,
        };
        Line::for_programs(&line).write();
    }
}
