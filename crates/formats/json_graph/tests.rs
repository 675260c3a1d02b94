//! Whole graphs, right and wrong. In wrong ones `¦`, taken out first, marks the expected place.
//! What single modules promise is tested beside them.

use proptest::prelude::*;

use super::*;

fn read(source: &str) -> GraphFile {
    match parse(source, "x86_64-linux") {
        Ok(graph) => graph,
        Err(error) => panic!("{}: {error}", error.place()),
    }
}

/// Checks that `marked` fails at its mark, and gives the message.
#[track_caller]
fn mistake(marked: &str) -> String {
    let (before, after) = marked.split_once('¦').expect("a mark");
    let error = parse(&format!("{before}{after}"), "x86_64-linux").expect_err("a mistake");
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let place = Position {
        line: before.matches('\n').count() as u32 + 1,
        column: (before.len() - line_start) as u32 + 1,
    };
    assert_eq!(error.place(), place, "{error}");
    error.to_string()
}

/// The same for the members of one derivation "d", in a graph with a source "s" and derivations
/// "lib" and "e".
#[track_caller]
fn mistake_in(members: &str) -> String {
    mistake(&format!(
        r#"{{
  "sources": {{"s": "src/s.c"}},
  "derivations": {{
    "lib": {{"builder": "/b", "outputs": ["bin", "dev"]}},
    "e": {{"builder": "/b"}},
    "d": {{{members}}}
  }}
}}"#
    ))
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
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
    let drv = |path: &str, output: &str| Piece::DerivationOutput {
        drv: path.to_owned(),
        output: output.to_owned(),
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

#[test]
fn syntax_errors_have_their_place() {
    says(
        &mistake("{\n  \"system\": \"a\" ¦\"b\"}"),
        &["not valid", "`,`"],
    );
    mistake("{\"system\": tru¦}");
    mistake("¦");
    mistake("{}\n ¦x");
    says(
        &mistake_in(r#""builder": "\ud800¦x""#),
        &["not valid JSON", "hex escape"],
    );
}

#[test]
fn wrong_types() {
    says(
        &mistake("¦[]"),
        &["the graph must be an object, but this is a list"],
    );
    says(
        &mistake("{\"system\": ¦1}"),
        &["\"system\" must be a string, but this is a number"],
    );
    mistake("{\"sources\": ¦[]}");
    says(
        &mistake("{\"sources\": {\"s\": ¦[]}}"),
        &["source \"s\"", "a path", "a list"],
    );
    mistake("{\"sources\": {\"s\": {\"path\": ¦null}}}");
    mistake("{\"sources\": {\"s\": {\"path\": \"p\", \"name\": ¦true}}}");
    mistake("{\"derivations\": ¦\"x\"}");
    mistake("{\"derivations\": {\"x\":\n ¦\"x\"}}");
    mistake("{\"targets\": ¦{}}");
    mistake("{\"targets\": [¦1]}");
    for field in ["builder", "name", "system", "outputHash"] {
        let others = if field == "builder" {
            ""
        } else {
            r#""builder": "b", "#
        };
        let members = format!(r#"{others}"{field}": ¦[]"#);
        says(
            &mistake_in(&members),
            &[field, "must be a string, but this is a list"],
        );
    }
    for field in ["args", "outputs", "inputs"] {
        says(
            &mistake_in(&format!(r#""builder": "b", "{field}": ¦"x""#)),
            &[field, "a list"],
        );
        mistake_in(&format!(r#""builder": "b", "{field}": ["e", ¦false]"#));
    }
    mistake_in(r#""builder": "b", "env": ¦[]"#);
    says(
        &mistake_in(r#""builder": "b", "env": {"V": ¦{}}"#),
        &["\"V\"", "an object"],
    );
    mistake_in(r#""builder": "b", "env": {"V": ["a", ¦["b"]]}"#);
    mistake_in(r#""builder": "b", "env": {"V": ["a", ¦null]}"#);
}

#[test]
fn unknown_and_missing_keys() {
    says(
        &mistake("{¦\"target\": []}"),
        &["the graph has no key", "did you mean \"targets\"?"],
    );
    says(
        &mistake("{¦\"colour\": 1}"),
        &["it must be one of \"system\", \"sources\""],
    );
    says(
        &mistake_in(r#""builder": "b", ¦"arg": []"#),
        &["derivation \"d\"", "\"args\"?"],
    );
    says(
        &mistake("{\"sources\": {\"s\": {\"path\": \"p\", ¦\"nam\": 1}}}"),
        &["\"name\"?"],
    );
    says(
        &mistake("{\"sources\": {\"s\": ¦{}}}"),
        &["source \"s\" lacks", "\"path\""],
    );
    let message = mistake("{\"derivations\": {\"x\":\n ¦{\"args\": []}}}");
    says(&message, &["derivation \"x\" lacks", "\"builder\""]);
}

#[test]
fn duplicates() {
    let message = mistake("{\"system\": \"a\",\n ¦\"system\": \"a\"}");
    says(
        &message,
        &["\"system\" stands here a second time, first at 1:2"],
    );
    mistake("{\"sources\": {\"a\": \"a\", ¦\"\\u0061\": \"a\"}}");
    mistake(r#"{"derivations": {"a": {"builder": "b"}, ¦"a": {"builder": "b"}}}"#);
    mistake_in(r#""builder": "b", "args": [], ¦"args": []"#);
    says(
        &mistake_in(r#""builder": "b", "env": {"V": 1, "U": 2, ¦"V": 3}"#),
        &["\"V\""],
    );
    let message = mistake(r#"{"derivations": {"a": {"builder": "b"}}, "sources": {¦"a": "a"}}"#);
    says(
        &message,
        &["both a source and a derivation", "first at 1:18"],
    );
    mistake(r#"{"sources": {"a": "a"}, "derivations": {¦"a": {"builder": "b"}}}"#);
    let message = mistake_in(r#""builder": "b", "outputs": ["x", "out", ¦"x"]"#);
    says(&message, &["\"x\" is listed twice, first at 6:39"]);
}

#[test]
fn names_and_empty_values() {
    for name in ["", "/a", "a^b", "a}", "a\\nb"] {
        let message = mistake(&format!("{{\"sources\": {{¦\"{name}\": \"p\"}}}}"));
        says(&message, &["cannot name a source"]);
        mistake(&format!(
            "{{\"derivations\": {{¦\"{name}\": {{\"builder\": \"b\"}}}}}}"
        ));
        mistake_in(&format!(r#""builder": "b", "outputs": [¦"{name}"]"#));
    }
    mistake_in(r#""builder": ¦"""#);
    says(
        &mistake_in(r#""builder": "b", "name": ¦"""#),
        &["\"name\" of derivation \"d\" is empty"],
    );
    mistake_in(r#""builder": "b", "system": ¦"""#);
    mistake("{\"system\": ¦\"\"}");
    mistake("{\"sources\": {\"s\": ¦\"\"}}");
    mistake("{\"sources\": {\"s\": {\"path\": \"p\", \"name\": ¦\"\"}}}");
    says(
        &mistake("{\"sources\": {\"s\": ¦\"a/..\"}}"),
        &["does not end in a name"],
    );
    says(
        &mistake_in(r#""builder": "b", "outputs": ¦[]"#),
        &["must have an output"],
    );
    mistake_in(r#""builder": "b", "args": ["\n¦\u0000"]"#);
    mistake_in(r#""builder": "b", "env": {"V": "¦\u0000"}"#);
    mistake("{\"sources\": {\"s\": \"a¦\\u0000\"}}");
}

#[test]
fn environment_keys_and_numbers() {
    says(
        &mistake_in(r#""builder": "b", "env": {"A": 1, ¦"": 2}"#),
        &["is empty"],
    );
    says(
        &mistake_in(r#""builder": "b", "env": {¦"a=b": 2}"#),
        &["contains \"=\""],
    );
    says(
        &mistake_in(r#""builder": "b", "env": {¦"a\u0000": 2}"#),
        &["contains a NUL"],
    );
    for key in [
        "name",
        "system",
        "builder",
        "args",
        "outputs",
        "outputHash",
        "outputHashMode",
    ] {
        let message = mistake_in(&format!(r#""builder": "b", "env": {{¦"{key}": 2}}"#));
        says(&message, &["move it out of \"env\""]);
    }
    let message = mistake_in(r#""builder": "b", "outputs": ["x", "dev"], "env": {¦"dev": 2}"#);
    says(&message, &["\"dev\" is set to the path of the output"]);
    mistake_in(r#""builder": "b", "env": {¦"out": "x"}"#);
    for number in ["1.0", "-0.5", "1e3", "1E-3"] {
        let message = mistake_in(&format!(
            r#""builder": "b", "env": {{"V": [1, ¦{number}]}}"#
        ));
        says(&message, &[number, "not an integer", "as a string"]);
    }
}

#[test]
fn references_to_nothing() {
    let message = mistake_in(r#""builder": "\t\"ä\u00e4¦@{lob}""#);
    says(
        &message,
        &["no source or derivation \"lob\"", "did you mean \"lib\"?"],
    );
    says(&mistake_in(r#""builder": "¦@{elephant}""#), &["add it to"]);
    mistake_in(r#""builder": "b", "inputs": ["e", ¦"f/g"]"#);
    says(
        &mistake("{\"targets\": [¦\"x\"]}"),
        &["no source or derivation \"x\""],
    );
    let message = mistake_in(r#""builder": "b", "args": ["@{lib^dev}¦@{lib^out}"]"#);
    says(
        &message,
        &[
            "\"lib\" has no output \"out\"",
            "its outputs are \"bin\", \"dev\"",
        ],
    );
    let message = mistake_in(r#""builder": "¦@{^dev}""#);
    says(
        &message,
        &["\"d\" has no output \"dev\"", "only output is \"out\""],
    );
    says(
        &mistake_in(r#""builder": "¦@{s^out}""#),
        &["source and has no output", "its name alone"],
    );
    says(
        &mistake_in(r#""builder": "¦@{/nix/store/x^out}""#),
        &["no derivation", "its path alone"],
    );
    let message = mistake_in(r#""builder": "@@{ ¦@{lib""#);
    says(&message, &["no \"}\"", "\"@@{\""]);
    for reference in ["", "lib^", "^", "/nix/store/x.drv^"] {
        mistake_in(&format!(r#""builder": "x¦@{{{reference}}}""#));
        mistake_in(&format!(r#""builder": "x", "inputs": [¦"{reference}"]"#));
    }
}

#[test]
fn references_to_oneself() {
    says(
        &mistake_in(r#""builder": "x ¦@{d}""#),
        &["\"d\" refers to itself", "\"@{^out}\""],
    );
    let message = mistake_in(r#""builder": "¦@{d^dev}", "outputs": ["out", "dev"]"#);
    says(&message, &["\"@{^dev}\""]);
    says(
        &mistake_in(r#""builder": "b", "inputs": [¦"d"]"#),
        &["cannot be an input of itself"],
    );
    mistake_in(r#""builder": "b", "inputs": [¦"^out"]"#);
}

#[test]
fn cycles_are_shown_whole() {
    let message = mistake(
        r#"{"derivations": {
  "way": {"builder": "@{a}"},
  "a": {"builder": "b", "env": {"V": "@{b}"}},
  "b": {"builder": "b", "inputs": ["c"]},
  "c": {"builder": "b", "args": ["\n¦@{a^out}"]}
}}"#,
    );
    says(
        &message,
        &["need each other: a → b → c → a; break the cycle"],
    );
}

#[test]
fn fixed_outputs() {
    let fixed = |rest: &str| mistake_in(&format!(r#""builder": "b", {rest}"#));
    says(
        &fixed(r#""outputHashAlgo": ¦"sha256""#),
        &["\"outputHash\", which is missing"],
    );
    fixed(r#""outputHashMode": ¦"flat""#);
    let message = fixed(r#""outputHash": "x", "outputHashMode": ¦"recursiv""#);
    says(&message, &["\"recursiv\"", "did you mean \"recursive\"?"]);
    fixed(r#""outputHash": "x", "outputs": ¦["out", "dev"]"#);
    fixed(r#""outputHash": "x", "outputs": ¦["dev"]"#);
}

#[test]
fn targets_are_derivations_of_the_graph() {
    let target = |target: &str| {
        mistake(&format!(
            r#"{{"sources": {{"s": "s"}}, "derivations": {{"d": {{"builder": "b"}}}},
                "targets": ["d", ¦"{target}"]}}"#
        ))
    };
    says(&target("s"), &["\"s\" is not a derivation of this graph"]);
    target("/nix/store/x.drv^out");
    target("^out");
    says(&target("d^dev"), &["no output \"dev\""]);
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

    let error = parse(&chain(LENGTH, "\"n0\""), "s").unwrap_err();
    assert_eq!(error.place().line, LENGTH as u32);
    let GraphError::Cycle { chain, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((chain.len(), chain.first()), (LENGTH + 1, chain.last()));
}

const VALID: &str = r#"{
  "system": "x86_64-linux",
  "sources": {"main.c": "src/main.c", "data": {"path": "../data", "name": "my-data"}},
  "derivations": {
    "hello": {"name": "h\u00e9", "builder": "/bin/sh", "args": ["-c", "cc @{main.c} -o @{^out}"],
      "env": {"V": ["a", 1, "@{lib^dev}", true], "W": null, "X": "@@{ä\n"},
      "inputs": ["data", "lib", "/nix/store/p", "/nix/store/x.drv^out"]},
    "lib": {"builder": "@{file}", "outputs": ["out", "dev"]},
    "file": {"builder": "b", "outputHash": "sha256-x", "outputHashMode": "flat"}
  },
  "targets": ["hello", "lib^dev"]
}"#;

fn reaches(source: &str, place: Position) -> bool {
    let line = source.split('\n').nth(place.line as usize - 1);
    line.is_some_and(|line| (1..=line.len() as u32 + 1).contains(&place.column))
}

/// A graph has its dependencies first; an error is somewhere in the text.
fn check(source: &str) -> Result<(), TestCaseError> {
    match parse(source, "x86_64-linux") {
        Ok(graph) => {
            for (index, node) in graph.derivations.iter().enumerate() {
                for piece in node.pieces() {
                    if let Piece::Output { node, output } = piece {
                        prop_assert!((*node as usize) < index);
                        let outputs = &graph.derivations[*node as usize].outputs;
                        prop_assert!((*output as usize) < outputs.len());
                    }
                }
            }
        }
        Err(error) => {
            prop_assert!(reaches(source, error.place()), "{}: {error}", error.place());
            prop_assert!(!error.to_string().is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Cut, doubled, moved and overwritten: the answer is a graph, or an error inside the text.
    #[test]
    fn mutated_graphs_never_panic(
        edits in prop::collection::vec((0_usize..900, 0_usize..40, 0_usize..900, 0_u8..4), 1..5),
        patch in prop::sample::select(vec![
            "\"", "\\", "{", "}", "@{", "@@{", "^", ",", ":", "[", "]", "\\u0000", "\\ud800",
            "ä", "\n",
            "1e9", "-0", "null", "\"lib\"", "@{hello}", "\"out\"", "/",
        ]),
    ) {
        let mut bytes = VALID.as_bytes().to_vec();
        for (at, length, other, kind) in edits {
            let start = at % bytes.len().max(1);
            let end = (start + length).min(bytes.len());
            let piece = bytes[start..end].to_vec();
            match kind {
                0 => drop(bytes.drain(start..end)),
                1 => drop(bytes.splice(start..start, patch.bytes())),
                2 => drop(bytes.splice(start..end, patch.bytes())),
                _ => {
                    let target = other % (bytes.len() + 1);
                    drop(bytes.splice(target..target, piece));
                }
            }
        }
        let source = String::from_utf8_lossy(&bytes).into_owned();
        check(&source)?;
    }

    /// The same with whole strings exchanged, so that it stays JSON and reaches what comes after
    /// syntax.
    #[test]
    fn exchanged_strings_never_panic(
        edits in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..4),
    ) {
        let tokens = VALID.split_inclusive('"').collect::<Vec<_>>();
        // Outside, inside, outside, …: VALID has no escaped quote.
        let strings: Vec<&str> = tokens.iter().skip(1).step_by(2).copied().collect();
        let odd = [
            "\"", "\\ud800\"", "\\n\\u0000\"", "@{\"", "@{}\"", "ä\\u00e4@{^dev}\"", "@{hello}\"",
            "a=b\"", "hello^out\"", "^out\"", "recursiv\"", "@{lib}@{file}@@{\"",
            "/nix/store/p^out\"",
        ];
        let choices: Vec<&str> = strings.iter().copied().chain(odd).collect();
        let mut mutated = tokens.clone();
        for [at, choice] in edits {
            mutated[2 * at.index(strings.len()) + 1] = choices[choice.index(choices.len())];
        }
        check(&mutated.concat())?;
    }

    /// Every literal text survives being written with its `@{` escaped.
    #[test]
    fn escaped_texts_read_back(text in "[@{}a^ä\\\\\"\n]{0,30}") {
        // A run of `@` before `{` is ambiguous by the format itself: only its last `@` is special.
        let escaped = text.replace("@{", "@@{");
        let string = serde_json::to_string(&escaped).unwrap();
        let source =
            format!(r#"{{"derivations": {{"d": {{"builder": "b", "args": [{string}]}}}}}}"#);
        let graph = read(&source);
        let pieces = &graph.derivations[0].args[0];
        let expected = if text.is_empty() { vec![] } else { vec![literal(&text)] };
        prop_assert_eq!(pieces, &expected);
    }
}
