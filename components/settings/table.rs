//! Every setting the engine knows: its field, type, default, names and meaning, one row each.
//! A row's first line of documentation is what users read; how values are written is in `value`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Host;
use super::value::{Form, Jobs, PreferBuild, Program, Sandbox};

/// Who acts on a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The engine or its command line does.
    Engine,
    /// Only substituter programs and the build hook can: they find it in `_NIX_OPTIONS`.
    Helpers,
    /// Nobody does; it is accepted because a nix.conf shared with Nix may have it.
    None,
}

/// A row of the table, reachable by name.
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) description: &'static str,
    /// The paragraphs after the first line, for the reference.
    pub(super) more: &'static str,
    pub(super) effect: Effect,
    pub(super) accepted: &'static str,
    pub(super) read: fn(&mut Settings, &str) -> Option<()>,
    /// Reads more items of a list, set or map; `None` for everything else.
    pub(super) append: Option<fn(&mut Settings, &str) -> Option<()>>,
    pub(super) print: fn(&Settings) -> String,
}

macro_rules! form {
    ($type:ty) => {
        $type
    };
    ($type:ty, $form:ty) => {
        $form
    };
}

macro_rules! effect {
    () => {
        Effect::Engine
    };
    (helpers) => {
        Effect::Helpers
    };
    (none) => {
        Effect::None
    };
}

macro_rules! settings {
    (with $host:ident; $($section:literal { $(
        #[doc = $description:literal]
        $(#[doc = $more:literal])*
        $field:ident: $type:ty $(as $form:ty)? = $default:expr,
            $name:literal $([$($alias:literal),+])? $(, $effect:ident)?;
    )+ })+) => {
        /// What the engine was told, whole: each field is one setting, in the units its text says.
        ///
        /// Times are in seconds and sizes in bytes unless the text says otherwise.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            /// CPUs of the machine, which `auto` stands for. Not a setting itself.
            pub cpus: u32,
            $($(
                #[doc = $description]
                $(#[doc = $more])*
                pub $field: $type,
            )+)+
        }

        impl Settings {
            /// The defaults on a given machine.
            pub fn for_host($host: &Host) -> Settings {
                Settings { cpus: $host.cpus, $($($field: $default,)+)+ }
            }
        }

        pub(super) static TABLE: &[Setting] = &[$($(Setting {
            section: $section,
            name: $name,
            aliases: &[$($($alias),+)?],
            description: $description,
            more: concat!("", $($more, "\n"),*),
            effect: effect!($($effect)?),
            accepted: <form!($type $(, $form)?) as Form>::ACCEPTED,
            read: |settings, text| {
                settings.$field = <form!($type $(, $form)?) as Form>::read(text, settings.cpus)?;
                Some(())
            },
            append: match <form!($type $(, $form)?) as Form>::APPEND {
                None => None,
                Some(_) => Some(|settings, text| {
                    let more = <form!($type $(, $form)?) as Form>::read(text, settings.cpus)?;
                    let append = <form!($type $(, $form)?) as Form>::APPEND?;
                    append(&mut settings.$field, more);
                    Some(())
                }),
            },
            print: |settings| <form!($type $(, $form)?) as Form>::print(&settings.$field),
        },)+)+];
    };
}

fn strings<C: FromIterator<String>>(items: &[&str]) -> C {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn default_features(host: &Host) -> BTreeSet<String> {
    let mut features: BTreeSet<String> = strings(&["benchmark", "big-parallel", "nixos-test"]);
    if host.kvm {
        features.insert("kvm".to_owned());
    }
    features
}

settings! { with host;

    "How much at once, and for how long" {
    /// Builds that may run at once on this machine; `auto` for the number of CPUs, 0 for none.
    max_jobs: u32 as Jobs = if host.as_nix { 1 } else { host.cpus },
        "max-jobs" ["build-max-jobs"];
    /// Which of the builds that are ready is started first, by the name of a policy.
    ///
    /// There are fifo, random, shortest-first, longest-first, critical-path, most-dependents and
    /// depth-first-by-memory; what they go by is told in SCHEDULING.md. Not a setting of Nix.
    policy: String = "fifo".to_owned(), "policy";
    /// Substitutions that may run at once, beside builds; at least one may.
    max_substitution_jobs: u32 = 16, "max-substitution-jobs" ["substitution-max-jobs"];
    /// CPUs one build may use, told to builders as NIX_BUILD_CORES; 0 for all of them.
    cores: u32 = host.cpus, "cores" ["build-cores"];
    /// Seconds a build may stay silent before it is killed; 0 for no limit.
    max_silent_time_s: u64 = 0, "max-silent-time" ["build-max-silent-time"];
    /// Seconds a build may last before it is killed; 0 for no limit.
    timeout_s: u64 = 0, "timeout" ["build-timeout"];
    /// Bytes a build may write to its log before it is killed; 0 for no limit.
    max_build_log_size: u64 = 0, "max-build-log-size" ["build-max-log-size"];
    /// Seconds between two looks at locks that others hold.
    build_poll_interval_s: u64 = 5, "build-poll-interval";
    }

    "What failures lead to" {
    /// Keep the build directories of failed builds.
    keep_failed: bool = false, "keep-failed";
    /// Go on with the other goals when one has failed.
    keep_going: bool = false, "keep-going";
    /// Build what a substituter program offered but failed to deliver.
    ///
    /// What binary caches fail to deliver is built in any case.
    fallback: bool = false, "fallback" ["build-fallback"];
    /// Build as many times more, and fail what differs; Nix has dropped it for `--check`.
    repeat: u32 = 0, "repeat" ["build-repeat"], none;
    /// Fail what differs when it is built once more; without `repeat` there is nothing to differ.
    enforce_determinism: bool = true, "enforce-determinism", none;
    /// Remember failed builds and don't try them again.
    build_cache_failure: bool = false, "build-cache-failure";
    }

    "Who builds, and where" {
    /// The type of this machine, as derivations name it.
    system: String = host.system.clone(), "system";
    /// Other types of machine whose derivations this one can build.
    extra_platforms: BTreeSet<String> = host.extra_platforms.clone(), "extra-platforms";
    /// Features of this machine that derivations may require.
    system_features: BTreeSet<String> = default_features(host), "system-features";
    /// Pretend to builders that the kernel is Linux 2.6.
    impersonate_linux_26: bool = false, "impersonate-linux-26" ["build-impersonate-linux-26"];
    /// The group whose members run the builds; empty to build as the caller.
    build_users_group: String =
        if host.root && !host.own_store { "nixbld".to_owned() } else { String::new() },
        "build-users-group";
    /// Take build users from a range of ids instead of a group.
    auto_allocate_uids: bool = false, "auto-allocate-uids";
    /// The first id of that range.
    start_id: u32 = 872_415_232, "start-id";
    /// How many ids that range has.
    id_count: u32 = 8_388_608, "id-count";
    /// Run each build in a cgroup of its own.
    ///
    /// All that it has started is killed when it ends, also what made a session of its own, and its
    /// processor time and peak memory are those of all its processes. Takes a cgroup of version 2
    /// that is delegated to windrow; where there is none, windrow warns and builds without. Hooks
    /// and substituters have none: what they leave running may be meant to stay.
    use_cgroups: bool = false, "use-cgroups";
    /// Bytes of memory a build may take if it has a cgroup; 0 for no limit.
    ///
    /// Swap is not counted. The kernel kills a build that needs more. Not a setting of Nix.
    cgroup_memory_max: u64 = 0, "cgroup-memory-max";
    /// Processes and threads a build may have at once if it has a cgroup; 0 for no limit.
    ///
    /// Not a setting of Nix.
    cgroup_pids_max: u64 = 0, "cgroup-pids-max";
    /// Percent of one CPU's time a build may take if it has a cgroup; 0 for no limit.
    ///
    /// 150 is the time of one CPU and a half. Not a setting of Nix.
    cgroup_cpu_max: u32 = 0, "cgroup-cpu-max";
    /// Refuse to build when supplementary groups can't be dropped.
    ///
    /// This is about builds in a sandbox; a build user without one never keeps them.
    require_drop_supplementary_groups: bool = host.root && !host.keeps_groups,
        "require-drop-supplementary-groups";
    /// Where build directories are made; empty for $TMPDIR or /tmp.
    build_dir: Option<PathBuf> = None, "build-dir";
    /// Variables that fixed-output builds get, before those of the caller.
    impure_env: BTreeMap<String, String> = BTreeMap::new(), "impure-env";
    }

    "The sandbox" {
    /// Run builders in a sandbox: true, relaxed or false.
    ///
    /// On by default, except for a store of one's own, whose derivations use the machine's
    /// programs.
    sandbox: Sandbox = if host.own_store { Sandbox::Off } else { Sandbox::On },
        "sandbox" ["build-use-chroot", "build-use-sandbox"];
    /// Paths builders see in the sandbox: PATH or TARGET=SOURCE, with ? at the end if optional.
    sandbox_paths: BTreeSet<String> = BTreeSet::new(),
        "sandbox-paths" ["build-chroot-dirs", "build-sandbox-paths"];
    /// Where builders see their build directory in the sandbox.
    sandbox_build_dir: PathBuf = PathBuf::from("/build"), "sandbox-build-dir";
    /// The size of /dev/shm in the sandbox, as tmpfs takes it.
    sandbox_dev_shm_size: String = "50%".to_owned(), "sandbox-dev-shm-size";
    /// Processes a sandboxed build may have at once, where the kernel limits that; 0 for no limit.
    ///
    /// Not a setting of Nix.
    sandbox_max_processes: u64 = 16_384, "sandbox-max-processes";
    /// Let sandboxed builders make user namespaces of their own, and others in them.
    ///
    /// Not a setting of Nix.
    sandbox_allow_namespaces: bool = false, "sandbox-allow-namespaces";
    /// Build without a sandbox where the kernel allows none.
    sandbox_fallback: bool = true, "sandbox-fallback";
    /// Keep builders from making setuid files and setting extended attributes.
    filter_syscalls: bool = true, "filter-syscalls";
    /// Let builders gain privileges through setuid programs.
    allow_new_privileges: bool = false, "allow-new-privileges";
    }

    "Substitution" {
    /// Fetch outputs from substituters where possible.
    substitute: bool = true, "substitute" ["build-use-substitutes"];
    /// Fetch even outputs of derivations that don't allow it.
    always_allow_substitutes: bool = false, "always-allow-substitutes";
    /// Whether what a binary cache has is built where that is thought to be much quicker.
    ///
    /// `auto` compares what builds of that name took (`windrow history`) with how fast the cache
    /// has been in this run: see CACHES.md. Not a setting of Nix.
    prefer_build: PreferBuild = PreferBuild::Never, "prefer-build";
    /// Use binary caches as substituters, a switch that only old releases of Nix had.
    use_binary_caches: bool = true, "use-binary-caches";
    /// Binary caches that paths are fetched from, by URL.
    ///
    /// Empty by default, unlike in Nix, so that nothing is fetched unless it is asked for. All are
    /// asked at once: see CACHES.md.
    substituters: Vec<String> = Vec::new(), "substituters" ["binary-caches"];
    /// Programs that paths are fetched with, tried in order; NIX_SUBSTITUTERS takes precedence.
    ///
    /// They speak the protocol of the substituters of Nix 1.8. Not a setting of Nix.
    substituter_programs: Vec<String> = Vec::new(), "substituter-programs";
    /// Keys whose signatures make a substitute acceptable, as NAME:BASE64.
    trusted_public_keys: Vec<String> =
        strings(&["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="]),
        "trusted-public-keys" ["binary-cache-public-keys"];
    /// Refuse substitutes without the signature of a trusted key.
    require_sigs: bool = true, "require-sigs";
    /// Files with the keys that built paths are signed with.
    ///
    /// What was built counts, also by a hook, and what `--check` found to come out the same; not
    /// what was added or fetched. The keys are read before the first build.
    secret_key_files: Vec<String> = Vec::new(), "secret-key-files";
    /// Binary caches that built paths are pushed to, by URL.
    ///
    /// With all that they refer to, in the background while builds run; what is left waits for
    /// `windrow push`. Parameters of the URLs are those of `windrow copy --to`: see CACHES.md. Not
    /// a setting of Nix.
    upload_caches: Vec<String> = Vec::new(), "upload-caches";
    /// Servers asked for fixed outputs by their hash.
    hashed_mirrors: Vec<String> = Vec::new(), "hashed-mirrors";
    /// Seconds to remember that a substituter has a path.
    narinfo_cache_positive_ttl: u64 = 2_592_000, "narinfo-cache-positive-ttl";
    /// Seconds to remember that a substituter lacks a path.
    narinfo_cache_negative_ttl: u64 = 3600, "narinfo-cache-negative-ttl";
    /// Seconds a connection may take to open; 0 for no limit.
    connect_timeout: u64 = 15, "connect-timeout";
    /// Seconds a download may stand still before it is given up.
    stalled_download_timeout: u64 = 300, "stalled-download-timeout";
    /// Connections to one binary cache that may be open at once; 0 for no limit.
    http_connections: u32 = 25, "http-connections" ["binary-caches-parallel-connections"];
    /// How often a download is tried.
    download_attempts: u32 = 5, "download-attempts" ["filetransfer-retry-attempts"];
    /// The most KiB a second to download; 0 for no limit.
    download_speed: u32 = 0, "download-speed";
    /// The file with user names and passwords for downloads.
    netrc_file: PathBuf = host.conf_dir.join("netrc"), "netrc-file";
    /// The file with the certificate authorities to trust; empty for the system's.
    ssl_cert_file: Option<PathBuf> = None, "ssl-cert-file";
    }

    "Other machines, and programs to call" {
    /// Machines to build on, in the format of a machines file, or @FILE; empty for none.
    builders: String = format!("@{}", host.conf_dir.join("machines").display()), "builders", helpers;
    /// Let those machines fetch inputs from substituters.
    builders_use_substitutes: bool = false, "builders-use-substitutes", helpers;
    /// Programs that build for other types of machine, as JSON.
    external_builders: String = "[]".to_owned(), "external-builders", none;
    /// The program and arguments that offer builds to other machines.
    build_hook: Vec<String> = strings(&["nix", "__build-remote"]), "build-hook", helpers;
    /// The program that offers builds to other machines; NIX_BUILD_HOOK takes precedence.
    ///
    /// It speaks the protocol of the build hooks of Nix 1.8. Not a setting of Nix, whose
    /// `build-hook` names programs that speak the protocol of Nix 2.
    build_hook_program: Option<PathBuf> = None, "build-hook-program";
    /// The program called before a sandbox is set up.
    ///
    /// It runs as whoever runs windrow, with the derivation and PATH.drv.chroot as arguments (there
    /// is no directory of that name: the root of a sandbox lies in memory). What it writes to its
    /// standard output is read: a line `extra-sandbox-paths` (or `extra-chroot-dirs`), then a line
    /// with PATH or TARGET=SOURCE for each path that this build's sandbox shows in addition, until
    /// an empty line. The build fails if the hook fails, writes something else, or takes longer
    /// than a build may. Builds without a sandbox don't call it.
    pre_build_hook: Option<PathBuf> as Program = None, "pre-build-hook";
    /// The program called after each successful build.
    ///
    /// It runs as whoever runs windrow, when the outputs are valid, for as many builds at a time as
    /// `max-jobs` says, and finds the variables DRV_PATH, OUT_PATHS (what was built now, with
    /// blanks between) and NIX_CONFIG. The build ends with it, and fails if it fails or takes
    /// longer than a build may; its outputs are valid all the same.
    post_build_hook: Option<PathBuf> as Program = None, "post-build-hook";
    /// The program called when a repeated build differs.
    ///
    /// With `run-diff-hook`, for each output that differs, as the user who built it: with the path
    /// of the output, that of the other (PATH.check), the derivation and the build directory as
    /// arguments. A build user can't look into the build directory of a sandbox. How it ends
    /// changes nothing.
    diff_hook: Option<PathBuf> = None, "diff-hook";
    /// Call the diff-hook, and keep what differs as PATH.check.
    run_diff_hook: bool = false, "run-diff-hook";
    }

    "Logs" {
    /// Keep the logs of builds.
    keep_build_log: bool = true, "keep-build-log" ["build-keep-log"];
    /// Compress the logs that are kept.
    compress_build_log: bool = true, "compress-build-log" ["build-compress-log"];
    /// Lines of its log to show when a build fails.
    log_lines: u64 = 25, "log-lines";
    /// Say what will be built before `nix-store --realise` builds it.
    print_missing: bool = true, "print-missing";
    /// The file, or socket, that gets everything that is reported, as JSON; empty for none.
    json_log_path: String = String::new(), "json-log-path", none;
    /// Print the trace lines of old releases of Nix (@ build-started and so on).
    print_build_trace: bool = false, "print-build-trace";
    }

    "The store and its collector" {
    /// The store to work on: auto, local, or a directory that holds one.
    store: String = "auto".to_owned(), "store";
    /// Allow symlinks in the path of the store directory.
    allow_symlinked_store: bool = false, "allow-symlinked-store";
    /// Keep the outputs of derivations that are alive.
    ///
    /// With `keep-derivations` these are what kept paths were built with, such as compilers, which
    /// otherwise go and are fetched or built again when a path is rebuilt. `windrow gc` says how
    /// much that is.
    keep_outputs: bool = false, "keep-outputs" ["gc-keep-outputs"];
    /// Keep the derivations of outputs that are alive.
    keep_derivations: bool = true, "keep-derivations" ["gc-keep-derivations"];
    /// Make profiles refer to derivations.
    keep_env_derivations: bool = false, "keep-env-derivations" ["env-keep-derivations"], none;
    /// Bytes set aside so that the collector can run on a full disk.
    ///
    /// `nix-store --gc` and `--delete` give them back before they open the database, and with them
    /// an inode.
    gc_reserved_space: u64 = 8 << 20, "gc-reserved-space";
    /// Collect garbage when fewer bytes than this are free; 0 for never.
    ///
    /// If it is not 0, garbage is also collected when hardly any inodes are free where the store
    /// lies (fewer than 1024 and than a sixteenth of all), until there are four times as many.
    min_free: u64 = 0, "min-free";
    /// Stop collecting when this many bytes are free.
    max_free: u64 = i64::MAX as u64, "max-free";
    /// Seconds between two looks at the free space.
    min_free_check_interval: u64 = 5, "min-free-check-interval";
    /// Reserve the space of a file before it is written.
    preallocate_contents: bool = false, "preallocate-contents", none;
    /// Write the database to disk before a path counts as valid.
    fsync_metadata: bool = true, "fsync-metadata";
    /// Write everything to disk before paths are registered.
    ///
    /// All that is in memory for the file system of the store, by syncfs(2).
    sync_before_registering: bool = false, "sync-before-registering";
    /// Write the files of a path to disk before it is registered.
    ///
    /// Without it a machine that stops may leave valid paths with empty files.
    fsync_store_paths: bool = false, "fsync-store-paths";
    /// Use SQLite's write-ahead log.
    use_sqlite_wal: bool = true, "use-sqlite-wal";
    /// Hard-link equal files in the store.
    auto_optimise_store: bool = false, "auto-optimise-store";
    /// Extended attributes that may stay on files in the store.
    ignored_acls: BTreeSet<String> =
        strings(&["security.csm", "security.selinux", "system.nfs4_acl"]), "ignored-acls", none;
    }
}
