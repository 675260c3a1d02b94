//! Every message of the command line's errors, as users read them.

use std::collections::HashSet;
use std::io;
use std::mem::discriminant;

use super::*;

fn refused() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// One of each kind that has a message of its own.
fn samples() -> Vec<Error> {
    let mut samples = arguments();
    samples.extend(files());
    samples.extend(things());
    samples
}

fn arguments() -> Vec<Error> {
    vec![
        Error::UnknownSetting {
            name: text("core"),
            nearest: Some("cores"),
        },
        Error::UnknownSetting {
            name: text("frobnicate"),
            nearest: None,
        },
        Error::StoreReadOnly {
            store: text("/nix/store"),
            reason: text("it is on a read-only file system"),
        },
        Error::StoreNamedBy {
            source: StoreNameError::Daemon {
                store: text("daemon"),
            },
            origin: text("the environment variable NIX_REMOTE"),
        },
        Error::StoreForbidden {
            remedy: text("run as its owner"),
            source: Box::new(windrow_store::Error::io(
                "create the directory",
                "/nix/store/.links",
            )(refused())),
        },
        Error::NoHome,
        Error::NoUserDirs,
        Error::NothingNamed,
        Error::Policy {
            reason: text("there is no policy 'best'"),
        },
        Error::BadTarget {
            what: text("x.txt"),
            reason: text("it is not in the store"),
        },
        Error::BadArgument {
            what: text("/nix/store/…-x"),
            reason: text("no derivation of it is known"),
        },
        Error::Unsupported(text("windrow does not do that")),
        Error::Usage(text("no operation specified")),
        Error::Shell(text("cannot open a shell for '/nix/store/…-x.drv'")),
    ]
}

fn files() -> Vec<Error> {
    let json = serde_json::from_str::<u8>("x").unwrap_err();
    vec![
        Error::io("read", "x.json")(refused()),
        Error::AddJson {
            path: "x.json".into(),
            source: Box::new(
                windrow_components::Error::from(
                    windrow_components::derivation::DerivationError::NoOutputs,
                )
                .into(),
            ),
        },
        Error::Json {
            path: "x.json".into(),
            source: json,
        },
        Error::Import {
            file: "build.ninja".into(),
            reason: text("nothing makes 'x'"),
        },
        Error::NotReportable {
            path: "x.json".into(),
            reason: text("it is empty"),
        },
        Error::Derivation {
            path: "x.drv".into(),
            source: windrow_components::derivation::DerivationError::NoOutputs,
        },
        Error::TooLargeFile {
            path: "x.ninja".into(),
            size: 1 << 40,
            limit: 1 << 30,
        },
    ]
}

fn things() -> Vec<Error> {
    let drv = text("/nix/store/…-x.drv");
    let path = text("/nix/store/…-x");
    vec![
        Error::BuildFailed {
            message: text("build of '/nix/store/…-x.drv' failed"),
            status: 100,
        },
        Error::NotCopied {
            message: text("'/nix/store/…-x' is not in the store; copy that first"),
            cause: None,
        },
        Error::EngineStopped(text("cannot poll for events: no memory")),
        Error::EngineEnded,
        Error::Interrupted { signal: 2 },
        Error::EmptyHistory {
            state: text("/nix/var/nix"),
        },
        Error::NoHistory {
            name: text("hello-*"),
        },
        Error::NotInStore { path: path.clone() },
        Error::NoBinding {
            drv: drv.clone(),
            name: text("src"),
        },
        Error::NoOutput {
            drv,
            name: text("dev"),
        },
        Error::NoDeriver { path: path.clone() },
        Error::BadName {
            name: text("\u{fffd}"),
        },
        Error::NotEnded {
            path: path.clone(),
            reason: text("process 7, which built it, was killed"),
        },
        Error::NoLog { path },
    ]
}

#[test]
fn messages() {
    let samples = samples();
    let kinds: HashSet<_> = samples.iter().map(discriminant).collect();
    let source = include_str!("../error.rs");
    let own = source.matches("#[error(").count() - source.matches("#[error(transparent)]").count();
    assert_eq!(kinds.len(), own, "a kind of error is missing here");
    let lines: Vec<String> = samples.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
