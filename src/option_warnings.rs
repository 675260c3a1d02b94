//! What is said of options of the command line that nothing acts on.

use windrow_components::settings::{Effect, Known, Settings};

/// What to say of options of the command line that are no settings, if they are not refused.
pub(crate) fn unknown_options(options: &[(String, String)]) -> impl Iterator<Item = String> {
    let mut settings = Settings::default();
    let unknown = move |(name, value): &(String, String)| {
        let no = matches!(settings.set(name, value), Ok(Known::No));
        no.then(|| format!("unknown setting '{name}'"))
    };
    options.iter().filter_map(unknown)
}

/// What to say of options of the command line that nothing acts on: unlike in a file that serves
/// Nix as well, they were meant for this run.
pub(crate) fn options_without_effect(
    options: &[(String, String)],
    settings: &Settings,
) -> Vec<String> {
    let mut warned = Vec::new();
    let mut warnings = Vec::new();
    for (name, _) in options {
        let Some(setting) = Settings::todays_name(name) else {
            if Settings::is_ignored_in_vain(name) {
                warnings.push(no_effect(name, ""));
            }
            continue;
        };
        let without = match Settings::effect(setting) {
            // It has a warning of its own, by what it is set to.
            _ if setting == "build-hook" => continue,
            Some(Effect::None) => "",
            Some(Effect::Helpers) if !crate::helpers::are_set(settings) => {
                " without a substituter program or a build hook program"
            }
            _ => continue,
        };
        let default = Settings::default().get(setting);
        if settings.get(setting) != default && !warned.contains(&setting) {
            warned.push(setting);
            warnings.push(no_effect(name, without));
        }
    }
    warnings.dedup();
    warnings
}

fn no_effect(name: &str, without: &str) -> String {
    format!("the option '{name}' of the command line has no effect{without}")
}
