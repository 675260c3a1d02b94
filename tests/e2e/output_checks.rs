//! What attributes demand of outputs: references, closures and sizes. A violation is exit status 1,
//! one message with the output and the offending paths, and nothing registered.

use serde_json::{Value, json};

use crate::harness::{Ran, World, graph_of, need, sh, sh_with};

/// A graph with "x", which has these outputs and variables and whose output refers to itself, "mid"
/// and "dev"; "mid" refers to "low".
fn graph(env: Value) -> Value {
    graph_of([
        ("low", sh("echo low > $out")),
        ("mid", sh("echo @{low} > $out")),
        ("other", sh("echo other > $out")),
        (
            "x",
            sh_with(
                "echo $out @{mid} $dev > $out; echo @{other} > $dev",
                json!({"outputs": ["out", "dev"], "env": env}),
            ),
        ),
    ])
}

#[track_caller]
fn build(env: Value) -> (World, Ran) {
    let world = World::new();
    let file = world.graph("g.json", &graph(env));
    let ran = world.windrow("build").arg(file).run().no_panic();
    world.is_clean();
    world.stays_valid();
    (world, ran)
}

/// Expects the build to fail for these names, in this order, each the end of an offending path.
#[track_caller]
fn fails(env: Value, attribute: &str, bad: &[&str]) {
    let (world, ran) = build(env);
    let ran = ran
        .exits(1)
        .one_error()
        .prints_nothing()
        .says(format!("'{attribute}'"));
    let mut names: Vec<&str> = (ran.stderr.lines())
        .skip_while(|line| !line.contains("is not allowed to refer"))
        .skip(1)
        .map_while(|line| line.strip_prefix("  "))
        .take_while(|path| path.starts_with('/'))
        .filter_map(|path| path.rsplit('/').next()?.split_once('-'))
        .map(|(_, name)| name)
        .collect();
    names.sort_unstable();
    assert_eq!(names, bad, "{ran}");
    for entry in world.store_entries() {
        let name = entry.to_str().unwrap();
        if name.ends_with("-x") || name.ends_with("-x-dev") {
            assert!(!world.is_valid(&entry), "{name}\n{ran}");
        }
    }
}

#[track_caller]
fn passes(env: Value) {
    build(env).1.exits(0);
}

#[test]
fn allowed_references() {
    passes(json!({"allowedReferences": "out dev @{mid} @{other}"}));
    fails(
        json!({"allowedReferences": "dev @{mid} @{other}"}),
        "allowedReferences",
        &["x"],
    );
    fails(
        json!({"allowedReferences": "out @{other}"}),
        "allowedReferences",
        &["mid", "x-dev"],
    );
    fails(
        json!({"allowedReferences": ""}),
        "allowedReferences",
        &["other"],
    );
}

#[test]
fn disallowed_references() {
    passes(json!({"disallowedReferences": "@{low}"}));
    fails(
        json!({"disallowedReferences": "out @{low}"}),
        "disallowedReferences",
        &["x"],
    );
    fails(
        json!({"disallowedReferences": "dev @{mid}"}),
        "disallowedReferences",
        &["mid", "x-dev"],
    );
}

#[test]
fn requisites_are_the_closure_through_other_outputs_and_ignore_the_output_itself() {
    passes(json!({"allowedRequisites": "dev @{mid} @{low} @{other}"}));
    fails(
        json!({"allowedRequisites": "@{mid} @{other}"}),
        "allowedRequisites",
        &["low", "x-dev"],
    );
    passes(json!({"disallowedRequisites": "out"}));
    fails(
        json!({"disallowedRequisites": "@{low}"}),
        "disallowedRequisites",
        &["low"],
    );
    fails(
        json!({"disallowedRequisites": "@{other}"}),
        "disallowedRequisites",
        &["other"],
    );
}

/// Structured attributes that make what [`graph`] makes, with these checks.
fn structured(checks: &Value) -> Value {
    let script =
        "PATH=/usr/bin:/bin; echo @{^out} @{mid} @{^dev} > @{^out}; echo @{other} > @{^dev}";
    let mut graph = graph(json!({}));
    graph["derivations"]["x"] = json!({
        "builder": "/bin/sh", "args": ["-c", script], "outputs": ["out", "dev"],
        "env": {"__json": checks.to_string()},
    });
    graph
}

#[track_caller]
fn build_structured(checks: &Value) -> Ran {
    let world = World::new();
    let file = world.graph("g.json", &structured(checks));
    let ran = world.windrow("build").arg(file).run().no_panic();
    world.is_clean();
    world.stays_valid();
    if ran.status.code() != Some(0) {
        let entries = world.store_entries();
        let mut outputs = entries
            .iter()
            .filter(|path| path.to_str().unwrap().ends_with("-x"));
        assert!(outputs.all(|path| !world.is_valid(path)), "{ran}");
    }
    ran
}

#[test]
fn checks_of_single_outputs() {
    let check =
        |output: &str, check: Value| build_structured(&json!({"outputChecks": {output: check}}));
    check("dev", json!({"allowedReferences": ["@{other}"]})).exits(0);
    check("dev", json!({"allowedReferences": []}))
        .exits(1)
        .one_error()
        .says("'outputChecks.dev.allowedReferences'")
        .says("-x-dev'")
        .says("-other");
    check(
        "out",
        json!({"allowedRequisites": ["out", "dev", "@{mid}", "@{low}", "@{other}"]}),
    )
    .exits(0);
    // Itself is never ignored here.
    check(
        "out",
        json!({"allowedRequisites": ["dev", "@{mid}", "@{low}", "@{other}"]}),
    )
    .exits(1)
    .says("-x\n");
    check("out", json!({"disallowedRequisites": ["out"]}))
        .exits(1)
        .one_error();
    check("out", json!({"disallowedReferences": ["@{low}"]})).exits(0);
    // What stands beside them means nothing, nor do checks of outputs that are not there.
    build_structured(&json!({"allowedReferences": [], "outputChecks": {"gone": {"maxSize": 0}}}))
        .exits(0);
}

#[test]
fn sizes() {
    let check = |check: Value| build_structured(&json!({"outputChecks": {"dev": check}}));
    check(json!({"maxSize": 10_000, "maxClosureSize": 10_000})).exits(0);
    check(json!({"maxSize": 10}))
        .exits(1)
        .one_error()
        .says("-x-dev'")
        .says("'maxSize' allows 10");
    // The archive of one small file is bigger than a hundred bytes; those of it and what it refers
    // to are two.
    check(json!({"maxSize": 300, "maxClosureSize": 300}))
        .exits(1)
        .one_error()
        .says("'maxClosureSize' allows 300");
}

#[test]
fn references_can_be_discarded() {
    need!("sqlite3");
    let world = World::new();
    let checks = json!({"unsafeDiscardReferences": {"out": true}, "outputChecks": {"out": {"allowedReferences": []}}});
    let file = world.graph("g.json", &structured(&checks));
    world.windrow("build").arg(file).ok();
    let references = |name: &str| {
        world.sql(&format!(
            "select r.path from Refs join ValidPaths r on r.id = reference join ValidPaths v on v.id = referrer
             where v.path like '%-{name}' order by 1"
        ))
    };
    assert_eq!(references("x"), [""; 0]);
    assert_eq!(references("x-dev").len(), 1);
    world.stays_valid();
}

#[test]
fn outputs_that_are_valid_already_count_as_well() {
    need!("sqlite3");
    let world = World::new();
    // "out" may refer to what "dev" refers to only if "dev" may.
    let checks = json!({"disallowedRequisites": "@{low}"});
    let graph = graph_of([
        ("low", sh("echo low > $out")),
        (
            "x",
            sh_with(
                "echo $dev > $out; echo $LOW > $dev",
                json!({"outputs": ["out", "dev"], "env": {"disallowedRequisites": checks["disallowedRequisites"]}}),
            ),
        ),
    ]);
    let with_low = |low: &str| {
        let mut graph = graph.clone();
        graph["derivations"]["x"]["env"]["LOW"] = low.into();
        world.graph("g.json", &graph)
    };
    world.windrow("build").arg(with_low("nothing")).ok();
    world
        .windrow("build")
        .arg(with_low("@{low}"))
        .run()
        .exits(1)
        .one_error()
        .says("-low");
    world.is_clean();
}

#[test]
fn nix_judges_the_same() {
    need!(nix);
    let world = World::new();
    let make = |more: &str| {
        format!(
            r#"let
                 make = name: script: more: derivation ({{ inherit name; system = builtins.currentSystem;
                   builder = "/bin/sh"; args = [ "-c" ("PATH=/usr/bin:/bin; " + script) ]; }} // more);
                 low = make "low" "echo low > $out" {{ }};
                 mid = make "mid" "echo ${{low}} > $out" {{ }};
                 place = builtins.placeholder;
               in make "x" "echo ${{place "out"}} ${{mid}} ${{place "dev"}} > ${{place "out"}}; echo ${{low}} > ${{place "dev"}}"
                 ({{ outputs = [ "out" "dev" ]; }} // {more})"#
        )
    };
    // The output "out" goes first, for it refers to the other.
    let forget = || {
        for name in ["x", "x-dev"] {
            for path in world.sql(&format!(
                "select path from ValidPaths where path like '%-{name}'"
            )) {
                world.program("nix-store").args(["--delete", &path]).ok();
            }
        }
    };
    for more in [
        r#"{ allowedReferences = [ "out" "dev" mid low ]; }"#,
        r#"{ allowedReferences = [ "dev" mid low ]; }"#,
        r#"{ allowedReferences = [ ]; }"#,
        r#"{ allowedRequisites = [ "dev" mid low ]; }"#,
        r#"{ allowedRequisites = [ "dev" mid ]; }"#,
        r#"{ disallowedReferences = [ low ]; }"#,
        r#"{ disallowedReferences = [ "out" ]; }"#,
        r#"{ disallowedRequisites = [ "out" ]; }"#,
        r#"{ disallowedRequisites = [ "dev" ]; }"#,
        r#"{ allowedReferences = [ "nope" ]; }"#,
        r#"{ __structuredAttrs = true; outputChecks.out.allowedRequisites = [ "dev" mid low ]; }"#,
        r#"{ __structuredAttrs = true; outputChecks.out.allowedRequisites = [ "out" "dev" mid low ]; }"#,
        r#"{ __structuredAttrs = true; outputChecks.dev.maxSize = 184; }"#,
        r#"{ __structuredAttrs = true; outputChecks.dev.maxSize = 100; }"#,
        r#"{ __structuredAttrs = true; outputChecks.out.maxClosureSize = 500; }"#,
        r#"{ __structuredAttrs = true; outputChecks.out.disallowedReferences = [ low ]; allowedReferences = [ ]; }"#,
    ] {
        let drv = world.instantiate(&make(more)).remove(0);
        let windrow = world.windrow("build").arg(&drv).run();
        let entries = world.store_entries();
        let valid = entries
            .iter()
            .any(|path| path.to_str().unwrap().ends_with("-x") && world.is_valid(path));
        assert_eq!(windrow.status.code() == Some(0), valid, "{more}\n{windrow}");
        forget();
        let nix = world.program("nix-store").args(["--realise", &drv]).run();
        assert_eq!(
            nix.status.code(),
            windrow.status.code(),
            "{more}\n{nix}\n{windrow}"
        );
        forget();
    }
    world.verifies();
}
