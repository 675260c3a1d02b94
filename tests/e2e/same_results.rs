//! One graph, built in every way there is: in a sandbox and without, by root and by an ordinary
//! user, by windrow and by Nix. Whatever the way, what is registered is the same to the last bit.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::harness::{Caller, Cmd, SEALED, World, graph_of, is_root, need};

/// A derivation that needs nothing but busybox, wherever it is built.
fn busy(script: &str, more: Value) -> Value {
    let script = format!("b=/bin/busybox; {script}");
    let mut all = json!({ "builder": "/bin/busybox", "args": ["sh", "-e", "-c", script] });
    let members = all.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    all
}

fn graph() -> Value {
    let hash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    graph_of([
        ("plain", busy("echo text > $out", json!({}))),
        (
            "tree",
            busy(
                "$b mkdir -p $out/bin $out/a/b; echo '#!/bin/sh' > $out/bin/x; $b chmod 751 $out/bin/x; $b ln -s ../bin/x $out/a/x
                 echo hard > $out/h1; $b ln $out/h1 $out/h2; $b chmod 2700 $out/a/b 2>/dev/null || $b chmod 700 $out/a/b
                 $b touch -d @123456789 $out/h1; $b mkdir $out/empty; $b ln -s /nowhere $out/dangling; > $out/nothing",
                json!({}),
            ),
        ),
        (
            "fetched",
            busy("printf hello > $out", json!({ "outputHash": hash, "outputHashMode": "flat" })),
        ),
        (
            "two",
            busy(
                "echo @{tree} $dev > $out; echo @{plain} > $dev; umask",
                json!({ "outputs": ["out", "dev"] }),
            ),
        ),
        (
            "last",
            busy(
                "$b mkdir $out; $b cp -r @{tree} $out/copy; $b cat @{plain} @{two} @{fetched} > $out/all; echo $out > $out/self
                 $b stat -c %a:%Y @{tree} @{tree}/bin/x >> $out/all; $b pwd >/dev/null",
                json!({}),
            ),
        ),
    ])
}

/// What the database says of all outputs.
fn registered(world: &World) -> Vec<String> {
    world.sql(
        "select v.path, v.hash, v.narSize, coalesce(v.ca, ''), coalesce(v.ultimate, ''), coalesce(v.deriver, ''), \
         (select group_concat(path, ' ') from (select r.path from Refs join ValidPaths r on r.id = reference \
          where referrer = v.id order by r.path)) from ValidPaths v where v.path not like '%.drv' order by v.path",
    )
}

#[test]
fn every_way_to_build_gives_the_same() {
    need!("busybox", "sqlite3");
    let world = World::new();
    world.conf(SEALED);
    let file = world.graph("g.json", &graph());
    for dir in ["", "tmp", "home", "files"] {
        fs::set_permissions(world.at(dir), Permissions::from_mode(0o777))
            .expect("a directory of ours");
    }
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    let mut build = |name: &str, run: &dyn Fn() -> Cmd| {
        run().ok();
        let rows = registered(&world);
        assert_eq!(rows.len(), 6, "{rows:?}");
        world.is_clean();
        world.stays_valid();
        world.set_aside(name);
        all.push((name.to_owned(), rows));
    };
    let mut callers = vec![Caller::Self_];
    let probe = Cmd::new(env!("CARGO_BIN_EXE_windrow"), "/".as_ref()).arg("--version");
    if is_root()
        && crate::harness::have(&["setpriv"])
        && Caller::Somebody.runs(probe).run().status.success()
    {
        callers.push(Caller::Somebody);
    }
    for caller in callers {
        for sandbox in ["true", "false"] {
            let name = format!("{caller:?}-{sandbox}");
            build(&name, &|| {
                let cmd = world.windrow("build").arg(&file);
                caller.runs(cmd.args(["--option", "sandbox", sandbox]))
            });
        }
    }
    if crate::harness::have(&["nix-store"]) {
        for sandbox in ["true", "false"] {
            build(&format!("nix-{sandbox}"), &|| {
                let drv = world.windrow("add").arg(&file).ok().line();
                world
                    .program("nix-store")
                    .args(["--realise", &drv, "--option", "sandbox", sandbox])
            });
        }
    }
    assert!(all.len() >= 2);
    let (first, expected) = &all[0];
    for (name, rows) in &all[1..] {
        assert_eq!(rows, expected, "{name} beside {first}");
    }
}
