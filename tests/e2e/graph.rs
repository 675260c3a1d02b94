//! JSON graphs end to end: what they become is what Nix makes of the same content.
//! Their mistakes are in graph_mistakes.rs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use crate::harness::{World, graph_of, need, sh, text};

#[test]
fn a_graph_becomes_derivations_that_can_be_shown() {
    let world = World::new();
    world.write("src/main.c", "int main;\n");
    let graph = json!({
        "sources": {"main.c": "src/main.c"},
        "derivations": {
            "lib": {"builder": "/bin/sh", "outputs": ["out", "dev"], "args": ["-c", "echo > $out; echo > $dev"]},
            "prog": {"name": "prog-1.0", "builder": "/bin/sh", "args": ["-c", "/bin/cp @{main.c} $out"],
                     "env": {"LIB": "@{lib}", "DEV": "@{lib^dev}", "n": 4, "yes": true, "no": false, "nil": null,
                             "list": ["a", 1, true, "@{lib^dev}/x"], "literal": "@@{lib} @ @", "me": "@{^out}"}}
        }
    });
    let file = world.graph("g.json", &graph);
    let drv = world.windrow("add").arg(&file).ok().line();
    assert!(drv.ends_with("-prog-1.0.drv"), "only the target: {drv}");
    assert_eq!(
        world
            .windrow("add")
            .arg(&file)
            .arg("--all")
            .ok()
            .lines()
            .len(),
        2
    );
    let shown: Value =
        serde_json::from_slice(&world.windrow("show").arg(&drv).ok().stdout).unwrap();
    let shown = &shown[&drv];
    let source = shown["inputSrcs"][0].as_str().unwrap();
    assert!(source.ends_with("-main.c"));
    assert_eq!(text(source), "int main;\n");
    let inputs = shown["inputDrvs"].as_object().unwrap();
    let (lib, outputs) = inputs.iter().next().unwrap();
    assert!(lib.ends_with("-lib.drv"));
    assert_eq!(outputs["outputs"], json!(["dev", "out"]));
    let env = |name: &str| shown["env"][name].as_str().unwrap_or("absent").to_owned();
    assert_eq!(
        [env("n"), env("yes"), env("no"), env("nil")],
        ["4", "1", "", ""]
    );
    assert_eq!(env("list"), format!("a 1 1 {}/x", env("DEV")));
    assert_eq!(env("literal"), "@{lib} @ @");
    assert_eq!(
        env("me"),
        "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"
    );
    assert_eq!(
        shown["args"],
        json!(["-c", format!("/bin/cp {source} $out")])
    );
    assert_eq!(
        (shown["name"].as_str(), shown["builder"].as_str()),
        (Some("prog-1.0"), Some("/bin/sh"))
    );
    world.windrow("build").arg(&file).ok();
    world.is_clean();
    world.stays_valid();
}

/// Expects the graph's targets, as windrow adds them to an empty store, to be what Nix makes of the
/// expression.
#[track_caller]
fn same_as_nix(world: &World, graph: &Value, expression: &str) {
    let file = world.graph("g.json", graph);
    let ours = world.windrow("add").arg(file).ok().lines();
    let mine: Vec<String> = ours.iter().map(text).collect();
    world.stays_valid();
    world.set_aside("windrow");
    let theirs = world.instantiate(expression);
    let nixs: Vec<String> = theirs
        .iter()
        .map(|drv| text(drv.split('!').next().unwrap()))
        .collect();
    assert_eq!(mine, nixs, "the contents of the .drv files");
    assert_eq!(ours, theirs, "their paths");
    let listed = |world: &World| {
        let mut names: Vec<_> = world
            .store_entries()
            .into_iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let nix = listed(world);
    world.set_aside("nix");
    world.bring_back("windrow");
    assert_eq!(listed(world), nix, "everything that is in the store");
    world.is_clean();
}

#[test]
fn an_ordinary_derivation_is_the_one_nix_makes() {
    need!(nix);
    let graph = graph_of([(
        "plain",
        json!({"builder": "/bin/sh", "args": ["-c", "echo \"x\\y\" > $out"],
               "env": {"n": 4, "neg": -12, "yes": true, "no": false, "nil": null, "list": ["a", "b c", 3, true, ""],
                       "self": "@{^out}/x", "text": "tab\tnew\nline\r\"q\" \\ $x ${y}", "_a-b.c": ""}}),
    )]);
    same_as_nix(
        &World::new(),
        &graph,
        r#"derivation { name = "plain"; system = builtins.currentSystem; builder = "/bin/sh";
             args = [ "-c" "echo \"x\\y\" > $out" ]; n = 4; neg = -12; yes = true; no = false; nil = null;
             list = [ "a" "b c" 3 true "" ]; self = "${builtins.placeholder "out"}/x";
             text = "tab\tnew\nline\r\"q\" \\ $x \${y}"; "_a-b.c" = ""; }"#,
    );
}

#[test]
fn several_outputs_are_those_nix_makes() {
    need!(nix);
    let graph = json!({
        "derivations": {
            "lib": {"builder": "/bin/sh", "outputs": ["out", "dev", "bin"], "args": ["@{^dev}", "@{^bin}"]},
            "first": {"builder": "/bin/sh", "outputs": ["zzz", "aaa"]},
            "top": {"builder": "@{lib^bin}/sh", "args": ["@{lib}", "@{first}", "@{first^aaa}"], "env": {"dev": "@{lib^dev}"}}
        }
    });
    same_as_nix(
        &World::new(),
        &graph,
        r#"let system = builtins.currentSystem; builder = "/bin/sh";
             lib = derivation { name = "lib"; inherit system builder; outputs = [ "out" "dev" "bin" ];
               args = [ (builtins.placeholder "dev") (builtins.placeholder "bin") ]; };
             first = derivation { name = "first"; inherit system builder; outputs = [ "zzz" "aaa" ]; };
           in derivation { name = "top"; inherit system; builder = "${lib.bin}/sh";
                args = [ lib first first.aaa ]; inherit (lib) dev; }"#,
    );
}

#[test]
fn fixed_outputs_are_those_nix_makes() {
    need!(nix);
    let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let sri = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let sha1 = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
    let graph = json!({
        "derivations": {
            "flat": {"builder": "/bin/sh", "outputHash": hex, "outputHashAlgo": "sha256", "outputHashMode": "flat"},
            "tree": {"builder": "/bin/sh", "outputHash": hex, "outputHashAlgo": "sha256", "outputHashMode": "recursive"},
            "sri": {"builder": "/bin/sh", "outputHash": sri, "outputHashMode": "recursive"},
            "old": {"builder": "/bin/sh", "outputHash": sha1, "outputHashAlgo": "sha1"},
            "old-tree": {"builder": "/bin/sh", "outputHash": sha1, "outputHashAlgo": "sha1", "outputHashMode": "recursive"},
            "top": {"builder": "/bin/sh", "args": ["@{flat}", "@{tree}", "@{sri}", "@{old}", "@{old-tree}"]}
        }
    });
    same_as_nix(
        &World::new(),
        &graph,
        &format!(
            r#"let system = builtins.currentSystem; builder = "/bin/sh";
                 fixed = name: more: derivation ({{ inherit name system builder; }} // more);
                 flat = fixed "flat" {{ outputHash = "{hex}"; outputHashAlgo = "sha256"; outputHashMode = "flat"; }};
                 tree = fixed "tree" {{ outputHash = "{hex}"; outputHashAlgo = "sha256"; outputHashMode = "recursive"; }};
                 sri = fixed "sri" {{ outputHash = "{sri}"; outputHashMode = "recursive"; }};
                 old = fixed "old" {{ outputHash = "{sha1}"; outputHashAlgo = "sha1"; }};
                 oldTree = fixed "old-tree" {{ outputHash = "{sha1}"; outputHashAlgo = "sha1"; outputHashMode = "recursive"; }};
               in derivation {{ name = "top"; inherit system builder; args = [ flat tree sri old oldTree ]; }}"#
        ),
    );
}

#[test]
fn sources_are_those_nix_copies() {
    need!(nix);
    let world = World::new();
    world.write("one.txt", "one\n");
    world.write("tree/file", "file\n");
    world.write("tree/empty", "");
    world.write("tree/deep/deeper/x", vec![0, 255, 13, 10]);
    fs::set_permissions(
        world.write("tree/run", "#!/bin/sh\n"),
        fs::Permissions::from_mode(0o751),
    )
    .unwrap();
    fs::create_dir(world.file("tree/hollow")).unwrap();
    symlink("../nowhere", world.file("tree/link")).unwrap();
    fs::set_permissions(world.file("one.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    let graph = json!({
        "sources": {"one": "one.txt", "tree": {"path": "./tree/", "name": "my-tree"}, "same": {"path": world.file("one.txt")}},
        "derivations": {"d": {"builder": "/bin/sh", "args": ["@{one}", "@{tree}/deep", "@{same}"]}}
    });
    same_as_nix(
        &world,
        &graph,
        r#"derivation { name = "d"; system = builtins.currentSystem; builder = "/bin/sh";
             args = [ ./one.txt "${builtins.path { path = ./tree; name = "my-tree"; }}/deep" ./one.txt ]; }"#,
    );
}

#[test]
fn chosen_files_are_those_nix_copies() {
    need!(nix);
    let world = World::new();
    for file in ["a.c", "a.o", "sub/b.c", "sub/b.h", "sub/deep/c.c"] {
        world.write(&format!("tree/{file}"), file);
    }
    symlink("a.o", world.file("tree/link.c")).unwrap();
    let graph = json!({
        "sources": {"tree": {"path": "tree", "name": "my-tree", "include": "**/*.[ch]", "exclude": "**/b.h"}},
        "derivations": {"d": {"builder": "/bin/sh", "args": ["@{tree}", "@{tree/sub/b.c}"]}}
    });
    same_as_nix(
        &world,
        &graph,
        r#"derivation { name = "d"; system = builtins.currentSystem; builder = "/bin/sh";
             args = [ (builtins.path { path = ./tree; name = "my-tree";
                 filter = path: type: type == "directory" || builtins.match ".*[.]c" path != null; })
               ./tree/sub/b.c ]; }"#,
    );
}

#[test]
fn content_beyond_ascii_is_what_nix_makes() {
    need!(nix);
    let world = World::new();
    world.write("Übung/ñ", "ß\n");
    let graph = json!({
        "sources": {"ü": {"path": "Übung", "name": "uebung"}},
        "derivations": {"größe": {"name": "groesse", "builder": "/bin/sh", "args": ["Grüße ✓ 日本", "@{ü}/ñ"],
                                   "env": {"schlüssel": "wert €", "Z": "\u{1F980}"}}}
    });
    same_as_nix(
        &world,
        &graph,
        "derivation { name = \"groesse\"; system = builtins.currentSystem; builder = \"/bin/sh\";
           args = [ \"Grüße ✓ 日本\" \"${builtins.path { path = ./. + \"/Übung\"; name = \"uebung\"; }}/ñ\" ];
           \"schlüssel\" = \"wert €\"; Z = \"\u{1F980}\"; }",
    );
}

#[test]
fn paths_already_in_the_store_and_extra_inputs() {
    let world = World::new();
    let low = world.add_one("low", sh("echo low > $out"));
    let out = world.windrow("build").arg(&low).ok().line();
    let graph = json!({
        "derivations": {
            "order": sh("echo order > $out"),
            "top": {"builder": "/bin/sh",
                    "args": ["-c", format!("PATH=/bin:/usr/bin; cat @{{{out}}} @{{{low}^out}} > $out")],
                    "inputs": ["order"]}
        }
    });
    let drv = world.add(&graph);
    let shown: Value =
        serde_json::from_slice(&world.windrow("show").arg(&drv).ok().stdout).unwrap();
    let inputs: Vec<&String> = shown[&drv]["inputDrvs"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert!(
        inputs.contains(&&low) && inputs.iter().any(|input| input.ends_with("-order.drv")),
        "{inputs:?}"
    );
    assert_eq!(shown[&drv]["inputSrcs"], json!([out]));
    let top = world.windrow("build").arg(&drv).ok().path();
    assert_eq!(text(top), "low\nlow\n");
    world.stays_valid();
}

#[test]
fn nixs_own_json_in_every_version() {
    need!("nix-store", "nix-instantiate", "nix");
    let world = World::new();
    let drv = world.instantiate(
        r#"let system = builtins.currentSystem; builder = "/bin/sh";
             fixed = derivation { name = "fixed"; inherit system builder; outputHashMode = "recursive";
               outputHash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="; };
           in derivation { name = "x"; inherit system builder; args = [ "é" ]; outputs = [ "out" "dev" ]; dep = fixed; }"#,
    );
    let drv = drv[0].split('!').next().unwrap().to_owned();
    let shown = |version: &str| {
        world
            .windrow("show")
            .arg(&drv)
            .args(["--json-version", version])
            .ok()
            .stdout
    };
    let ours: Value = serde_json::from_slice(&shown("1")).unwrap();
    let nixs: Value = serde_json::from_slice(
        &world
            .program("nix")
            .args(["show-derivation", &drv])
            .ok()
            .stdout,
    )
    .unwrap();
    assert_eq!(ours, nixs);
    let fixed = ours[&drv]["inputDrvs"]
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    for version in ["1", "2", "4"] {
        let bytes = shown(version);
        let _: Value = serde_json::from_slice(&bytes).unwrap();
        let file = world.write(&format!("v{version}.json"), &bytes);
        world.program("nix-store").args(["--delete", &drv]).ok();
        assert_eq!(
            world.windrow("add").arg(file).ok().line(),
            drv,
            "from version {version}"
        );
        assert!(world.is_valid(&drv));
    }
    assert!(world.is_valid(fixed));
    world.verifies();
}

#[test]
fn a_graph_with_a_changed_source_builds_only_what_needs_it() {
    let world = World::new();
    let log = world.file("runs");
    let compile = |name: &str| {
        sh(&format!(
            "echo {name} >> {}; cp @{{{name}.c}} $out",
            log.display()
        ))
    };
    let graph = json!({
        "sources": {"a.c": "a.c", "b.c": "b.c"},
        "derivations": {
            "a": compile("a"), "b": compile("b"),
            "all": sh(&format!("echo all >> {}; cat @{{a}} @{{b}} > $out", log.display()))
        }
    });
    world.write("a.c", "a1\n");
    world.write("b.c", "b1\n");
    let file = world.graph("g.json", &graph);
    assert_eq!(
        text(world.windrow("build").arg(&file).ok().line()),
        "a1\nb1\n"
    );
    fs::remove_file(&log).unwrap();
    world.write("b.c", "b2\n");
    assert_eq!(
        text(world.windrow("build").arg(&file).ok().line()),
        "a1\nb2\n"
    );
    assert_eq!(text(&log), "b\nall\n");
    world.stays_valid();
}
