//! The file in which a run tells what it does.

use windrow_components::run_record::{RunRecord, RunState};

use crate::shared::seeds as seeds_of;

/// What is read is written and read again as the same; a state is what its records come to.
pub fn check(bytes: &[u8]) {
    let mut state = RunState::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some(record) = RunRecord::parse(line) else {
            continue;
        };
        state.take(&record);
        let mut written = Vec::new();
        record.write(&mut written);
        assert_eq!(written.pop(), Some(b'\n'));
        assert!(!written.contains(&b'\n'));
        assert_eq!(RunRecord::parse(&written), Some(record));
    }
    let mut again = RunState::default();
    state.records().for_each(|record| again.take(&record));
    assert_eq!(again, state);
}

/// A run from its beginning on.
pub fn seeds() -> Vec<Vec<u8>> {
    let run = r#"{"event":"run","pid":7,"command":["windrow","build"],"began":1,"targets":["/s/x.drv"]}"#;
    let start = r#"{"event":"start","id":1,"path":"/s/x.drv","at":2,"kind":"build","system":"x","log":"/l"}"#;
    let ended = r#"{"event":"end","id":1,"path":"/s/x.drv","ended":{"failed":{"status":100,"message":"m"}}}"#;
    seeds_of([
        run.to_owned(),
        format!("{run}\n{start}\n{{\"event\":\"phase\",\"id\":1,\"phase\":\"p\"}}\n{ended}\n"),
        format!("{start}\n{{\"event\":\"exit\",\"id\":1}}\n{{\"event\":\"counts\",\"built\":1}}"),
        r#"{"event":"start","id":2,"path":"p","kind":"wait","what":"w"}"#.to_owned(),
        r#"{"event":"end","id":2,"ended":"succeeded"}"#.to_owned(),
        r#"{"event":"unheard of"}"#.to_owned(),
    ])
}
