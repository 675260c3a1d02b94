//! Lists of arguments on standard input.

use windrow_sys::{bounded, interrupt};

use crate::error::{Error, Result};

/// How many bytes a list may have: there is room for some million paths.
const LIST_MAX: u64 = 256 << 20;

/// All that standard input gives. Whoever writes to it may take any time for that.
///
/// # Errors
/// When it can't be read, or has no end.
pub(crate) fn read_list() -> Result<Vec<u8>> {
    let read = interrupt::stdin().and_then(|stdin| bounded::read_to_end(stdin, LIST_MAX));
    read.map_err(Error::io("read", "standard input"))
}
