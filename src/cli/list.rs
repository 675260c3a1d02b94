//! Lists of arguments on standard input.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;

use windrow_sys::interrupt::Interrupts;

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

/// All that standard input gives. Whoever writes to it may take any time for that, but a signal
/// ends the wait.
fn read_list() -> Result<String> {
    let failed = Error::io("read", "standard input");
    let read = || {
        let interrupts = Interrupts::watch()?;
        let mut stdin = std::io::stdin().lock();
        let (mut list, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            if let Some(signal) = interrupts.or_readable(stdin.as_fd())? {
                return Ok(Err(Error::Interrupted { signal }));
            }
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => list.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        String::from_utf8(list).map(Ok).map_err(|_| {
            io::Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8")
        })
    };
    read().map_err(failed)?
}
