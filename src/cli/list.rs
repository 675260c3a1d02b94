//! Arguments of which some are on standard input.

use std::ffi::OsString;
use std::io;

use crate::error::{Error, Result};
use crate::standard_input;

/// The arguments, with those of a list on standard input where a `-` stands.
///
/// # Errors
/// When the list can't be read.
pub(super) fn expand(what: &[OsString]) -> Result<Vec<OsString>> {
    let mut expanded = Vec::with_capacity(what.len());
    for what in what {
        if what == "-" {
            let list = read_list()?;
            let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
            expanded.extend(lines.map(OsString::from));
        } else {
            expanded.push(what.clone());
        }
    }
    Ok(expanded)
}

fn read_list() -> Result<String> {
    let list = standard_input::read_list()?;
    String::from_utf8(list).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
        Error::io("read", "standard input")(source)
    })
}
