//! Every message of the errors of this crate, as users read them.

use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};

use super::Error;
use crate::derivation::DerivationError;
use crate::derivation::attributes::AttributeError;
use crate::task_graph::{Place, TaskGraphError};

fn text(text: &str) -> String {
    text.to_owned()
}

fn data() -> Vec<Error> {
    vec![
        Error::BadHash {
            text: text("sha256:x"),
            reason: text("it is too short"),
        },
        Error::BadContentAddress {
            text: text("fixed:x"),
            reason: text("it is too short"),
        },
        Error::BadStorePath {
            path: text("/nix/store/x"),
            reason: text("it has no hash"),
        },
        Error::BadName {
            name: text("a b"),
            reason: "it has a blank",
        },
    ]
}

fn derivations() -> Vec<DerivationError> {
    let output = text("out");
    let path = text("/nix/store/…-x.drv");
    vec![
        DerivationError::Syntax {
            offset: 7,
            expected: "','",
            found: Some(b'\n'),
        },
        DerivationError::Syntax {
            offset: 7,
            expected: "','",
            found: None,
        },
        DerivationError::Unsupported {
            feature: "dynamic derivations",
        },
        DerivationError::NoOutputs,
        DerivationError::BadName { name: text("x") },
        DerivationError::WrongOutputPath {
            output: output.clone(),
            found: text("/nix/store/…-y"),
            expected: text("/nix/store/…-x"),
        },
        DerivationError::WrongOutputVariable {
            output: output.clone(),
            expected: text("/nix/store/…-x"),
        },
        DerivationError::BadOutputHash {
            output,
            reason: text("it is too short"),
        },
        DerivationError::MissingInput { path: path.clone() },
        DerivationError::Cycle { path },
        DerivationError::Json {
            reason: text("'name' is missing"),
        },
        DerivationError::Path {
            reason: text("'/etc' is not a store path: it lies outside the store"),
        },
    ]
}

fn attributes() -> Vec<AttributeError> {
    vec![
        AttributeError::Structured {
            reason: text("expected value at line 1 column 1"),
        },
        AttributeError::Type {
            name: text("outputChecks.out"),
            wanted: "an object",
            found: "a list",
        },
        AttributeError::OddExport { last: text("file") },
        AttributeError::ExportName {
            name: text("../file"),
        },
        AttributeError::ExportPath { path: text("/etc") },
        AttributeError::Specifier {
            name: text("allowedReferences"),
            specifier: text("nope"),
        },
    ]
}

fn task_graphs() -> Vec<TaskGraphError> {
    let (origin, task) = (text("g.stg"), text("a"));
    let mut samples = vec![
        TaskGraphError::Cycle {
            path: vec![text("a"), text("b")],
        },
        TaskGraphError::DanglingEdge {
            origin: origin.clone(),
            task: task.clone(),
            missing: text("b"),
        },
        TaskGraphError::DuplicateTask {
            origin: origin.clone(),
            name: task.clone(),
        },
        TaskGraphError::NegativeDuration {
            origin: origin.clone(),
            task: task.clone(),
            duration: text("-1"),
        },
        TaskGraphError::AbsurdDuration {
            origin: origin.clone(),
            task,
            duration: text("1e300"),
        },
        TaskGraphError::WorkOverflow { tasks: 2 },
        TaskGraphError::BadDemands {
            reason: text("task 3 needs data 7, of which there is none"),
        },
        TaskGraphError::DurationCount { given: 1, tasks: 2 },
        TaskGraphError::Unsuitable {
            file: origin.clone(),
            reason: text("it has no tasks"),
        },
        TaskGraphError::TooLarge {
            what: "tasks",
            limit: 4_294_967_294,
        },
        TaskGraphError::OverMemory {
            tasks: 10,
            edges: 20,
            needed: 4000,
            limit: 1000,
        },
        TaskGraphError::FileOverMemory {
            file: origin,
            needed: 4000,
            limit: 1000,
        },
        TaskGraphError::BadSpec {
            spec: text("spiral:n=3"),
            what: "generator",
            reason: text("`spiral` is not known"),
        },
        TaskGraphError::Unwritable {
            name: text("a b"),
            format: "STG",
        },
        TaskGraphError::Write(std::io::ErrorKind::StorageFull.into()),
    ];
    samples.extend(placed());
    samples
}

fn placed() -> Vec<TaskGraphError> {
    let place = Place {
        file: text("build.ninja"),
        line: 3,
        column: 7,
    };
    let path = text("x.ninja");
    vec![
        TaskGraphError::DuplicateOutput {
            place: place.clone(),
            output: text("a.o"),
        },
        TaskGraphError::Malformed {
            place: Place {
                column: 0,
                ..place.clone()
            },
            reason: text("expected ':'"),
        },
        TaskGraphError::Include {
            place: place.clone(),
            path: path.clone(),
            reason: text("no such file"),
        },
        TaskGraphError::IncludeCycle {
            place,
            path,
            chain: vec![text("build.ninja"), text("x.ninja")],
        },
    ]
}

/// The messages of `samples`, which must be of every kind that has one in `source`.
fn messages<E: std::error::Error>(samples: &[E], source: &str) -> String {
    let kinds: HashSet<Discriminant<E>> = samples.iter().map(discriminant).collect();
    let own = source.matches("#[error(").count() - source.matches("#[error(transparent)]").count();
    assert_eq!(kinds.len(), own, "a kind of error is missing here");
    let lines: Vec<String> = samples.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn every_message() {
    let sections = [
        messages(&data(), include_str!("../error.rs")),
        messages(&derivations(), include_str!("../derivation/mod.rs")),
        messages(
            &attributes(),
            include_str!("../derivation/attributes/mod.rs"),
        ),
        messages(&task_graphs(), include_str!("../task_graph/error.rs")),
    ];
    insta::assert_snapshot!(sections.join("\n\n"));
}
