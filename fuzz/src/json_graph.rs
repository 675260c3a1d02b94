//! Graphs of derivations in windrow's own JSON.

use serde_json::Value;
use windrow_formats::json_graph::{Piece, parse};

use crate::shared::seeds as seeds_of;

/// A graph has inputs before what needs them, and is JSON to another reader too; an error lies in
/// the text.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match parse(text, "x86_64-linux") {
        Ok(graph) => {
            for (index, node) in graph.derivations.iter().enumerate() {
                for piece in node.pieces() {
                    if let Piece::Output { node, output } = piece {
                        assert!((*node as usize) < index);
                        let outputs = &graph.derivations[*node as usize].outputs;
                        assert!((*output as usize) < outputs.len());
                    }
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
        r#"{"derivations":{"a":{"builder":"@{b}"},"b":{"builder":"@{a}"}}}"#,
        r#"{"derivations":{"a":{"builder":"/b","env":{"x":1e9}}},"targets":[]}"#,
        r#"{"derivations":{"a":{"builder":3}}}"#,
        r#"{"derivations":{"a":{"builder":"x","builder":"y"}}}"#,
        "{}",
    ])
}
