//! Graphs of derivations in windrow's own JSON.

use std::rc::Rc;

use serde_json::Value;
use windrow_formats::includes::{Includes, scan};
use windrow_formats::json_graph::{Contents, Files, Found, Piece, parse};

use crate::shared::seeds as seeds_of;

/// A few files in every directory; they include what their own paths say, and each other.
struct AnyFiles;

impl Files for AnyFiles {
    fn find(&mut self, path: &str, _obey_ignore_files: bool) -> Result<Found, String> {
        let files = ["a.c", "b.h", "sub/b.h", "sub/c.c"];
        Ok(match path.ends_with(".c") {
            true => Found::File,
            false => Found::Directory(files.map(str::to_owned).to_vec()),
        })
    }

    fn includes(&mut self, path: &str) -> Result<Rc<Includes>, String> {
        let text = format!("#include \"{path}\"\n#include <b.h>\n#include X\n#define X \"c.c\"\n");
        Ok(Rc::new(scan(text.as_bytes())))
    }
}

/// A graph has inputs before what needs them, and is JSON to another reader too; an error lies in
/// the text.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match parse(text, "x86_64-linux", &mut AnyFiles) {
        Ok(graph) => {
            for (index, node) in graph.derivations.iter().enumerate() {
                for piece in node.pieces() {
                    match piece {
                        Piece::Output { node, output } => {
                            assert!((*node as usize) < index);
                            let outputs = &graph.derivations[*node as usize].outputs;
                            assert!((*output as usize) < outputs.len());
                        }
                        Piece::Source(source) => {
                            let source = &graph.sources[*source as usize];
                            assert!(source.contents != Contents::Unused);
                        }
                        Piece::Tree(tree) => assert!((*tree as usize) < graph.trees.len()),
                        _ => {}
                    }
                }
            }
            for tree in &graph.trees {
                assert!(tree.files.is_sorted());
                for (path, source) in &tree.files {
                    assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
                    assert!((*source as usize) < graph.sources.len());
                }
            }
            for target in &graph.targets {
                assert!((target.node as usize) < graph.derivations.len());
            }
            if let Err(error) = serde_json::from_str::<Value>(text) {
                assert!(error.to_string().contains("recursion limit"), "{error}");
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let place = error.place();
            let line = text.split('\n').nth(place.line as usize - 1);
            let reaches = |line: &str| (1..=line.len() as u32 + 1).contains(&place.column);
            assert!(line.is_some_and(reaches), "{place}: {error}");
        }
    }
}

/// A graph with everything in it, and mistakes of several kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        r#"{"system":"x86_64-linux","sources":{"main.c":"src/main.c","data":{"path":"../data","name":"my-data"}},
"derivations":{"hello":{"name":"h\u00e9","builder":"/bin/sh","args":["-c","cc @{main.c} -o @{^out}"],
"env":{"V":["a",1,"@{lib^dev}",true],"W":null,"X":"@@{ä\n"},"inputs":["data","lib","/nix/store/p","/nix/store/x.drv^out"]},
"lib":{"builder":"@{file}","outputs":["out","dev"]},"file":{"builder":"b","outputHash":"sha256-x","outputHashMode":"flat"}},
"targets":["hello","lib^dev"]}"#,
        r#"{"sources":{"src":{"path":"src","include":["**/*.[ch]"],"exclude":"old/**","ignore-files":true},"m.c":"m.c"},
"templates":{"sh":{"builder":"/bin/sh"},"cc":{"use":"sh","args":["-DX","@{tree}/@{each}"],"env":{"A":"1"}}},
"derivations":{"*.o":{"use":"cc","each":["src/*.c","m.c"],"headers":"src","env":{"B":"2"}},
"all":{"use":"sh","tree":["src/a.c","src/**/*.h"],"args":["@{*.o}","@{tree} @{*.o} @{src/sub/b.h} @{src}"]}},"targets":["*.o","all"]}"#,
        r#"{"derivations":{"a":{"builder":"@{b}"},"b":{"builder":"@{a}"}}}"#,
        r#"{"derivations":{"a":{"builder":"/b","env":{"x":1e9}}},"targets":[]}"#,
        r#"{"derivations":{"a":{"builder":3}}}"#,
        r#"{"derivations":{"a":{"builder":"x","builder":"y"}}}"#,
        "{}",
    ])
}
