//! Which programs help a build: substituters and the hook, by the settings and by the environment
//! as in Nix 1.8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use windrow_components::settings::{Host, Settings};
use windrow_store::Layout;
use windrow_systems::helpers::HelperConfig;
use windrow_systems::process::helper::helper_env;
use windrow_systems::world::Hooks;

use crate::caches::cache_config;
use crate::conf::host::this_machine;

/// Settings that today's Nix does not have, and would warn of.
const UNKNOWN_TO_NIX: [&str; 11] = [
    "build-cache-failure",
    "build-hook-program",
    "build-poll-interval",
    "policy",
    "prefer-build",
    "print-build-trace",
    "sandbox-allow-namespaces",
    "sandbox-max-processes",
    "substituter-programs",
    "upload-caches",
    "use-binary-caches",
];

/// The programs to call before and after builds, for the store that lies there.
pub fn hooks(settings: &Settings, layout: &Layout) -> Hooks {
    let config = nix_config(settings, layout, std::env::var_os("NIX_CONFIG"));
    let outer = std::env::vars_os().filter(|(name, _)| name != "NIX_CONFIG");
    let outer = outer.chain([("NIX_CONFIG".into(), config)]);
    Hooks {
        pre_build: settings.pre_build_hook.clone(),
        post_build: settings.post_build_hook.clone(),
        diff: (settings.diff_hook.clone()).filter(|_| settings.run_diff_hook),
        keep_differing: settings.run_diff_hook,
        env: helper_env(outer, layout, all_settings(settings)),
    }
}

/// All settings as a Nix that a hook calls finds them in NIX_CONFIG, if they are not what they are
/// by default; after what stands there already, which may be about more than the engine.
fn nix_config(settings: &Settings, layout: &Layout, outer: Option<OsString>) -> OsString {
    let mut text = outer.unwrap_or_default();
    if !text.is_empty() {
        text.push("\n");
    }
    let defaults = Settings::for_host(&Host {
        as_nix: true,
        ..this_machine(Path::new("/etc/nix"))
    });
    for name in Settings::names() {
        let value = settings.get(name).unwrap_or_default().replace('\n', " ");
        let is_told = name != "store" && !UNKNOWN_TO_NIX.contains(&name);
        if is_told && Some(&value) != defaults.get(name).as_ref() {
            text.push(format!("{name} = {value}\n"));
        }
    }
    if settings.store != defaults.store || Path::new(&layout.store_dir) != layout.real_store_dir {
        let (store, real) = (&layout.store_dir, layout.real_store_dir.display());
        let (state, log) = (layout.state_dir.display(), layout.log_dir.display());
        text.push(format!(
            "store = local?store={store}&real={real}&state={state}&log={log}\n"
        ));
    }
    text
}

/// All settings by each of their names.
fn all_settings(settings: &Settings) -> impl Iterator<Item = (&'static str, String)> {
    Settings::names().flat_map(|name| {
        let value = settings.get(name).unwrap_or_default();
        std::iter::once(name)
            .chain(Settings::aliases(name).iter().copied())
            .map(move |name| (name, value.clone()))
    })
}

/// The helpers that settings and the environment name, for the store that lies there.
pub fn helper_config(settings: &Settings, layout: &Layout) -> HelperConfig {
    let flag = u8::from(settings.print_build_trace).to_string();
    HelperConfig {
        substituters: substituters(settings, std::env::var_os("NIX_SUBSTITUTERS").as_deref()),
        hook: hook(settings, std::env::var_os("NIX_BUILD_HOOK").as_deref()),
        hook_args: vec![
            settings.system.clone(),
            settings.max_silent_time_s.to_string(),
            flag,
            settings.timeout_s.to_string(),
        ],
        env: helper_env(std::env::vars_os(), layout, all_settings(settings)),
        patience_s: settings.stalled_download_timeout,
        caches: cache_config(settings, layout),
    }
}

/// The substituters' programs: those of `NIX_SUBSTITUTERS`, a list with colons in which `default`
/// stands for those of the settings, or else the latter.
fn substituters(settings: &Settings, variable: Option<&OsStr>) -> Vec<PathBuf> {
    if !settings.substitute {
        return Vec::new();
    }
    let default = || settings.substituter_programs.iter().map(PathBuf::from);
    let mut programs: Vec<PathBuf> = Vec::new();
    match variable {
        None => programs.extend(default()),
        Some(list) => {
            let items = list.as_bytes().split(|&byte| byte == b':');
            for item in items.filter(|item| !item.is_empty()) {
                if item == b"default" {
                    programs.extend(default());
                } else {
                    programs.push(OsStr::from_bytes(item).into());
                }
            }
        }
    }
    programs.iter().map(|program| absolute(program)).collect()
}

fn hook(settings: &Settings, variable: Option<&OsStr>) -> Option<PathBuf> {
    match variable.filter(|value| !value.is_empty()) {
        Some(program) => Some(absolute(Path::new(program))),
        None => settings.build_hook_program.clone(),
    }
}

/// Whether there is a program to pass settings on to.
pub fn are_set(settings: &Settings) -> bool {
    let variable = |name: &str| std::env::var_os(name);
    !substituters(settings, variable("NIX_SUBSTITUTERS").as_deref()).is_empty()
        || hook(settings, variable("NIX_BUILD_HOOK").as_deref()).is_some()
}

/// Helpers are started in `/`, so what is relative must be made absolute here.
fn absolute(program: &Path) -> PathBuf {
    std::path::absolute(program).unwrap_or_else(|_| program.to_owned())
}

/// What to warn of: helpers that are set and can't be called.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = crate::caches::warnings(settings);
    warnings.extend(crate::pushing::targets::warnings(settings));
    if !settings.build_hook.is_empty() && settings.build_hook != Settings::default().build_hook {
        warnings.push(format!(
            "the setting 'build-hook' names '{}', which speaks the protocol of Nix 2 and is not called; name \
             a program that speaks that of Nix 1.8 in the setting 'build-hook-program' or in NIX_BUILD_HOOK",
            settings.build_hook.join(" ")
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            assert_eq!(
                settings.set(name, value),
                Ok(windrow_components::settings::Known::Yes)
            );
        }
        settings
    }

    #[test]
    fn substituters_come_from_the_variable_then_from_the_setting() {
        let of = |pairs: &[(&str, &str)], variable: Option<&str>| {
            let programs = substituters(&settings(pairs), variable.map(OsStr::new));
            let text = programs.iter().map(|program| program.display().to_string());
            text.collect::<Vec<_>>().join(" ")
        };
        let set = [("substituter-programs", "/a /b")];
        assert_eq!(of(&set, None), "/a /b");
        assert_eq!(of(&set, Some("default")), "/a /b");
        assert_eq!(of(&set, Some("/x:default:/y")), "/x /a /b /y");
        assert_eq!(of(&set, Some("")), "");
        assert_eq!(of(&[], None), "");
        let off = [("substituter-programs", "/a"), ("substitute", "false")];
        assert_eq!(of(&off, Some("/x")), "");
        assert!(of(&[], Some("x")).ends_with("/x"));
    }

    #[test]
    fn the_hook_comes_from_the_variable_then_from_the_setting() {
        let set = settings(&[("build-hook-program", "/hook")]);
        assert_eq!(hook(&set, None), Some("/hook".into()));
        assert_eq!(hook(&set, Some(OsStr::new(""))), Some("/hook".into()));
        assert_eq!(hook(&set, Some(OsStr::new("/x"))), Some("/x".into()));
        assert_eq!(hook(&settings(&[]), None), None);
    }

    #[test]
    fn only_what_is_unusual_is_warned_of() {
        assert!(warnings(&settings(&[])).is_empty());
        let unusual = settings(&[("substituters", "ssh://-h"), ("build-hook", "/my/hook")]);
        let warnings = warnings(&unusual);
        assert!(warnings[0].contains("ssh://-h"));
        assert!(warnings[1].contains("/my/hook"));
    }
}
