//! Wrong graphs. `¦`, taken out first, marks the place that the error is expected to name.

use super::super::*;
use super::{Disk, FILES};

/// Checks that `marked` fails at its mark, and gives the message.
#[track_caller]
fn mistake(marked: &str) -> String {
    let (before, after) = marked.split_once('¦').expect("a mark");
    let error = parse(
        &format!("{before}{after}"),
        "x86_64-linux",
        &mut Disk::of(FILES),
    )
    .expect_err("a mistake");
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
