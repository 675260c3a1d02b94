//! Where a derivation may be built: its system, the features it requires, and what kernel its
//! builder sees.

use serde_json::json;

use crate::harness::{Cmd, World, need, sh_with, text};

/// A derivation for a system, whose output says what kernel its builder sees.
fn uname(world: &World, system: &str) -> String {
    let script = "uname -m > $out; uname -r >> $out; cat /proc/$$/personality >> $out";
    world.add_one("x", sh_with(script, json!({"system": system})))
}

/// Whether the kernel can run as another one than it is.
fn can(program: &str, says: &str) -> bool {
    std::process::Command::new(program)
        .args(["uname", "-mr"])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(says))
}

#[test]
fn a_32_bit_derivation_sees_a_32_bit_machine() {
    need!("uname", "setarch");
    if !cfg!(target_arch = "x86_64") || !can("linux32", "i686") {
        return crate::harness::skip("needs x86_64 and its 32-bit personality");
    }
    let world = World::new();
    let here = uname(&world, "x86_64-linux");
    let seen = text(world.windrow("build").arg(here).ok().line());
    assert!(seen.starts_with("x86_64\n"), "{seen}");
    let small = uname(&world, "i686-linux");
    let seen = text(world.windrow("build").arg(&small).ok().line());
    assert!(seen.starts_with("i686\n"), "{seen}");
    // Without it among the platforms, it is a foreign one.
    world.conf("extra-platforms =\n");
    let drv = world.add_one("y", sh_with("echo > $out", json!({"system": "i686-linux"})));
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says("'i686-linux' is required")
        .says("'x86_64-linux'")
        .says(&drv);
    world.is_clean();
}

#[test]
fn kernels_are_those_that_nix_shows() {
    need!(nix);
    need!("uname");
    if !cfg!(target_arch = "x86_64") {
        return crate::harness::skip("needs x86_64");
    }
    for (system, option) in [
        ("x86_64-linux", "false"),
        ("i686-linux", "false"),
        ("x86_64-linux", "true"),
        ("i686-linux", "true"),
    ] {
        let world = World::new();
        world.conf(&format!("impersonate-linux-26 = {option}\n"));
        let build = |cmd: Cmd| {
            let drv = uname(&world, system);
            text(cmd.arg(&drv).ok().line())
        };
        let nix = build(world.program("nix-store").arg("--realise"));
        world.set_aside("nix");
        assert_eq!(build(world.windrow("build")), nix, "{system} {option}");
        assert_eq!(nix.contains("\n2.6."), option == "true", "{nix}");
        world.is_clean();
    }
}

#[test]
fn systems_that_the_setting_allows() {
    let world = World::new();
    let drv = uname(&world, "riscv64-linux");
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says("'riscv64-linux' is required")
        .says("extra-platforms")
        .says(&drv);
    let traced = world.windrow("build").arg(&drv).arg("--print-build-trace");
    let line = format!("@ unsupported-platform {drv} riscv64-linux\n@ build-failed {drv} - 0 ");
    traced.run().exits(1).says(line);
    world
        .windrow("build")
        .arg(&drv)
        .args(["--option", "extra-platforms", "riscv64-linux"])
        .ok();
    world.is_clean();
}

#[test]
fn features_that_this_machine_has_or_has_not() {
    let world = World::new();
    let needs = |features: &str| {
        let env = json!({"env": {"requiredSystemFeatures": features}});
        world.add_one("x", sh_with("echo > $out", env))
    };
    world
        .windrow("build")
        .arg(needs("big-parallel benchmark"))
        .ok();
    let drv = needs("big-parallel quantum gpu");
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says("'quantum gpu'")
        .says("system-features")
        .says(&drv)
        .never_says("big-parallel quantum");
    let with = |value: &str| {
        world
            .windrow("build")
            .arg(&drv)
            .args(["--option", "system-features", value])
    };
    with("gpu quantum").run().exits(1).says("'big-parallel'");
    with("gpu quantum big-parallel").ok();
    let structured = json!({"env": {"__json": r#"{"requiredSystemFeatures": ["gpu"]}"#}});
    let drv = world.add_one("x", sh_with("echo > $NOTHING", structured));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .one_error()
        .says("'gpu'");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn one_that_cannot_be_built_here_stops_nothing_else() {
    let world = World::new();
    let graph = crate::harness::graph_of([
        (
            "foreign",
            sh_with("echo > $out", json!({"system": "mips64-plan9"})),
        ),
        ("ours", crate::harness::sh("echo ours > $out")),
    ]);
    let file = world.graph("g.json", &graph);
    let ran = world.windrow("build").arg(file).arg("-k").run().exits(1);
    ran.says("mips64-plan9");
    let entries = world.store_entries();
    let ours = entries
        .iter()
        .find(|path| path.to_str().unwrap().ends_with("-ours"));
    assert!(world.is_valid(ours.expect("the other one is built")));
    world.is_clean();
}
