//! What a run tells others of itself while it lasts, a line of JSON for each thing that happens,
//! and what these lines come to: what it has under way. Where they are kept the store knows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunInfo {
    /// Its process, as it is numbered where it runs.
    pub pid: u32,
    /// The process's command line.
    #[serde(default)]
    pub command: Vec<String>,
    /// When it began, in milliseconds since 1970.
    #[serde(default)]
    pub began: u64,
    /// Store paths that it was asked for, some of them if there are many.
    #[serde(default)]
    pub targets: Vec<String>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RunCounts {
    /// Derivations that must be built, as far as is known, with those that were.
    pub expected: u32,
    /// Derivations built.
    pub built: u32,
    /// Derivations that failed.
    pub failed: u32,
    /// Derivations that were not built because something they need failed.
    pub not_built: u32,
    /// Paths fetched.
    pub fetched: u32,
}

/// What is under way for a derivation or a store path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Work {
    /// A builder runs.
    Build {
        /// The platform it is for.
        #[serde(default)]
        system: String,
        /// Where its log goes; empty if it is not kept.
        #[serde(default)]
        log: String,
        /// The phase that it has come to; empty if it has not told one.
        #[serde(default)]
        phase: String,
        /// Whether its process has ended, and what it made is being registered.
        #[serde(default)]
        exited: bool,
    },
    /// A path is fetched.
    Fetch,
    /// It waits for a lock that somebody else holds.
    Wait {
        /// The lock and who holds it; empty if that was not looked up.
        #[serde(default)]
        what: String,
    },
}

/// Something that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Activity {
    /// A number that nothing else of the run has.
    pub id: u64,
    /// The derivation, or the path that is fetched.
    pub path: String,
    /// Since when, in milliseconds since 1970.
    #[serde(default)]
    pub at: u64,
    /// What goes on.
    #[serde(flatten)]
    pub work: Work,
}

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// What was made is valid.
    Succeeded,
    /// It failed.
    Failed {
        /// The exit status of a command that nothing else fails for.
        #[serde(default)]
        status: u8,
        /// What failed and why.
        #[serde(default)]
        message: String,
    },
    /// It was ended before its time.
    Cancelled,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum RunRecord {
    /// The first: nothing before counts.
    Run(RunInfo),
    /// Something goes on from now, in place of what went on before for the same goal.
    Start(Activity),
    /// A builder has come to another phase.
    Phase {
        /// The activity's number.
        id: u64,
        /// The phase's name.
        phase: String,
    },
    /// A builder's process has ended.
    Exit {
        /// The activity's number.
        id: u64,
    },
    /// Something has ended, or could not even begin.
    End {
        /// The activity's number.
        id: u64,
        /// The derivation or path.
        #[serde(default)]
        path: String,
        /// How.
        ended: Ended,
    },
    /// The run has come further.
    Counts(RunCounts),
    /// Something that a later release tells.
    #[serde(other)]
    Unknown,
}

impl RunRecord {
    /// Reads a line. None if it is no record.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Writes a line, with its end.
    pub fn write(&self, to: &mut Vec<u8>) {
        let length = to.len();
        // Writing to memory fails for no record.
        match serde_json::to_writer(&mut *to, self) {
            Ok(()) => to.push(b'\n'),
            Err(_) => to.truncate(length),
        }
    }

    /// The activity that it is about, if it is about one.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Start(Activity { id, .. })
            | Self::Phase { id, .. }
            | Self::Exit { id }
            | Self::End { id, .. } => Some(*id),
            Self::Run(_) | Self::Counts(_) | Self::Unknown => None,
        }
    }
}

/// What a run's records come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunState {
    /// What the run is, if it has told.
    pub run: Option<RunInfo>,
    /// How far it is.
    pub counts: RunCounts,
    /// What it has under way, by number.
    pub activities: BTreeMap<u64, Activity>,
}

impl RunState {
    /// Takes in a record.
    pub fn take(&mut self, record: &RunRecord) {
        match record {
            RunRecord::Run(run) => {
                *self = Self {
                    run: Some(run.clone()),
                    ..Self::default()
                };
            }
            RunRecord::Start(activity) => {
                self.activities.insert(activity.id, activity.clone());
            }
            RunRecord::Phase { id, phase: new } => {
                if let Some(Work::Build { phase, .. }) = self.work(*id) {
                    phase.clone_from(new);
                }
            }
            RunRecord::Exit { id } => {
                if let Some(Work::Build { exited, .. }) = self.work(*id) {
                    *exited = true;
                }
            }
            RunRecord::End { id, .. } => {
                self.activities.remove(id);
            }
            RunRecord::Counts(counts) => self.counts = *counts,
            RunRecord::Unknown => {}
        }
    }

    fn work(&mut self, id: u64) -> Option<&mut Work> {
        Some(&mut self.activities.get_mut(&id)?.work)
    }

    /// The records that come to this.
    pub fn records(&self) -> impl Iterator<Item = RunRecord> {
        let run = self.run.iter().cloned().map(RunRecord::Run);
        let counts = std::iter::once(RunRecord::Counts(self.counts));
        let activities = self.activities.values().cloned().map(RunRecord::Start);
        run.chain(counts).chain(activities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(id: u64) -> RunRecord {
        RunRecord::Start(Activity {
            id,
            path: "/nix/store/x.drv".to_owned(),
            at: 7,
            work: Work::Build {
                system: "x86_64-linux".to_owned(),
                log: "/log".to_owned(),
                phase: String::new(),
                exited: false,
            },
        })
    }

    #[test]
    fn records_are_written_as_documented() {
        let ended = Ended::Failed {
            status: 100,
            message: "a\n\"b\"".to_owned(),
        };
        let id = 3;
        for (record, line) in [
            (
                build(3),
                r#"{"event":"start","id":3,"path":"/nix/store/x.drv","at":7,"kind":"build","system":"x86_64-linux","log":"/log","phase":"","exited":false}"#,
            ),
            (RunRecord::Exit { id }, r#"{"event":"exit","id":3}"#),
            (
                RunRecord::End {
                    id,
                    path: String::new(),
                    ended,
                },
                r#"{"event":"end","id":3,"path":"","ended":{"failed":{"status":100,"message":"a\n\"b\""}}}"#,
            ),
            (
                RunRecord::Counts(RunCounts {
                    expected: 9,
                    ..RunCounts::default()
                }),
                r#"{"event":"counts","expected":9,"built":0,"failed":0,"notBuilt":0,"fetched":0}"#,
            ),
        ] {
            let mut text = Vec::new();
            record.write(&mut text);
            assert_eq!(String::from_utf8_lossy(&text), format!("{line}\n"));
            assert_eq!(RunRecord::parse(&text), Some(record));
        }
    }

    #[test]
    fn what_is_new_or_missing_does_no_harm() {
        let parse = |line: &str| RunRecord::parse(line.as_bytes());
        assert_eq!(
            parse(r#"{"event":"dance","id":"x"}"#),
            Some(RunRecord::Unknown)
        );
        let run = RunInfo {
            pid: 5,
            ..RunInfo::default()
        };
        assert_eq!(
            parse(r#"{"event":"run","pid":5,"colour":"red"}"#),
            Some(RunRecord::Run(run))
        );
        assert_eq!(
            parse(r#"{"event":"start","id":1,"path":"p","kind":"fetch","from":"q"}"#),
            Some(RunRecord::Start(Activity {
                id: 1,
                path: "p".to_owned(),
                at: 0,
                work: Work::Fetch,
            }))
        );
        for line in [
            "",
            "{}",
            "3",
            "null",
            r#"{"event":"start","id":1}"#,
            "{\"event\":\"exit\"",
            "\u{0}",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_run_has_under_way_what_began_and_did_not_end() {
        let mut state = RunState::default();
        for record in [
            build(1),
            build(2),
            RunRecord::Exit { id: 2 },
            RunRecord::Exit { id: 9 },
        ] {
            state.take(&record);
        }
        let phase = "buildPhase".to_owned();
        state.take(&RunRecord::Phase { id: 2, phase });
        state.take(&RunRecord::End {
            id: 1,
            path: String::new(),
            ended: Ended::Succeeded,
        });
        let left: Vec<_> = state.activities.values().map(|it| &it.work).collect();
        assert!(
            matches!(left[..], [Work::Build { phase, exited: true, .. }] if phase == "buildPhase")
        );
        state.take(&RunRecord::Run(RunInfo::default()));
        assert!(state.activities.is_empty());
    }

    fn any_record() -> impl Strategy<Value = RunRecord> {
        let id = 0_u64..4;
        let text = "[a-z\"\\\\\n\u{0}é]{0,6}";
        let work = prop_oneof![
            (text, text, text, any::<bool>()).prop_map(|(system, log, phase, exited)| {
                Work::Build {
                    system,
                    log,
                    phase,
                    exited,
                }
            }),
            Just(Work::Fetch),
            text.prop_map(|what| Work::Wait { what }),
        ];
        let ended = prop_oneof![
            Just(Ended::Succeeded),
            Just(Ended::Cancelled),
            (any::<u8>(), text).prop_map(|(status, message)| Ended::Failed { status, message }),
        ];
        let number = any::<u32>();
        prop_oneof![
            (number, proptest::collection::vec(text, 0..3), any::<u64>()).prop_map(
                |(pid, command, began)| {
                    let targets = command.clone();
                    RunRecord::Run(RunInfo {
                        pid,
                        command,
                        began,
                        targets,
                    })
                }
            ),
            (id.clone(), text, any::<u64>(), work)
                .prop_map(|(id, path, at, work)| RunRecord::Start(Activity { id, path, at, work })),
            (id.clone(), text).prop_map(|(id, phase)| RunRecord::Phase { id, phase }),
            id.clone().prop_map(|id| RunRecord::Exit { id }),
            (id, text, ended).prop_map(|(id, path, ended)| RunRecord::End { id, path, ended }),
            number.prop_map(|built| RunRecord::Counts(RunCounts {
                built,
                ..RunCounts::default()
            })),
        ]
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(record in any_record()) {
            let mut line = Vec::new();
            record.write(&mut line);
            prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            prop_assert_eq!(RunRecord::parse(&line), Some(record));
        }

        #[test]
        fn a_state_is_what_its_records_come_to(
            records in proptest::collection::vec(any_record(), 0..20)
        ) {
            let mut state = RunState::default();
            records.iter().for_each(|record| state.take(record));
            let mut again = RunState::default();
            state.records().for_each(|record| again.take(&record));
            prop_assert_eq!(again, state);
        }

        #[test]
        fn no_line_is_too_strange(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = RunRecord::parse(&line);
        }
    }
}
