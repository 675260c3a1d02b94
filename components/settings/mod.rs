//! The settings of a build engine: typed values, reachable by the names of Nix, old and new.
//! Plain data: where settings come from (files, variables, flags) is the command line's matter.

mod other_names;
mod reference;
mod table;
mod value;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use reference::reference;
pub use table::{Effect, Settings};
pub use value::{PreferBuild, Sandbox, words};

use other_names::{RETIRED, ignored, is_ignored, set_retired};
use table::{Setting, TABLE};

/// A setting that is known, with a value it can't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value '{value}' for setting '{name}': expected {accepted}")]
pub struct SettingError {
    /// The name as it was given, which may be an alias.
    pub name: String,
    /// The value as it was given.
    pub value: String,
    /// What the setting accepts, to be read after "expected".
    pub accepted: &'static str,
}

/// What the defaults of settings depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// CPUs this process may use, at least 1.
    pub cpus: u32,
    /// Whether builds are started by root.
    pub root: bool,
    /// Whether the kernel forbids to give up supplementary groups, as in a user namespace that an
    /// ordinary user has made.
    pub keeps_groups: bool,
    /// Whether the store is the user's own, rather than Nix's.
    pub own_store: bool,
    /// Whether it is `nix-store` that runs, whose defaults are those of Nix.
    pub as_nix: bool,
    /// Whether /dev/kvm can be read and written.
    pub kvm: bool,
    /// The type of machine, such as `x86_64-linux`.
    pub system: String,
    /// Other types of machine it can run programs of.
    pub extra_platforms: BTreeSet<String>,
    /// The directory of nix.conf, where files that settings name by default are as well.
    pub conf_dir: PathBuf,
}

impl Default for Host {
    /// A machine about which nothing is known: one CPU, no privileges.
    fn default() -> Host {
        Host {
            cpus: 1,
            root: false,
            keeps_groups: false,
            own_store: false,
            as_nix: false,
            kvm: false,
            system: "x86_64-linux".to_owned(),
            extra_platforms: BTreeSet::new(),
            conf_dir: PathBuf::from("/etc/nix"),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::for_host(&Host::default())
    }
}

/// What [`Settings::set`] made of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Known {
    /// A setting, which has the value now.
    Yes,
    /// A setting of Nix that means nothing to the engine.
    Ignored,
    /// Not a setting; the caller should warn.
    No,
}

impl Settings {
    /// Gives a setting a value, by today's name, an alias or a name of Nix 1.8.
    ///
    /// `extra-NAME` appends where the value is a list, a set or a map, and is unknown elsewhere.
    /// A value that can't be read is an error and changes nothing.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Known, SettingError> {
        let (setting, read) = if let Some(setting) = find(name) {
            (setting, setting.read)
        } else if let Some((setting, append)) = find_extra(name) {
            (setting, append)
        } else if set_retired(self, name, value) {
            return Ok(Known::Yes);
        } else if is_ignored(name) {
            return Ok(Known::Ignored);
        } else {
            return Ok(Known::No);
        };
        match read(self, value) {
            Some(()) => Ok(Known::Yes),
            None => Err(SettingError {
                name: name.to_owned(),
                value: value.to_owned(),
                accepted: setting.accepted,
            }),
        }
    }

    /// The value of a setting, by today's name or an alias, as [`Settings::set`] reads it.
    pub fn get(&self, name: &str) -> Option<String> {
        find(name).map(|setting| (setting.print)(self))
    }

    /// Today's names of all settings, in the order of the table.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|setting| setting.name)
    }

    /// Today's name of the setting that [`Settings::set`] changes when it is given `name`.
    pub fn todays_name(name: &str) -> Option<&'static str> {
        find(name)
            .or_else(|| find_extra(name).map(|(setting, _)| setting))
            .map(|setting| setting.name)
    }

    /// Who acts on a setting.
    pub fn effect(name: &str) -> Option<Effect> {
        find(name).map(|setting| setting.effect)
    }

    /// The other names of a setting.
    pub fn aliases(name: &str) -> &'static [&'static str] {
        find(name).map_or(&[], |setting| setting.aliases)
    }

    /// What a setting means, in one line.
    pub fn describe(name: &str) -> Option<&'static str> {
        find(name).map(|setting| setting.description.trim_start())
    }
}

/// The known name that is most like `name`, if one is so much like it that a typo is probable.
pub fn nearest(name: &str) -> Option<&'static str> {
    // No name is nearly that long, and the work grows with the length of what was typed.
    const NAME_LEN_MAX: usize = 64;
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let without_prefix = name.strip_prefix("extra-");
    // Most names are told apart by their lengths, which costs nothing: a file may hold thousands
    // of lines that are no settings.
    let distance = |known: &str| {
        let near = |name: &str| {
            let apart = name.chars().count().abs_diff(known.len());
            (apart <= known.len() / 4).then(|| strsim::osa_distance(name, known))
        };
        near(name)
            .into_iter()
            .chain(without_prefix.and_then(near))
            .min()
    };
    let names = TABLE
        .iter()
        .flat_map(|setting| std::iter::once(&setting.name).chain(setting.aliases));
    names
        .chain(RETIRED)
        .copied()
        .chain(ignored())
        .filter_map(|known| Some((distance(known)?, known)))
        .filter(|&(distance, known)| distance <= known.len() / 4)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

fn find(name: &str) -> Option<&'static Setting> {
    TABLE
        .iter()
        .find(|setting| setting.name == name || setting.aliases.contains(&name))
}

type Read = fn(&mut Settings, &str) -> Option<()>;

fn find_extra(name: &str) -> Option<(&'static Setting, Read)> {
    let setting = find(name.strip_prefix("extra-")?)?;
    Some((setting, setting.append?))
}

#[cfg(test)]
mod tests;
