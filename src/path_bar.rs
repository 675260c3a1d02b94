//! A bar that counts store paths, on terminals, for work on all of a store.

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::stderr_is_terminal;

/// A bar on a terminal if it `is_wanted`, else nothing. It appears with its first position.
pub(crate) fn bar(is_wanted: bool) -> ProgressBar {
    if !stderr_is_terminal() || !is_wanted {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} paths, {eta} left");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Writes something without disturbing a bar that is there.
pub(crate) fn beside(bar: &ProgressBar, write: impl FnOnce()) {
    match bar.length() {
        Some(_) => bar.suspend(write),
        None => write(),
    }
}
