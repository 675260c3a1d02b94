//! File names made of other names, which must not get longer than file systems take.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// NAME_MAX of Linux: the longest file name, in bytes.
const NAME_MAX: usize = 255;

/// `NAME` and a suffix, the name cut where the whole would be too long.
pub fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let name = name.as_bytes();
    let kept = name.len().min(NAME_MAX.saturating_sub(suffix.len()));
    OsString::from_vec([&name[..kept], suffix.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_cut_and_the_suffix_stays() {
        assert_eq!(with_suffix("x".as_ref(), ".tmp"), "x.tmp");
        let long = "x".repeat(NAME_MAX);
        let made = with_suffix(long.as_ref(), ".tmp");
        assert_eq!(made.len(), NAME_MAX);
        assert!(made.to_string_lossy().ends_with("x.tmp"));
    }
}
