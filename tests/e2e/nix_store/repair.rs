//! `--repair-path`, `--verify --check-contents --repair`, `--realise --repair` and `--realise
//! --check`, by Debian's nix-store and by windrow on equal stores with the same damage: what they
//! print, how they end, what they build, what they leave.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Ran, World, need, sorted_lines};

/// What the damage below can call. The spoilt file looks as it did, except for its contents.
const SHELL: &str = r#"set -e
spoil() {
    for file; do
        mode=$(stat -c %a "$file"); chmod u+w "$file"; echo spoilt > "$file"; chmod "$mode" "$file"; touch -d @1 "$file"
    done
}
drop() { chmod -R u+w "$@"; rm -r "$@"; }
"#;

/// Two derivations (the first has two outputs, of which `out` names `dev`), one that differs when
/// `changed` is there, a fixed output, and a source that only the top needs.
fn expression(world: &World) -> String {
    format!(
        r#"let make = name: more: derivation ({{ inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin"; }} // more);
               noted = name: script: [ "-c" "echo ${{name}} >> {runs}; ${{script}}" ];
               source = builtins.toFile "source" "some source";
               base = make "base" {{ outputs = [ "out" "dev" ];
                 args = noted "base" "mkdir $out $dev; echo one > $dev/file; ln -s file $dev/link; echo $dev $out > $out/file; echo : > $out/run; chmod 755 $out/run"; }};
               fixed = make "fixed" {{ args = noted "fixed" "printf hello > $out"; outputHashMode = "flat"; outputHashAlgo = "sha256";
                 outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }};
               top = make "top" {{ args = noted "top" "cat ${{base}}/file ${{source}} ${{fixed}} > $out; echo ${{base}} ${{source}} >> $out"; }};
               fickle = make "fickle" {{ args = noted "fickle" "mkdir $out; echo $out > $out/file; ! [ -e {changed} ] || echo more >> $out/file"; }};
           in [ base fixed top fickle ]"#,
        runs = world.file("runs").display(),
        changed = world.file("changed").display(),
    )
}

/// A store that can be had again as often as it is needed.
struct Bench {
    world: World,
    /// The variables of damage and arguments, each the path of its name.
    names: Vec<(&'static str, String)>,
}

impl Bench {
    /// All is built by Nix, and put by.
    fn new() -> Self {
        let world = World::new();
        let drvs = world.instantiate(&expression(&world));
        world.theirs(["-r", "-Q"]).args(&drvs).ok();
        let mut names: Vec<(&'static str, String)> =
            ["$base_drv", "$fixed_drv", "$top_drv", "$fickle_drv"]
                .into_iter()
                .zip(drvs)
                .collect();
        let entries = world.store_entries();
        for (name, end) in [
            ("$out", "-base"),
            ("$dev", "-base-dev"),
            ("$fixed", "-fixed"),
            ("$top", "-top"),
            ("$fickle", "-fickle"),
            ("$source", "-source"),
        ] {
            let path = entries
                .iter()
                .find(|path| path.to_string_lossy().ends_with(end));
            names.push((name, path.expect("an output").display().to_string()));
        }
        let absent = "8rhh74q2l84v5z1fa0n941xhbpgw3ncf-absent";
        names.push(("$absent", world.store().join(absent).display().to_string()));
        world.set_aside("whole");
        Self { world, names }
    }

    /// The store as Nix made it, with this damage (a script).
    fn damaged(&self, damage: &str) {
        for dir in ["store", "state", "log"] {
            self.shell(&format!(
                "[ ! -e {dir} ] || drop {dir}; cp -a whole.{dir} {dir}"
            ));
        }
        for name in ["runs", "changed"] {
            let _ = fs::remove_file(self.world.file(name));
        }
        self.shell("rm -rf tmp/*");
        self.shell(damage);
    }

    fn shell(&self, script: &str) {
        let script = format!("{SHELL}{script}");
        let cmd = self.world.program("sh").args(["-c", &script]);
        let root = self.world.at("");
        let cmd = cmd.through("env", &["-C", root.to_str().expect("a path in UTF-8")]);
        let names = self.names.iter();
        names
            .fold(cmd, |cmd, (name, path)| cmd.env(&name[1..], path))
            .env("changed", self.world.file("changed"))
            .ok();
    }

    /// The arguments with paths for names.
    fn args(&self, line: &str) -> Vec<String> {
        let of = |word: &str| {
            let (name, more) = word
                .split_once('!')
                .map_or((word, None), |(name, more)| (name, Some(more)));
            let path = self.names.iter().find(|(known, _)| *known == name);
            let path = path.map_or(name, |(_, path)| path);
            more.map_or_else(|| path.to_owned(), |more| format!("{path}!{more}"))
        };
        line.split_whitespace().map(of).collect()
    }

    /// Runs the operation after the damage, once by each; gives what each says and leaves, Nix's
    /// first.
    #[track_caller]
    fn both(&self, damage: &str, line: &str) -> [(Ran, Left); 2] {
        let args = self.args(line);
        let known = self.world.at("whole.store");
        ["nix", "windrow"].map(|whose| {
            self.damaged(damage);
            let ran = match whose {
                "nix" => self.world.theirs(&args).run(),
                _ => self.world.ours(&args).run().no_panic(),
            };
            let mut left = Left::of(&self.world);
            // Nix leaves what it built to compare with under names that nobody knows. windrow must
            // not.
            if whose == "nix" && line.contains("--check ") {
                left.tree.retain(|line| {
                    let name = line.split([' ', '/']).next().expect("a name");
                    name.ends_with(".check") || known.join(name).symlink_metadata().is_ok()
                });
            }
            (ran, left)
        })
    }

    /// The same, compared: what is printed and how it ends.
    #[track_caller]
    fn end_alike(&self, damage: &str, line: &str) -> [(Ran, Left); 2] {
        let [(theirs, left_by_them), (ours, left_by_us)] = self.both(damage, line);
        let both = format!("{damage}\nNix:\n{theirs}\nwindrow:\n{ours}");
        assert!(
            theirs.stdout == ours.stdout,
            "standard output differs: {both}"
        );
        assert_eq!(theirs.status.code(), ours.status.code(), "{both}");
        [(theirs, left_by_them), (ours, left_by_us)]
    }

    /// The same, compared in all that comes of it. Gives windrow's run.
    #[track_caller]
    fn alike(&self, damage: &str, line: &str) -> Ran {
        let [(theirs, left_by_them), (ours, left_by_us)] = self.end_alike(damage, line);
        if left_by_us != left_by_them {
            let differs = |one: &Left, other: &Left| {
                let lines = one.tree.iter();
                let lines: Vec<_> = lines.filter(|line| !other.tree.contains(line)).collect();
                format!(
                    "{:?} {:?} {:?}\n{lines:#?}",
                    one.verified, one.runs, one.kept
                )
            };
            panic!(
                "{damage}\nNix leaves something else: {}\n{theirs}\nwindrow: {}\n{ours}",
                differs(&left_by_them, &left_by_us),
                differs(&left_by_us, &left_by_them),
            );
        }
        self.world.is_clean_but_for(&left_by_us.kept);
        ours
    }

    /// The same; both must have put everything in order.
    #[track_caller]
    fn repaired(&self, damage: &str, line: &str) {
        let ran = self.alike(damage, line).exits(0);
        self.world.verifies();
        let whole = tree(&self.world.at("whole.store"));
        assert_eq!(tree(&self.world.store()), whole, "{damage}\n{ran}");
    }

    /// The same; neither could.
    #[track_caller]
    fn unrepaired(&self, damage: &str, line: &str) {
        let ran = self.alike(damage, line);
        assert_ne!(ran.status.code(), Some(0), "{damage}\n{ran}");
    }
}

/// What a run leaves, in so far as it should be the same for both.
#[derive(Debug, PartialEq)]
struct Left {
    tree: Vec<String>,
    /// What Nix dumps of the database.
    database: String,
    /// What a verification of the contents by Nix ends with, and what it finds.
    verified: (Option<i32>, Vec<String>),
    /// Which builders ran.
    runs: Vec<String>,
    /// The build directories that are still there.
    kept: Vec<PathBuf>,
}

impl Left {
    fn of(world: &World) -> Self {
        let ran = world.theirs(["--verify", "--check-contents"]).run();
        let mut found: Vec<String> = ran.stderr.lines().map(str::to_owned).collect();
        found.sort();
        Self {
            tree: tree(&world.store()),
            database: world.theirs(["--dump-db"]).ok().out(),
            verified: (ran.status.code(), found),
            runs: sorted_lines(world.file("runs")),
            kept: world.temporary(),
        }
    }
}

/// Every file of a store with its kind, mode, time and contents; not the lock files, which come and
/// go.
fn tree(store: &Path) -> Vec<String> {
    fn walk(store: &Path, dir: &Path, into: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path
                .strip_prefix(store)
                .expect("a path below it")
                .to_owned();
            if name.starts_with(".links") || name.extension().is_some_and(|end| end == "lock") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("a file");
            let contents = if meta.is_symlink() {
                fs::read_link(&path)
                    .expect("a link")
                    .into_os_string()
                    .into_encoded_bytes()
            } else if meta.is_dir() {
                walk(store, &path, into);
                Vec::new()
            } else {
                fs::read(&path).expect("a readable file")
            };
            let contents = String::from_utf8_lossy(&contents);
            let (mode, time) = (meta.mode(), meta.mtime());
            into.push(format!("{} {mode:o} {time} {contents:?}", name.display()));
        }
    }
    let mut lines = Vec::new();
    walk(store, store, &mut lines);
    lines.sort();
    lines
}

/// What can be made again, in the ways it can be broken.
const CURABLE: &[&str] = &[
    ":",
    "spoil $out/file",
    "spoil $dev/file",
    "spoil $out/file $dev/file",
    "spoil $top",
    "spoil $fixed",
    "chmod 444 $out/run",
    "chmod u+w $dev; rm $dev/link; ln -s elsewhere $dev/link; chmod 555 $dev; touch -d @1 $dev",
    "chmod u+w $dev; echo > $dev/more; chmod 555 $dev",
    "drop $out; echo > $out",
    "spoil $out/file $top",
    "spoil $out/file $dev/file $fixed $top",
];

#[test]
fn repair_path_is_alike() {
    need!(nix);
    let bench = Bench::new();
    for damage in CURABLE {
        let damaged = ["$out", "$dev", "$top", "$fixed"].map(|name| {
            let words = damage.replace(['/', ';'], " ");
            words
                .split_whitespace()
                .any(|word| word == name)
                .then_some(name)
        });
        let damaged: Vec<&str> = damaged.into_iter().flatten().collect();
        bench.repaired(damage, &format!("--repair-path {}", damaged.join(" ")));
    }
    bench.repaired("drop $dev", "--repair-path $dev");
    bench.repaired(":", "--repair-path $out $dev $top $fickle");
    // What another path needs is no business of this one.
    bench.alike("spoil $dev/file $fixed", "--repair-path $top");
    bench.alike("spoil $dev/file", "--repair-path $out");
    // The one that is whole stays as it is, whatever its derivation would make today.
    bench.repaired("echo > $changed", "--repair-path $fickle");
    bench.alike(
        "spoil $fickle/file; echo > $changed",
        "--repair-path $fickle",
    );
}

#[test]
fn repair_path_fails_alike() {
    need!(nix);
    let bench = Bench::new();
    bench.unrepaired("spoil $source", "--repair-path $source");
    bench.unrepaired("spoil $base_drv", "--repair-path $base_drv");
    bench.unrepaired("drop $source", "--repair-path $source");
    bench.unrepaired("spoil $source $out/file", "--repair-path $out $source");
    // Nix stops there, windrow repairs what it can.
    let [(_, theirs), (_, ours)] =
        bench.end_alike("spoil $source $out/file", "--repair-path $source $out");
    assert_eq!((theirs.runs.len(), ours.runs.len()), (0, 1));
    bench.unrepaired(":", "--repair-path $absent");
    bench.unrepaired(":", "--repair-path /etc/passwd");
    bench.unrepaired(":", "--repair-path --nonsense $out");
    bench.alike(":", "--repair-path").exits(0);
}

#[test]
fn verify_repairs_alike() {
    need!(nix);
    let bench = Bench::new();
    for damage in CURABLE {
        bench.repaired(damage, "--verify --check-contents --repair");
    }
    bench.repaired("drop $dev", "--verify --check-contents --repair");
    bench.repaired("drop $dev", "--verify --repair");
    for damage in [
        "spoil $source",
        "spoil $base_drv",
        "drop $source",
        "spoil $source $top $out/file",
    ] {
        bench.unrepaired(damage, "--verify --check-contents --repair");
    }
    // Without one or the other.
    bench.unrepaired("spoil $dev/file", "--verify --check-contents");
    bench.alike("spoil $dev/file", "--verify --repair").exits(0);
}

#[test]
fn realise_repairs_alike() {
    need!(nix);
    let bench = Bench::new();
    let lines = [
        "-r --repair $top_drv $base_drv $fixed_drv",
        "--realise --repair -j2 -Q $base_drv!out,dev $top_drv $fixed_drv",
    ];
    for (damage, line) in CURABLE.iter().zip(lines.into_iter().cycle()) {
        bench.repaired(damage, line);
    }
    // A path by its name Nix can only fetch; windrow also knows what made it.
    for damage in [":", "spoil $out/file"] {
        let [(theirs, _), (ours, _)] = bench.both(damage, "-r --repair $out");
        theirs.exits(1).prints_nothing();
        assert_eq!(ours.exits(0).lines(), bench.args("$out"));
        bench.world.verifies();
    }
    bench.repaired("drop $dev", "-r --repair $base_drv");
    // Nix 2.8 takes the outputs that it needn't repair of an input for absent, and then can't make
    // what is made of them.
    for line in ["-r --repair $top_drv", "--verify --check-contents --repair"] {
        let [_, (ours, _)] = bench.both("spoil $dev/file $fixed $top", line);
        ours.exits(0);
        bench.world.verifies();
        let whole = tree(&bench.world.at("whole.store"));
        assert_eq!(tree(&bench.world.store()), whole, "{line}");
    }
    bench.repaired("drop $top", "-r --repair $top_drv");
    bench.alike("spoil $out/file $dev/file", "-r --repair $base_drv!dev");
    bench.alike("spoil $fixed", "-r --repair $top_drv");
    for damage in ["spoil $source", "spoil $source $dev/file"] {
        bench.unrepaired(damage, "-r --repair $top_drv");
    }
    // Neither looks at the sources of what it makes anew.
    bench.alike("spoil $source $top", "-r --repair $top_drv");
    bench.unrepaired("spoil $source", "-r --repair $source");
    bench.unrepaired(":", "-r --repair $absent");
}

#[test]
fn realise_checks_alike() {
    need!(nix);
    let bench = Bench::new();
    for line in [
        "-r --check $base_drv",
        "-r --check -Q $top_drv $base_drv!out,dev",
        "-r --check -K $fickle_drv",
        "-r --check $fixed_drv",
    ] {
        bench.repaired(":", line);
    }
    for line in [
        "-r --check $fickle_drv",
        "-r --check -K $fickle_drv",
        "-r --check -k $fickle_drv $base_drv",
    ] {
        bench.alike("echo > $changed", line).exits(104);
    }
    // What lies there is not what was built.
    for damage in [
        "spoil $out/file",
        "spoil $dev/file",
        "spoil $out/file $dev/file",
    ] {
        bench.alike(damage, "-r --check $base_drv");
    }
    bench.unrepaired("drop $top", "-r --check $absent");
}
