//! `windrow shell`: a person finds what the builder finds, and what comes of it goes nowhere.

mod kept;
mod terminal;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::build_users;
use crate::harness::{
    Cmd, SEALED, World, busybox, busybox_with, for_each_caller, graph_of, need, need_usual_place,
    sh, sh_with, text, wait_until,
};

/// What shells add to their environment, and windrow to that of a shell.
const OF_SHELLS: [&str; 5] = ["_=", "OLDPWD=", "PWD=", "SHLVL=", "WINDROW_BUILD="];

/// The hash of a text.
const HELLO: &str = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// What a builder wrote, or a program in its place, without what differs: the hash parts of outputs
/// that are thrown away.
fn seen(text: &str, drv: &str) -> Vec<String> {
    let name = &drv.rsplit('/').next().expect("a name")[33..];
    let name = name.trim_end_matches(".drv");
    let mark = format!("-{name}");
    let is_hash = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mask = |line: &str| {
        let mut masked = String::new();
        let mut parts = line.split(&mark).peekable();
        while let Some(part) = parts.next() {
            let start = part
                .len()
                .checked_sub(32)
                .filter(|&at| part.is_char_boundary(at));
            match start.filter(|&at| parts.peek().is_some() && is_hash(&part[at..])) {
                Some(at) => masked.push_str(&format!("{}#", &part[..at])),
                None => masked.push_str(part),
            }
            if parts.peek().is_some() {
                masked.push_str(&mark);
            }
        }
        masked
    };
    let mut lines: Vec<String> = text.lines().map(mask).collect();
    lines.retain(|line| !OF_SHELLS.iter().any(|name| line.starts_with(name)));
    lines.sort();
    lines
}

/// Expects the builder's log to say what the same command line writes in a shell.
#[track_caller]
fn the_same_is_seen(world: &World, run: impl Fn(Cmd) -> Cmd, derivation: Value) -> Vec<String> {
    let file = world.graph("graph.json", &graph_of([("x", derivation)]));
    let drv = run(world.windrow("add").arg(&file)).ok().line();
    run(world.windrow("build").arg(&drv)).run().exits(1);
    let log = run(world.windrow("log").arg(&drv)).ok().out();
    let by_hand = ["--command", "eval \"$WINDROW_BUILD\""];
    let shell = run(world.windrow("shell").arg(&drv).args(by_hand)).run();
    let expected = seen(&log, &drv);
    assert!(expected.len() > 8, "{log}");
    assert_eq!(seen(&shell.out(), &drv), expected, "{shell}");
    world.is_clean();
    expected
}

/// Prints what there is, and makes no output.
const LOOK: &str = "env; pwd; ls -A; cat .attr* 2>/dev/null; umask; id -u; ls -ld . | cut -c1-10";

/// Derivations that give their builders something, and a text that shows it.
fn various(script: &dyn Fn(&str, Value) -> Value) -> [(Value, &'static str); 4] {
    let plain = json!({"env": {"GREETING": "hello", "TERM": "dumb"}, "outputs": ["out", "dev"]});
    let as_file = json!({"env": {"passAsFile": "big", "big": "a large value"}});
    let structured = json!({"env": {"__json": "{\"list\":[\"one\",\"two\"]}"}});
    let fixed = json!({"env": {"impureEnvVars": "GIVEN"}, "outputHashMode": "flat",
        "outputHash": HELLO});
    [
        (script(LOOK, plain), "GREETING=hello"),
        (script(LOOK, as_file), "a large value"),
        (script(LOOK, structured), "'two'"),
        (script(LOOK, fixed), "GIVEN=here"),
    ]
}

#[test]
fn it_finds_what_the_builder_finds() {
    let world = World::new();
    for (derivation, shown) in various(&sh_with) {
        let lines = the_same_is_seen(&world, |cmd| cmd.env("GIVEN", "here"), derivation);
        assert!(lines.iter().any(|line| line.contains(shown)), "{lines:?}");
    }
}

#[test]
fn it_finds_what_the_builder_finds_in_the_sandbox() {
    for_each_caller(|world, caller| {
        for (derivation, shown) in various(&busybox_with) {
            let run = |cmd: Cmd| caller.runs(cmd.env("GIVEN", "here"));
            let lines = the_same_is_seen(world, run, derivation);
            assert!(lines.iter().any(|line| line.contains(shown)), "{lines:?}");
        }
    });
}

#[test]
fn it_is_a_build_user_as_the_builder_is() {
    need!(root);
    need!("unshare", "mount", "busybox");
    let (world, first) = build_users::world(build_users::TWO);
    let run = |cmd: Cmd| build_users::with_users(&world, cmd.env("GIVEN", "here"));
    for (derivation, _) in various(&sh_with) {
        let lines = the_same_is_seen(&world, run, derivation);
        let uid = (first + 1).to_string();
        assert!(lines.contains(&uid), "{lines:?}");
    }
    world.conf(&format!("build-users-group = windrow-test-users\n{SEALED}"));
    for (derivation, _) in various(&busybox_with) {
        the_same_is_seen(&world, run, derivation);
    }
}

#[test]
fn reference_graphs_are_there() {
    let world = World::new();
    let graph = graph_of([
        ("dep", sh("echo dep > $out")),
        (
            "x",
            sh_with(
                "cat graph; cat graph; env; exit 1",
                json!({"env": {"exportReferencesGraph": "graph @{dep}"}}),
            ),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    world.windrow("build").arg(&file).run().exits(100);
    let log = world.windrow("log").arg("g.json#x").ok().out();
    let line = ["g.json#x", "--command", "eval \"$WINDROW_BUILD\""];
    let shell = world.windrow("shell").args(line).run().exits(1);
    let drv = "00000000000000000000000000000000-x.drv";
    assert_eq!(seen(&shell.out(), drv), seen(&log, drv));
    assert!(log.contains("-dep\n"), "{log}");
}

#[test]
fn what_it_needs_is_built_first_and_the_rest_is_not() {
    let world = World::new();
    let graph = graph_of([
        ("dep", sh("echo from dep > $out")),
        (
            "x",
            sh_with("cat $dep > $out", json!({"env": {"dep": "@{dep}"}})),
        ),
        ("top", sh("cat @{x} > $out")),
    ]);
    world.graph("windrow.json", &graph);
    let ran = world
        .windrow("shell")
        .args(["#x", "--command", "/bin/cat $dep"]);
    let ran = ran.ok().says("1 derivation built");
    assert_eq!(ran.out(), "from dep\n");
    let again = ["#x", "--command", "eval \"$WINDROW_BUILD\"; /bin/cat $out"];
    let ran = world.windrow("shell").args(again).ok();
    assert_eq!(ran.never_says("built").out(), "from dep\n");
    let out = world.windrow("build").arg("#x").ok().path();
    // By what was built from it, and by a link to that.
    std::os::unix::fs::symlink(&out, world.file("result")).unwrap();
    let by_link = ["./result", "--", "/bin/echo", "a b", "c"];
    assert_eq!(world.windrow("shell").args(by_link).ok().out(), "a b c\n");
    world.is_clean();
}

#[test]
fn what_it_needs_and_cannot_be_built_is_told_as_by_a_build() {
    let world = World::new();
    let graph = graph_of([("dep", sh("echo oh; exit 3")), ("x", sh("cat @{dep}"))]);
    world.graph("windrow.json", &graph);
    let ran = world
        .windrow("shell")
        .args(["#x", "--command", "true"])
        .run();
    ran.exits(100)
        .says("> oh")
        .says("-dep.drv' failed with exit code 3");
    world.is_clean();
}

#[test]
fn its_exit_status_is_that_of_the_program() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let shell = |args: &[&str]| world.windrow("shell").arg(&drv).args(args);
    shell(&["--command", "exit 7"])
        .run()
        .exits(7)
        .prints_nothing();
    shell(&["--command", "kill -9 $$"]).run().exits(137);
    shell(&["--", "/bin/true"]).ok().prints_nothing();
    shell(&["--", "/bin/sh", "-c", "exit $#", "a", "b", "c"])
        .run()
        .exits(2);
    // A shell that reads what it is given.
    let ran = shell(&[])
        .stdin("echo $name\ncd /\npwd\nexit 5\n")
        .run()
        .exits(5);
    assert_eq!(ran.out(), "x\n/\n");
    let ran = shell(&["--", "/bin/cat"]).stdin("piped\n").ok();
    assert_eq!(ran.out(), "piped\n");
    world.is_clean();
}

#[test]
fn its_new_directory_goes_unless_it_is_to_stay() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let line = ["--command", "echo made > here; pwd"];
    let shell = |args: &[&str]| world.windrow("shell").arg(&drv).args(line).args(args).ok();
    let dir: PathBuf = shell(&[]).never_says("keeping").path();
    assert!(dir.starts_with(world.at("tmp")) && !dir.exists(), "{dir:?}");
    let mut kept = Vec::new();
    for option in ["--keep", "-K"] {
        let ran = shell(&[option]).says("keeping build directory");
        let dir = ran.path();
        ran.says(dir.to_str().unwrap());
        assert_eq!(text(dir.join("here")), "made\n");
        kept.push(dir);
    }
    world.is_clean_but_for(&kept);
}

#[test]
fn valid_outputs_stay_and_nothing_becomes_valid() {
    let world = World::new();
    let graph = graph_of([
        ("dep", sh("echo dep > $out")),
        ("x", sh("cat @{dep} > $out; echo x >> $out")),
    ]);
    world.graph("windrow.json", &graph);
    let shell = |line: &str| {
        let line = format!("PATH=/usr/bin:/bin; {line}");
        world.windrow("shell").args(["#x", "--command", &line]).ok()
    };
    let made = "eval \"$WINDROW_BUILD\" && cat $out && mv $out away && mkdir $out && echo $out";
    let ran = shell(made);
    let lines = ran.lines();
    assert_eq!(lines[..2], ["dep", "x"]);
    // It lies where nobody looks for it, and not any more.
    assert!(
        lines[2].starts_with(world.store().to_str().unwrap()),
        "{ran}"
    );
    assert!(!PathBuf::from(&lines[2]).exists());
    let out = world.windrow("build").arg("#x").ok().path();
    assert!(!ran.out().contains(out.to_str().unwrap()));
    let before = (world.store_entries(), out.metadata().unwrap().ino());
    shell(made);
    shell("echo spoilt > $out; chmod 777 $out; echo spoilt >> $out");
    assert_eq!(
        before,
        (world.store_entries(), out.metadata().unwrap().ino())
    );
    assert_eq!(text(&out), "dep\nx\n");
    let verify = ["--verify", "--check-contents"];
    world.windrow("nix-store").args(verify).ok();
    world.stays_valid();
    world.is_clean();
}

#[test]
fn valid_paths_stay_in_the_sandbox_too() {
    for_each_caller(|world, caller| {
        let graph = graph_of([
            ("dep", busybox("echo dep > $out")),
            ("x", busybox("cat @{dep} > $out; echo x >> $out")),
        ]);
        let file = world.graph("windrow.json", &graph);
        let out = caller.runs(world.windrow("build").arg(file)).ok();
        let out: PathBuf = out.lines().pop().expect("an output").into();
        let entries = world.store_entries();
        let shell = |line: &str| {
            let line = format!("/bin/busybox --install -s /tmp; PATH=/tmp; {line}");
            let cmd = world.windrow("shell").args(["#x", "--command", &line]);
            caller.runs(cmd).run()
        };
        let ran = shell("eval \"$WINDROW_BUILD\"; echo more >> $out; cat $out; echo $out").exits(0);
        assert_eq!(ran.lines(), ["dep", "x", "more", out.to_str().unwrap()]);
        // What it needs it may read.
        shell("for path in $NIX_STORE/*; do echo spoilt > $path; rm -rf $path; done").exits(1);
        assert_eq!(text(&out), "dep\nx\n");
        assert_eq!(world.store_entries(), entries);
        let verify = world
            .windrow("nix-store")
            .args(["--verify", "--check-contents"]);
        caller.runs(verify).ok();
        world.is_clean();
    });
}

#[test]
fn nothing_of_the_machine_is_reached_from_the_sandbox() {
    for_each_caller(|world, caller| {
        let secret = world.write("secret", "s3cret");
        let drv = caller.runs(
            world
                .windrow("add")
                .arg(world.graph("g.json", &graph_of([("x", busybox("echo > $out"))]))),
        );
        let drv = drv.ok().line();
        let line = format!("read -r line < {}; echo $line", secret.display());
        let shell = |args: &[&str]| {
            let cmd = world.windrow("shell").arg(&drv).args(["--command", &line]);
            caller.runs(cmd.args(args)).run()
        };
        let inside = shell(&[]);
        assert!(!inside.out().contains("s3cret"), "{inside}");
        let outside = shell(&["--option", "sandbox", "false"]);
        assert!(outside.out().contains("s3cret"), "{outside}");
    });
}

#[test]
fn build_users_that_are_in_use_are_not_waited_for() {
    need!(root);
    need!("unshare", "mount");
    let (world, _) = build_users::world("windrow-test-1");
    let run = |cmd: Cmd| build_users::with_users(&world, cmd);
    let drv = world.add_one("x", sh("echo > $out"));
    let fifo = world.file("fifo");
    world.program("mkfifo").args(["-m", "666"]).arg(&fifo).ok();
    let line = format!("read line < {}", fifo.display());
    let running = run(world.windrow("shell").arg(&drv).args(["--command", &line])).start();
    // The kernel lets nobody write before it reads, and by then it has its user.
    let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let second = run(world.windrow("shell").arg(&drv).args(["--command", "true"]));
    second.run().exits(1).one_error().says("are in use");
    std::io::Write::write_all(&mut writer, b"go\n").unwrap();
    running.wait().exits(0);
    world.is_clean();
}

#[test]
fn a_signal_ends_it_in_good_order() {
    let world = World::new();
    let runs = world.file("runs");
    let drv = world.add_one("x", sh("echo > $out"));
    let line = format!(
        "echo made > $out; PATH=/usr/bin:/bin; echo > {}; sleep 300; echo never",
        runs.display()
    );
    for (signal, status) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let cmd = world.windrow("shell").arg(&drv).args(["--command", &line]);
        let running = cmd.start();
        world.wait_for("runs");
        running.signal(signal);
        running.wait().exits(status).prints_nothing();
        std::fs::remove_file(&runs).unwrap();
        world.is_clean();
    }
    assert_eq!(world.store_entries(), [PathBuf::from(drv)]);
}

#[test]
fn what_is_killed_leaves_nothing_that_runs() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let runs = world.file("runs");
    let line = format!(
        "PATH=/usr/bin:/bin; echo > {}; sleep 300; true",
        runs.display()
    );
    let running = world
        .windrow("shell")
        .arg(&drv)
        .args(["--command", &line])
        .start();
    world.wait_for("runs");
    running.signal("KILL");
    drop(running.wait());
    wait_until("nothing of it runs", || world.processes().is_empty());
    // What it left is deleted by the next run.
    world.windrow("build").arg(&drv).ok();
    world.is_clean();
}

#[test]
fn mistakes_are_told() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let cat = json!({"builder": "/bin/cat", "env": {"PATH": "/bin"}});
    let other = world.add_one("cat", cat);
    let fails = |cmd: Cmd| cmd.run().exits(1).one_error().prints_nothing();
    let shell = |drv: &str, args: &[&str]| fails(world.windrow("shell").arg(drv).args(args));
    shell("nothing", &[])
        .says("cannot use 'nothing'")
        .never_says("build");
    shell(&drv, &["--in", "./absent", "--command", "true"])
        .says("cannot use './absent'")
        .says("'--in'");
    world.write("file", "");
    shell(&drv, &["--in", "./file"]).says("it is no directory");
    shell(&drv, &["--", "no-such-program"])
        .says("no program 'no-such-program'")
        .says("/path-not-set")
        .says("--command");
    shell(&drv, &["--", "/no/such/program"])
        .says("'/no/such/program' can't be executed")
        .never_says("its builder");
    let found = world
        .windrow("shell")
        .arg(&other)
        .args(["--", "echo", "found"]);
    assert_eq!(found.ok().out(), "found\n");
    let two = graph_of([("a", sh("echo > $out")), ("b", sh("echo > $out"))]);
    world.graph("two.json", &two);
    shell("two.json", &[]).says("it names 2 derivations");
    let foreign = json!({"builder": "/bin/sh", "system": "pdp11-unix"});
    let foreign = world.add_one("foreign", foreign);
    shell(&foreign, &["--command", "true"]).says("a 'pdp11-unix' is required");
    let builtin = json!({"builder": "builtin:fetchurl", "system": "builtin",
        "env": {"url": "file:///x"}, "outputHash": HELLO});
    let builtin = world.add_one("fetched", builtin);
    shell(&builtin, &[]).says("comes with windrow");
    let both = ["--command", "true", "--", "true"];
    let ran = world.windrow("shell").arg(&drv).args(both).run();
    ran.exits(1).says("cannot be used with");
    world.is_clean();
}

#[test]
fn a_sandbox_without_a_shell_is_told_with_what_helps() {
    need!("busybox");
    let world = World::new();
    world.conf(
        "sandbox = true\nsandbox-fallback = false\nsandbox-paths = /bin/busybox=/usr/bin/busybox\n",
    );
    let busybox = json!({"builder": "/bin/busybox", "args": ["true"], "env": {"PATH": "/bin"}});
    let drv = world.add_one("x", busybox);
    let ran = world.windrow("shell").arg(&drv).run().exits(1).one_error();
    let ran = ran.says("is no shell").says("'/bin/sh'");
    ran.says("sandbox-paths").says("--option sandbox false");
    let args = ["--", "busybox", "sh", "-c", "echo $$ $PWD"];
    let ran = world.windrow("shell").arg(&drv).args(args).ok();
    assert_eq!(ran.out(), "1 /build\n");
    world.is_clean();
}

#[test]
fn the_words_of_the_hint_name_the_store_and_the_settings() {
    need_usual_place!();
    let world = World::new();
    let graph = graph_of([("x", sh("echo oh > left; exit 1"))]);
    world.graph("g.json", &graph);
    let own = ["--store", "./a store", "--option", "sandbox", "false"];
    let unsaid = |cmd: Cmd| {
        let said = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"];
        said.into_iter().fold(cmd, Cmd::env_remove)
    };
    let build = unsaid(world.windrow("build"))
        .args(["g.json", "-K"])
        .args(own);
    let ran = build.run().exits(100);
    let rest = " --store './a store' --option sandbox false'.";
    let line = ran
        .stderr
        .lines()
        .find(|line| line.contains("run 'windrow shell "));
    let line = line.expect("a hint").split("run '").nth(1).expect("words");
    assert!(line.ends_with(rest), "{ran}");
    // As it stands there, for a shell.
    let line = format!("{} --command '/bin/cat left'", &line[..line.len() - 2]);
    let line = line.replacen("windrow", env!("CARGO_BIN_EXE_windrow"), 1);
    let shell = unsaid(world.program("/bin/sh")).args(["-c", &line]).ok();
    assert_eq!(shell.out(), "oh\n");
}
