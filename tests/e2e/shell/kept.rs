//! A shell in the directory of a build that failed and was kept: the one that the failure names,
//! with what is in it, and left there.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::build_users;
use crate::harness::{
    Cmd, Ran, SEALED, World, busybox, for_each_caller, graph_of, need, sh, sh_with, text,
};

/// Builds what fails, keeping its directory; the directory, and the words that lead into it.
#[track_caller]
fn kept(ran: Ran, drv: &str) -> (PathBuf, Vec<String>) {
    let start = format!("run 'windrow shell {drv} --in ");
    let line = ran.stderr.lines().find(|line| line.contains(&start));
    let line = line.unwrap_or_else(|| panic!("no hint\n{ran}"));
    let words = line.split("run 'windrow shell ").nth(1).expect("words");
    let words: Vec<String> = words
        .trim_end_matches("'.")
        .split(' ')
        .map(str::to_owned)
        .collect();
    assert_eq!((&*words[0], &*words[1]), (drv, "--in"));
    let dir = PathBuf::from(&words[2]);
    assert!(
        ran.stderr
            .contains(&format!("keeping build directory '{}'", words[2]))
    );
    (dir, words)
}

#[test]
fn a_directory_that_was_kept_is_got_into_by_the_command_that_the_failure_names() {
    let world = World::new();
    let failing = sh_with(
        "echo $text > left; cat $textPath >> left; echo failing; exit 1",
        json!({"env": {"passAsFile": "text", "text": "as a file"}}),
    );
    let drv = world.add_one("x", failing);
    let (dir, words) = kept(
        world.windrow("build").args([&drv, "-K"]).run().exits(100),
        &drv,
    );
    let line =
        "pwd; PATH=/bin; cat left; echo; cat $textPath; echo; echo $NIX_BUILD_TOP; echo new > new";
    let shell = world
        .windrow("shell")
        .args(&words)
        .args(["--command", line]);
    let shell = shell.ok().never_says("keeping");
    let here = dir.to_str().unwrap();
    assert_eq!(shell.lines(), [here, "", "as a file", "as a file", here]);
    assert_eq!(text(dir.join("new")), "new\n");
    // What its builder has put in the place of windrow's files is not followed.
    let file = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = file
        .filter(|path| path.to_string_lossy().contains(".attr-"))
        .last()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let other = world.write("other", "not to be written\n");
    std::os::unix::fs::symlink(&other, &file).unwrap();
    let shell = world
        .windrow("shell")
        .args(&words)
        .args(["--command", "/bin/cat $textPath"]);
    assert_eq!(shell.ok().out(), "as a file");
    assert_eq!(text(other), "not to be written\n");
    world.is_clean_but_for(&[dir]);
}

#[test]
fn a_directory_that_was_kept_is_the_one_in_the_sandbox() {
    for_each_caller(|world, caller| {
        let failing = graph_of([("x", busybox("echo from the build > left; exit 1"))]);
        let file = world.graph("g.json", &failing);
        let drv = caller.runs(world.windrow("add").arg(file)).ok().line();
        let build = caller.runs(world.windrow("build").args([&drv, "-K"]));
        let (dir, words) = kept(build.run().exits(100), &drv);
        let line = "pwd; read -r line < left; echo $line; echo new > new";
        let shell = world
            .windrow("shell")
            .args(&words)
            .args(["--command", line]);
        let shell = caller.runs(shell).ok();
        assert_eq!(shell.lines(), ["/build", "from the build"]);
        assert_eq!(text(dir.join("new")), "new\n");
        let above = dir.parent().unwrap().to_owned();
        world.is_clean_but_for(&[above]);
    });
}

#[test]
fn a_directory_that_was_kept_is_worked_in_by_its_build_user() {
    need!(root);
    need!("unshare", "mount", "busybox", "chown");
    let (world, first) = build_users::world(build_users::TWO);
    let sealed = format!("build-users-group = windrow-test-users\n{SEALED}");
    let settings = ["build-users-group = windrow-test-users\n", &sealed];
    let scripts: [fn(&str) -> Value; 2] = [sh, busybox];
    let mut left = Vec::new();
    for (conf, script) in settings.into_iter().zip(scripts) {
        world.conf(conf);
        let drv = world.add_one("x", script("echo from the build > left; exit 1"));
        let run = |cmd: Cmd| build_users::with_users(&world, cmd);
        let build = run(world.windrow("build").args([&drv, "-K"]));
        let (dir, words) = kept(build.run().exits(100), &drv);
        assert_eq!(dir.metadata().unwrap().uid(), first + 1);
        let line = "read -r line < left; echo $line; echo new > new";
        let shell = || {
            run(world
                .windrow("shell")
                .args(&words)
                .args(["--command", line]))
        };
        assert_eq!(shell().ok().out(), "from the build\n");
        assert_eq!(dir.join("new").metadata().unwrap().uid(), first + 1);
        world.program("chown").args(["-R", "0"]).arg(&dir).ok();
        let ran = shell().run().exits(1).one_error();
        ran.says("belongs to user 0").says("chown -R");
        left.push(dir.parent().unwrap().to_owned());
    }
    world.is_clean_but_for(&left);
}
