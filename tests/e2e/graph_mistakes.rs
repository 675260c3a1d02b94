//! Every mistake in a JSON graph: one message with FILE:LINE:COLUMN, exit 1, and nothing in the
//! store. The places are marked by `¦` in the texts here, which is taken out first.

use crate::harness::{Ran, World};

/// Adds and builds a graph that is wrong at its mark, and gives what `add` said.
#[track_caller]
fn wrong(marked: &str) -> Ran {
    let world = World::new();
    world.write("s.c", "");
    let (before, after) = marked.split_once('¦').expect("a mark");
    let file = world.write("graph.json", format!("{before}{after}"));
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().len() + 1;
    let mut last = None;
    for subcommand in ["build", "plan", "add"] {
        let ran = world
            .windrow(subcommand)
            .arg(&file)
            .run()
            .exits(1)
            .one_error()
            .prints_nothing();
        last = Some(ran.says(format!("graph.json:{line}:{column}: ")));
    }
    assert_eq!(
        world.store_entries(),
        Vec::<std::path::PathBuf>::new(),
        "nothing goes into the store"
    );
    world.is_clean();
    last.unwrap()
}

/// The same for the members of one derivation, beside a source "s.c" and a derivation "lib" of two
/// outputs.
#[track_caller]
fn wrong_in(members: &str) -> Ran {
    wrong(&format!(
        r#"{{
  "sources": {{"s.c": "s.c"}},
  "derivations": {{
    "lib": {{"builder": "/bin/sh", "outputs": ["bin", "dev"]}},
    "d": {{{members}}}
  }}
}}"#
    ))
}

#[test]
fn not_json() {
    wrong("¦").says("JSON");
    wrong("{\"derivations\": {}\n¦ ");
    wrong("{\"system\": \"a\"\n ¦\"b\"}");
    wrong("{}\n¦{}");
}

#[test]
fn other_types() {
    wrong("¦[]").says("object");
    wrong("{\"derivations\": ¦[]}").says("derivations");
    wrong_in(r#""builder": ¦1"#).says("builder").says("string");
    wrong_in(r#""builder": "b", "args": ¦"x""#)
        .says("args")
        .says("list");
    wrong_in(r#""builder": "b", "env": {"V": ¦{}}"#).says("V");
    wrong_in(r#""builder": "b", "env": {"V": ¦1.5}"#).says("1.5");
    wrong_in(r#""builder": "b", "env": {"V": ¦1e3}"#).says("1e3");
}

#[test]
fn unknown_missing_and_repeated_keys() {
    wrong("{¦\"derivation\": {}}").says("did you mean \"derivations\"?");
    wrong_in(r#""builder": "b", ¦"arg": []"#).says("\"args\"?");
    wrong("{\"derivations\": {\"d\":\n ¦{}}}").says("\"builder\"");
    wrong_in(
        r#""builder": "b",
               ¦"builder": "b""#,
    )
    .says("second time")
    .says("5:11");
    wrong(r#"{"sources": {"d": "s.c"}, "derivations": {¦"d": {"builder": "b"}}}"#)
        .says("both a source and a derivation");
}

#[test]
fn unknown_names() {
    wrong_in(r#""builder": "¦@{libb}/sh""#)
        .says("libb")
        .says("\"lib\"?");
    wrong_in(r#""builder": "b", "args": ["x", "y ¦@{nothing like it}"]"#).says("nothing like it");
    wrong_in(r#""builder": "b", "args": ["¦@{lib^out}"]"#)
        .says("lib")
        .says("\"out\"");
    wrong_in(r#""builder": "b", "args": ["¦@{^dev}"]"#).says("dev");
    wrong_in(r#""builder": "b", "args": ["¦@{s.c^out}"]"#).says("s.c");
    wrong_in(r#""builder": "b", "args": ["a ¦@{lib"]"#).says("}");
    wrong_in(r#""builder": "b", "args": ["¦@{}"]"#);
    wrong_in(r#""builder": "b", "inputs": [¦"libx"]"#).says("libx");
    wrong("{\"derivations\": {\"d\": {\"builder\": \"b\"}},\n\"targets\": [¦\"e\"]}").says("\"e\"");
}

#[test]
fn cycles() {
    let ran = wrong(
        r#"{"derivations": {
  "a": {"builder": "b", "args": ["@{b}"]},
  "b": {"builder": "b", "args": ["x¦@{a}"]}
}}"#,
    );
    ran.says("a").says("b");
    wrong_in(r#""builder": "b", "args": ["¦@{d}"]"#).says("\"d\"");
}

#[test]
fn outputs_and_variables() {
    wrong_in(r#""builder": "b", "outputs": ¦[]"#).says("output");
    wrong_in(r#""builder": "b", "outputs": ["a", ¦"a"]"#).says("twice");
    wrong_in(r#""builder": "b", "outputs": [¦"a b"]"#).says("a b");
    wrong_in(r#""builder": "b", "env": {¦"args": ""}"#).says("move it out of \"env\"");
    wrong_in(r#""builder": "b", "env": {¦"out": ""}"#).says("\"out\"");
    wrong_in(r#""builder": "b", "env": {¦"a=b": ""}"#).says("=");
    wrong_in("\"builder\": \"b\", \"args\": [\"¦\\u0000\"]").says("NUL");
}

#[test]
fn names_that_no_store_path_can_have() {
    wrong(r#"{"derivations": {¦"a b": {"builder": "b"}}}"#).says("a b");
    wrong_in(r#""builder": "b", "name": ¦"ü""#).says("ü");
    wrong_in(r#""builder": "b", "name": ¦"x.drv""#).says(".drv");
    wrong_in(&format!(
        r#""builder": "b", "name": ¦"{}""#,
        "x".repeat(212)
    ));
    wrong(r#"{"sources": {"s": ¦"s c"}}"#).says("s c");
}

#[test]
fn hashes() {
    wrong_in(r#""builder": "b", "outputHashAlgo": "sha256", "outputHash": ¦"abc""#).says("abc");
    wrong_in(r#""builder": "b", "outputHash": "00", "outputHashAlgo": ¦"sha257""#).says("sha257");
    wrong_in(r#""builder": "b", "outputHash": "00", "outputHashMode": ¦"deep""#).says("deep");
}

#[test]
fn sources_that_are_not_there() {
    wrong(
        r#"{"sources": {"s": "s.c",
    ¦"t": "no-such-file"},
 "derivations": {"d": {"builder": "b", "args": ["@{t}"]}}}"#,
    )
    .says("no-such-file");
}

#[test]
fn sources_of_other_types() {
    let world = World::new();
    world.program("mkfifo").arg(world.file("fifo")).ok();
    let file = world.write(
        "g.json",
        r#"{"sources": {"f": "fifo"}, "derivations": {"d": {"builder": "b", "args": ["@{f}"]}}}"#,
    );
    world
        .windrow("add")
        .arg(file)
        .run()
        .exits(1)
        .one_error()
        .says("fifo")
        .says("unsupported type");
    world.is_clean();
}

#[test]
fn store_paths_that_are_not_there() {
    let world = World::new();
    let absent = world
        .store()
        .join("00000000000000000000000000000000-absent");
    let json = format!(
        r#"{{"derivations": {{"d": {{"builder": "b",{}"args": ["@{{{}}}"]}}}}}}"#,
        "\n",
        absent.display()
    );
    let file = world.write("g.json", json);
    let ran = world
        .windrow("add")
        .arg(file)
        .run()
        .exits(1)
        .one_error()
        .says("g.json:2:11: ");
    ran.says(absent.to_str().unwrap());
}

#[test]
fn graph_files_that_cannot_be_read() {
    let world = World::new();
    world
        .windrow("add")
        .arg("absent.json")
        .run()
        .exits(1)
        .one_error()
        .says("absent.json");
    world
        .windrow("build")
        .arg("absent.json")
        .run()
        .exits(1)
        .one_error()
        .says("absent.json");
    let file = world.write("latin1.json", b"{\"system\": \"\xe9\"}");
    world
        .windrow("add")
        .arg(file)
        .run()
        .exits(1)
        .one_error()
        .says("latin1.json")
        .says("UTF-8");
    std::fs::create_dir(world.file("directory.json")).unwrap();
    world
        .windrow("add")
        .arg("directory.json")
        .run()
        .exits(1)
        .one_error()
        .says("directory.json");
    let deep = world.write("deep.json", "[".repeat(1_000_000));
    world
        .windrow("add")
        .arg(deep)
        .run()
        .exits(1)
        .one_error()
        .says("deep.json:1:");
}

#[test]
fn globs_templates_and_trees() {
    let source =
        |more: &str| format!(r#"{{"sources": {{"s": {{"path": ".", "name": "s", {more}}}}}}}"#);
    wrong(&source(r#""include": ["*.c", ¦"*.rs"]"#)).says("no file of the source");
    wrong(&source(r#""exclude": ¦"a[""#)).says("no glob");
    let derivation = |fields: &str| {
        format!(
            r#"{{
  "sources": {{"src": {{"path": ".", "name": "src", "include": "*.c"}}, "s.c": "s.c"}},
  "templates": {{"sh": {{"builder": "/bin/sh"}}}},
  "derivations": {{{fields}}}
}}"#
        )
    };
    let wrong_in = |fields: &str| wrong(&derivation(fields));
    wrong_in(r#""d": {"use": ¦"hs"}"#).says("did you mean \"sh\"?");
    wrong_in(r#"¦"d": {"use": "sh", "each": "src/*.c"}"#).says("one \"*\"");
    wrong_in(r#""*.o": {"use": "sh", "each": ¦"src/*.h"}"#).says("no file of the source");
    wrong_in(r#""d": {"use": "sh", "args": ["@{src/s.c} ¦@{src/t.c}"]}"#).says("no file \"t.c\"");
    wrong_in(r#""d": {"use": "sh", "tree": ¦"src/s.c"}"#).says("no effect");
    wrong_in(r#""d": {"use": "sh", "args": ["¦@{tree}"]}"#).says("\"tree\"");
}
