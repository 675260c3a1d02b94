//! Globs, templates, families and trees.

use super::super::*;
use super::{Disk, FILES, keys, literal, read};

fn read_on(source: &str, files: &[(&str, &str)]) -> GraphFile {
    match parse(source, "s", &mut Disk::of(files)) {
        Ok(graph) => graph,
        Err(error) => panic!("{}: {error}", error.place()),
    }
}

/// Checks that `marked` fails at its mark, and gives the message.
#[track_caller]
fn mistake(marked: &str) -> String {
    let (before, after) = marked.split_once('¦').expect("a mark");
    let read = parse(&format!("{before}{after}"), "s", &mut Disk::of(FILES));
    let error = read.expect_err("a mistake");
    let line = before.matches('\n').count() as u32 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().len() as u32 + 1;
    assert_eq!(error.place(), Position { line, column }, "{error}");
    error.to_string()
}

/// The files of a derivation's tree.
fn tree_of(graph: &GraphFile, key: &str) -> Vec<String> {
    let node = graph
        .derivations
        .iter()
        .find(|node| node.key == key)
        .unwrap();
    let tree = node.pieces().find_map(|piece| match piece {
        Piece::Tree(tree) => Some(&graph.trees[*tree as usize]),
        _ => None,
    });
    let files = tree.expect("a tree").files.iter();
    files.map(|(path, _)| path.clone()).collect()
}

#[test]
fn globs_choose_files_of_a_directory() {
    let chosen = |filter: &str| {
        let source = format!(r#"{{"sources": {{"s": {{"path": "src", {filter}}}}}}}"#);
        match read(&source).sources.remove(0).contents {
            Contents::Chosen(files) => files.join(" "),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(chosen(r#""include": "*.c""#), "b.c main.c s.c");
    assert_eq!(
        chosen(r#""include": ["**/*.[ch]"], "exclude": ["old/**", "b.*"]"#),
        "deep/c.h deep/unused.h main.c s.c"
    );
    assert_eq!(
        chosen(r#""exclude": "**/*.c""#),
        "b.h deep/c.h deep/unused.h"
    );
    assert_eq!(
        chosen(r#""ignore-files": true, "include": "{b,s}.c""#),
        "b.c s.c"
    );
}

#[test]
fn a_file_of_a_directory_is_a_source_of_its_own() {
    let graph = read(
        r#"{"sources": {"s": "src/"}, "derivations": {
            "a": {"builder": "b", "args": ["@{s/deep/c.h}", "@{s/b.c} @{s/deep/c.h}"]}}}"#,
    );
    let args = &graph.derivations[0].args;
    assert_eq!(args[0], [Piece::Source(1)]);
    assert_eq!(args[1], [Piece::Source(2), literal(" "), Piece::Source(1)]);
    let source = &graph.sources[1];
    assert_eq!(
        (
            &*source.name,
            &*source.path,
            &*source.store_name,
            &source.contents
        ),
        ("s/deep/c.h", "src/deep/c.h", "c.h", &Contents::File)
    );
    assert_eq!(graph.sources[0].contents, Contents::Unused);
    let whole = read(
        r#"{"sources": {"s": "src"}, "derivations": {
            "a": {"builder": "b", "args": ["@{s/b.c}", "@{s}"]}}}"#,
    );
    assert_eq!(whole.sources[0].contents, Contents::Whole);
}

#[test]
fn derivations_stand_above_their_templates() {
    let graph = read(
        r#"{"templates": {
              "cc": {"use": "sh", "args": ["-c", "cc @{^out}"], "env": {"B": "cc", "C": "cc"}},
              "sh": {"builder": "/bin/sh", "args": ["x"], "env": {"A": "sh", "B": "sh"}, "system": "t"}},
            "derivations": {
              "a": {"use": "cc", "env": {"C": "a", "D": null}},
              "b": {"use": "sh", "args": [], "name": "other"}}}"#,
    );
    let [a, b] = &graph.derivations[..] else {
        panic!("two")
    };
    assert_eq!(a.builder, [literal("/bin/sh")]);
    assert_eq!(a.args[1], [literal("cc "), Piece::Placeholder(0)]);
    let env = |node: &Node| {
        let pairs = node.env.iter().map(|variable| match &variable.value[..] {
            [Piece::Literal(value)] => format!("{}={value}", variable.name),
            _ => format!("{}=", variable.name),
        });
        pairs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(env(a), "A=sh B=cc C=a D=");
    assert_eq!(
        (&*a.system, &*b.system, &*b.name, b.args.len()),
        ("t", "t", "other", 0)
    );
    assert_eq!(env(b), "A=sh B=sh");
}

const FAMILY: &str = r#"{
  "sources": {"src": {"path": "src", "exclude": "old/**"}},
  "derivations": {
    "all": {"builder": "ld", "args": ["@{obj/*.o}", "-o @{obj/*.o} @{obj/b.o}"], "env": {"V": ["@{obj/*.o}"]}},
    "obj/*.o": {"builder": "cc", "each": "src/*.c", "args": ["-c", "@{tree}/@{each}!"]}
  },
  "targets": ["all", "obj/*.o"]
}"#;

#[test]
fn a_family_is_a_derivation_a_file() {
    let graph = read(FAMILY);
    assert_eq!(keys(&graph), ["obj/b.o", "obj/main.o", "obj/s.o", "all"]);
    let names: Vec<&str> = graph.derivations.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["obj-b.o", "obj-main.o", "obj-s.o", "all"]);
    let member = &graph.derivations[1];
    assert_eq!(member.args[1], [Piece::Tree(1), literal("/src/main.c!")]);
    let output = |node| Piece::Output { node, output: 0 };
    let all = &graph.derivations[3];
    assert_eq!(all.args[..3], [0, 1, 2].map(|node| vec![output(node)]));
    let blank = || literal(" ");
    let text = [
        literal("-o "),
        output(0),
        blank(),
        output(1),
        blank(),
        output(2),
        blank(),
        output(0),
    ];
    assert_eq!(all.args[3], text);
    assert_eq!(all.env[0].value.len(), 5);
    assert_eq!(graph.targets.len(), 4);
}

#[test]
fn a_tree_has_what_its_files_include() {
    let graph = read(FAMILY);
    assert_eq!(
        tree_of(&graph, "obj/main.o"),
        ["src/b.h", "src/deep/c.h", "src/main.c"]
    );
    assert_eq!(tree_of(&graph, "obj/s.o"), ["src/s.c"]);
    let copied = graph
        .sources
        .iter()
        .filter(|it| it.contents == Contents::File);
    let copied: Vec<&str> = copied.map(|it| &*it.path).collect();
    assert_eq!(copied.len(), 5, "each file once: {copied:?}");
    assert!(!copied.contains(&"src/deep/unused.h"));
}

fn tree_with(files: &[(&str, &str)], text: &str) -> Vec<String> {
    let source = format!(
        r#"{{"sources": {{"a": "a", "b": "b", "x.h": "x.h"}}, "derivations": {{
            "d": {{"builder": "b", "tree": "a/m.c", "headers": ["b", "x.h"], "args": ["{text} @{{tree}}"]}}}}}}"#
    );
    tree_of(&read_on(&source, files), "d")
}

#[test]
fn whatever_an_include_may_be_is_in_the_tree() {
    let files = [
        (
            "a/m.c",
            "#include <one.h>\n#include \"two.h\"\n#include \"../b/inc/three.h\"\n#include \"x.h\"\n",
        ),
        ("a/two.h", ""),
        ("b/two.h", ""),
        ("b/one.h", ""),
        ("b/inc/one.h", "#include \"deep/four.h\"\n"),
        ("b/other/deep/four.h", ""),
        ("b/other/four.h", ""),
        ("b/inc/three.h", "#include \"../../elsewhere/one.h\"\n"),
        ("x.h", ""),
    ];
    let expected = [
        "a/m.c",
        "a/two.h",
        "b/inc/one.h",
        "b/inc/three.h",
        "b/one.h",
        "b/other/deep/four.h",
        "x.h",
    ];
    assert_eq!(tree_with(&files, ""), expected);
}

#[test]
fn macros_name_headers_or_all_of_them_come() {
    let mut files = vec![
        (
            "a/m.c",
            "#include \"c.h\"\n#ifdef USER_H\n#include USER_H\n#endif\n",
        ),
        ("a/c.h", ""),
        ("b/user.h", ""),
        ("b/other.h", ""),
        ("x.h", ""),
    ];
    assert_eq!(
        tree_with(&files, ""),
        ["a/c.h", "a/m.c"],
        "nobody defines it"
    );
    let all = ["a/c.h", "a/m.c", "b/other.h", "b/user.h", "x.h"];
    assert_eq!(tree_with(&files, "-DUSER_H=$X"), all);
    files[1].1 = "#define USER_H MY_H\n#define MY_H <user.h>\n";
    assert_eq!(tree_with(&files, ""), ["a/c.h", "a/m.c", "b/user.h"]);
    files[1].1 = "#define USER_H PASTE(user, h)\n";
    assert_eq!(tree_with(&files, ""), all);
}

#[test]
fn what_is_wrong_with_globs_is_told_where_they_stand() {
    let source = |rest: &str| format!(r#"{{"sources": {{"s": {{"path": "src", {rest}}}}}}}"#);
    let says = |message: String, part: &str| assert!(message.contains(part), "{message}");
    says(
        mistake(&source(r#""include": ["*.c", ¦"*.rs"]"#)),
        "no file of the source \"s\"",
    );
    says(mistake(&source(r#""exclude": ¦"[""#)), "is no glob");
    says(
        mistake(&source(r#""ignore-files": ¦"yes""#)),
        "true or false",
    );
    says(
        mistake(&source(r#"¦"includes": "*""#)),
        "did you mean \"include\"?",
    );
    says(
        mistake(r#"{"sources": {¦"s": {"path": "src/b.c", "include": "*"}}}"#),
        "is a file",
    );
    says(
        mistake(r#"{"sources": {¦"s": {"path": "nowhere", "include": "*"}}}"#),
        "nowhere",
    );
    let reference = |name: &str| {
        mistake(&format!(
            r#"{{"sources": {{"s": "src", "f": "src/b.c"}}, "derivations": {{"d": {{"builder": "¦@{{{name}}}"}}}}}}"#
        ))
    };
    says(reference("s/bb.c"), "did you mean \"b.c\"?");
    says(reference("f/b.c"), "is a file");
    says(reference("t/b.c"), "no source or derivation \"t/b.c\"");
}

#[test]
fn what_is_wrong_with_templates_is_told() {
    let says = |message: String, part: &str| assert!(message.contains(part), "{message}");
    let graph = |templates: &str, derivation: &str| {
        mistake(&format!(
            r#"{{"templates": {{{templates}}}, "derivations": {{"d": {{{derivation}}}}}}}"#
        ))
    };
    says(
        graph(r#""cc": {}"#, r#""use": ¦"cx""#),
        "did you mean \"cc\"?",
    );
    says(graph(r#""cc": {"use": ¦"sh"}"#, ""), "no template \"sh\"");
    says(
        graph(r#""a": {"use": "b"}, "b": {"use": ¦"a"}"#, ""),
        "a → b → a",
    );
    says(graph(r#""a": {"use": ¦"a"}"#, ""), "a → a");
    says(graph(r#""a": {¦"arg": []}"#, ""), "did you mean \"args\"?");
    says(graph(r#""a": {}, ¦"a": {}"#, ""), "second time");
    says(
        mistake(r#"{"templates": {"a": {"args": []}}, "derivations": {"d": ¦{"use": "a"}}}"#),
        "builder",
    );
}

#[test]
fn what_is_wrong_with_families_and_trees_is_told() {
    let says = |message: String, part: &str| assert!(message.contains(part), "{message}");
    let graph = |derivations: &str| {
        mistake(&format!(
            r#"{{"sources": {{"src": "src", "b.c": "src/b.c", "src/deep": "src/deep", "..": "src"}},
                "derivations": {{{derivations}}}}}"#
        ))
    };
    says(
        graph(r#"¦"o": {"builder": "b", "each": "src/*.c"}"#),
        "write one \"*\"",
    );
    says(
        graph(r#"¦"*.*": {"builder": "b", "each": "src/*.c"}"#),
        "write one \"*\"",
    );
    says(
        graph(r#""*.o": {"builder": "b", "each": ¦"src/*.cc"}"#),
        "no file of the source",
    );
    says(
        graph(r#""*.o": {"builder": "b", "each": ¦"scr/*.c"}"#),
        "did you mean \"src\"?",
    );
    says(
        graph(r#"¦"*.o": {"builder": "b", "each": ["src/b.c", "src/b.h"]}"#),
        "would both become \"b.o\"",
    );
    says(
        graph(r#""b.o": {"builder": "b"}, ¦"*.o": {"builder": "b", "each": "src/b.c"}"#),
        "second time",
    );
    says(
        graph(r#""d": {"builder": "b", "tree": ¦"src/x.c", "args": ["@{tree}"]}"#),
        "has no file \"x.c\"",
    );
    says(
        graph(r#""d": {"builder": "b", "tree": ¦"src/b.c"}"#),
        "no effect",
    );
    says(
        graph(r#""d": {"builder": "b", "headers": ¦"src"}"#),
        "no effect",
    );
    says(
        graph(r#""d": {"builder": "¦@{tree}"}"#),
        "has \"each\" or \"tree\"",
    );
    says(
        graph(r#""d": {"builder": "¦@{each} @{tree}", "tree": "src/b.c"}"#),
        "only in a derivation",
    );
    says(
        graph(r#""d": {"builder": "b", "tree": ¦"../b.c", "args": ["@{tree}"]}"#),
        "no plain path",
    );
    says(
        graph(r#""tree": {"builder": "b"}, "*.o": {"builder": "¦@{tree}", "each": "src/b.c"}"#),
        "rename that",
    );
    says(
        graph(r#""d": {"builder": "b", "tree": ¦["src/b.c", "src/deep"], "args": ["@{tree}"]}"#),
        "can't both lie in one tree",
    );
}
