//! Names of stores: where each puts what, beside a real Nix, and stores that can only be read.

use std::path::{Path, PathBuf};

use crate::harness::{Cmd, Ran, World, graph_of, is_root, need, need_usual_place, sh, skip, text};

/// Without what a world says of where its store lies.
fn unsaid(cmd: Cmd) -> Cmd {
    let names = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"];
    names.iter().fold(cmd, |cmd, name| cmd.env_remove(name))
}

/// All files below a directory, by their paths in it.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(dir).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What `add` printed, and where the file and the database are then.
fn added(world: &World, add: Cmd) -> (Vec<String>, Vec<PathBuf>) {
    let dir = world.at("files");
    let ran = add.ok();
    let mut files = files_below(&dir);
    files.retain(|file| file.ends_with("db.sqlite") || file.to_string_lossy().ends_with("-added"));
    for entry in std::fs::read_dir(&dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("a directory of ours");
        }
    }
    (ran.lines(), files)
}

#[test]
fn each_name_leads_where_nix_puts_things() {
    need!(nix);
    let world = World::new();
    let file = world.write("added", "text\n");
    let dir = world.at("files");
    let names = [
        "D/x",
        "./x",
        "a/../x//",
        "D/x?store=/foo",
        "D/x?state=D/v",
        "D/a%20b?store=%2Ffoo/../bar/",
        "D/x#y",
        "D/x?",
        "local?root=D/y",
        "auto?root=D/y",
        "local?root=D/a%20b",
        "local?root=D/a+b",
        "local?root=D/a&root=D/b&bogus=1",
        "local?root=D/y&real=D/real",
        "local?store=D/s&state=D/v&log=D/l",
        "auto?store=D/s&state=D/v",
        "local?store=D/s&state=D/v&real=D/r",
    ];
    for name in names.map(|name| name.replace('D', dir.to_str().expect("UTF-8"))) {
        for store_dir in ["", "/my/store"] {
            for by_variable in [false, true] {
                let named = |cmd: Cmd| match by_variable {
                    true => cmd.env("NIX_REMOTE", &name),
                    false => cmd.args(["--store", &name]),
                };
                let add = |cmd| {
                    let cmd = named(unsaid(cmd)).arg("--add").arg(&file);
                    let cmd = match store_dir {
                        "" => cmd,
                        dir => cmd.env("NIX_STORE_DIR", dir),
                    };
                    added(&world, cmd)
                };
                let theirs = add(world.program("nix-store"));
                assert_eq!(theirs.1.len(), 2, "{name}: {theirs:?}");
                let ours = add(world.windrow("nix-store"));
                assert_eq!(ours, theirs, "{name}, {store_dir}, {by_variable}");
            }
        }
    }
}

#[test]
fn newer_forms_and_mistakes() {
    let world = World::new();
    let file = world.write("added", "text\n");
    let dir = world.at("files");
    let dir = dir.to_str().expect("UTF-8");
    let add = |name: &str| {
        let cmd = unsaid(world.windrow("nix-store"));
        cmd.args(["--store", name, "--add"]).arg(&file)
    };
    for (name, root) in [
        (format!("local://{dir}/y"), "y"),
        (format!("local:{dir}/y"), "y"),
        (format!("local://{dir}/x%20y"), "x y"),
        (format!("{dir}/x?root={dir}/z"), "z"),
    ] {
        let (paths, files) = added(&world, add(&name));
        assert!(paths[0].starts_with("/nix/store/"), "{name}: {paths:?}");
        let path = PathBuf::from(format!("{root}{}", paths[0]));
        assert!(files.contains(&path), "{name}: {files:?}");
    }
    add(&format!("{dir}/x?bogus=1"))
        .ok()
        .says("warning: unknown setting 'bogus'");
    add(&format!("{dir}/x?bogus"))
        .ok()
        .says("'bogus'")
        .says("is missing an equal sign '=', ignoring it");
    let before = files_below(Path::new(dir));
    for (name, message) in [
        ("daemon", "not through a daemon"),
        ("unix:///run/x", "not through a daemon"),
        ("foo://host", "of the kind 'foo' are not supported"),
        ("ssh://host", "that can't be done in the store"),
        ("https://cache.example", "that can't be done in the store"),
        ("s3://bucket?region=x", "that can't be done in the store"),
        ("x", "if it is a directory, write './x'"),
        ("local?root=rel", "which is not an absolute path"),
        ("local?store=rel", "which is not an absolute path"),
        ("local?real=", "its real is empty"),
        ("local?store=/", "can't be a store"),
        ("./x?root=%zz", "not encoded"),
        ("./x?read-only=maybe", "'true' or 'false'"),
    ] {
        add(name)
            .run()
            .exits(1)
            .one_error()
            .says(message)
            .says(name);
    }
    for (name, message) in [
        ("ssh://host", "of the kind 'ssh' are not supported"),
        ("https://cache.example", "of the kind 'https' are not"),
        ("s3://bucket?region=x", "of the kind 's3' are not"),
    ] {
        let history = unsaid(world.windrow("history")).args(["--store", name]);
        history.run().exits(1).one_error().says(message).says(name);
    }
    assert_eq!(files_below(Path::new(dir)), before);
}

#[test]
fn builders_see_a_store_of_another_name_that_is_kept_below_a_directory() {
    need!(root);
    let world = World::new();
    let logical = world.at("logical");
    std::fs::create_dir(&logical).expect("a directory");
    let graph = graph_of([("x", sh("echo $out > $out"))]);
    let file = world.graph("g.json", &graph);
    let windrow = || {
        let cmd = unsaid(world.windrow("build")).arg(&file);
        cmd.arg("--store")
            .arg(world.at("root"))
            .env("NIX_STORE_DIR", &logical)
    };
    let out = windrow().ok().path();
    let name = out.strip_prefix(&logical).expect("a path in the store");
    let kept = world.at("root/nix/store").join(name);
    assert_eq!(text(kept), format!("{}\n", out.display()));
    assert!(!out.exists(), "the store is elsewhere");
    windrow().ok().never_says("building");
}

/// A store below `root` with something built in it, that nobody writes any more.
struct Kept {
    world: World,
    drv: String,
    out: String,
}

impl Kept {
    fn new() -> Self {
        let world = World::new();
        let graph = graph_of([("x", sh("echo line; echo x > $out"))]);
        let file = world.graph("g.json", &graph);
        let root = world.at("root");
        let windrow = |what: &str| unsaid(world.windrow(what)).arg("--store").arg(&root);
        let drv = windrow("add").arg(&file).ok().line();
        let out = windrow("build").arg(&drv).ok().line();
        // Nix closes a database so that there is nothing beside it.
        for entry in std::fs::read_dir(root.join("nix/var/nix/db")).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.to_string_lossy().ends_with("db.sqlite-shm")
                || path.to_string_lossy().ends_with("db.sqlite-wal")
            {
                let length = path.metadata().expect("a file").len();
                assert!(length == 0 || path.to_string_lossy().ends_with("-shm"));
                std::fs::remove_file(path).expect("a file of ours");
            }
        }
        Self { world, drv, out }
    }

    /// Everything that only looks works, and everything that writes says why it does not, when
    /// `run` gives commands the store.
    #[track_caller]
    fn is_read_only(&self, run: impl Fn(Cmd) -> Ran, why: &[&str]) {
        let Self { world, drv, out } = self;
        let ours = |args: &[&str]| run(unsaid(world.windrow("nix-store")).args(args));
        let windrow = |args: &[&str]| run(unsaid(world.windrow(args[0])).args(&args[1..]));
        assert_eq!(ours(&["-qR", drv]).exits(0).line(), *drv);
        assert_eq!(ours(&["-q", "--outputs", drv]).exits(0).line(), *out);
        assert_eq!(ours(&["-l", out]).exits(0).out(), "line\n");
        ours(&["--verify-path", out]).exits(0);
        ours(&["--verify", "--check-contents"]).exits(0);
        ours(&["--check-validity", out, drv]).exits(0);
        assert!(ours(&["--export", out]).exits(0).stdout.len() > 100);
        assert!(ours(&["--dump-db"]).exits(0).out().contains(out.as_str()));
        assert_eq!(ours(&["-r", drv]).exits(0).line(), *out);
        assert_eq!(ours(&["-r", out]).exits(0).line(), *out);
        assert_eq!(windrow(&["build", drv]).exits(0).line(), *out);
        assert!(windrow(&["show", drv]).exits(0).out().contains("echo line"));
        assert_eq!(windrow(&["log", drv]).exits(0).out(), "line\n");
        windrow(&["plan", drv])
            .exits(0)
            .says("nothing would be built");
        windrow(&["history"]).exits(0);
        windrow(&["failed-paths"]).exits(0);

        let file = world.write("new", "new\n");
        let file = file.to_str().expect("UTF-8");
        let new = world.graph("new.json", &graph_of([("new", sh("echo > $out"))]));
        let new = new.to_str().expect("UTF-8");
        let refused = |ran: Ran| {
            let ran = ran.exits(1).one_error().prints_nothing();
            ran.says_one_of(why);
        };
        for args in [
            &["--add", file][..],
            &["--gc"],
            &["--delete", out],
            &["-r", "--check", drv],
            &["--optimise"],
            &["--init"],
            &["--verify", "--repair"],
        ] {
            refused(ours(args));
        }
        refused(windrow(&["build", new]));
        refused(windrow(&["add", new]));
        refused(windrow(&["build", "--repair", drv]));
    }
}

#[test]
fn a_store_named_as_read_only_is_read_and_left_as_it_is() {
    need_usual_place!();
    let kept = Kept::new();
    let root = kept.world.at("root");
    let before = files_below(&root);
    let name = format!("{}?read-only=true", root.display());
    kept.is_read_only(|cmd| cmd.args(["--store", &name]).run(), &["is read-only"]);
    assert_eq!(files_below(&root), before);
    let name = format!("{}?read-only=true", kept.world.at("none").display());
    unsaid(kept.world.ours(["--store", &name, "-qR", &kept.drv]))
        .run()
        .exits(1)
        .says("there is no store database");
    assert!(!kept.world.at("none").exists());
}

#[test]
fn a_store_on_a_read_only_file_system_is_read() {
    need!(root);
    need_usual_place!();
    let kept = Kept::new();
    let root = kept.world.at("root");
    let line = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,ro,bind '{0}' && exec \"$@\"",
        root.display()
    );
    let args = ["-m", "/bin/sh", "-c", &line, "sh"];
    kept.is_read_only(
        |cmd| {
            let cmd = cmd.arg("--store").arg(&root);
            cmd.through("/usr/bin/unshare", &args).run()
        },
        &["is read-only"],
    );
}

#[test]
fn a_store_of_somebody_else_is_read() {
    need!("setpriv");
    if !is_root() {
        return skip("needs root");
    }
    need_usual_place!();
    let kept = Kept::new();
    let root = kept.world.at("root");
    let args = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    kept.is_read_only(
        |cmd| {
            let cmd = cmd.arg("--store").arg(&root);
            cmd.through("/usr/bin/setpriv", &args).run()
        },
        &["run as the owner of the store"],
    );
}
