//! Names that stand for no field: settings of Nix that can't matter to a build engine, and names
//! of old releases that need more than an alias. They are accepted so that one nix.conf serves all.

use Takes::{Switch, Value};

use super::Settings;

/// What such a setting takes, for a command line on which its name is a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// True or false.
    Switch,
    /// Anything else.
    Value,
}

/// Settings that mean something to Nix and nothing to the engine.
static IGNORED: &[(&str, Takes)] = &[
    // The language, flakes and the command line of Nix.
    ("abort-on-warn", Switch),
    ("accept-flake-config", Switch),
    ("access-tokens", Value),
    ("allow-dirty", Switch),
    ("allow-dirty-locks", Switch),
    ("allow-import-from-derivation", Switch),
    ("allow-unsafe-native-code-during-evaluation", Switch),
    ("allowed-uris", Value),
    ("bash-prompt", Value),
    ("bash-prompt-prefix", Value),
    ("bash-prompt-suffix", Value),
    ("commit-lock-file-summary", Value),
    ("commit-lockfile-summary", Value),
    ("debugger-on-trace", Switch),
    ("debugger-on-warn", Switch),
    ("eval-attrset-update-layer-rhs-threshold", Value),
    ("eval-cache", Switch),
    ("eval-cores", Value),
    ("eval-profile-file", Value),
    ("eval-profiler", Value),
    ("eval-profiler-frequency", Value),
    ("eval-system", Value),
    ("experimental-features", Value),
    ("flake-registry", Value),
    ("ignore-try", Switch),
    ("lint-absolute-path-literals", Value),
    ("lint-short-path-literals", Value),
    ("lint-url-literals", Value),
    ("max-call-depth", Value),
    ("nix-path", Value),
    ("nix-shell-always-looks-for-shell-nix", Switch),
    ("nix-shell-shebang-arguments-relative-to-script", Switch),
    ("plugin-files", Value),
    ("pure-eval", Switch),
    ("repl-overlays", Value),
    ("restrict-eval", Switch),
    ("show-trace", Switch),
    ("tarball-ttl", Value),
    ("trace-function-calls", Switch),
    ("trace-import-from-derivation", Switch),
    ("trace-verbose", Switch),
    ("trust-tarballs-from-git-forges", Switch),
    ("upgrade-nix-store-path-url", Value),
    ("use-registries", Switch),
    ("use-xdg-base-directories", Switch),
    ("warn-dirty", Switch),
    ("warn-large-path-threshold", Value),
    ("warn-short-path-literals", Switch),
    // The daemon's clients.
    ("allowed-users", Value),
    ("trusted-binary-caches", Value),
    ("trusted-substituters", Value),
    ("trusted-users", Value),
    // How Nix works inside, and other systems than Linux.
    ("allowed-impure-host-deps", Value),
    ("build-hook-kill-timeout", Value),
    ("darwin-log-sandbox-violations", Switch),
    ("download-buffer-size", Value),
    ("filetransfer-retry-delay", Value),
    ("filetransfer-retry-delay-rate-limited", Value),
    ("filetransfer-retry-jitter", Value),
    ("filetransfer-retry-max-delay", Value),
    ("http2", Switch),
    ("http3", Switch),
    ("nar-buffer-size", Value),
    ("narinfo-cache-meta-ttl", Value),
    ("use-case-hack", Switch),
    ("user-agent-suffix", Value),
    // Gone since Nix 2.0.
    ("binary-cache-files", Value),
    ("debug-subst", Value),
    ("force-manifest", Value),
    ("gc-check-reachability", Value),
    ("log-servers", Value),
    ("ssh-auth-sock", Value),
    ("ssh-substituter-hosts", Value),
    ("use-ssh-substituter", Value),
    ("verify-https-binary-caches", Value),
];

/// Those of them that a command line may name without meaning the engine: scripts give them to
/// every program of Nix.
static GIVEN_TO_ALL: &[&str] = &["experimental-features", "show-trace"];

/// Names of Nix 1.8 that do something of their own.
pub(super) static RETIRED: &[&str] = &["build-extra-chroot-dirs", "signed-binary-caches"];

/// The names of settings that mean something to Nix and nothing to the engine.
pub(super) fn ignored() -> impl Iterator<Item = &'static str> {
    IGNORED.iter().map(|(name, _)| *name)
}

/// What a name takes that is accepted and does nothing, with or without `extra-`; `None` for other
/// names.
fn takes(name: &str) -> Option<Takes> {
    let of = |name: &str| IGNORED.iter().find(|(known, _)| *known == name);
    if let Some((_, takes)) = of(name) {
        return Some(*takes);
    }
    // Nix 1.8 named RSA keys in such settings; the signatures they check are no longer made.
    let is_key = name.starts_with("binary-cache-public-key-");
    (is_key || name.strip_prefix("extra-").and_then(of).is_some()).then_some(Value)
}

/// True for a name that is accepted and does nothing, with or without `extra-`.
pub(super) fn is_ignored(name: &str) -> bool {
    takes(name).is_some()
}

impl Settings {
    /// Whether a name that is accepted and does nothing is that of a setting which is true or
    /// false; `None` for other names.
    pub fn is_ignored_switch(name: &str) -> Option<bool> {
        takes(name).map(|takes| takes == Switch)
    }

    /// Whether a name is accepted and does nothing, which whoever gives it to this very run should
    /// hear.
    pub fn is_ignored_in_vain(name: &str) -> bool {
        let plain = name.strip_prefix("extra-").unwrap_or(name);
        is_ignored(name) && !GIVEN_TO_ALL.contains(&plain)
    }
}

/// Applies a setting of Nix 1.8 whose name isn't an alias; false if `name` isn't one.
pub(super) fn set_retired(settings: &mut Settings, name: &str, value: &str) -> bool {
    match name {
        "build-extra-chroot-dirs" => {
            let more = super::value::words(value).map(str::to_owned);
            settings.sandbox_paths.extend(more);
            true
        }
        // It may switch signatures on, never off: they were off by default in 1.8, so that an old
        // file which says so must not make a store of today accept unsigned paths.
        "signed-binary-caches" => {
            if !matches!(value, "" | "0" | "false" | "no") {
                settings.require_sigs = true;
            }
            true
        }
        _ => false,
    }
}
