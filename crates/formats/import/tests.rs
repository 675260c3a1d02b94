//! Whole files become graphs.

use super::*;
use serde_json::{Value, json};

/// Imports what stands in `/p/build`, with these files there being, and `files` below that.
fn imported(manifest: &Manifest, targets: &[&str], there: &[&str], files: &[&str]) -> Value {
    let roots = Roots {
        directory: "/p/build".to_owned(),
        source: None,
        path: "/bin".to_owned(),
        is_file: &|path| there.contains(&path),
        is_directory: &|path| {
            there
                .iter()
                .any(|file| file.starts_with(&format!("{path}/")))
        },
        files: files.iter().map(|&file| file.to_owned()).collect(),
    };
    let targets: Vec<String> = targets.iter().map(|&target| target.to_owned()).collect();
    import(manifest, &targets, &roots).unwrap().graph
}

const NINJA: &str = "rule cc\n command = cc -I/p/include -I. -c $in -o $out\n\
    rule ld\n command = cc $in -Wl,-rpath,/p/build:/opt/x -o $out && :\n\
    rule so\n command = cc -shared $in -o $out\n\
    rule run\n command = cd /p/build && sh -c '@{x}' > made.h\n\
    rule again\n command = cmake\n generator = 1\n\
    build main.o: cc /p/src/main.c | /usr/include/stdio.h || order\n\
    build order: phony made.h .\n\
    build made.h | /p/build/made.h: run ../src/made.txt\n\
    build lib.so: so x.o\nbuild x.o: cc /p/src/x[1].c\n\
    build app: ld main.o || lib.so\nbuild other: ld x.o\n\
    build build.ninja: again ../CMakeLists.txt\nbuild all: phony app build.ninja\ndefault all\n";

#[test]
fn commands_become_derivations() {
    let mut read = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let manifest = read_ninja("build.ninja", NINJA.as_bytes(), &mut read).unwrap();
    let there = [
        "/p/src/main.c",
        "/p/src/x[1].c",
        "/p/src/made.txt",
        "/usr/include/stdio.h",
        "/p/include/x.h",
    ];
    let files = ["config.h", "made.h", "old.o", "CMakeFiles/x.c"];
    let graph = imported(&manifest, &[], &there, &files);
    assert_eq!(graph["targets"], json!(["app"]));
    let sources = json!({
        "src": {"path": "/p", "exclude": [".git/**", "build/**"]},
        "build": {"path": "/p/build", "include": ["config.h"]},
    });
    assert_eq!(graph["sources"], sources);
    let keys: Vec<&String> = graph["derivations"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["app", "lib.so", "made.h", "main.o", "x.o"]);
    let main = json!({
        "use": "read", "name": "main.o", "tree": ["src/src/main.c"],
        "env": {"command": "cc -I../include -I. -c ../src/main.c -o main.o", "makes": "main.o", "needs": "@{made.h}"},
    });
    assert_eq!(graph["derivations"]["main.o"], main);
    assert_eq!(
        graph["derivations"]["x.o"]["tree"],
        json!(["src/src/x[[]1[]].c"])
    );
    let made = json!({"command": "cd . && sh -c '@@{x}' > made.h", "makes": "made.h"});
    assert_eq!(graph["derivations"]["made.h"]["env"], made);
    let app = json!({
        "command": "cc main.o -Wl,-rpath,@{lib.so}:/opt/x -o app && :", "makes": "app",
        "needs": "@{main.o} @{lib.so}",
    });
    assert_eq!(graph["derivations"]["app"]["env"], app);
    let env = &graph["templates"]["step"]["env"];
    assert_eq!(
        (&env["top"], &env["source"]),
        (&json!("build"), &json!("."))
    );
    let one = imported(&manifest, &["x.o"], &there, &files);
    assert_eq!(one["derivations"].as_object().unwrap().len(), 1);
}

#[test]
fn what_can_not_be_imported_is_told() {
    let roots = Roots {
        directory: "/p".to_owned(),
        source: None,
        path: String::new(),
        is_file: &|_| false,
        is_directory: &|_| false,
        files: Vec::new(),
    };
    let step = |output: &str| Step {
        outputs: vec![output.to_owned()],
        command: Some(String::new()),
        ..Step::default()
    };
    let manifest = |steps: Vec<Step>| Manifest {
        steps,
        defaults: Vec::new(),
    };
    let wrong = |steps, target: &[&str]| {
        let targets: Vec<String> = target.iter().map(|&it| it.to_owned()).collect();
        import(&manifest(steps), &targets, &roots).unwrap_err()
    };
    assert_eq!(wrong(vec![], &[]), ImportError::NoSteps);
    assert_eq!(
        wrong(vec![step("a")], &["b"]),
        ImportError::UnknownTarget("b".into())
    );
    let twice = wrong(vec![step("a"), step("/p/a")], &[]);
    assert_eq!(twice, ImportError::DuplicateOutput("/p/a".into()));
    let outside = wrong(vec![step("../a")], &[]).to_string();
    assert_eq!(
        outside,
        "'../a' lies outside of '/p', where its command runs"
    );
}
