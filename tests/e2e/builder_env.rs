//! What a builder finds around itself, beside what Nix gives the same builder for the same
//! derivation. Differences that are meant: standard output and error are a pipe here and a
//! pseudo-terminal in Nix. What only a sandbox shows is in sandbox.rs.

use crate::harness::{World, graph_of, need, sh, sh_with, text};
use serde_json::json;

/// Writes what a process can see of itself to the directory $out, one file a matter. `$$` is the
/// builder itself; what changes while it has a child, its descriptors and blocked signals, it looks
/// at without one. Of signals it looks at the first 28; those from 32 on belong to the C library.
const LOOK: &str = r#"
export PATH=/usr/bin:/bin; mkdir $out; me=/proc/$$
cat $me/environ > $out/environ
cat $me/cmdline > $out/cmdline
readlink $me/cwd > $out/cwd
umask > $out/umask
stat -c %a:%u:%g . > $out/mode-of-cwd
ls -A . > $out/files; cat .attr-* > $out/passed-as-file 2>/dev/null
descriptors=; for fd in $me/fd/*; do descriptors="$descriptors ${fd##*/}"; done; echo $descriptors > $out/descriptors
readlink $me/fd/0 > $out/stdin
[ $me/fd/1 -ef $me/fd/2 ] && echo same > $out/one-output
cat $me/personality > $out/personality
set -- $(sed 's/^.*) //' $me/stat)
{ [ $3 = $$ ] && echo leads its group; [ $4 = $$ ] && echo leads its session; echo terminal $5; } > $out/session
while read key rest; do case $key in Sig???:) echo $key ${rest#?????????};; Groups:|Cap*) echo $key $rest;; esac
done < $me/status > $out/status
cat $me/limits > $out/limits
cat $me/oom_score_adj > $out/oom
nice > $out/nice
"#;

/// What the builders of Nix and of windrow see, by matter; both build the same .drv at the same
/// paths.
fn both(
    expression: impl Fn(&str) -> String,
    more_env: &[(&str, &str)],
) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let world = World::new();
    world.conf("cores = 3\n");
    world.write("look", LOOK);
    let expression = expression(world.file("look").to_str().unwrap());
    let build = |by_windrow: bool| {
        let drv = world.instantiate(&expression).remove(0);
        let cmd = match by_windrow {
            true => world.windrow("build"),
            false => world.program("nix-store").arg("--realise"),
        };
        let out = more_env
            .iter()
            .fold(cmd.arg(&drv), |cmd, (name, value)| cmd.env(name, value))
            .ok()
            .line();
        (drv, out)
    };
    let (drv, out) = build(false);
    world.set_aside("nix");
    assert_eq!(build(true), (drv, out.clone()));
    let theirs = world
        .at("nix.store")
        .join(&out[world.store().to_str().unwrap().len() + 1..]);
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert!(
        names.len() >= 15,
        "the builder looked at too little: {names:?}"
    );
    let read = |dir: &std::path::Path, name: &std::ffi::OsStr| {
        std::fs::read(dir.join(name)).unwrap_or_else(|_| b"absent".into())
    };
    let seen = |name: std::ffi::OsString| {
        (
            name.to_str().unwrap().to_owned(),
            read(&theirs, &name),
            read(out.as_ref(), &name),
        )
    };
    names.into_iter().map(seen).collect()
}

/// Expects all matters to be the same, byte for byte.
#[track_caller]
fn same(seen: &[(String, Vec<u8>, Vec<u8>)]) {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\n");
    for (name, nix, windrow) in seen {
        if nix != windrow {
            panic!(
                "{name} differs\n--- Nix\n{}\n--- windrow\n{}",
                shown(nix),
                shown(windrow)
            );
        }
    }
}

#[test]
fn an_ordinary_builder_sees_what_nix_shows() {
    need!(nix);
    let seen = both(
        |look| {
            format!(
                r#"derivation {{ name = "look"; system = builtins.currentSystem; builder = "/bin/sh";
                     args = [ "-e" "{look}" "a b" "" "é" ]; outputs = [ "out" ];
                     LINES = "one\ntwo\n"; umlaut = "äöü"; empty = ""; quote = "\"'\\ $x"; list = [ 1 "b" true ];
                     lower = null; NUMBER = 42; self = builtins.placeholder "out"; }}"#
            )
            .replace("\"-e\"", "")
        },
        &[
            ("LANG", "de_DE.UTF-8"),
            ("http_proxy", "http://proxy"),
            ("NIX_BUILD_CORES", "9"),
        ],
    );
    same(&seen);
}

#[test]
fn a_builder_whose_derivation_sets_the_fixed_variables_sees_what_nix_shows() {
    need!(nix);
    let seen = both(
        |look| {
            format!(
                r#"derivation {{ name = "look"; system = builtins.currentSystem; builder = "/bin/sh";
                     args = [ "{look}" ]; HOME = "/h"; PATH = "/p"; NIX_BUILD_CORES = "77"; NIX_STORE = "/s";
                     NIX_BUILD_TOP = "/t"; TMPDIR = "/t"; TEMPDIR = "/t"; TMP = "/t"; TEMP = "/t"; PWD = "/t";
                     TERM = "dumb"; NIX_LOG_FD = "5"; NIX_OUTPUT_CHECKED = "no"; impureEnvVars = "http_proxy"; }}"#
            )
        },
        &[("http_proxy", "http://proxy")],
    );
    same(&seen);
}

#[test]
fn values_passed_as_files_are_what_nix_passes() {
    need!(nix);
    let seen = both(
        |look| {
            format!(
                r#"derivation {{ name = "look"; system = builtins.currentSystem; builder = "/bin/sh";
                     args = [ "{look}" ]; passAsFile = [ "big" "out-of" "absent" ]; big = "long\nvalue";
                     "out-of" = "dash ${{builtins.placeholder "out"}}"; other = "x"; }}"#
            )
        },
        &[],
    );
    same(&seen);
    let (_, passed, _) = seen
        .iter()
        .find(|(name, ..)| name == "passed-as-file")
        .expect("the files");
    let passed = String::from_utf8_lossy(passed);
    assert!(passed.contains("long\nvalue"), "{passed}");
}

#[test]
fn a_fixed_output_builder_sees_what_nix_shows() {
    need!(nix);
    // Its output must not depend on what it sees, so the report goes to a directory beside it.
    let world = World::new();
    let look = LOOK
        .replace("mkdir $out; ", "o=$REPORT; mkdir $o; ")
        .replace("$out", "$o");
    world.write(
        "look",
        format!(
            "REPORT={}\n{look}\nprintf hello > $out",
            world.file("report").display()
        ),
    );
    let expression = format!(
        r#"derivation {{ name = "look"; system = builtins.currentSystem; builder = "/bin/sh";
             args = [ "{}" ]; outputHashMode = "flat"; outputHashAlgo = "sha256";
             outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
             impureEnvVars = [ "http_proxy" "no_such_variable" "LANG" ]; }}"#,
        world.file("look").display()
    );
    let mut reports = Vec::new();
    for by_windrow in [false, true] {
        let drv = world.instantiate(&expression).remove(0);
        let cmd = match by_windrow {
            true => world.windrow("build"),
            false => world.program("nix-store").arg("--realise"),
        };
        cmd.arg(drv)
            .env("http_proxy", "http://proxy")
            .env("LANG", "")
            .ok();
        world.set_aside(if by_windrow { "windrow" } else { "nix" });
        let report = world.file(if by_windrow { "windrow" } else { "nix" });
        std::fs::rename(world.file("report"), &report).unwrap();
        reports.push(report);
    }
    let read = |dir: &std::path::Path, name: &str| std::fs::read(dir.join(name)).unwrap();
    let seen: Vec<_> = [
        "environ",
        "cmdline",
        "umask",
        "cwd",
        "personality",
        "session",
        "descriptors",
    ]
    .map(|name| {
        (
            name.to_owned(),
            read(&reports[0], name),
            read(&reports[1], name),
        )
    })
    .into();
    same(&seen);
    let environ = String::from_utf8_lossy(&seen[0].2).replace('\0', "\n");
    assert!(
        environ.contains("http_proxy=http://proxy\n") && environ.contains("no_such_variable=\n"),
        "{environ}"
    );
}

#[test]
fn nothing_of_the_callers_environment_shows() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("env", sh("/usr/bin/env > $out"))]));
    let out = world
        .windrow("build")
        .arg(file)
        .env("SECRET", "s3cret")
        .env("LD_PRELOAD", "")
        .ok()
        .path();
    let seen = text(out);
    assert!(
        !seen.contains("SECRET") && !seen.contains("NIX_STATE_DIR"),
        "{seen}"
    );
    assert!(seen.contains("HOME=/homeless-shelter\n"), "{seen}");
}

#[test]
fn the_build_directory_is_private_named_after_the_derivation_and_gone_afterwards() {
    let world = World::new();
    let file = world.graph(
        "g.json",
        &graph_of([(
            "dir",
            sh("echo > litter; { pwd; stat -c %a .; ls -A; } > $out"),
        )]),
    );
    let out = world.windrow("build").arg(file).ok().path();
    let seen = text(out);
    let lines: Vec<&str> = seen.lines().collect();
    let tmp = world.at("tmp");
    assert!(
        lines[0].starts_with(tmp.to_str().unwrap()) && lines[0].ends_with("-dir.drv-0"),
        "{seen}"
    );
    assert!(lines[0].contains("/nix-build-"), "{seen}");
    assert_eq!(lines[1..], ["700", "litter"]);
    world.is_clean();
}

#[test]
fn files_the_builder_made_unreadable_go_with_the_build_directory() {
    let world = World::new();
    let script = "mkdir -p d/e; echo > d/e/f; chmod 000 d/e/f; chmod 500 d/e; chmod 000 d; mkfifo p; ln -s / root; echo > $out";
    let file = world.graph("g.json", &graph_of([("messy", sh(script))]));
    assert!(world.windrow("build").arg(file).ok().path().exists());
    world.is_clean();
}

#[test]
fn the_builders_standard_input_is_empty() {
    let world = World::new();
    let file = world.graph(
        "g.json",
        &graph_of([("stdin", sh_with("cat > $out; echo end >> $out", json!({})))]),
    );
    let out = world
        .windrow("build")
        .arg(file)
        .stdin("not for the builder\n")
        .ok()
        .path();
    assert_eq!(text(out), "end\n");
}
