//! JSON graphs that choose files: globs, ignore files, families, trees of headers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::{World, sh, text};

/// The names of all derivations of a graph with their paths.
fn derivations(world: &World, graph: &Path) -> BTreeSet<String> {
    let ran = world.windrow("add").arg(graph).arg("--all").ok();
    ran.lines().into_iter().collect()
}

/// The names of the derivations that a change of a file makes others, sorted.
pub(crate) fn changed_by(world: &World, graph: &Path, change: impl FnOnce()) -> Vec<String> {
    let before = derivations(world, graph);
    change();
    let after = derivations(world, graph);
    let name = |path: &String| {
        let base = path.rsplit('/').next().unwrap_or_default();
        let name = base.split_once('-').map_or(base, |(_, name)| name);
        name.trim_end_matches(".drv").to_owned()
    };
    let mut names: Vec<String> = after.difference(&before).map(name).collect();
    names.sort();
    names
}

/// Writes a C program of two units and three headers; its graph.
fn program(world: &World) -> std::path::PathBuf {
    world.write("src/main.c", "#include \"a.h\"\n#include \"b/b.h\"\nmain\n");
    world.write("src/b/b.c", "#include <b/b.h>\nb\n");
    world.write("src/a.h", "a1\n");
    world.write("src/b/b.h", "#include \"low.h\"\n");
    world.write("src/b/low.h", "low1\n");
    world.write("src/unused.h", "");
    let graph = json!({
        "sources": {"src": {"path": "src", "include": ["**/*.[ch]"]}},
        "templates": {"sh": sh("")},
        "derivations": {
            "*.o": {"use": "sh", "each": "src/**/*.c", "args": ["-ec", "PATH=/usr/bin:/bin; cd @{tree}; \
                echo @{each} > $out; find . ! -type d | sort >> $out; cat @{each} src/b/low.h >> $out"]},
            "all": {"use": "sh", "args": ["-ec", "PATH=/usr/bin:/bin; cat @{*.o} > $out"]}
        }
    });
    world.graph("g.json", &graph)
}

#[test]
fn a_builder_sees_a_file_with_all_that_it_includes() {
    let world = World::new();
    let graph = program(&world);
    let out = world.windrow("build").arg(&graph).ok().line();
    let b = "src/b/b.c\n./src/b/b.c\n./src/b/b.h\n./src/b/low.h\n#include <b/b.h>\nb\nlow1\n";
    let main = "src/main.c\n./src/a.h\n./src/b/b.h\n./src/b/low.h\n./src/main.c\n\
        #include \"a.h\"\n#include \"b/b.h\"\nmain\nlow1\n";
    assert_eq!(text(out), format!("{b}{main}"));
    world.verifies();
    world.stays_valid();
    world.is_clean();
}

#[test]
fn a_change_rebuilds_what_includes_it_and_nothing_else() {
    let world = World::new();
    let graph = program(&world);
    let change =
        |file: &str, text: &str| changed_by(&world, &graph, || drop(world.write(file, text)));
    assert_eq!(change("src/a.h", "a2\n"), ["all", "main.o"]);
    assert_eq!(
        change("src/b/b.c", "#include <b/b.h>\nb2\n"),
        ["all", "b-b.o"]
    );
    assert_eq!(change("src/b/low.h", "low2\n"), ["all", "b-b.o", "main.o"]);
    assert_eq!(change("src/unused.h", "x\n"), [""; 0]);
    assert_eq!(change("src/b/notes.txt", "x\n"), [""; 0]);
    // A header that comes to stand where an include finds it first.
    assert_eq!(change("src/b/a.h", "other\n"), [""; 0]);
    assert_eq!(change("src/b/b/b.h", "other\n"), ["all", "b-b.o"]);
    let out = world.windrow("build").arg(&graph).ok().line();
    assert!(text(out).contains("low2\n"));
    world.stays_valid();
}

#[test]
fn a_directory_is_what_its_globs_and_ignore_files_leave() {
    let world = World::new();
    for file in [
        "tree/a.c",
        "tree/b.o",
        "tree/sub/c.c",
        "tree/sub/d.c",
        "tree/.hidden/e.c",
        "tree/.git/f.c",
    ] {
        world.write(file, format!("{file}\n"));
    }
    world.write("tree/.gitignore", "*.o\n/sub/d.c\n");
    fs::create_dir(world.file("tree/empty")).unwrap();
    std::os::unix::fs::symlink("a.c", world.file("tree/link.c")).unwrap();
    let list = |filter: serde_json::Value| {
        let mut source = json!({"path": "tree"});
        source
            .as_object_mut()
            .unwrap()
            .extend(filter.as_object().unwrap().clone());
        let graph = json!({"sources": {"tree": source}, "derivations": {
            "list": sh("cd @{tree}; find . -mindepth 1 | sort > $out; cat link.c >> $out || true")}});
        let file = world.graph("g.json", &graph);
        text(world.windrow("build").arg(&file).ok().line())
    };
    let obeyed = list(json!({"ignore-files": true}));
    let left =
        "./.gitignore\n./.hidden\n./.hidden/e.c\n./a.c\n./link.c\n./sub\n./sub/c.c\ntree/a.c\n";
    assert_eq!(obeyed, left);
    let globs = list(json!({"include": "**/*.c", "exclude": [".*/**", "link.c"]}));
    assert_eq!(globs, "./a.c\n./sub\n./sub/c.c\n./sub/d.c\n");
    world.stays_valid();
    world.is_clean();
}

#[test]
fn links_lead_to_files_of_trees() {
    let world = World::new();
    world.write("real/x.h", "real\n");
    fs::create_dir(world.file("src")).unwrap();
    std::os::unix::fs::symlink("../real/x.h", world.file("src/x.h")).unwrap();
    world.write("src/odd name@.c", "#include \"x.h\"\n");
    let graph = json!({"sources": {"src": "src"}, "derivations": {
        "*.o": {"builder": "/bin/sh", "each": "src/*.c",
                "args": ["-c", "PATH=/usr/bin:/bin; cat '@{tree}/@{each}' @{tree}/src/x.h > $out"]}}});
    let graph = world.graph("g.json", &graph);
    let out = world.windrow("build").arg(&graph).ok().line();
    assert!(out.ends_with("-odd_name_.o"), "{out}");
    assert_eq!(text(out), "#include \"x.h\"\nreal\n");
    assert_eq!(
        changed_by(&world, &graph, || drop(world.write("real/x.h", "other\n"))),
        ["odd_name_.o"]
    );
}
