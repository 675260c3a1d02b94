//! What builders may leave as outputs: owners, modes, links and references among them, and what is
//! refused. Single wrong outputs are in failure.rs, what attributes demand in output_checks.rs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use crate::harness::{World, need, sh, sh_with};

fn two(script: &str) -> Value {
    sh_with(script, json!({"outputs": ["out", "dev"]}))
}

#[test]
fn files_that_outputs_share() {
    need!(nix);
    let world = World::new();
    let expression = r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh";
        outputs = [ "out" "dev" "lib" ]; args = [ "-c" ''PATH=/usr/bin:/bin
          mkdir $out $dev; echo shared > $out/a; chmod 755 $out/a; ln $out/a $out/b; ln $out/a $dev/c; ln -s a $out/l
          echo $dev > $out/refers; ln $dev/c $lib'' ]; }"#;
    let registered = || {
        world.sql(
            "select v.path, v.hash, v.narSize, (select count(*) from Refs where referrer = v.id) from ValidPaths v
             where path not like '%.drv' order by path",
        )
    };
    let drv = world.instantiate(expression).remove(0);
    world.program("nix-store").args(["--realise", &drv]).ok();
    let nix = registered();
    world.set_aside("nix");
    assert_eq!(world.instantiate(expression).remove(0), drv);
    let outs = world.windrow("build").arg(&drv).ok().lines();
    assert_eq!(registered(), nix);
    let lib = outs.iter().find(|out| out.ends_with("-lib")).unwrap();
    let metadata = fs::metadata(lib).unwrap();
    assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (4, 0o555));
    world.verifies();
    world.is_clean();
}

#[test]
fn a_link_to_a_file_of_an_input_leaves_the_input_as_it_is() {
    let world = World::new();
    let graph =
        crate::harness::graph_of([("low", sh("echo low > $out")), ("x", sh("ln @{low} $out"))]);
    let file = world.graph("g.json", &graph);
    let out = world.windrow("build").arg(file).ok().path();
    assert_eq!(fs::read_to_string(out).unwrap(), "low\n");
    world.stays_valid();
    world.is_clean();
}

#[test]
fn modes_owners_and_attributes_that_go() {
    need!(root);
    let world = World::new();
    // Else the filter keeps the builder from making what is to go.
    world.conf("filter-syscalls = false\n");
    let script = "mkdir -p $out/d; for m in 4755 2755 1755 0600 0000 0111 0666; do echo $m > $out/$m; chmod $m $out/$m; done
        chown 1234:1234 $out/0600; chmod 2770 $out/d; chown 1234 $out/d; setfattr -n user.x -v y $out/0666 2>/dev/null || true";
    let out = world
        .windrow("build")
        .arg(world.add_one("x", sh(script)))
        // Else the builder could not even make some of them.
        .args(["--option", "filter-syscalls", "false"])
        .ok()
        .path();
    let mode = |name: &str| {
        let metadata = fs::metadata(out.join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.mtime()), (0, 1), "{name}");
        metadata.permissions().mode() & 0o7777
    };
    for (name, expected) in [
        ("4755", 0o555),
        ("2755", 0o555),
        ("1755", 0o555),
        ("0600", 0o444),
        ("0000", 0o444),
        ("0111", 0o555),
        ("0666", 0o444),
        ("d", 0o555),
    ] {
        assert_eq!(mode(name), expected, "{name}");
    }
    world.stays_valid();
}

#[test]
fn an_output_of_another_owner() {
    need!(root);
    let world = World::new();
    for script in [
        "echo > $out; chown 1234 $out",
        "mkdir $out; chown 1234 $out",
        "ln -s x $out; chown -h 1234 $out",
        "mkdir -m 775 $out",
        "mkdir -m 757 $out",
    ] {
        let drv = world.add_one("x", sh(script));
        let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
        ran.says("suspicious ownership or permission").says(&drv);
        world.is_clean();
    }
    world.stays_valid();
}

#[test]
fn outputs_may_refer_to_each_other_one_way() {
    need!("sqlite3");
    let world = World::new();
    let three = json!({"outputs": ["out", "dev", "lib"]});
    let script = "echo $dev $lib $out > $out; echo $lib > $dev; echo $lib > $lib";
    let drv = world.add_one("x", sh_with(script, three.clone()));
    world.windrow("build").arg(&drv).ok();
    let references = world.sql("select count(*) from Refs join ValidPaths v on v.id = referrer where path not like '%.drv'");
    assert_eq!(references, ["5"]);
    world.stays_valid();

    let script = "echo $dev > $out; echo $lib > $dev; echo $out > $lib";
    let drv = world.add_one("y", sh_with(script, three));
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says("cycle").says("-y");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_circle_takes_no_other_build_with_it() {
    let world = World::new();
    let graph = crate::harness::graph_of([
        ("circle", two("echo $dev > $out; echo $out > $dev")),
        ("a", sh("echo a > $out")),
        ("b", sh("echo b > $out")),
    ]);
    let file = world.graph("g.json", &graph);
    world
        .windrow("build")
        .arg(file)
        .args(["-k", "-j3"])
        .run()
        .exits(1)
        .says("cycle");
    let entries = world.store_entries();
    for name in ["-a", "-b"] {
        let path = entries
            .iter()
            .find(|path| path.to_str().unwrap().ends_with(name));
        assert!(world.is_valid(path.unwrap()), "{name}");
    }
    world.is_clean();
}

#[test]
fn one_bad_output_leaves_the_good_one_unregistered() {
    for script in [
        "echo > $out; mkfifo -m 644 $dev",
        "echo > $out; echo > $dev; chmod 777 $dev",
    ] {
        let world = World::new();
        let drv = world.add_one("x", two(script));
        // What lies there afterwards does not disturb the next attempt, which fails in the same
        // way.
        for _ in 0..2 {
            let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
            ran.says("-x-dev'").prints_nothing();
            let entries = world.store_entries();
            assert_eq!(
                entries.iter().filter(|path| world.is_valid(path)).count(),
                1
            );
            world.is_clean();
        }
        world.stays_valid();
    }
}
