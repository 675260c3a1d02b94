//! Lines `@nix {…}`, and those that carriage returns overwrite.

use windrow_components::log_line::{LogMessage, last_start};

use crate::shared::seeds as seeds_of;

/// The part that counts is a part of the line; what is a message could not be ruled out.
pub fn check(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    let last = last_start(&line);
    assert!(line.contains(last) && !last.contains('\r'));
    assert_eq!(last_start(last.trim_end_matches('\n')), last.trim_end_matches('\n'));
    if let Some(message) = LogMessage::parse(last) {
        assert!(LogMessage::may_be_in(bytes));
        assert_eq!(LogMessage::parse(last).as_ref(), Some(&message));
    }
}

/// A message of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        r#"@nix {"action":"msg","level":3,"msg":"a\u001b","raw_msg":"a"}"#,
        r#"@nix { "action": "setPhase", "phase": "unpackPhase" }"#,
        r#"@nix {"action":"start","id":1,"level":3,"type":105,"text":"t","fields":["/nix/store/x",1]}"#,
        r#"@nix {"action":"result","id":7,"type":105,"fields":[1,"x"]}"#,
        r#"@nix {"action":"stop","id":7}"#,
        "10 %\r20 %\r@nix {}\r\n",
    ])
}
