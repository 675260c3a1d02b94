//! What a process does to get its root, as plans that a reader can check.

use super::*;

fn config() -> SandboxConfig {
    SandboxConfig {
        kept: None,
        store_dir: "/nix/store".into(),
        real_store_dir: "/nix/store".into(),
        build_dir: "/build".into(),
        dev_shm_size: "50%".to_owned(),
        paths: Vec::new(),
        kvm: false,
        guarded: vec!["sys", "irq"],
        max_processes: Some(1000),
        allow_namespaces: false,
    }
}

fn view() -> View {
    View {
        store: "/nix/store/run".into(),
        builds: "/tmp/run".into(),
    }
}

fn inside() -> Place {
    Place {
        store: "/store/1".into(),
        build: "/builds/1/build".into(),
        tmp: "/builds/1/tmp".into(),
    }
}

/// The names of the flags that matter for what a builder may do on a mount.
fn flags(flags: libc::c_ulong) -> String {
    let known = [
        (libc::MS_BIND, "bind"),
        (libc::MS_REC, "rec"),
        (libc::MS_PRIVATE, "private"),
        (libc::MS_RDONLY, "ro"),
        (libc::MS_NOSUID, "nosuid"),
        (libc::MS_NODEV, "nodev"),
        (libc::MS_NOEXEC, "noexec"),
    ];
    let names = known.iter().filter(|(flag, _)| flags & flag != 0);
    names.map(|&(_, name)| name).collect::<Vec<_>>().join(",")
}

/// A line for each step.
fn plan(actions: &[Action]) -> String {
    let lines = actions.iter().map(|action| match action {
        Action::Mount {
            flags: bits, data, ..
        } => {
            let data = data
                .as_ref()
                .map_or("".into(), |data| data.to_string_lossy());
            format!("{} [{}] {data}", action.describe(), flags(*bits))
        }
        Action::Restrict {
            read_only, devices, ..
        } => format!(
            "{} [{}{}]",
            action.describe(),
            if *read_only { "read-only" } else { "writable" },
            if *devices { ", devices" } else { "" },
        ),
        Action::MakeDir { mode, .. } => format!("{} [{mode:o}]", action.describe()),
        _ => action.describe(),
    });
    lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

#[test]
fn the_template_of_root_shows_little_and_is_read_only() {
    let ids = SandboxIds {
        uid: 1000,
        gid: 100,
    };
    let actions = config().template(
        Path::new("/tmp/run/template"),
        &view(),
        ids,
        false,
        WaitingProc::Machine,
    );
    insta::assert_snapshot!(plan(&actions));
}

#[test]
fn what_one_build_shows_goes_before_what_all_show() {
    let path = |target: &str, source: &str| {
        let path = SandboxPath {
            target: target.into(),
            source: source.into(),
            optional: false,
        };
        (path, Shown::File)
    };
    let config = SandboxConfig {
        paths: vec![path("/bin/sh", "/bin/sh"), path("/z", "/z")],
        ..config()
    };
    assert_eq!(config.showing(&[], None).paths, config.paths);
    let more = [
        path("/z", "/first"),
        path("/tmp/x", "/x"),
        path("/z", "/last"),
    ];
    assert_eq!(
        config.showing(&more, None).paths,
        [
            path("/bin/sh", "/bin/sh"),
            path("/tmp/x", "/x"),
            path("/z", "/last")
        ]
    );
}

#[test]
fn a_build_of_root_mounts_its_own_proc() {
    let inputs = [c"0000-glibc".to_owned(), c"1111-bash".to_owned()];
    let actions = config().build(&inside(), &inputs, Proc::Fresh { guarded: true });
    insta::assert_snapshot!(plan(&actions));
}

#[test]
fn a_build_of_an_ordinary_user_takes_the_proc_that_waits() {
    let inputs = [c"0000-glibc".to_owned()];
    let actions = config().build(&inside(), &inputs, Proc::Waiting);
    insta::assert_snapshot!(plan(&actions));
}

#[test]
fn a_directory_that_was_kept_is_the_build_directory() {
    let all = config();
    let config = all.showing(&[], Some(Path::new("/tmp/kept")));
    let ids = SandboxIds {
        uid: 1000,
        gid: 100,
    };
    let base = Path::new("/base");
    let template = plan(&config.template(base, &view(), ids, false, WaitingProc::None));
    assert!(template.contains("/tmp/kept"), "{template}");
    let build = plan(&config.build(&inside(), &[], Proc::Waiting));
    assert!(build.contains("show '/kept' at '/root/build'"), "{build}");
    assert!(!build.contains("/builds/1/build"), "{build}");
}

#[test]
fn what_is_shown_is_found_where_it_lies() {
    let path = |target: &str, source: &str, shown| {
        let path = SandboxPath {
            target: target.into(),
            source: source.into(),
            optional: false,
        };
        (path, shown)
    };
    let config = SandboxConfig {
        paths: vec![
            path("/bin", "/usr/bin", Shown::Directory),
            path("/bin/sh", "/other/busybox", Shown::File),
        ],
        ..config()
    };
    let at = |text: &str| config.source_of(Path::new(text));
    assert_eq!(at("/bin/env"), Some("/usr/bin/env".into()));
    assert_eq!(at("/bin/sh"), Some("/other/busybox".into()));
    assert_eq!(at("/bin"), Some("/usr/bin".into()));
    assert_eq!(at("/usr/bin/env"), None);
}
