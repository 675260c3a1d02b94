//! The graphs in examples/ build C libraries that crates carry the sources of, one object a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::graph_files::changed_by;
use crate::harness::{World, need, text};

/// The directory of a crate that cargo has unpacked for the tests.
fn crate_directory(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Without the filter cargo would want the sources of other platforms' dependencies as well.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(["--filter-platform", &platform])
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == name)
        .find_map(|package| package["manifest_path"].as_str());
    Path::new(manifest.unwrap_or_else(|| panic!("no crate {name}"))).with_file_name("")
}

/// An example with its sources, a directory of a crate, in a world of its own. Its code is not
/// optimised, which takes long.
fn example(world: &World, name: &str, from: &Path, sources: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let graph = text(examples.join(format!("{name}.json")));
    assert!(graph.lines().count() < 40);
    copy(from, &world.file(sources));
    if examples.join(name).is_dir() {
        copy(&examples.join(name), &world.file(name));
    }
    world.write(&format!("{name}.json"), graph.replace("-O2", "-O0"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// What a change to the end of a file changes.
fn appended(world: &World, graph: &Path, file: &str) -> Vec<String> {
    let path = world.file(file);
    let changed = text(&path) + "\n/* changed */\n";
    changed_by(world, graph, || fs::write(&path, changed).unwrap())
}

#[test]
fn lua_is_built_object_by_object() {
    need!("cc");
    let world = World::new();
    let versions = fs::read_dir(crate_directory("lua-src")).unwrap();
    let mut versions = versions.map(|entry| entry.unwrap().path());
    let is_wanted = |path: &PathBuf| path.to_str().is_some_and(|path| path.contains("/lua-5.4."));
    let sources = versions.find(is_wanted).expect("Lua 5.4");
    let graph = example(&world, "lua", &sources, "lua-5.4");
    let run = world
        .windrow("build")
        .args(["-j", "2"])
        .arg(&graph)
        .ok()
        .path();
    assert_eq!(world.program(&run).arg("print(6 * 7)").ok().out(), "42\n");
    assert_eq!(
        appended(&world, &graph, "lua-5.4/lmem.c"),
        ["lmem.o", "run"]
    );
    assert_eq!(
        appended(&world, &graph, "lua-5.4/ljumptab.h"),
        ["lvm.o", "run"]
    );
    assert_eq!(appended(&world, &graph, "lua/run.c"), ["run", "run.o"]);
    let run = world.windrow("build").arg(&graph).ok().path();
    assert_eq!(world.program(&run).ok().out(), "Lua 5.4\n");
    world.stays_valid();
}

#[test]
fn zlib_is_built_object_by_object() {
    need!("cc", "ar");
    let world = World::new();
    let graph = example(
        &world,
        "zlib",
        &crate_directory("libz-sys").join("src/zlib"),
        "zlib",
    );
    let built = world
        .windrow("build")
        .args(["-j", "2"])
        .arg(&graph)
        .ok()
        .lines();
    let program = world.write(
        "program.c",
        "#include <stdio.h>\n#include <zlib.h>\nint main(void) { puts(zlibVersion()); return 0; }\n",
    );
    for library in &built {
        let out = world.file("program");
        let mut cc = Command::new("cc");
        cc.arg("-I")
            .arg(world.file("zlib"))
            .arg(&program)
            .arg(library);
        let done = cc.arg("-o").arg(&out).status().unwrap();
        assert!(done.success());
        if library.ends_with(".a") {
            assert!(world.program(&out).ok().out().starts_with("1."));
        }
    }
    let twice = |names: &[&str]| {
        let libraries = ["libz.a", "libz.so"].map(str::to_owned);
        let both = names
            .iter()
            .flat_map(|name| [(*name).to_owned(), (*name).to_owned()]);
        let mut names: Vec<String> = both.chain(libraries).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(
        appended(&world, &graph, "zlib/adler32.c"),
        twice(&["adler32.o"])
    );
    assert_eq!(
        appended(&world, &graph, "zlib/trees.h"),
        twice(&["trees.o"])
    );
    let inflating = ["inffast.o", "inflate.o", "infback.o", "inftrees.o"];
    let changed = appended(&world, &graph, "zlib/inftrees.h");
    assert_eq!(changed, twice(&inflating));
    world.windrow("build").arg(&graph).ok();
    world.stays_valid();
}

#[test]
fn sqlite_is_built_object_by_object() {
    need!("cc");
    let world = World::new();
    let graph = example(
        &world,
        "sqlite",
        &crate_directory("libsqlite3-sys").join("sqlite3"),
        "sqlite3",
    );
    let program = world
        .windrow("build")
        .args(["-j", "2"])
        .arg(&graph)
        .ok()
        .path();
    assert!(world.program(&program).ok().out().starts_with("3."));
    let version = world.file("sqlite/version.c");
    assert_eq!(
        appended(&world, &graph, "sqlite/version.c"),
        ["version", "version.o"]
    );
    let ran = world.windrow("build").arg(&graph).ok();
    assert!(
        world.program(ran.path()).ok().out().starts_with("3."),
        "{}",
        version.display()
    );
    // The library's own file does not include this header, the program's does.
    assert_eq!(
        appended(&world, &graph, "sqlite3/sqlite3.h"),
        ["version", "version.o"]
    );
    assert_eq!(appended(&world, &graph, "sqlite3/sqlite3ext.h"), [""; 0]);
    world.stays_valid();
}
