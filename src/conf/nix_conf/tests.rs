//! Where settings come from: order of the sources, syntax, includes, messages and warnings.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;
use windrow_components::settings::{Effect, Known};

use super::*;

/// A configuration directory, other files beside it, and an environment.
struct Conf {
    dir: TempDir,
    env: Vec<(&'static str, OsString)>,
}

impl Conf {
    fn new(nix_conf: impl AsRef<[u8]>) -> Conf {
        let conf = Conf {
            dir: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        };
        // Without it the files of the machine that runs the tests would be read.
        let nowhere: OsString = conf.path("nowhere").into();
        conf.file("nix.conf", nix_conf)
            .env("XDG_CONFIG_DIRS", nowhere.clone())
            .env("WINDROW_CONF_DIR", nowhere)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Conf {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
        self
    }

    fn env(mut self, name: &'static str, value: OsString) -> Conf {
        self.env.push((name, value));
        self
    }

    fn load(&self) -> Result<(Settings, Vec<Warning>), ConfError> {
        let host = Host {
            conf_dir: self.dir.path().to_owned(),
            ..Host::default()
        };
        let find = |name: &str| self.env.iter().rev().find(|(key, _)| *key == name);
        load_for(&host, &|name| find(name).map(|(_, value)| value.clone()))
    }

    /// The settings; there must be no warnings.
    fn settings(&self) -> Settings {
        let (settings, warnings) = self.load().unwrap();
        assert_eq!(warnings, []);
        settings
    }

    /// The error's message, with the directory's path taken out.
    fn error(&self) -> String {
        let dir = format!("{}/", self.dir.path().display());
        self.load().unwrap_err().to_string().replace(&dir, "")
    }

    /// The warnings' messages, with the directory's path taken out.
    fn warnings(&self) -> Vec<String> {
        let dir = format!("{}/", self.dir.path().display());
        let (_, warnings) = self.load().unwrap();
        warnings
            .iter()
            .map(|warning| warning.to_string().replace(&dir, ""))
            .collect()
    }
}

#[test]
fn lines_are_read_as_nix_reads_them() {
    for (text, name, value) in [
        ("cores = 3", "cores", "3"),
        ("\n# cores = 4\n  cores\t=  3 \r\n", "cores", "3"),
        ("cores = 3 # not 4", "cores", "3"),
        ("cores = 4\ncores = 3\n", "cores", "3"),
        ("store = /a   b\t c", "store", "/a b c"),
        ("substituters =", "substituters", ""),
        ("build-max-jobs = 4", "max-jobs", "4"),
        (
            "substituters = a\nextra-substituters = b",
            "substituters",
            "a b",
        ),
        (
            "experimental-features = nix-command flakes\ncores = 3",
            "cores",
            "3",
        ),
    ] {
        assert_eq!(
            Conf::new(text).settings().get(name).as_deref(),
            Some(value),
            "{text}"
        );
    }
}

#[test]
fn bad_lines_are_named_with_file_and_line() {
    for (text, message) in [
        (
            "\nmax-jobs",
            "nix.conf:2: 'max-jobs' is not a setting; \
             write 'NAME = VALUE' with blanks around the '='",
        ),
        (
            "max-jobs=3",
            "nix.conf:1: 'max-jobs=3' is not a setting; \
             write 'NAME = VALUE' with blanks around the '='",
        ),
        (
            " cores # = 3",
            "nix.conf:1: 'cores' is not a setting; \
             write 'NAME = VALUE' with blanks around the '='",
        ),
        (
            "include",
            "nix.conf:1: 'include' must name one file; \
             write 'include FILE' (no blanks in FILE)",
        ),
        (
            "!include a b",
            "nix.conf:1: '!include a b' must name one file; \
             write 'include FILE' (no blanks in FILE)",
        ),
        (
            "#\n#\ninclude absent",
            "nix.conf:3: the included file 'absent' doesn't exist; \
             create it, or write '!include' if it may be missing",
        ),
        (
            "fallback = maybe",
            "nix.conf:1: invalid value 'maybe' for setting 'fallback': \
             expected true, yes or 1, or false, no or 0",
        ),
    ] {
        assert_eq!(Conf::new(text).error(), message);
    }
}

#[test]
fn only_comments_may_hold_other_encodings() {
    let conf = Conf::new(b"# caf\xe9\ncores = 3 # \xff\n");
    assert_eq!(conf.settings().cores, 3);
    let conf = Conf::new(b"cores = 3\nsystem = \xff\n");
    assert_eq!(
        conf.error(),
        "nix.conf:2: not UTF-8 text; save the line as UTF-8"
    );
}

#[test]
fn includes_start_at_the_including_file() {
    let conf = Conf::new("cores = 1\ninclude sub/a\n!include absent\nmax-jobs = 5")
        .file("sub/a", "cores = 2\nmax-jobs = 2\ninclude b")
        .file("sub/b", "timeout = 9");
    let settings = conf.settings();
    assert_eq!(
        (settings.cores, settings.max_jobs, settings.timeout_s),
        (2, 5, 9)
    );
    let absolute = format!("include {}", conf.path("sub/b").display());
    assert_eq!(conf.file("nix.conf", absolute).settings().timeout_s, 9);
}

#[test]
fn a_file_may_be_included_twice_but_not_in_itself() {
    let twice = Conf::new("include a\ninclude a\ninclude b")
        .file("a", "cores = 3")
        .file("b", "include a");
    assert_eq!(twice.settings().cores, 3);
    let conf = Conf::new("include a").file("a", "\n!include link");
    symlink("nix.conf", conf.path("link")).unwrap();
    assert_eq!(
        conf.error(),
        "a:2: 'link' includes itself; remove one of these includes"
    );
}

#[test]
fn includes_are_limited() {
    let doubled = |n: u32| format!("include f{n}\ninclude f{n}");
    let mut conf = Conf::new(doubled(0));
    for n in 0..40 {
        conf = conf.file(
            &format!("f{n}"),
            if n < 39 {
                doubled(n + 1)
            } else {
                String::new()
            },
        );
    }
    let message = "more than 256 files are included; put their settings into fewer files";
    assert!(conf.error().ends_with(message), "{}", conf.error());

    let mut chain = Conf::new("include f0");
    for n in 0..255 {
        chain = chain.file(&format!("f{n}"), format!("include f{}", n + 1));
    }
    assert_eq!(chain.file("f255", "cores = 3").settings().cores, 3);
}

#[test]
fn later_sources_win() {
    let conf = Conf::new("cores = 1\nmax-jobs = 1\ntimeout = 1\nlog-lines = 1\nstart-id = 1")
        .file("u1", "max-jobs = 2\n")
        .file("u2", "max-jobs = 3\ntimeout = 3\nlog-lines = 3")
        .env("NIX_CONFIG", "log-lines = 4\n\nstart-id = 4".into())
        .env(
            "_NIX_OPTIONS",
            "start-id=5\nbuild-extra-chroot-dirs=/a = b\n".into(),
        );
    let files = format!("{0}/u1::{0}/u2:{0}/absent", conf.dir.path().display());
    let settings = conf.env("NIX_USER_CONF_FILES", files.into()).settings();
    assert_eq!(settings.cores, 1);
    assert_eq!(settings.max_jobs, 2);
    assert_eq!(settings.timeout_s, 3);
    assert_eq!(settings.log_lines, 4);
    assert_eq!(settings.start_id, 5);
    assert_eq!(settings.get("sandbox-paths").as_deref(), Some("/a = b"));
}

#[test]
fn user_files_are_found_where_nix_finds_them() {
    let with = |pairs: &[(&str, &str)]| {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        user_files(&|name| find(name).map(|(_, value)| value.into()))
    };
    for (pairs, files) in [
        (&[][..], &["/etc/xdg/nix/nix.conf"][..]),
        (
            &[("HOME", "/h")],
            &["/h/.config/nix/nix.conf", "/etc/xdg/nix/nix.conf"],
        ),
        (
            &[
                ("HOME", "/h"),
                ("XDG_CONFIG_DIRS", "/a:/b"),
                ("XDG_CONFIG_HOME", "/c"),
            ],
            &["/c/nix/nix.conf", "/a/nix/nix.conf", "/b/nix/nix.conf"],
        ),
        (
            &[("NIX_CONFIG_HOME", "/n"), ("XDG_CONFIG_HOME", "/c")],
            &["/n/nix.conf", "/etc/xdg/nix/nix.conf"],
        ),
        (
            &[("HOME", "/h"), ("NIX_USER_CONF_FILES", "/x:/y")],
            &["/x", "/y"],
        ),
        (&[("HOME", "/h"), ("NIX_USER_CONF_FILES", "")], &[]),
    ] {
        let expected: Vec<_> = files.iter().map(PathBuf::from).collect();
        assert_eq!(with(pairs), expected, "{pairs:?}");
    }
}

#[test]
fn a_missing_nix_conf_is_fine() {
    let conf = Conf::new("");
    fs::remove_file(conf.path("nix.conf")).unwrap();
    conf.settings();
    let host = Host {
        conf_dir: conf.path("absent/deep"),
        ..Host::default()
    };
    assert_eq!(load_for(&host, &|_| None).unwrap().0.cores, 1);
}

#[test]
fn a_file_that_cannot_be_read_is_passed_over_with_a_warning() {
    let conf = Conf::new("include dir\ncores = 3");
    fs::create_dir(conf.path("dir")).unwrap();
    let (settings, warnings) = conf.load().unwrap();
    assert_eq!(settings.cores, 3);
    assert!(matches!(&warnings[..], [Warning::Unreadable { file, .. }] if file.ends_with("dir")));

    let endless = Conf::new("include /dev/zero\ncores = 3");
    assert_eq!(endless.load().unwrap().0.cores, 3);
    assert!(endless.warnings()[0].starts_with("'/dev/zero' can't be read and was passed over: "));
}

#[test]
fn unknown_settings_are_warned_about() {
    let conf = Conf::new("cores = 3\nmax-job = 2\ninclude more")
        .file("more", "frobnicate = x")
        .env("NIX_CONFIG", "\nextra-cores = 1".into());
    assert_eq!(
        conf.warnings(),
        [
            "nix.conf:2: unknown setting 'max-job'; did you mean 'max-jobs'?",
            "more:1: unknown setting 'frobnicate'",
            "NIX_CONFIG:2: unknown setting 'extra-cores'; did you mean 'cores'?",
        ]
    );
}

#[test]
fn text_without_a_file_includes_only_absolute_paths() {
    let conf = Conf::new("").env("NIX_CONFIG", "include f".into());
    let message = "NIX_CONFIG:1: 'f' is relative to no file; include it by its absolute path";
    assert_eq!(conf.error(), message);
    let conf = Conf::new("").file("f", "cores = 3");
    let line = format!("include {}", conf.path("f").display());
    assert_eq!(conf.env("NIX_CONFIG", line.into()).settings().cores, 3);
}

#[test]
fn packed_options_are_those_of_nix_1_8() {
    let packed = "build-max-jobs=4\nuntrusted-build-cores=9\nbinary-caches=http://a?b=c http://d\n";
    let settings = Conf::new("").env("_NIX_OPTIONS", packed.into()).settings();
    assert_eq!((settings.max_jobs, settings.cores), (4, 1));
    assert_eq!(settings.substituters, ["http://a?b=c", "http://d"]);
    let conf = Conf::new("").env("_NIX_OPTIONS", "cores=2\ncores\n".into());
    let message = "_NIX_OPTIONS:2: 'cores' is not an option; write NAME=VALUE, one a line";
    assert_eq!(conf.error(), message);
}

#[test]
fn variables_give_other_defaults_and_files_win_over_them() {
    let conf = || {
        Conf::new("builders = x y")
            .env("NIX_REMOTE", "daemon".into())
            .env("NIX_IGNORE_SYMLINK_STORE", "1".into())
            .env("SSL_CERT_FILE", "/certs".into())
            .env("NIX_REMOTE_SYSTEMS", "/a::/b".into())
            .env("NIX_BUILD_CORES", "7".into())
    };
    let settings = conf().settings();
    assert_eq!(settings.store, "daemon");
    assert!(settings.allow_symlinked_store);
    assert_eq!(settings.ssl_cert_file, Some(PathBuf::from("/certs")));
    assert_eq!(settings.builders, "x y");
    assert_eq!(settings.cores, 1);

    let settings = conf().file("nix.conf", "store = local").settings();
    assert_eq!(settings.store, "local");
    assert_eq!(settings.builders, "@/a @/b");

    let broken = OsString::from_vec(b"\xff".to_vec());
    let conf = conf().env("NIX_REMOTE", broken);
    let message =
        "the environment variable NIX_REMOTE is not UTF-8 text; set it to UTF-8 or unset it";
    assert_eq!(conf.error(), message);
}

fn some_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "(extra-)?(cores|max-jobs|sandbox|impure-env|substituters|cors) ?=? [a-z0-9K=#]{0,6}",
        "!?include ?[a-z./]{0,6}",
        any::<String>(),
    ]
}

#[test]
fn settings_without_effect_are_warned_of_in_one_line_a_file() {
    let conf = Conf::new(
        "experimental-features = nix-command flakes\n\
         trusted-public-keys = k:AA==\nrequire-sigs = false\ncores = 2\n\
         preallocate-contents = true\nextra-ignored-acls = /k\n!include more.conf\n\
         keep-env-derivations = true\n",
    )
    .file(
        "more.conf",
        "env-keep-derivations = false\nignored-acls = /h\n",
    )
    .env("NIX_CONFIG", "keep-env-derivations = false".into());
    assert_eq!(
        conf.warnings(),
        [
            "nix.conf: these settings have no effect here: 'preallocate-contents' (line 5), \
             'extra-ignored-acls' (line 6)",
            "more.conf:2: the setting 'ignored-acls' has no effect here",
        ]
    );
    let packed = Conf::new("").env("_NIX_OPTIONS", "use-cgroups=true".into());
    assert!(packed.settings().use_cgroups);
}

/// Another value of that setting than its default.
fn another(name: &str) -> String {
    let values = ["true", "false", "7", "1", "/x", "x y", "x=y", "auto"];
    let other = values.into_iter().find(|value| {
        let mut settings = Settings::default();
        settings.set(name, value) == Ok(Known::Yes)
            && settings.get(name) != Settings::default().get(name)
    });
    other.unwrap_or_else(|| panic!("{name}")).to_owned()
}

#[test]
fn each_setting_without_effect_is_told_once_when_it_is_not_the_default() {
    let mut without = 0;
    for name in Settings::names() {
        let has_none = Settings::effect(name) == Some(Effect::None);
        without += usize::from(has_none);
        for name in std::iter::once(name).chain(Settings::aliases(name).iter().copied()) {
            let warnings = |value: &str| {
                let conf = Conf::new(format!("{name} = {value}\n"));
                conf.load().unwrap().1
            };
            let default = Settings::default().get(name).unwrap();
            if has_none {
                assert_eq!(warnings(&default), [], "{name} = {default}");
            }
            let told = warnings(&another(name));
            let expected = format!("the setting '{name}' has no effect here");
            match told.as_slice() {
                [] => assert!(!has_none, "{name}"),
                [one] => assert!(has_none && one.to_string().contains(&expected), "{one}"),
                more => panic!("{name}: {more:?}"),
            }
        }
    }
    assert!(without >= 5, "{without}");
    let told = Conf::new("frobnicate = 1\nrepeat = 2\n").load().unwrap().1;
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert!(told[0].ends_with("nix.conf:1: unknown setting 'frobnicate'"));
    assert!(told[1].ends_with("nix.conf:2: the setting 'repeat' has no effect here"));
}

proptest! {
    #[test]
    fn no_bytes_make_loading_panic(bytes in any::<Vec<u8>>(), packed in any::<Vec<u8>>()) {
        let text = OsString::from_vec(bytes.clone());
        let conf = Conf::new(&bytes).env("NIX_CONFIG", text);
        let _ = conf.env("_NIX_OPTIONS", OsString::from_vec(packed)).load();
    }

    #[test]
    fn no_lines_make_loading_panic(lines in proptest::collection::vec(some_line(), 0..8)) {
        let conf = Conf::new(lines.join("\n"));
        if let Err(error) = conf.load() {
            prop_assert!(error.to_string().starts_with(conf.dir.path().to_str().unwrap()));
        }
    }
}
