//! Reads the settings from nix.conf, windrow.toml and the environment, in the order of Nix.
//! Returns them with warnings; prints nothing. How one text is read stands in `nix_conf/text.rs`.

mod text;
mod windrow_toml;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::conf::error::ConfError;
pub(crate) use crate::conf::error::ConfLine;
use crate::conf::host::this_machine;
use text::Reader;
use windrow_components::settings::{Host, Settings, nearest};

/// Something a user should hear of, although the configuration can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Warning {
    /// A name that neither Nix nor the engine has.
    UnknownSetting {
        /// The name as it stands there.
        name: String,
        /// Where it stands.
        place: ConfLine,
        /// A known name that is much like it.
        nearest: Option<&'static str>,
    },
    /// Settings of one file or variable that nothing acts on and that are not what they are by
    /// default.
    NoEffect {
        /// The file's path, or the variable's name.
        origin: PathBuf,
        /// Their names as they stand there, each with its line.
        settings: Vec<(String, u32)>,
    },
    /// A file that is there and can't be read; it was passed over, as Nix does.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why it can't be read.
        reason: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnknownSetting {
                name,
                place,
                nearest: None,
            } => {
                write!(f, "{place}: unknown setting '{name}'")
            }
            Warning::UnknownSetting {
                name,
                place,
                nearest: Some(near),
            } => {
                write!(
                    f,
                    "{place}: unknown setting '{name}'; did you mean '{near}'?"
                )
            }
            Warning::NoEffect { origin, settings } => {
                let origin = origin.display();
                if let [(name, line)] = settings.as_slice() {
                    return write!(
                        f,
                        "{origin}:{line}: the setting '{name}' has no effect here"
                    );
                }
                let names: Vec<String> = settings
                    .iter()
                    .map(|(name, line)| format!("'{name}' (line {line})"))
                    .collect();
                let names = names.join(", ");
                write!(f, "{origin}: these settings have no effect here: {names}")
            }
            Warning::Unreadable { file, reason } => {
                write!(
                    f,
                    "'{}' can't be read and was passed over: {reason}",
                    file.display()
                )
            }
        }
    }
}

/// Reads the settings of this machine; `conf_dir` is where nix.conf is. With `own_store` they are
/// for the user's own store, and with `as_nix` the defaults are those of Nix.
///
/// Later ones win: defaults, the variables that stand for one setting, `conf_dir`/nix.conf, the
/// user's nix.conf files from last to first, the system's windrow.toml, the user's, `NIX_CONFIG`,
/// `_NIX_OPTIONS`, with which Nix 1.8 passed its settings to the programs it started, and
/// `WINDROW_STORE`. `NIX_BUILD_CORES` is not among them: Nix sets it for builders and never reads
/// it.
pub(crate) fn load(
    env: &impl Fn(&str) -> Option<OsString>,
    conf_dir: &Path,
    (own_store, as_nix): (bool, bool),
) -> Result<(Settings, Vec<Warning>), ConfError> {
    let host = Host {
        own_store,
        as_nix,
        ..this_machine(conf_dir)
    };
    load_for(&host, env)
}

/// Reads the settings as [`load`] does, for the machine that `host` describes.
pub(crate) fn load_for(
    host: &Host,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<(Settings, Vec<Warning>), ConfError> {
    let mut settings = Settings::for_host(host);
    apply_variables(&mut settings, env)?;
    let mut reader = Reader::new(&mut settings);
    reader.file(&host.conf_dir.join("nix.conf"))?;
    for file in user_files(env).iter().rev() {
        reader.file(file)?;
    }
    for file in windrow_files(env) {
        reader.toml_file(&file)?;
    }
    if let Some(text) = env("NIX_CONFIG") {
        reader.variable("NIX_CONFIG", &text.into_vec())?;
    }
    if let Some(packed) = env("_NIX_OPTIONS") {
        reader.packed("_NIX_OPTIONS", &packed.into_vec())?;
    }
    let (mut warnings, without_effect) = (reader.warnings, reader.without_effect);
    if let Some(store) = text_of(env, "WINDROW_STORE")?.filter(|store| !store.is_empty()) {
        settings.store = store;
    }
    let defaults = Settings::for_host(host);
    for (name, place) in without_effect {
        warn_of_no_effect(&mut warnings, (&settings, &defaults), name, place);
    }
    Ok((settings, warnings))
}

/// Adds a setting that has no effect to the warning of its file, unless it has its default after
/// all. One line a file: a nix.conf shared with Nix may hold many of them.
fn warn_of_no_effect(
    warnings: &mut Vec<Warning>,
    (settings, defaults): (&Settings, &Settings),
    name: String,
    ConfLine { origin, line }: ConfLine,
) {
    let todays = Settings::todays_name(&name).unwrap_or_default();
    if settings.get(todays) == defaults.get(todays) {
        return;
    }
    let earlier = warnings.iter_mut().find_map(|warning| match warning {
        Warning::NoEffect {
            origin: other,
            settings,
        } if *other == origin => Some(settings),
        _ => None,
    });
    match earlier {
        Some(settings) => settings.push((name, line)),
        None => warnings.push(Warning::NoEffect {
            origin,
            settings: vec![(name, line)],
        }),
    }
}

/// Applies the variables that give one setting another default.
fn apply_variables(
    settings: &mut Settings,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), ConfError> {
    if let Some(store) = text_of(env, "NIX_REMOTE")?.filter(|store| !store.is_empty()) {
        settings.store = store;
    }
    if let Some(files) = text_of(env, "NIX_REMOTE_SYSTEMS")? {
        let included = files.split(':').filter(|file| !file.is_empty());
        settings.builders = included
            .map(|file| format!("@{file}"))
            .collect::<Vec<_>>()
            .join(" ");
    }
    if env("NIX_IGNORE_SYMLINK_STORE").is_some_and(|value| value == "1") {
        settings.allow_symlinked_store = true;
    }
    let bundle = env("NIX_SSL_CERT_FILE").or_else(|| env("SSL_CERT_FILE"));
    if let Some(file) = bundle.filter(|file| !file.is_empty()) {
        settings.ssl_cert_file = Some(file.into());
    }
    Ok(())
}

/// The value of a variable, which must be text.
fn text_of(
    env: &impl Fn(&str) -> Option<OsString>,
    variable: &'static str,
) -> Result<Option<String>, ConfError> {
    let text = env(variable).map(OsString::into_string).transpose();
    text.map_err(|_| ConfError::Variable { variable })
}

/// The files windrow.toml of the system and of the user, in this order; they need not exist.
fn windrow_files(env: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let filled = |variable| env(variable).filter(|value| !value.is_empty());
    let system = filled("WINDROW_CONF_DIR").map_or_else(|| "/etc/windrow".into(), PathBuf::from);
    let user = match filled("XDG_CONFIG_HOME") {
        Some(config) => Some(PathBuf::from(config)),
        None => filled("HOME").map(|home| Path::new(&home).join(".config")),
    };
    let user = user.map(|config| config.join("windrow"));
    let dirs = std::iter::once(system).chain(user);
    dirs.map(|dir| dir.join("windrow.toml")).collect()
}

/// The user's nix.conf files, the most important first; most of them won't exist.
fn user_files(env: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let split = |list: OsString| -> Vec<PathBuf> {
        std::env::split_paths(&list)
            .filter(|path| !path.as_os_str().is_empty())
            .collect()
    };
    if let Some(files) = env("NIX_USER_CONF_FILES") {
        return split(files);
    }
    let filled = |variable| env(variable).filter(|value| !value.is_empty());
    let home = if let Some(own) = filled("NIX_CONFIG_HOME") {
        Some(PathBuf::from(own))
    } else if let Some(config) = filled("XDG_CONFIG_HOME") {
        Some(Path::new(&config).join("nix"))
    } else {
        filled("HOME").map(|home| Path::new(&home).join(".config/nix"))
    };
    let shared = split(filled("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into()));
    let dirs = home
        .into_iter()
        .chain(shared.into_iter().map(|dir| dir.join("nix")));
    dirs.map(|dir| dir.join("nix.conf")).collect()
}

impl Warning {
    fn unknown(name: &str, place: ConfLine) -> Warning {
        Warning::UnknownSetting {
            name: name.to_owned(),
            place,
            nearest: nearest(name),
        }
    }
}

#[cfg(test)]
mod tests;
