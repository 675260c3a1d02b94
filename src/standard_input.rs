//! What a `-` stands for: a list of arguments on standard input, or a graph.

use std::io;
use std::sync::Arc;

use windrow_sys::{bounded, interrupt};

use crate::error::{Error, Result};

/// How many bytes a list may have: there is room for some million paths.
const LIST_MAX: u64 = 256 << 20;

/// What standard input gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The lines of a list, without blanks around them.
    List(Vec<String>),
    /// A graph in JSON, as text.
    Graph(Arc<str>),
}

/// Reads standard input: text that begins with a brace is a graph, everything else a list.
///
/// # Errors
/// When it can't be read, has no end, or is not UTF-8.
pub(crate) fn read() -> Result<Given> {
    Ok(understand(read_text()?))
}

/// All that standard input gives, as text.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_text() -> Result<String> {
    String::from_utf8(read_list()?).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
        Error::io("read", "standard input")(source)
    })
}

fn understand(text: String) -> Given {
    if text.trim_start().starts_with('{') {
        return Given::Graph(text.into());
    }
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty());
    Given::List(lines.map(str::to_owned).collect())
}

/// All that standard input gives. Whoever writes to it may take any time for that.
///
/// # Errors
/// When it can't be read, or has no end.
pub(crate) fn read_list() -> Result<Vec<u8>> {
    let read = interrupt::stdin().and_then(|stdin| bounded::read_to_end(stdin, LIST_MAX));
    read.map_err(Error::io("read", "standard input"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brace_begins_a_graph() {
        let list = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned());
            Given::List(lines.collect())
        };
        assert_eq!(
            understand(" a b\n\n\tc\r\n".to_owned()),
            list(&["a b", "c"])
        );
        assert_eq!(understand("\n ".to_owned()), list(&[]));
        let graph = "\n {}";
        assert_eq!(understand(graph.to_owned()), Given::Graph(graph.into()));
    }
}
