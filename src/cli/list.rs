//! Lists of arguments on standard input.

use std::ffi::OsString;
use std::io::Read as _;

use windrow_sys::interrupt;

use crate::error::{Error, Result};

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
    let mut list = String::new();
    let read = interrupt::stdin().and_then(|mut stdin| stdin.read_to_string(&mut list));
    read.map_err(Error::io("read", "standard input"))?;
    Ok(list)
}
