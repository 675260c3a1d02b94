//! Builders that come with the engine: builtin:fetchurl, builtin:buildenv, builtin:unpack-channel.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{World, graph_of, need, sh, text};

/// The SHA-256 of "hello".
pub(crate) const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A derivation "x" with a builder of the engine, for no machine in particular.
pub(crate) fn builtin(name: &str, env: Value, fixed: Option<(&str, &str)>) -> Value {
    let mut drv = json!({"builder": format!("builtin:{name}"), "system": "builtin", "env": env});
    if let Some((mode, hash)) = fixed {
        drv["outputHash"] = hash.into();
        drv["outputHashAlgo"] = "sha256".into();
        drv["outputHashMode"] = mode.into();
    }
    drv
}

/// A derivation that fetches a file with that SHA-256.
pub(crate) fn fetch(url: &str, hash: &str) -> Value {
    builtin("fetchurl", json!({ "url": url }), Some(("flat", hash)))
}

/// Serves texts by path on a port of its own, for as long as the tests run. Counts nothing, keeps
/// nothing.
pub(crate) fn serve(files: &[(&str, &str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let files: HashMap<String, String> = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(&stream).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines
                .next()
                .and_then(Result::ok)
                .is_some_and(|line| !line.is_empty())
            {}
            let path = request.split(' ').nth(1).unwrap_or_default();
            let answer = match files.get(path) {
                Some(text) if text.starts_with('/') => {
                    format!("302 Found\r\nLocation: {text}\r\nContent-Length: 0\r\n\r\n")
                }
                Some(text) => format!("200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
                None => "404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let _ = write!(stream, "HTTP/1.1 {answer}");
        }
    });
    address
}

#[test]
fn a_file_is_fetched_from_an_address_on_this_machine() {
    let world = World::new();
    let file = world.write("a file", "hello");
    let url = format!("file://{}", file.display()).replace(' ', "%20");
    let drv = world.add_one("x", fetch(&url, HELLO));
    let out = world.windrow("build").arg(&drv).ok().line();
    assert_eq!(text(&out), "hello");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_file_is_fetched_from_the_network() {
    let world = World::new();
    let server = serve(&[("/hello", "hello"), ("/moved", "/hello")]);
    for path in ["/hello", "/moved"] {
        let world = World::new();
        let drv = world.add_one("x", fetch(&format!("{server}{path}"), HELLO));
        let out = world.windrow("build").arg(&drv).ok().line();
        assert_eq!(text(&out), "hello");
        world.is_clean();
    }
    let drv = world.add_one("x", fetch(&format!("{server}/absent"), HELLO));
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says("404").says(&drv);
    let drv = world.add_one("x", fetch(&format!("{server}/hello"), &"0".repeat(64)));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(102)
        .says("kept as");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn mirrors_are_tried_first() {
    let world = World::new();
    let path = format!("/mirror/sha256/{HELLO}");
    let server = serve(&[(&path, "hello")]);
    let drv = world.add_one("x", fetch("file:///no/such/file", HELLO));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .says("/no/such/file");
    let mirrors = format!("file:///no/such/mirror {server}/mirror/");
    let out = world
        .windrow("build")
        .arg(&drv)
        .args(["--option", "hashed-mirrors", &mirrors])
        .ok()
        .line();
    assert_eq!(text(out), "hello");
    world.is_clean();
}

#[test]
fn programs_and_trees_are_those_nix_fetches() {
    need!(nix);
    need!("xz");
    let world = World::new();
    let file = world.write("program", "#!/bin/sh\n");
    world.write("tree/d/x", "x\n");
    world.program("ln").args(["-s", "d/x", "tree/link"]).ok();
    let nar = world
        .program("nix-store")
        .args(["--dump", "tree"])
        .ok()
        .stdout;
    let nar = world.write("tree.nar", nar);
    world.program("xz").args(["-k", "tree.nar"]).ok();
    let hash = |what: &str| {
        let hash = world.program("nix-hash").args(["--type", "sha256", what]);
        hash.ok().line()
    };
    let tree = hash("tree");
    world.program("cp").args(["program", "like"]).ok();
    world.program("chmod").args(["755", "like"]).ok();
    let program = hash("like");
    let expression = format!(
        r#"map (more: derivation ({{ builder = "builtin:fetchurl"; system = "builtin"; outputHashMode = "recursive";
             outputHashAlgo = "sha256"; }} // more)) [
             {{ name = "program"; url = "file://{0}"; executable = true; outputHash = "{program}"; }}
             {{ name = "tree"; url = "file://{1}"; unpack = true; outputHash = "{tree}"; }}
             {{ name = "packed"; url = "file://{1}.xz"; unpack = true; outputHash = "{tree}"; }} ]"#,
        file.display(),
        nar.display()
    );
    let outs = |by_windrow: bool| {
        let drvs = world.instantiate(&expression);
        let cmd = match by_windrow {
            true => world.windrow("build"),
            false => world.program("nix-store").arg("--realise"),
        };
        cmd.args(&drvs).ok().lines()
    };
    let nix = outs(false);
    world.set_aside("nix");
    assert_eq!(outs(true), nix);
    world.verifies();
    world.is_clean();
}

#[test]
fn addresses_that_cannot_be_fetched() {
    let world = World::new();
    for (url, says) in [
        ("/etc/passwd", "is no address"),
        ("ssh://host/file", "'ssh:'"),
        ("ftp://host/file", "'ftp:'"),
        ("file:relative", "no absolute path"),
        ("file:///no/such/file", "/no/such/file"),
        ("file:///", "file:///"),
        ("--output=/x", "is no address"),
    ] {
        let drv = world.add_one("x", fetch(url, HELLO));
        let ran = world.windrow("build").arg(&drv).run().exits(1).no_panic();
        ran.says(says).says(&drv);
        world.is_clean();
    }
    let drv = world.add_one("x", builtin("fetchurl", json!({}), Some(("flat", HELLO))));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .says("attribute 'url' is missing");
    world.write("rubbish", "no archive");
    let env = json!({"url": format!("file://{}", world.file("rubbish").display()), "unpack": "1"});
    let drv = world.add_one("x", builtin("fetchurl", env, Some(("recursive", HELLO))));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .says("cannot unpack");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_profile_is_the_one_nix_makes() {
    need!(nix);
    let world = World::new();
    let expression = r#"let
        make = name: script: derivation { inherit name; system = builtins.currentSystem; builder = "/bin/sh";
          args = [ "-c" ("PATH=/usr/bin:/bin; mkdir -p $out/bin $out/share/man; cd $out; " + script) ]; };
        c = make "c" "echo c > bin/c; echo c > bin/both; mkdir -p lib; echo > lib/z; echo > .hidden";
        a = make "a" "echo a > bin/a; echo a > bin/both; echo > share/man/a; mkdir -p nix-support info; echo > info/dir; ln -s /nowhere dangling";
        b = make "b" "echo b > bin/b; echo b > bin/both; echo > log; mkdir nix-support; echo ${c} > nix-support/propagated-user-env-packages";
        d = make "d" "echo d > bin/d; rm -r share; mkdir -p etc/only/here; echo > etc/only/here/x";
        plain = derivation { name = "plain"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo plain > $out" ]; };
      in derivation { name = "env"; system = "builtin"; builder = "builtin:buildenv"; manifest = plain;
        derivations = [ "true" 5 1 a "true" 4 1 b "false" 1 1 plain "true" 9 2 d plain ]; }"#;
    let build = |by_windrow: bool| {
        let drv = world.instantiate(expression).remove(0);
        match by_windrow {
            true => world.windrow("build").arg(drv).ok().line(),
            false => world
                .program("nix-store")
                .args(["--realise", &drv])
                .ok()
                .line(),
        }
    };
    let row = || world.sql("select path, hash, narSize from ValidPaths where path like '%-env'");
    let out = build(false);
    let nix = row();
    world.set_aside("nix");
    assert_eq!(build(true), out);
    assert_eq!(row(), nix);
    assert_eq!(text(format!("{out}/bin/both")), "b\n");
    world.verifies();
    world.is_clean();
}

#[test]
fn packages_that_collide_in_a_profile() {
    let world = World::new();
    let package = |text: &str| sh(&format!("mkdir -p $out/bin; echo {text} > $out/bin/x"));
    let profile = |list: &str| {
        let mut graph = graph_of([
            ("a", package("a")),
            ("b", package("b")),
            (
                "x",
                builtin(
                    "buildenv",
                    json!({"derivations": list, "manifest": "/m"}),
                    None,
                ),
            ),
        ]);
        graph["targets"] = json!(["x"]);
        world.graph("g.json", &graph)
    };
    world
        .windrow("build")
        .arg(profile("true 5 1 @{a} true 6 1 @{b}"))
        .ok();
    let ran = world
        .windrow("build")
        .arg(profile("true 5 1 @{a} true 5 1 @{b}"))
        .run()
        .exits(100);
    ran.says("same priority 5").says("/bin/x");
    world
        .windrow("build")
        .arg(profile("true 5 1"))
        .run()
        .exits(100)
        .says("'derivations'");
    world.is_clean();
}

#[test]
fn a_channel_is_unpacked_under_its_name() {
    need!("tar", "xz", "sqlite3");
    let world = World::new();
    world.write("in/nixpkgs-1/default.nix", "{}\n");
    world
        .program("tar")
        .args(["-C", "in", "-cJf", "one.tar.xz", "nixpkgs-1"])
        .ok();
    world.write("in/other", "x");
    world
        .program("tar")
        .args(["-C", "in", "-czf", "two.tar.gz", "nixpkgs-1", "other"])
        .ok();
    let unpack = |file: &str, name: &str| {
        let mut graph = graph_of([(
            "x",
            builtin(
                "unpack-channel",
                json!({"src": "@{tarball}", "channelName": name}),
                None,
            ),
        )]);
        graph["sources"] = json!({ "tarball": file });
        let file = world.graph("g.json", &graph);
        world.windrow("build").arg(file).run()
    };
    let out = unpack("one.tar.xz", "nixos").exits(0).line();
    assert_eq!(text(format!("{out}/nixos/default.nix")), "{}\n");
    unpack("two.tar.gz", "nixos")
        .exits(100)
        .says("one directory and nothing beside it");
    unpack("one.tar.xz", "../up").exits(100).says("'../up'");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn builders_that_the_engine_does_not_have() {
    let world = World::new();
    let drv = world.add_one("x", builtin("brew-coffee", json!({}), None));
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says("'builtin:brew-coffee'").says(&drv);
    world.is_clean();
}
