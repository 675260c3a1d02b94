//! Ways into what reads servers' answers and users' files, for fuzz targets: as little as they
//! need, and nothing that others should use.

use std::time::{Duration, SystemTime};

use crate::client::retry_after;
use crate::error::{Fault, Kind};
use crate::remote;

pub use crate::peer::fuzzing::{Heard, hear};

/// How long a server wants to be left alone.
pub fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    retry_after(text, now)
}

/// Where a part of a file begins that a server sends, and how large the file is.
pub fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    remote::fuzzing::content_range(text)
}

/// What an error of S3 makes of a status: its kind, and its reason.
pub fn s3_error(status: u16, text: &str) -> (Kind, String) {
    let fault = Fault::new(Kind::Status(status), "the server refuses");
    let fault = remote::fuzzing::s3_error(fault, text);
    (fault.kind, fault.reason)
}

/// The key and the token of a profile in a file of credentials.
pub fn profile(text: &str, name: &str) -> Option<(String, Option<String>)> {
    remote::fuzzing::profile(text, name)
}
