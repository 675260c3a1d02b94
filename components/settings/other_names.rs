//! Names that stand for no field: settings of Nix that can't matter to a build engine, and names
//! of old releases that need more than an alias. They are accepted so that one nix.conf serves all.

use super::Settings;

/// Settings that mean something to Nix and nothing to the engine.
pub(super) static IGNORED: &[&str] = &[
    // The language, flakes and the command line of Nix.
    "abort-on-warn",
    "accept-flake-config",
    "access-tokens",
    "allow-dirty",
    "allow-dirty-locks",
    "allow-import-from-derivation",
    "allow-unsafe-native-code-during-evaluation",
    "allowed-uris",
    "bash-prompt",
    "bash-prompt-prefix",
    "bash-prompt-suffix",
    "commit-lock-file-summary",
    "commit-lockfile-summary",
    "debugger-on-trace",
    "debugger-on-warn",
    "eval-attrset-update-layer-rhs-threshold",
    "eval-cache",
    "eval-cores",
    "eval-profile-file",
    "eval-profiler",
    "eval-profiler-frequency",
    "eval-system",
    "experimental-features",
    "flake-registry",
    "ignore-try",
    "lint-absolute-path-literals",
    "lint-short-path-literals",
    "lint-url-literals",
    "max-call-depth",
    "nix-path",
    "nix-shell-always-looks-for-shell-nix",
    "nix-shell-shebang-arguments-relative-to-script",
    "plugin-files",
    "pure-eval",
    "repl-overlays",
    "restrict-eval",
    "show-trace",
    "tarball-ttl",
    "trace-function-calls",
    "trace-import-from-derivation",
    "trace-verbose",
    "trust-tarballs-from-git-forges",
    "upgrade-nix-store-path-url",
    "use-registries",
    "use-xdg-base-directories",
    "warn-dirty",
    "warn-large-path-threshold",
    "warn-short-path-literals",
    // The daemon's clients.
    "allowed-users",
    "trusted-binary-caches",
    "trusted-substituters",
    "trusted-users",
    // How Nix works inside, and other systems than Linux.
    "allowed-impure-host-deps",
    "build-hook-kill-timeout",
    "darwin-log-sandbox-violations",
    "download-buffer-size",
    "filetransfer-retry-delay",
    "filetransfer-retry-delay-rate-limited",
    "filetransfer-retry-jitter",
    "filetransfer-retry-max-delay",
    "http2",
    "http3",
    "nar-buffer-size",
    "narinfo-cache-meta-ttl",
    "use-case-hack",
    "user-agent-suffix",
    // Gone since Nix 2.0.
    "binary-cache-files",
    "debug-subst",
    "force-manifest",
    "gc-check-reachability",
    "log-servers",
    "ssh-auth-sock",
    "ssh-substituter-hosts",
    "use-ssh-substituter",
    "verify-https-binary-caches",
];

/// Those of them that are true or false.
static SWITCHES: &[&str] = &[
    "abort-on-warn",
    "accept-flake-config",
    "allow-dirty",
    "allow-dirty-locks",
    "allow-import-from-derivation",
    "allow-unsafe-native-code-during-evaluation",
    "debugger-on-trace",
    "debugger-on-warn",
    "eval-cache",
    "ignore-try",
    "nix-shell-always-looks-for-shell-nix",
    "nix-shell-shebang-arguments-relative-to-script",
    "pure-eval",
    "restrict-eval",
    "show-trace",
    "trace-function-calls",
    "trace-import-from-derivation",
    "trace-verbose",
    "trust-tarballs-from-git-forges",
    "use-registries",
    "use-xdg-base-directories",
    "warn-dirty",
    "warn-short-path-literals",
    "darwin-log-sandbox-violations",
    "http2",
    "http3",
    "use-case-hack",
];

/// Those of them that a command line may name without meaning the engine: scripts give them to
/// every program of Nix.
static GIVEN_TO_ALL: &[&str] = &["experimental-features", "show-trace"];

/// Names of Nix 1.8 that do something of their own.
pub(super) static RETIRED: &[&str] = &["build-extra-chroot-dirs", "signed-binary-caches"];

/// True for a name that is accepted and does nothing, with or without `extra-`.
pub(super) fn is_ignored(name: &str) -> bool {
    // Nix 1.8 named RSA keys in such settings; the signatures they check are no longer made.
    name.starts_with("binary-cache-public-key-")
        || IGNORED.contains(&name)
        || name
            .strip_prefix("extra-")
            .is_some_and(|plain| IGNORED.contains(&plain))
}

impl Settings {
    /// Whether a name that is accepted and does nothing is that of a setting which is true or
    /// false; `None` for other names.
    pub fn is_ignored_switch(name: &str) -> Option<bool> {
        is_ignored(name).then(|| SWITCHES.contains(&name))
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
