//! Ways into what reads foreign bytes, for fuzz targets: as little as they need, and nothing that
//! others should use.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use windrow_components::settings::{Host, Settings};

use crate::conf::nix_conf::load_for;
use crate::conf::store_name::StoreName;

/// The settings that the text of the variable `name` gives, and what is warned of.
///
/// # Errors
/// What is wrong with them.
pub fn settings(name: &str, text: &[u8]) -> Result<(Settings, Vec<String>), String> {
    let host = Host {
        conf_dir: "/nonexistent".into(),
        ..Host::default()
    };
    let env = |asked: &str| match asked {
        "NIX_USER_CONF_FILES" => Some(OsString::new()),
        "WINDROW_CONF_DIR" => Some("/nonexistent".into()),
        asked => (asked == name).then(|| OsStr::from_bytes(text).to_owned()),
    };
    let (settings, warnings) = load_for(&host, &env).map_err(|error| error.to_string())?;
    let warnings = warnings.iter().map(ToString::to_string);
    Ok((settings, warnings.collect()))
}

/// What the name of a store is warned of.
///
/// # Errors
/// What is wrong with it.
pub fn store_name(name: &str) -> Result<Vec<String>, String> {
    let name = StoreName::parse(name).map_err(|error| error.to_string())?;
    Ok(name.warnings)
}
