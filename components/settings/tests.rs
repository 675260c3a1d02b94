//! The settings by name: defaults, old and new names, appending, refusals, and the table itself.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn after(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in pairs {
        assert_eq!(
            settings.set(name, value),
            Ok(Known::Yes),
            "{name} = {value}"
        );
    }
    settings
}

#[test]
fn no_name_stands_twice() {
    let mut seen = HashSet::new();
    let of_settings = TABLE
        .iter()
        .flat_map(|s| std::iter::once(&s.name).chain(s.aliases));
    for name in of_settings.chain(RETIRED).copied().chain(ignored()) {
        assert!(seen.insert(name), "{name}");
        assert!(
            name.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            "{name}"
        );
    }
}

#[test]
fn every_description_is_one_sentence() {
    for name in Settings::names() {
        let text = Settings::describe(name).unwrap();
        assert!(text.ends_with('.') && text.len() <= 100, "{name}: {text}");
        assert!(
            text.starts_with(|c: char| c.is_ascii_uppercase()),
            "{name}: {text}"
        );
    }
}

#[test]
fn what_is_printed_can_be_read_back() {
    let host = Host {
        cpus: 7,
        root: true,
        kvm: true,
        ..Host::default()
    };
    let full = Settings::for_host(&host);
    let mut copy = Settings {
        cpus: 7,
        ..Settings::default()
    };
    assert_ne!(copy, full);
    for name in Settings::names() {
        assert_eq!(
            copy.set(name, &full.get(name).unwrap()),
            Ok(Known::Yes),
            "{name}"
        );
    }
    assert_eq!(copy, full);
}

#[test]
fn defaults_follow_the_machine() {
    let host = Host {
        cpus: 12,
        root: true,
        kvm: true,
        conf_dir: PathBuf::from("/c"),
        ..Host::default()
    };
    for (name, plain, here) in [
        ("cores", "1", "12"),
        ("max-jobs", "1", "12"),
        ("build-users-group", "", "nixbld"),
        ("require-drop-supplementary-groups", "false", "true"),
        (
            "system-features",
            "benchmark big-parallel nixos-test",
            "benchmark big-parallel kvm nixos-test",
        ),
        ("builders", "@/etc/nix/machines", "@/c/machines"),
        ("netrc-file", "/etc/nix/netrc", "/c/netrc"),
    ] {
        assert_eq!(
            Settings::default().get(name).as_deref(),
            Some(plain),
            "{name}"
        );
        assert_eq!(
            Settings::for_host(&host).get(name).as_deref(),
            Some(here),
            "{name}"
        );
    }
}

#[test]
fn nix_store_builds_one_at_a_time_as_nix_does() {
    let settings = Settings::for_host(&Host {
        cpus: 12,
        as_nix: true,
        ..Host::default()
    });
    assert_eq!((settings.max_jobs, settings.cores), (1, 12));
}

#[test]
fn each_name_of_nix_1_8_reaches_its_setting() {
    for (old, value, today) in [
        ("build-max-jobs", "3", "max-jobs"),
        ("build-cores", "3", "cores"),
        ("build-max-silent-time", "3", "max-silent-time"),
        ("build-timeout", "3", "timeout"),
        ("build-max-log-size", "3", "max-build-log-size"),
        ("build-fallback", "true", "fallback"),
        ("build-use-chroot", "false", "sandbox"),
        ("build-use-sandbox", "relaxed", "sandbox"),
        ("build-chroot-dirs", "/x", "sandbox-paths"),
        ("build-sandbox-paths", "/x", "sandbox-paths"),
        ("build-extra-chroot-dirs", "/x", "sandbox-paths"),
        ("extra-build-chroot-dirs", "/x", "sandbox-paths"),
        ("build-use-substitutes", "false", "substitute"),
        ("binary-caches", "file:///c", "substituters"),
        ("extra-binary-caches", "file:///c", "substituters"),
        ("binary-cache-public-keys", "k:AA==", "trusted-public-keys"),
        (
            "binary-caches-parallel-connections",
            "3",
            "http-connections",
        ),
        ("build-keep-log", "false", "keep-build-log"),
        ("build-compress-log", "false", "compress-build-log"),
        ("gc-keep-outputs", "true", "keep-outputs"),
        ("gc-keep-derivations", "false", "keep-derivations"),
        ("env-keep-derivations", "true", "keep-env-derivations"),
        ("build-impersonate-linux-26", "true", "impersonate-linux-26"),
        ("build-cache-failure", "true", "build-cache-failure"),
        ("use-binary-caches", "false", "use-binary-caches"),
    ] {
        let settings = after(&[(old, value)]);
        assert_eq!(settings.get(today).as_deref(), Some(value), "{old}");
        assert_ne!(settings, Settings::default(), "{old}");
    }
}

#[test]
fn extra_appends_to_what_is_there() {
    for (pairs, name, value) in [
        (
            &[("substituters", "b a b"), ("extra-substituters", "c a")][..],
            "substituters",
            "b a b c a",
        ),
        (
            &[
                ("system-features", "b a a"),
                ("extra-system-features", "kvm"),
            ],
            "system-features",
            "a b kvm",
        ),
        (
            &[("impure-env", "a=b c=d=e"), ("extra-impure-env", "c=f q=r")],
            "impure-env",
            "a=b c=f q=r",
        ),
        (
            &[("extra-secret-key-files", "/a"), ("secret-key-files", "/b")],
            "secret-key-files",
            "/b",
        ),
        (
            &[("extra-platforms", "a"), ("extra-extra-platforms", "b")],
            "extra-platforms",
            "a b",
        ),
        (
            &[
                ("sandbox-paths", "/s=/x"),
                ("build-extra-chroot-dirs", "/y /z"),
            ],
            "sandbox-paths",
            "/s=/x /y /z",
        ),
    ] {
        assert_eq!(after(pairs).get(name).as_deref(), Some(value), "{pairs:?}");
    }
}

#[test]
fn root_need_not_drop_groups_where_it_can_not() {
    let settings = Settings::for_host(&Host {
        root: true,
        keeps_groups: true,
        ..Host::default()
    });
    assert!(!settings.require_drop_supplementary_groups);
}

#[test]
fn auto_is_the_number_of_cpus() {
    let mut settings = Settings::for_host(&Host {
        cpus: 12,
        ..Host::default()
    });
    assert_eq!(settings.set("max-jobs", "auto"), Ok(Known::Yes));
    assert_eq!(settings.max_jobs, 12);
    assert!(settings.set("cores", "auto").is_err());
}

#[test]
fn a_bad_value_is_named_and_changes_nothing() {
    for (name, value, message) in [
        (
            "fallback",
            "True",
            "invalid value 'True' for setting 'fallback': expected true, yes or 1, or false, no or 0",
        ),
        (
            "build-max-jobs",
            "many",
            "invalid value 'many' for setting 'build-max-jobs': \
             expected a whole number below 2^32, or auto for the number of CPUs",
        ),
        (
            "sandbox",
            "yes",
            "invalid value 'yes' for setting 'sandbox': expected true, relaxed or false",
        ),
        (
            "diff-hook",
            "relative/x",
            "invalid value 'relative/x' for setting 'diff-hook': expected an absolute path, or nothing",
        ),
        (
            "extra-impure-env",
            "x",
            "invalid value 'x' for setting 'extra-impure-env': \
             expected pairs NAME=VALUE, with blanks between them",
        ),
    ] {
        let mut settings = Settings::default();
        assert_eq!(settings.set(name, value).unwrap_err().to_string(), message);
        assert_eq!(settings, Settings::default(), "{name}");
    }
}

#[test]
fn old_signature_settings_never_lower_the_guard() {
    for value in ["0", "", "false"] {
        assert!(
            after(&[("signed-binary-caches", value)]).require_sigs,
            "{value}"
        );
    }
    let pairs = [("require-sigs", "false"), ("signed-binary-caches", "*")];
    assert!(after(&pairs).require_sigs);
}

#[test]
fn names_that_mean_nothing_here_are_accepted_without_effect() {
    for name in [
        "experimental-features",
        "extra-experimental-features",
        "accept-flake-config",
        "warn-dirty",
        "nix-path",
        "trusted-users",
        "binary-cache-public-key-hydra.example.org",
    ] {
        let mut settings = Settings::default();
        assert_eq!(settings.set(name, "anything"), Ok(Known::Ignored), "{name}");
        assert_eq!(settings, Settings::default(), "{name}");
    }
}

#[test]
fn unknown_names_are_told_and_their_nearest_found() {
    for (name, near) in [
        ("max-job", Some("max-jobs")),
        ("max_jobs", Some("max-jobs")),
        ("Cores", Some("cores")),
        ("extra-cores", Some("cores")),
        ("extra-sandbox-path", Some("sandbox-paths")),
        ("build-max-jbos", Some("build-max-jobs")),
        ("", None),
        ("repetitions", None),
        ("frobnicate", None),
    ] {
        assert_eq!(Settings::default().set(name, "1"), Ok(Known::No), "{name}");
        assert_eq!(nearest(name), near, "{name}");
    }
    assert_eq!(nearest(&"max-jobs".repeat(100_000)), None);
}

/// The settings of Nix 2.8, of 2.34, and of releases between these that have gone again, on Linux,
/// as `nix show-config` and `nix config show` list them.
const OF_NIX: &str = "\
    abort-on-warn accept-flake-config access-tokens allow-dirty allow-dirty-locks \
    allow-import-from-derivation allow-new-privileges allow-symlinked-store \
    allow-unsafe-native-code-during-evaluation allowed-impure-host-deps allowed-uris \
    allowed-users always-allow-substitutes auto-optimise-store bash-prompt bash-prompt-prefix \
    bash-prompt-suffix build-dir build-hook build-poll-interval build-users-group builders \
    builders-use-substitutes commit-lockfile-summary compress-build-log connect-timeout cores \
    debugger-on-trace debugger-on-warn diff-hook download-attempts download-buffer-size \
    download-speed enforce-determinism eval-attrset-update-layer-rhs-threshold eval-cache \
    eval-cores eval-profile-file eval-profiler eval-profiler-frequency eval-system \
    experimental-features external-builders extra-platforms fallback filter-syscalls \
    flake-registry fsync-metadata fsync-store-paths gc-reserved-space hashed-mirrors \
    http-connections http2 id-count ignore-try ignored-acls impersonate-linux-26 json-log-path \
    keep-build-log keep-derivations keep-env-derivations keep-failed keep-going keep-outputs \
    lint-absolute-path-literals lint-short-path-literals lint-url-literals log-lines \
    max-build-log-size max-call-depth max-free max-jobs max-silent-time max-substitution-jobs \
    min-free min-free-check-interval nar-buffer-size narinfo-cache-meta-ttl \
    narinfo-cache-negative-ttl narinfo-cache-positive-ttl netrc-file nix-path \
    nix-shell-always-looks-for-shell-nix nix-shell-shebang-arguments-relative-to-script \
    plugin-files post-build-hook pre-build-hook preallocate-contents print-missing pure-eval \
    repeat repl-overlays require-drop-supplementary-groups require-sigs restrict-eval \
    run-diff-hook sandbox sandbox-build-dir sandbox-dev-shm-size sandbox-fallback \
    sandbox-paths secret-key-files show-trace ssl-cert-file stalled-download-timeout start-id \
    store substitute substituters sync-before-registering system system-features tarball-ttl \
    timeout trace-function-calls trace-import-from-derivation trace-verbose \
    trust-tarballs-from-git-forges trusted-public-keys trusted-substituters trusted-users \
    upgrade-nix-store-path-url use-case-hack use-cgroups use-registries use-sqlite-wal \
    use-xdg-base-directories user-agent-suffix warn-dirty warn-large-path-threshold \
    warn-short-path-literals";

#[test]
fn every_setting_of_nix_is_known() {
    for name in OF_NIX.split_whitespace() {
        let known = find(name).is_some() || is_ignored(name);
        assert!(known, "{name}");
    }
}

#[test]
fn only_rows_of_the_table_have_an_effect() {
    assert_eq!(Settings::effect("cores"), Some(Effect::Engine));
    assert_eq!(
        Settings::effect("builders-use-substitutes"),
        Some(Effect::Helpers)
    );
    assert_eq!(Settings::effect("env-keep-derivations"), Some(Effect::None));
    assert_eq!(Settings::effect("experimental-features"), None);
    assert_eq!(Settings::effect("json-log-path"), Some(Effect::None));
    assert_eq!(Settings::is_ignored_switch("restrict-eval"), Some(true));
    assert_eq!(Settings::is_ignored_switch("extra-nix-path"), Some(false));
    assert_eq!(Settings::is_ignored_switch("cores"), None);
    assert!(Settings::is_ignored_in_vain("restrict-eval"));
    assert!(!Settings::is_ignored_in_vain("extra-experimental-features"));
    assert!(!Settings::is_ignored_in_vain("cores"));
    let todays = Settings::todays_name("extra-binary-caches");
    assert_eq!(todays, Some("substituters"));
}

fn some_name() -> impl Strategy<Value = String> {
    let names: Vec<&str> = Settings::names().chain(ignored()).collect();
    prop_oneof![
        3 => proptest::sample::select(names.clone()).prop_map(str::to_owned),
        1 => proptest::sample::select(names).prop_map(|name| format!("extra-{name}")),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_set_panic(name in some_name(), value in any::<String>()) {
        let mut settings = Settings::default();
        let before = settings.clone();
        match settings.set(&name, &value) {
            Ok(Known::Yes) => {}
            Ok(Known::Ignored | Known::No) => prop_assert_eq!(settings, before),
            Err(error) => {
                prop_assert!(error.to_string().contains(&value));
                prop_assert_eq!(settings, before);
            }
        }
        nearest(&name);
    }

    #[test]
    fn numbers_are_read_back(number in any::<u64>()) {
        let text = number.to_string();
        prop_assert_eq!(after(&[("min-free", &text)]).min_free, number);
    }
}
