//! Build descriptions of other tools, turned into graphs.

use std::io;
use std::path::Path;

use windrow_formats::import::{Manifest, Roots, import, read_compile_commands, read_ninja};
use windrow_formats::json_graph::{NoFiles, parse};

use crate::shared::seeds as seeds_of;

/// What can be imported is a graph, except for what only the file system knows.
pub fn check(bytes: &[u8]) {
    let mut nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    if let Ok(manifest) = read_ninja("build.ninja", bytes, &mut nothing) {
        check_manifest(&manifest);
    }
    if let Ok(manifest) = str::from_utf8(bytes).map_err(|_| ()).and_then(|text| {
        read_compile_commands(text).map_err(|error| assert!(!error.is_empty()))
    }) {
        check_manifest(&manifest);
    }
}

fn check_manifest(manifest: &Manifest) {
    let roots = Roots {
        directory: "/p/build".to_owned(),
        source: None,
        path: "/bin".to_owned(),
        is_file: &|_| false,
        is_directory: &|path| path.ends_with("include"),
        files: vec!["config.h".to_owned()],
    };
    match import(manifest, &[], &roots) {
        Ok(imported) => {
            if let Err(error) = parse(&imported.graph.to_string(), "x86_64-linux", &mut NoFiles) {
                let message = error.to_string();
                // Names that a graph can't have, and commands that wait for each other.
                let known = ["cannot name", "need each other", "NUL", "no files here", "second time", "is empty"];
                assert!(known.iter().any(|part| message.contains(part)), "{message}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "flags = -I/p/include -I.\nrule cc\n command = cc $flags -c $in -o $out $\n  -rpath,/p/build:/x\n \
         rspfile = $out.rsp\n rspfile_content = $in_newline\nbuild a.o | /p/build/b: cc a$ b.c | a.h || dir |@ v\n \
         flags = @{x}\nrule gen\n command = g\n generator = 1\nbuild g: gen\nbuild all: phony a.o g\ndefault all\n",
        "rule r\n command = cd /p && x '$in'\nbuild ../a: r b\nbuild b: r\nsubninja c\n",
        r#"[{"directory": "/p/build/x", "file": "../a b.c", "command": "cc -o \"a b.o\" -c '../a b.c'"},
            {"directory": "/p/build", "file": "/p/c.c", "arguments": ["cc", "-I", "/p/include", "-c", "/p/c.c"]}]"#,
    ])
}
