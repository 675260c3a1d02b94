//! Whole graphs. What single modules promise is tested beside them.

mod disk;
mod mistakes;
mod mutated;
mod selections;

use super::*;
use disk::{Disk, FILES};

fn read(source: &str) -> GraphFile {
    match parse(source, "x86_64-linux", &mut Disk::of(FILES)) {
        Ok(graph) => graph,
        Err(error) => panic!("{}: {error}", error.place()),
    }
}

fn literal(text: &str) -> Piece {
    Piece::Literal(text.to_owned())
}

fn keys(graph: &GraphFile) -> Vec<&str> {
    graph
        .derivations
        .iter()
        .map(|node| node.key.as_str())
        .collect()
}

/// A graph with everything that the format has.
const WHOLE: &str = r#"{
  "system": "i686-linux",
  "sources": {"main.c": "src/main.c", "data": {"path": "../data/", "name": "my-data"}, "d": "x/"},
  "derivations": {
    "hello": {
      "name": "hello-1.0", "system": "riscv64-linux", "builder": "@{lib}/bin/cc",
      "args": ["-c", "a@b @@{lib} @@@{ @{main.c}\n-o @{^out}@{^doc}", ""],
      "env": {"Z": "@{lib^dev}", "jobs": -4, "on": true, "off": false, "nil": null, "zero": -0,
              "list": ["a", "@{/nix/store/p}b", 7, true, false, ""],
              "A": "@{/nix/store/x.drv^bin}"},
      "outputs": ["doc", "out"],
      "inputs": ["lib^bin", "data", "/nix/store/y.drv", "/nix/store/x.drv^out", "other"]
    },
    "lib": {"builder": "b", "outputs": ["bin", "dev"]},
    "other": {"builder": "b", "outputHash": "h", "outputHashAlgo": "", "outputHashMode": "nar"}
  },
  "targets": ["hello^doc", "lib^dev", "hello"]
}"#;

#[test]
fn sources_and_outputs_of_the_whole_format() {
    let graph = read(WHOLE);
    assert_eq!(
        graph
            .sources
            .iter()
            .map(|source| source.store_name.as_str())
            .collect::<Vec<_>>(),
        ["main.c", "my-data", "x"]
    );
    assert_eq!(graph.sources[1].path, "../data/");
    assert_eq!(graph.sources[1].place.to_string(), "3:39");
    assert_eq!(graph.sources[1].store_name_place.to_string(), "3:76");
    assert_eq!(
        graph.sources[2].store_name_place,
        Position {
            line: 3,
            column: 93
        }
    );

    assert_eq!(keys(&graph), ["lib", "other", "hello"]);
    let [lib, other, _] = &graph.derivations[..] else {
        panic!("three derivations")
    };
    assert_eq!(
        (lib.system.as_str(), lib.name.as_str()),
        ("i686-linux", "lib")
    );
    assert!(lib.explicit_outputs && !other.explicit_outputs);
    assert_eq!(other.outputs, ["out"]);
    let fixed = other.fixed.as_ref().unwrap();
    assert_eq!(
        (fixed.hash.as_str(), fixed.algo.as_deref()),
        ("h", Some(""))
    );
    assert_eq!(fixed.mode.map(HashMode::as_str), Some("nar"));
    let wanted = [
        Target {
            node: 2,
            outputs: vec![0, 1],
        },
        Target {
            node: 0,
            outputs: vec![1],
        },
    ];
    assert_eq!(graph.targets, wanted);
}

#[test]
fn texts_of_the_whole_format() {
    let graph = read(WHOLE);
    let hello = &graph.derivations[2];
    assert_eq!(
        (hello.system.as_str(), hello.name.as_str()),
        ("riscv64-linux", "hello-1.0")
    );
    assert_eq!(
        (hello.place.to_string(), hello.name_place.to_string()),
        ("5:5".into(), "6:15".into())
    );
    let lib = |output| Piece::Output { node: 0, output };
    assert_eq!(hello.builder, [lib(0), literal("/bin/cc")]);
    assert_eq!(hello.args[0], [literal("-c")]);
    let second = [
        literal("a@b @{lib} @@{ "),
        Piece::Source(0),
        literal("\n-o "),
        Piece::Placeholder(1),
        Piece::Placeholder(0),
    ];
    assert_eq!(hello.args[1], second);
    assert_eq!(hello.args[2], []);
}

#[test]
fn variables_and_inputs_of_the_whole_format() {
    let graph = read(WHOLE);
    let hello = &graph.derivations[2];
    let lib = |output| Piece::Output { node: 0, output };
    let drv = |path: &str, output: &str| {
        let (drv, output) = (path.to_owned(), output.to_owned());
        Piece::DerivationOutput(Box::new(StoreOutput { drv, output }))
    };
    let env: Vec<(&str, &[Piece])> = hello
        .env
        .iter()
        .map(|variable| (variable.name.as_str(), &variable.value[..]))
        .collect();
    let list = [
        literal("a "),
        Piece::StorePath("/nix/store/p".into()),
        literal("b 7 1  "),
    ];
    let expected: [(&str, &[Piece]); 8] = [
        ("A", &[drv("/nix/store/x.drv", "bin")]),
        ("Z", &[lib(1)]),
        ("jobs", &[literal("-4")]),
        ("list", &list),
        ("nil", &[]),
        ("off", &[]),
        ("on", &[literal("1")]),
        ("zero", &[literal("0")]),
    ];
    assert_eq!(env, expected);
    let inputs = [
        lib(0),
        Piece::Source(1),
        Piece::StorePath("/nix/store/y.drv".into()),
        drv("/nix/store/x.drv", "out"),
        Piece::Output { node: 1, output: 0 },
    ];
    assert_eq!(hello.inputs, inputs);
}

#[test]
fn default_targets_are_what_nothing_needs() {
    let graph = read(
        r#"{"derivations": {"top": {"builder": "b", "outputs": ["doc", "out"], "inputs": ["low"]},
            "low": {"builder": "b"}, "alone": {"builder": "b", "outputs": ["dev"]}}}"#,
    );
    assert_eq!(keys(&graph), ["low", "top", "alone"]);
    let wanted = [
        Target {
            node: 1,
            outputs: vec![1],
        },
        Target {
            node: 2,
            outputs: vec![0],
        },
    ];
    assert_eq!(graph.targets, wanted);
    assert_eq!(read("{}"), GraphFile::default());
    assert_eq!(
        read(r#"{"derivations": {"a": {"builder": "b"}}, "targets": []}"#).targets,
        []
    );
}

#[test]
fn the_order_does_not_depend_on_where_a_reference_stands() {
    let graph = |first: &str, second: &str| {
        let source = format!(
            r#"{{"derivations": {{
                "z": {{"builder": "b", "args": ["@{{{first}}}", "@{{{second}}}"]}},
                "m": {{"builder": "b"}}, "y": {{"builder": "b"}}, "x": {{"builder": "b"}}}}}}"#
        );
        keys(&read(&source)).join(" ")
    };
    assert_eq!(graph("x", "y"), "y x z m");
    assert_eq!(graph("y", "x"), "y x z m");
}

/// A chain in which each derivation needs the one after it in the file.
fn chain(length: usize, last: &str) -> String {
    let mut source = String::from("{\"derivations\": {");
    for index in 0..length - 1 {
        source += &format!(
            "\"n{index}\": {{\"builder\": \"b\", \"inputs\": [\"n{}\"]}},\n",
            index + 1
        );
    }
    source
        + &format!(
            "\"n{}\": {{\"builder\": \"b\", \"inputs\": [{last}]}}}}}}",
            length - 1
        )
}

#[test]
fn long_chains_do_not_overflow_the_stack() {
    const LENGTH: usize = 200_000;
    let graph = read(&chain(LENGTH, ""));
    assert_eq!(graph.derivations[0].key, format!("n{}", LENGTH - 1));
    assert_eq!(
        graph.targets,
        [Target {
            node: LENGTH as u32 - 1,
            outputs: vec![0]
        }]
    );
    assert!((1..LENGTH).all(|index| {
        graph.derivations[index].inputs
            == [Piece::Output {
                node: index as u32 - 1,
                output: 0,
            }]
    }));

    let error = parse(&chain(LENGTH, "\"n0\""), "s", &mut NoFiles).unwrap_err();
    assert_eq!(error.place().line, LENGTH as u32);
    let GraphError::Cycle { chain, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((chain.len(), chain.first()), (LENGTH + 1, chain.last()));
}
