//! The user's own directories, as the XDG base directory specification finds them.

use std::path::PathBuf;

/// Where programs keep data: `XDG_DATA_HOME`, else ~/.local/share. None without either.
pub(crate) fn data() -> Option<PathBuf> {
    named("XDG_DATA_HOME", ".local/share")
}

/// Where programs are configured: `XDG_CONFIG_HOME`, else ~/.config. None without either.
pub(crate) fn config() -> Option<PathBuf> {
    named("XDG_CONFIG_HOME", ".config")
}

/// The directory of a variable, which counts only if it is absolute, else one below HOME.
fn named(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |variable| {
        let path = PathBuf::from(std::env::var_os(variable)?);
        path.is_absolute().then_some(path)
    };
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))
}
