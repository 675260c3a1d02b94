//! What a substituter may answer, and what it may do wrong.

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;

/// A substituter that is a shell script, with what it said on standard error.
struct Script {
    dir: tempfile::TempDir,
    env: HelperEnv,
    patience_s: u64,
    said: Vec<String>,
}

impl Script {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("subst");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let env: HelperEnv = Arc::new([c"PATH=/usr/bin:/bin".to_owned()]);
        Self {
            dir,
            env,
            patience_s: 0,
            said: Vec::new(),
        }
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("subst")
    }

    fn with<T>(
        &mut self,
        stop: Option<BorrowedFd<'_>>,
        work: impl FnOnce(&Path, &mut Around<'_>) -> T,
    ) -> T {
        let program = self.program();
        let said = &mut self.said;
        let mut say = |line: &str| said.push(line.to_owned());
        let mut around = Around {
            env: &self.env,
            patience_s: self.patience_s,
            stop,
            say: &mut say,
        };
        work(&program, &mut around)
    }

    fn start(&mut self) -> Result<Option<QueryProcess>, QueryError> {
        self.with(None, QueryProcess::start)
    }
}

fn paths(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("/s/{n}-p")).collect()
}

#[test]
fn questions_are_answered_in_batches() {
    let mut script = Script::new(
        r#"echo "args $*" >&2; echo
        while read -r verb paths; do
          echo "$verb $(echo $paths | wc -w)" >&2
          for p in $paths; do
            case $p in *7-p)
              echo $p
              if [ $verb = info ]; then echo /s/d.drv; echo 2; echo $p; echo /s/r; echo 12; echo 34; fi
            esac
          done
          echo
        done"#,
    );
    let asked = paths(2500);
    let mut process = script.start().unwrap().expect("it wants to be asked");
    let (have, infos) = script.with(None, |_, around| {
        (
            process.have(&asked, around).unwrap(),
            process.infos(&asked, around).unwrap(),
        )
    });
    assert_eq!(have.len(), 250);
    assert_eq!(
        have,
        infos
            .iter()
            .map(|info| info.path.clone())
            .collect::<Vec<_>>()
    );
    let expected = RawInfo {
        path: "/s/7-p".into(),
        deriver: "/s/d.drv".into(),
        references: vec!["/s/7-p".into(), "/s/r".into()],
        download_size: 12,
        nar_size: 34,
    };
    assert_eq!(infos[0], expected);
    let said = [
        "args --query",
        "have 1000",
        "have 1000",
        "have 500",
        "info 1000",
        "info 1000",
        "info 500",
    ];
    assert_eq!(script.said, said);
}

#[test]
fn one_that_ends_well_at_once_is_not_asked() {
    assert!(Script::new("exit 0").start().unwrap().is_none());
}

#[test]
fn one_that_dies_says_how() {
    let mut script = Script::new("echo no network >&2; exit 3");
    let error = script.start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "it died unexpectedly: it failed with exit code 3"
    );
    assert_eq!(script.said, ["no network"]);

    let mut script = Script::new("echo; read x; printf '/s/0-p\\n/s/d'; kill -9 $$");
    let mut process = script.start().unwrap().unwrap();
    let error = script
        .with(None, |_, around| process.infos(&paths(1), around))
        .unwrap_err();
    assert!(error.to_string().contains("signal 9"), "{error}");
}

#[test]
fn one_that_does_not_exist_is_no_riddle() {
    let mut script = Script::new("");
    let error = script
        .with(None, |_, around| {
            QueryProcess::start(Path::new("/no/such"), around)
        })
        .unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn nonsense_is_named() {
    for (script, what) in [
        ("echo hello", "'hello' where an empty line"),
        (
            "echo; read x; echo p; echo; echo many",
            "'many' where the number",
        ),
        (
            "echo; read x; echo p; echo; echo 99999999",
            "'99999999' where the number",
        ),
    ] {
        let mut script = Script::new(&format!("{script}; sleep 60"));
        let error = match script.start() {
            Ok(process) => script
                .with(None, |_, around| process.unwrap().infos(&paths(1), around))
                .unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn an_answer_that_does_not_end_is_not_kept() {
    let mut script = Script::new("echo; read x; exec yes");
    let mut process = script.start().unwrap().unwrap();
    let error = script
        .with(None, |_, around| process.have(&paths(1), around))
        .unwrap_err();
    assert!(matches!(error, QueryError::Endless { .. }), "{error}");
    for endless in ["exec yes ''", "exec tr '\\0' x < /dev/zero"] {
        let mut script = Script::new(&format!(
            "echo; read x; echo p; echo; echo 1000000; {endless}"
        ));
        let mut process = script.start().unwrap().unwrap();
        let error = script
            .with(None, |_, around| process.infos(&paths(1), around))
            .unwrap_err();
        // What follows the references is no number.
        let told = match &error {
            QueryError::Endless { .. } => true,
            QueryError::Nonsense { line, .. } => line.is_empty(),
            _ => false,
        };
        assert!(told, "{error}");
    }
    let mut script = Script::new("exec tr '\\0' x < /dev/zero");
    let error = script.start().unwrap_err().to_string();
    assert!(
        error.contains("where an empty line") && error.len() < 500,
        "{error}"
    );
}

#[test]
fn what_one_that_died_left_running_is_not_waited_for() {
    // In a session of its own, where it is not killed with its parent.
    for (script, status) in [
        ("setsid sleep 20 & exit 3", 3 << 8),
        ("setsid sleep 20 & echo; exit 4", 4 << 8),
        (
            "setsid sleep 20 & echo; read x; printf '/s/0-p\\n/s/d'; exit 5",
            5 << 8,
        ),
    ] {
        let mut script = Script::new(script);
        let error = match script.start() {
            Err(error) => error,
            Ok(process) => script
                .with(None, |_, around| process.unwrap().infos(&paths(1), around))
                .unwrap_err(),
        };
        assert!(
            matches!(error, QueryError::Died { status: it } if it == status),
            "{error}"
        );
    }
}

#[test]
fn patience_ends() {
    let mut script = Script::new("echo; sleep 60");
    script.patience_s = 1;
    let mut process = script.start().unwrap().unwrap();
    let error = script
        .with(None, |_, around| process.have(&paths(1), around))
        .unwrap_err();
    assert!(
        matches!(error, QueryError::Silent { seconds: 1 }),
        "{error}"
    );
}

#[test]
fn it_can_be_stopped_while_it_says_nothing() {
    let mut script = Script::new("sleep 60");
    let (ours, theirs) = nix::unistd::pipe().unwrap();
    drop(theirs);
    let error = script
        .with(Some(ours.as_fd()), QueryProcess::start)
        .unwrap_err();
    assert!(matches!(error, QueryError::Stopped), "{error}");
}

#[test]
fn a_program_that_reads_slowly_and_talks_much_blocks_nobody() {
    // Both pipes are full at once: it writes complaints before it reads the long question.
    let mut script =
        Script::new("echo; head -c 300000 /dev/zero | tr '\\0' '\\n' >&2; read -r x; echo");
    let mut process = script.start().unwrap().unwrap();
    let long: Vec<String> = (0..1000).map(|n| format!("/s/{n:0>200}")).collect();
    let have = script
        .with(None, |_, around| process.have(&long, around))
        .unwrap();
    assert!(have.is_empty());
    assert_eq!(script.said.len(), 300_000);
}
