//! Lists of arguments on standard input.

use std::ffi::OsString;
use std::io;

use windrow_sys::bounded;
use windrow_sys::interrupt;

use crate::error::{Error, Result};

/// How many bytes a list may have: there is room for some million paths.
const LIST_MAX: u64 = 256 << 20;

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

/// All that standard input gives. Whoever writes to it may take any time for that.
fn read_list() -> Result<String> {
    let read = interrupt::stdin().and_then(|stdin| bounded::read_to_end(stdin, LIST_MAX));
    let list = read.map_err(Error::io("read", "standard input"))?;
    String::from_utf8(list).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
        Error::io("read", "standard input")(source)
    })
}
