//! Special attributes: what they put before a builder, byte for byte as Nix does, and that mistakes
//! in them are told before anything is built. What they demand of outputs is in output_checks.rs.

use serde_json::{Value, json};

use crate::harness::{World, busybox_with, for_each_caller, need, sh_with, text};

/// Builds the one derivation of an expression with Nix and then, at the same paths, with windrow,
/// and expects its output `out` to be the same, which the builder made from what it saw. Gives the
/// output.
#[track_caller]
fn same_as_nix(world: &World, expression: &str) -> String {
    let realise = |by_windrow: bool| {
        let drv = world.instantiate(expression).remove(0);
        let cmd = match by_windrow {
            true => world.windrow("build"),
            false => world.program("nix-store").arg("--realise"),
        };
        let mut outs = cmd.arg(&drv).ok().lines();
        outs.sort();
        (drv, outs)
    };
    let nix = realise(false);
    world.set_aside("nix");
    assert_eq!(realise(true), nix);
    world.verifies();
    world.is_clean();
    for out in &nix.1 {
        let theirs = world
            .at("nix.store")
            .join(&out[world.store().to_str().unwrap().len() + 1..]);
        world.program("diff").arg("-r").arg(theirs).arg(out).ok();
    }
    let out = nix.1.iter().find(|out| out.ends_with("-keeper"));
    out.expect("the output 'out'").clone()
}

/// A derivation that keeps the files of its build directory and its environment, with more
/// attributes.
fn keeper(more: &str) -> String {
    format!(
        r#"let
             make = name: script: more: derivation ({{ inherit name; system = builtins.currentSystem;
               builder = "/bin/sh"; args = [ "-c" ("PATH=/usr/bin:/bin; " + script) ]; }} // more);
             low = make "low" "echo low > $out" {{ }};
             mid = make "mid" "cat ${{low}} > $out; echo ${{low}} $out $dev >> $out; echo $low > $dev"
               {{ outputs = [ "out" "dev" ]; inherit low; }};
             fixed = make "fixed" "printf hello > $out" {{ outputHashMode = "flat"; outputHashAlgo = "sha256";
               outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }};
             self = builtins.placeholder "out";
           in make "keeper" "mkdir ${{self}}; cat /proc/$$/environ > ${{self}}/environ; stat -c %a .[a-z]* * > modes;
             cp -r . ${{self}}/files" {more}"#
    )
}

#[test]
fn structured_attributes_are_the_files_nix_writes() {
    need!(nix);
    let world = World::new();
    let out = same_as_nix(
        &world,
        &keeper(
            r#"{ __structuredAttrs = true; outputs = [ "out" ]; quote = "it's \"x\" \\ $y `z`"; lines = "a\nb\tc\r";
                 unicode = "äöü → 𝄞"; control = builtins.fromJSON "\"\\u0001\\u001f\\u007f\""; empty = "";
                 yes = true; no = false; none = null; int = 42; negative = -7; big = 5000000000;
                 max = 9223372036854775807; half = 1.5; whole = 3.0; tiny = 0.00001; huge = 1.0e22; e15 = 1.0e15;
                 tenth = 0.1; nearly = 16777216.5; list = [ "a b" 1 true false null ]; emptyList = [ ]; nested = [ [ 1 ] ];
                 halves = [ 1.5 ]; map = { "k'" = "v"; a = 2; "b c" = "d e"; }; emptyMap = { }; deep = { a = { }; };
                 "0digit" = "x"; "a-b" = "y"; _under = 1; own = self; selfMap = { x = self; }; path = low;
                 impureEnvVars = [ "http_proxy" ]; passAsFile = [ "quote" ]; HOME = "/not/used"; PATH = "/not/used"; }"#,
        ),
    );
    let json: Value = serde_json::from_str(&text(format!("{out}/files/.attrs.json"))).unwrap();
    assert_eq!(json["outputs"], json!({ "out": out }));
    let environ = text(format!("{out}/environ"));
    assert!(
        environ.contains("NIX_ATTRS_JSON_FILE=/") && !environ.contains("__json"),
        "{environ}"
    );
}

#[test]
fn structured_attributes_with_several_outputs_and_checks() {
    need!(nix);
    let world = World::new();
    let expression = keeper(
        r#"{ __structuredAttrs = true; outputs = [ "out" "dev" "a" ]; outputChecks = { out.maxSize = 1000000; dev.allowedReferences = [ ]; };
             requiredSystemFeatures = [ "big-parallel" ]; preferLocalBuild = true; allowSubstitutes = false; }"#,
    )
    .replace(
        "cp -r . ${self}",
        "echo > ${builtins.placeholder \"dev\"}; echo > ${builtins.placeholder \"a\"}; cp -r . ${self}",
    );
    same_as_nix(&world, &expression);
}

#[test]
fn reference_graphs_are_the_ones_nix_writes() {
    need!(nix);
    let world = World::new();
    let out = same_as_nix(
        &world,
        &keeper(
            r#"{ exportReferencesGraph = [ "mid" mid "dev" mid.dev "in.side_of-1" "${low}/x/y" "_fixed" fixed ]; }"#,
        ),
    );
    assert_eq!(text(format!("{out}/files/mid")).lines().count(), 13);

    let world = World::new();
    let out = same_as_nix(
        &world,
        &keeper(
            r#"{ __structuredAttrs = true; exportReferencesGraph = { mid = [ mid ]; both = [ mid.dev low fixed ]; one = low; };
                 mid = "is replaced"; }"#,
        ),
    );
    let json: Value = serde_json::from_str(&text(format!("{out}/files/.attrs.json"))).unwrap();
    assert_eq!(json["mid"].as_array().unwrap().len(), 3);
    assert!(
        json["both"].to_string().contains(r#""ca":"fixed:sha256:"#),
        "{json}"
    );
}

#[test]
fn graphs_of_derivations_have_their_outputs() {
    need!(nix);
    let world = World::new();
    let out = same_as_nix(
        &world,
        &keeper(r#"{ exportReferencesGraph = [ "build" mid.drvPath ]; }"#),
    );
    let graph = text(format!("{out}/files/build"));
    for member in ["-mid.drv\n", "-low.drv\n", "-mid\n", "-mid-dev\n", "-low\n"] {
        assert!(graph.contains(member), "{graph}");
    }
}

#[test]
fn without_nix_graphs_and_structured_attributes_are_there_too() {
    let world = World::new();
    let file = world.graph(
        "g.json",
        &json!({"derivations": {
            "low": sh_with("echo low > $out", json!({})),
            "plain": sh_with("cp graph $out", json!({"env": {"exportReferencesGraph": "graph @{low}"}})),
            "structured": {"builder": "/bin/sh", "args": ["-c", "PATH=/usr/bin:/bin; cat .attrs.sh > @{^out}"],
                "env": {"__json": "{\"a\":[1,\"b\"],\"exportReferencesGraph\":{\"g\":\"@{low}\"}}"}},
        }}),
    );
    let outs = world.windrow("build").arg(file).ok().lines();
    let out = |name: &str| outs.iter().find(|out| out.ends_with(name)).unwrap();
    let graph = text(out("-plain"));
    assert!(graph.ends_with("-low\n\n0\n"), "{graph}");
    let attrs = text(out("-structured"));
    assert!(attrs.starts_with("declare -a a=(1 'b' )\n"), "{attrs}");
    let line = format!("declare -A outputs=(['out']='{}' )\n", out("-structured"));
    assert!(attrs.ends_with(&line), "{attrs}");
    world.is_clean();
    world.stays_valid();
}

/// Builds a derivation "x" with these variables, which must fail before its builder runs.
#[track_caller]
fn refused(env: Value, says: &[&str]) {
    let world = World::new();
    let ran = world.file("ran");
    let script = format!("echo > {}; echo > $out", ran.display());
    let drv = world.add_one("x", sh_with(&script, json!({ "env": env })));
    let failed = world.windrow("build").arg(&drv).run().exits(1).one_error();
    let failed = failed.prints_nothing().says(&drv);
    says.iter().fold(failed, |failed, says| failed.says(says));
    assert!(!ran.exists(), "the builder ran");
    world.is_clean();
    world.stays_valid();
    let valid = world.store_entries();
    let valid = valid.iter().filter(|path| world.is_valid(path)).count();
    assert_eq!(valid, 1, "only the .drv is valid");
}

#[test]
fn structured_attributes_that_are_malformed() {
    for (text, says) in [
        ("", "'__json'"),
        ("{\"a\": ", "'__json'"),
        ("[]", "a list, not an object"),
        (&"[".repeat(300_000), "'__json'"),
        (r#"{"outputChecks": 1}"#, "'outputChecks' must be an object"),
        (
            r#"{"outputChecks": {"out": {"maxSize": "big"}}}"#,
            "'outputChecks.out.maxSize'",
        ),
        (
            r#"{"outputChecks": {"out": {"allowedReferences": ["no"]}}}"#,
            "'no'",
        ),
        (
            r#"{"unsafeDiscardReferences": {"out": "yes"}}"#,
            "'unsafeDiscardReferences.out'",
        ),
        (
            r#"{"impureEnvVars": "a"}"#,
            "'impureEnvVars' must be a list of strings",
        ),
        (
            r#"{"requiredSystemFeatures": [1]}"#,
            "'requiredSystemFeatures[0]'",
        ),
        (r#"{"preferLocalBuild": 1}"#, "'preferLocalBuild'"),
        (r#"{"allowSubstitutes": "no"}"#, "'allowSubstitutes'"),
        (
            r#"{"exportReferencesGraph": {"g": "/etc"}}"#,
            "'/etc', which is no store path",
        ),
    ] {
        refused(json!({ "__json": text }), &[says]);
    }
}

#[test]
fn reference_graphs_that_cannot_be_given() {
    let attribute = |value: &str| json!({ "exportReferencesGraph": value });
    refused(attribute("alone"), &["'alone' stands alone"]);
    refused(attribute("../up /nix/store/x"), &["'../up'"]);
    refused(
        attribute("file /etc/passwd"),
        &["'/etc/passwd', which is no store path"],
    );
    let world = World::new();
    let absent = world.store().join("00000000000000000000000000000000-x");
    let script = sh_with(
        "echo > $out",
        json!({"env": attribute(&format!("g {}", absent.display()))}),
    );
    let drv = world.add_one("x", script);
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says(&drv)
        .says(absent.to_str().unwrap())
        .says("not in the closure of its inputs");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_graph_of_a_valid_path_that_is_no_input() {
    let world = World::new();
    let drv = world.add_one("other", sh_with("echo > $out", json!({})));
    let other = world.windrow("build").arg(&drv).ok().line();
    let value = json!({"env": {"exportReferencesGraph": format!("g {other}")}});
    let drv = world.add_one("x", sh_with("echo > $out", value));
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says(&other).says("not in the closure of its inputs");
    world.is_clean();
}

#[test]
fn lists_of_references_that_are_malformed() {
    for attribute in [
        "allowedReferences",
        "allowedRequisites",
        "disallowedReferences",
        "disallowedRequisites",
    ] {
        refused(
            json!({ attribute: "out nope" }),
            &[&format!("'{attribute}' names 'nope'")],
        );
    }
    refused(
        json!({"allowedReferences": "/nix/store/x"}),
        &["'/nix/store/x'"],
    );
}

#[test]
fn a_builder_that_cannot_be_given_its_files_gives_its_slot_back() {
    let world = World::new();
    let absent = world.store().join("00000000000000000000000000000000-x");
    let export = json!({"env": {"exportReferencesGraph": format!("g {}", absent.display())}});
    let graph = crate::harness::graph_of([
        ("bad1", sh_with("echo > $out", export.clone())),
        ("bad2", sh_with("echo > $out", export)),
        ("good", sh_with("echo good > $out", json!({}))),
    ]);
    let file = world.graph("g.json", &graph);
    let ran = world.windrow("build").arg(file).args(["-k", "-j1"]).run();
    ran.exits(1).says("-bad1.drv'").says("-bad2.drv'");
    let entries = world.store_entries();
    let good = entries
        .iter()
        .find(|path| path.to_str().unwrap().ends_with("-good"));
    assert!(world.is_valid(good.expect("the other one is built")));
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_large_graph_is_exported_whole() {
    let world = World::new();
    // A chain of three hundred, each of which refers to the one before.
    let mut derivations = vec![("d0".to_owned(), sh_with("echo > $out", json!({})))];
    for number in 1..300 {
        let script = format!("echo @{{d{}}} > $out", number - 1);
        derivations.push((format!("d{number}"), sh_with(&script, json!({}))));
    }
    let env = json!({"env": {"exportReferencesGraph": "g @{d299}"}});
    derivations.push(("x".to_owned(), sh_with("cp g $out", env)));
    let graph = crate::harness::graph_of(
        derivations
            .iter()
            .map(|(name, value)| (&**name, value.clone())),
    );
    let file = world.graph("g.json", &graph);
    let out = world.windrow("build").arg(file).ok().line();
    assert_eq!(text(out).lines().count(), 3 + 299 * 4);
    world.is_clean();
}

#[test]
fn in_a_sandbox_the_files_are_where_their_variables_say() {
    for_each_caller(|world, caller| {
        let look = "cat $1 $textPath; cat $NIX_ATTRS_JSON_FILE $NIX_ATTRS_SH_FILE; echo $NIX_ATTRS_JSON_FILE";
        let mut structured = busybox_with(&format!("({look}) > @{{^out}} 2>&1"), json!({}));
        structured["env"] =
            json!({"__json": "{\"a\":\"b\",\"exportReferencesGraph\":{\"g\":\"@{low}\"}}"});
        let env = json!({"env": {"exportReferencesGraph": "graph @{low}", "passAsFile": "text", "text": "passed\n"}});
        let graph = crate::harness::graph_of([
            ("low", busybox_with("echo low > $out", json!({}))),
            (
                "plain",
                busybox_with("cat graph $textPath > $out; echo $textPath >> $out", env),
            ),
            ("structured", structured),
        ]);
        let file = world.graph("g.json", &graph);
        let outs = caller.runs(world.windrow("build").arg(file)).ok().lines();
        let out = |name: &str| text(outs.iter().find(|out| out.ends_with(name)).unwrap());
        let plain = out("-plain");
        assert!(
            plain.contains("-low\n\n0\npassed\n/build/.attr-"),
            "{plain}"
        );
        let seen = out("-structured");
        assert!(
            seen.contains(r#"{"a":"b","exportReferencesGraph":"#),
            "{seen}"
        );
        assert!(seen.contains("declare a='b'\n"), "{seen}");
        assert!(
            seen.contains(r#""narSize":"#) && seen.ends_with("/build/.attrs.json\n"),
            "{seen}"
        );
        world.is_clean();
        world.stays_valid();
    });
}

#[test]
fn a_structured_reference_graph_that_is_no_object_is_ignored_as_by_nix() {
    need!(nix);
    for value in [r#"[ "graph" low ]"#, r#""graph ${low}""#, "null", "1"] {
        let world = World::new();
        let attributes =
            format!("{{ __structuredAttrs = true; exportReferencesGraph = {value}; }}");
        let out = same_as_nix(&world, &keeper(&attributes));
        assert!(!std::path::Path::new(&format!("{out}/files/graph")).exists());
        world.set_aside("windrow");
        let drv = world.instantiate(&keeper(&attributes)).remove(0);
        let ran = world.windrow("build").arg(&drv).ok();
        let warning =
            "'exportReferencesGraph' in structured attributes is not a JSON object, ignoring it";
        assert_eq!(ran.stderr.matches(warning).count(), 1, "{ran}");
        ran.says(format!("warning: derivation '{drv}'"));
    }
}
