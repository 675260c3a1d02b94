//! `fsync-store-paths` and `sync-before-registering`: what becomes valid is on disk before the
//! database says so. The calls are seen through strace.

use std::path::Path;

use serde_json::json;

use crate::harness::{Cache, Cmd, World, busybox, for_each_caller, graph_of, need, sh, text};

/// What follows the options of strace: which calls are written down, with the paths of descriptors.
const CALLS: &str = "trace=fsync,fdatasync,syncfs,sync";

/// A command under strace, with a setting; what it wrote to disk, a line for each call.
#[track_caller]
fn traced(world: &World, setting: Option<&str>, cmd: Cmd) -> Vec<String> {
    let file = world.file("calls");
    let _ = std::fs::remove_file(&file);
    let conf = setting.map_or_else(String::new, |name| format!("{name} = true\n"));
    world.conf(&conf);
    let options = ["-f", "-y", "-e", CALLS, "-e", "signal=none", "-o"];
    let options = options.into_iter().chain([file.to_str().unwrap()]);
    let options: Vec<&str> = options.collect();
    cmd.through("/usr/bin/strace", &options).ok();
    let calls = text(&file);
    calls.lines().map(str::to_owned).collect()
}

/// Whether the file or directory was written to disk before the database was, and by which call.
#[track_caller]
fn is_written(calls: &[String], path: impl AsRef<Path>) {
    let path = path.as_ref().display().to_string();
    // A call that another thread interrupts has no end on its line.
    let call = format!("<{path}>");
    let found = calls
        .iter()
        .any(|line| line.contains("fsync(") && line.contains(&call));
    assert!(
        found,
        "'{path}' should be written to disk:\n{}",
        calls.join("\n")
    );
}

#[track_caller]
fn has_syncfs(calls: &[String]) {
    let found = calls.iter().any(|line| line.contains("syncfs("));
    assert!(
        found,
        "the file system should be synced:\n{}",
        calls.join("\n")
    );
}

const TREE: &str = "mkdir -p $out/dir; echo x > $out/dir/file; ln -s dir/file $out/link";

#[test]
fn what_is_added_and_built() {
    need!("strace");
    let world = World::new();
    world.write("source", "a source");
    let graph = |name: &str| {
        let mut graph = graph_of([(
            name,
            sh(&format!("{TREE}; cat @{{source}} >> $out/dir/file")),
        )]);
        graph["sources"] = json!({ "source": "source" });
        world.graph(&format!("{name}.json"), &graph)
    };
    let build = |name: &str| world.windrow("build").arg(graph(name));
    let calls = traced(&world, Some("fsync-store-paths"), build("x"));
    let drv = world.windrow("add").arg(graph("x")).ok().line();
    let out = world.windrow("build").arg(&drv).ok().path();
    for path in ["", "dir", "dir/file"] {
        let path = if path.is_empty() {
            out.clone()
        } else {
            out.join(path)
        };
        is_written(&calls, path);
    }
    is_written(&calls, &drv);
    is_written(&calls, world.store());
    let source = world.ours(["-q", "--references", &drv]).ok().line();
    is_written(&calls, source);
    let calls = traced(&world, Some("sync-before-registering"), build("y"));
    has_syncfs(&calls);
    // Without either, only the database is written.
    let calls = traced(&world, None, build("z"));
    let state = world.state().display().to_string();
    let others = calls
        .iter()
        .filter(|line| line.contains("sync(") && !line.contains(&state));
    assert_eq!(others.count(), 0, "{}", calls.join("\n"));
    world.stays_valid();
}

#[test]
fn what_is_repaired_imported_and_registered() {
    need!("strace", "nix-store");
    let world = World::new();
    let drv = world.add_one("x", sh(TREE));
    let out = world.windrow("build").arg(&drv).ok().path();
    let spoil = || {
        let file = out.join("dir/file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, mode).unwrap();
        std::fs::write(&file, "bad").unwrap();
    };
    let setting = Some("fsync-store-paths");
    spoil();
    let calls = traced(
        &world,
        setting,
        world.windrow("build").args([&drv, "--repair"]),
    );
    // Under the name that it was built under, before it took the place of the old one.
    let new = |line: &String| line.contains("fsync(") && line.contains("-x/dir/file>");
    assert!(calls.iter().any(new), "{}", calls.join("\n"));
    is_written(&calls, world.store());
    let exported = world
        .ours(["--export".as_ref(), out.as_os_str()])
        .ok()
        .stdout;
    let registration = world
        .ours(["--dump-db".as_ref(), out.as_os_str()])
        .ok()
        .out();
    world.ours(["--delete".as_ref(), out.as_os_str()]).ok();
    let calls = traced(&world, setting, world.ours(["--import"]).stdin(exported));
    is_written(&calls, out.join("dir/file"));
    let reregister = world.ours(["--load-db"]).stdin(registration);
    is_written(&traced(&world, setting, reregister), out.join("dir/file"));
    let source = world.write("source", "a source");
    let add = || world.ours(["--add", source.to_str().unwrap()]);
    let calls = traced(&world, setting, add());
    is_written(&calls, add().ok().line());
}

#[test]
fn what_is_fetched() {
    need!("strace", "sqlite3");
    let world = World::new();
    let graph = graph_of([("x", sh(TREE))]);
    let drv = world.add(&graph);
    let out = world.windrow("build").arg(&drv).ok().path();
    let cache = Cache::of(&world, "cache", "%-x");
    world.set_aside("built");
    world.add(&graph);
    let program = cache.program(&world);
    let fetch = || {
        let cmd = world.windrow("build").env("NIX_SUBSTITUTERS", &program);
        cmd.args(["--option", "substitute", "true", &drv])
    };
    is_written(
        &traced(&world, Some("fsync-store-paths"), fetch()),
        out.join("dir/file"),
    );
    world.ours(["--delete".as_ref(), out.as_os_str()]).ok();
    has_syncfs(&traced(&world, Some("sync-before-registering"), fetch()));
}

#[test]
fn what_is_built_in_a_sandbox() {
    need!("strace");
    for_each_caller(|world, caller| {
        let file = world.graph("g.json", &graph_of([("x", busybox(TREE))]));
        let conf = format!("{}fsync-store-paths = true\n", crate::harness::SEALED);
        world.conf(&conf);
        let calls = world.file("calls");
        let options = ["-f", "-y", "-e", CALLS, "-o", calls.to_str().unwrap()];
        let build = world.windrow("build").arg(&file);
        let out = caller
            .runs(build.through("/usr/bin/strace", &options))
            .ok()
            .path();
        let calls = text(&calls);
        let calls: Vec<String> = calls.lines().map(str::to_owned).collect();
        is_written(&calls, out.join("dir/file"));
        is_written(&calls, world.store());
    });
}

#[test]
fn what_is_copied_into_a_directory() {
    need!("strace");
    let world = World::new();
    let source = world.write("source", "a source");
    let path = world.ours(["--add"]).arg(source).ok().line();
    let url = format!("file://{}", world.file("cache").display());
    let copy = world.windrow("copy").args(["--to", &url]).arg(path);
    let calls = traced(&world, None, copy);
    for part in ["/cache/nar/", ".narinfo.tmp."] {
        let is_written = |line: &String| line.contains("fdatasync(") && line.contains(part);
        let shown = calls.join("\n");
        assert!(
            calls.iter().any(is_written),
            "'{part}' should be written to disk:\n{shown}"
        );
    }
}
