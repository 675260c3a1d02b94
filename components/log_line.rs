//! Lines that builders and other programs write: the part of a line that counts, and the messages
//! to the engine among them (Nix: `BuildLog`, `handleJSONLogMessage`). The reporters decide how
//! they are shown.

use serde::{Deserialize, Serialize};

/// What a message to the engine begins with. Everything else is text.
const MARK: &str = "@nix ";

/// The part of a line that is left where carriage returns overwrite it, as progress bars do. The
/// line's end, with a carriage return or without, is not among it.
pub fn last_start(line: &str) -> &str {
    let line = line.trim_end_matches('\n').trim_end_matches('\r');
    let start = memchr::memrchr(b'\r', line.as_bytes()).map_or(0, |at| at + 1);
    &line[start..]
}

/// A value that belongs to an activity or its result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Field {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// A message that a program wrote as a line `@nix {…}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum LogMessage {
    /// Something for people.
    Msg {
        /// How much it matters, from 0 (an error) to 7, in Nix's numbers.
        level: u64,
        /// The text.
        msg: String,
    },
    /// The build has come to another of its phases.
    SetPhase {
        /// The phase's name.
        phase: String,
    },
    /// An activity begins.
    Start {
        /// The program's own number of it.
        id: u64,
        /// How much it matters.
        #[serde(default)]
        level: u64,
        /// Which kind, in Nix's numbers.
        #[serde(rename = "type")]
        kind: u64,
        /// What goes on.
        #[serde(default)]
        text: String,
        /// What belongs to it.
        #[serde(default)]
        fields: Option<Vec<Field>>,
    },
    /// An activity has ended.
    Stop {
        /// The program's own number of it.
        id: u64,
    },
    /// Something has come of an activity.
    Result {
        /// The program's own number of the activity.
        id: u64,
        /// Which kind, in Nix's numbers.
        #[serde(rename = "type")]
        kind: u64,
        /// What belongs to it.
        #[serde(default)]
        fields: Option<Vec<Field>>,
    },
    /// Something that no release of Nix known here acts on.
    #[serde(other)]
    Unknown,
}

impl LogMessage {
    /// Whether there may be a message in a line: most lines are ruled out without parsing.
    pub fn may_be_in(line: &[u8]) -> bool {
        memchr::memchr(MARK.as_bytes()[0], line).is_some()
    }

    /// Whether a message may begin in what has come of a line so far.
    pub fn may_begin_in(partial: &[u8]) -> bool {
        let mark = MARK.as_bytes();
        memchr::memchr_iter(mark[0], partial).any(|at| {
            let rest = &partial[at..];
            rest.starts_with(mark) || mark.starts_with(rest)
        })
    }

    /// Reads a line. None if it is text, which it is too if it begins as a message does and then is
    /// none.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(MARK)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carriage_return_starts_the_line_anew() {
        for (line, left) in [
            ("", ""),
            ("plain", "plain"),
            ("plain\r\n", "plain"),
            ("10 %\r20 %\r100 %", "100 %"),
            ("10 %\r100 %\r", "100 %"),
            ("gone\r@nix {}", "@nix {}"),
            ("\r\r\n", ""),
        ] {
            assert_eq!(last_start(line), left, "{line:?}");
        }
    }

    #[test]
    fn messages_are_what_nix_acts_on() {
        let parse = LogMessage::parse;
        let msg = LogMessage::Msg {
            level: 3,
            msg: "a\u{1b}".to_owned(),
        };
        assert_eq!(
            parse(r#"@nix {"action":"msg","level":3,"msg":"a\u001b","raw_msg":"a"}"#),
            Some(msg)
        );
        let phase = "unpackPhase".to_owned();
        assert_eq!(
            parse(r#"@nix { "action": "setPhase", "phase": "unpackPhase" }"#),
            Some(LogMessage::SetPhase { phase })
        );
        assert_eq!(
            parse(r#"@nix {"action":"result","id":7,"type":105,"fields":[1,"x"]}"#),
            Some(LogMessage::Result {
                id: 7,
                kind: 105,
                fields: Some(vec![Field::Number(1), Field::Text("x".to_owned())]),
            })
        );
        assert_eq!(
            parse(r#"@nix {"action":"stop","id":7}"#),
            Some(LogMessage::Stop { id: 7 })
        );
        assert_eq!(
            parse(r#"@nix {"action":"dance","id":"x"}"#),
            Some(LogMessage::Unknown)
        );
    }

    #[test]
    fn what_is_no_message_is_text() {
        let deep = format!("@nix {}", "[".repeat(100_000));
        for line in [
            "",
            "@nix",
            "@nix ",
            "@nix {",
            "@nix {}",
            "@nix 3",
            "@nix null",
            r#" @nix {"action":"stop","id":7}"#,
            r#"@nix{"action":"stop","id":7}"#,
            r#"@nix {"action":"stop","id":-7}"#,
            r#"@nix {"action":"stop","id":7} x"#,
            r#"@nix {"action":"msg","level":"x","msg":"a"}"#,
            r#"@nix {"action":"msg","level":1}"#,
            r#"@nix {"action":"result","id":1,"type":1,"fields":[[]]}"#,
            &deep,
        ] {
            assert_eq!(LogMessage::parse(line), None, "{line:.80}");
        }
    }
}
