//! What the build hook says.

use windrow_systems::helpers::hook::instance::{Said, understand};
use windrow_systems::process::lines::LineBuffer;

use crate::shared::seeds as seeds_of;

/// Every line is a reply, something for people, or told as nonsense; replies are marked.
pub fn check(bytes: &[u8]) {
    let mut lines = LineBuffer::default();
    lines.feed(bytes);
    while let Some(line) = lines.next_line() {
        let marked = line.strip_prefix("# ").map(str::trim_end);
        match understand(line.clone()) {
            Ok(Said::Line(said)) => assert!(said == line && marked.is_none()),
            Ok(Said::Reply(_)) => {
                let replies = ["accept", "decline", "decline-permanently", "postpone"];
                assert!(replies.contains(&marked.expect("it is marked")));
            }
            Err(error) => {
                assert!(marked.is_some());
                assert!(error.to_string().len() < 400, "a message is a line");
            }
        }
    }
}

/// All replies, and talk between them.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "trying machine x\n# accept\n",
        "# decline\n# decline-permanently\n# postpone \r\n",
        "# perhaps\n#accept\n # accept\n",
    ])
}
