//! `windrow import`: what ninja and other tools would build is built from a graph.

use std::fs;
use std::path::{Path, PathBuf};

use crate::graph_files::changed_by;
use crate::harness::{World, need, text};

/// Writes a C project of a library, a generated header and a program; its directory.
fn project(world: &World) -> PathBuf {
    world.write("p/include/low.h", "int low(void);\n");
    world.write(
        "p/src/low.c",
        "#include <low.h>\nint low(void) { return 1; }\n",
    );
    world.write("p/src/other.c", "int other(void) { return 40; }\n");
    world.write("p/src/made.txt", "1\n");
    world.write(
        "p/src/main.c",
        "#include <stdio.h>\n#include \"low.h\"\n#include \"config.h\"\n#include \"made.h\"\nint other(void);\n\
         int main(void) { printf(\"%d\\n\", low() + other() + CONFIG + MADE); return 0; }\n",
    );
    world.write("p/build/config.h", "#define CONFIG 0\n");
    world.file("p")
}

/// What CMake writes for such a project, without its own program.
fn ninja(project: &Path) -> String {
    let p = project.display();
    format!(
        "include rules.ninja\nflags = -I{p}/include -I{p}/build\n\
         build order: phony || made.h .\n\
         build obj/low.c.o: cc {p}/src/low.c || order\n\
         build obj/other.c.o: cc {p}/src/other.c\n f = -fPIC\n\
         build obj/main.c.o: cc {p}/src/main.c || order\n\
         build libother.so.1: so obj/other.c.o\n\
         build libother.so: link libother.so.1\n\
         build liblow.a: ar obj/low.c.o\n\
         build app: ld obj/main.c.o | liblow.a libother.so.1 || libother.so\n libs = liblow.a libother.so.1\n\
         build made.h | {p}/build/made.h: custom {p}/src/made.txt\n COMMAND = cd {p}/build \
         && echo \"#define MADE $$(cat {p}/src/made.txt)\" > made.h\n\
         build all: phony app\ndefault all\n"
    )
}

const RULES: &str = "rule cc\n command = cc $flags $f -MD -MF $out.d -o $out -c $in\n deps = gcc\n depfile = $out.d\n\
    rule ar\n command = rm -f $out && ar qcD $out $in\n\
    rule so\n command = cc -shared -Wl,-soname,$out -o $out $in\n\
    rule link\n command = ln -s $in $out\n\
    rule ld\n command = : && cc $in -o $out -Wl,-rpath,$root $libs && :\n\
    rule custom\n command = $COMMAND\n restat = 1\n";

#[test]
fn what_ninja_builds_is_built_from_a_graph() {
    need!("cc", "ar");
    let world = World::new();
    let project = project(&world);
    let rules = format!("root = {}/build\n{RULES}", project.display());
    world.write("p/build/rules.ninja", rules);
    let file = world.write("p/build/build.ninja", ninja(&project));
    let graph = world.file("graph.json");
    world
        .windrow("import")
        .arg(&file)
        .arg("-o")
        .arg(&graph)
        .ok()
        .prints_nothing();
    let out = world
        .windrow("build")
        .args(["-j", "2"])
        .arg(&graph)
        .ok()
        .path();
    assert_eq!(world.program(out.join("app")).ok().out(), "42\n");
    world.stays_valid();

    let change =
        |file: &str, text: &str| changed_by(&world, &graph, || drop(world.write(file, text)));
    let low = ["app", "liblow.a", "obj-low.c.o"];
    assert_eq!(
        change(
            "p/src/low.c",
            "#include <low.h>\nint low(void) { return 2; }\n"
        ),
        low
    );
    let header = ["app", "liblow.a", "obj-low.c.o", "obj-main.c.o"];
    assert_eq!(
        change("p/include/low.h", "int low(void); /* 2 */\n"),
        header
    );
    assert_eq!(
        change("p/build/config.h", "#define CONFIG 100\n"),
        ["app", "obj-main.c.o"]
    );
    assert_eq!(change("p/build/made.h", "#error\n"), [""; 0]);
    let out = world.windrow("build").arg(&graph).ok().path();
    assert_eq!(world.program(out.join("app")).ok().out(), "143\n");

    let one = world.windrow("import").arg(&file).arg("liblow.a").ok();
    let printed: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(printed["targets"], serde_json::json!(["liblow.a"]));
    world.is_clean();
}

#[test]
fn compilations_are_built_from_a_graph() {
    need!("cc");
    let world = World::new();
    let project = project(&world);
    world.write("p/build/made.h", "#define MADE 1\n");
    let p = project.to_str().unwrap();
    let entries = serde_json::json!([
        {"directory": format!("{p}/build"), "file": format!("{p}/src/main.c"),
         "command": format!("cc -I{p}/include -I{p}/build -o obj/main.o -c {p}/src/main.c")},
        {"directory": format!("{p}/build/sub"), "file": "../../src/low.c",
         "arguments": ["cc", "-I../../include", "-DX=\"a b\"", "-c", "../../src/low.c"]},
    ]);
    fs::create_dir_all(project.join("build/sub")).unwrap();
    let file = world.write("p/build/compile_commands.json", entries.to_string());
    let graph = world.file("graph.json");
    world
        .windrow("import")
        .arg(&file)
        .arg("-o")
        .arg(&graph)
        .ok();
    let built = world.windrow("build").arg(&graph).ok().lines();
    assert!(
        Path::new(&built[0]).join("obj/main.o").is_file(),
        "{built:?}"
    );
    assert!(Path::new(&built[1]).join("low.o").is_file(), "{built:?}");
    let change = |file: &str| {
        let changed = text(world.file(file)) + "\n";
        changed_by(&world, &graph, || drop(world.write(file, changed)))
    };
    assert_eq!(change("p/src/low.c"), ["sub-low.o"]);
    assert_eq!(change("p/include/low.h"), ["obj-main.o", "sub-low.o"]);
    assert_eq!(change("p/build/made.h"), ["obj-main.o"]);
    world.stays_valid();
}

#[test]
fn what_cmake_writes_is_built_from_a_graph() {
    need!("cc", "ar", "cmake", "ninja");
    let world = World::new();
    project(&world);
    world.write(
        "p/CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.10)\nproject(p C)\nset(VALUE 0)\n\
         configure_file(config.h.in config.h)\ninclude_directories(include ${CMAKE_CURRENT_BINARY_DIR})\n\
         add_custom_command(OUTPUT made.h COMMAND sh -c \"echo '#define MADE 1' > made.h\" DEPENDS src/made.txt VERBATIM)\n\
         add_library(low STATIC src/low.c)\nadd_library(other SHARED src/other.c)\n\
         set_target_properties(other PROPERTIES VERSION 1.2 SOVERSION 1)\n\
         add_executable(app src/main.c ${CMAKE_CURRENT_BINARY_DIR}/made.h)\ntarget_link_libraries(app low other)\n",
    );
    world.write("p/config.h.in", "#define CONFIG @VALUE@\n");
    let cmake =
        world
            .program("cmake")
            .args(["-G", "Ninja", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-S"]);
    cmake
        .arg(world.file("p"))
        .arg("-B")
        .arg(world.file("out"))
        .ok();
    for (file, wanted) in [
        ("build.ninja", Some("app")),
        ("compile_commands.json", None),
    ] {
        let graph = world.file("graph.json");
        let import = world.windrow("import").arg(world.file("out").join(file));
        import.arg("-o").arg(&graph).ok();
        if wanted.is_none() {
            // Only ninja's file says how this is made.
            world.write("out/made.h", "#define MADE 1\n");
        }
        let built = world
            .windrow("build")
            .args(["-j", "2"])
            .arg(&graph)
            .ok()
            .lines();
        let app = built
            .iter()
            .map(|out| Path::new(out).join("app"))
            .find(|app| app.is_file());
        assert_eq!(
            app.map(|app| world.program(app).ok().out()),
            wanted.map(|_| "42\n".to_owned())
        );
    }
    world.stays_valid();
}

#[test]
fn what_can_not_be_imported_is_told() {
    let world = World::new();
    let wrong = |name: &str, contents: &str, target: &[&str]| {
        let file = world.write(name, contents);
        let ran = world.windrow("import").arg(file).args(target).run();
        ran.exits(1).one_error().prints_nothing()
    };
    wrong("build.ninja", "rule r\n command = x\nbuild a: s\n", &[])
        .says("build.ninja:3:10")
        .says("no rule `s`");
    wrong("build.ninja", "rule r\n command = x\nbuild a: r\n", &["b"]).says("nothing makes 'b'");
    wrong("build.ninja", "", &[]).says("no command");
    wrong("compile_commands.json", "{}", &[]).says("compile_commands.json");
    world
        .windrow("import")
        .arg("nowhere.ninja")
        .run()
        .exits(1)
        .one_error()
        .says("nowhere.ninja");
}
