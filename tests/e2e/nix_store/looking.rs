//! Queries, logs, environments, validity: what only looks at a store.

use std::os::unix::fs::symlink;

use super::filled;
use crate::harness::{Ran, World, need};

#[test]
fn every_query_prints_what_nix_store_prints() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let paths = world
        .theirs(["-qR", "--include-outputs", &drv])
        .ok()
        .lines();
    assert!(paths.len() > 30, "{paths:?}");
    let queries: [&[&str]; 24] = [
        &["-q"],
        &["-q", "--outputs"],
        &["-qR"],
        &["--query", "--requisites"],
        &["-qR", "--include-outputs"],
        &["-qR", "--use-output"],
        &["-qRu"],
        &["-q", "--references"],
        &["-q", "--references", "-u"],
        &["-q", "--referrers"],
        &["-q", "--referers"],
        &["-q", "--referrers-closure"],
        &["-q", "--referrers-closure", "-u"],
        &["-qd"],
        &["-q", "--deriver"],
        &["-q", "--hash"],
        &["-q", "--hash", "--use-output"],
        &["-q", "--size"],
        &["-q", "--tree"],
        &["-q", "--graph"],
        &["-q", "--graph", "-u"],
        &["-q", "--graphml"],
        &["-q", "--resolve"],
        &["-q", "--binding", "name"],
    ];
    for query in queries {
        for path in [&drv, &out] {
            world.alike(&[query, &[path.as_str()]].concat());
        }
        world.alike(&[query, &[drv.as_str(), out.as_str(), &paths[3], &paths[0]]].concat());
    }
    for path in &paths {
        for query in ["-q", "-qR", "--tree", "--referrers-closure", "--graph"] {
            let query: &[&str] = if query == "-q" {
                &["-q", "--references"]
            } else {
                &["-q", query]
            };
            let query: Vec<&str> = query
                .iter()
                .map(|flag| if *flag == "-qR" { "-R" } else { flag })
                .collect();
            world.alike(&[&query[..], &[path.as_str()]].concat());
        }
    }
    let all: Vec<&str> = paths.iter().map(String::as_str).collect();
    for query in [
        &["-qR"][..],
        &["-q", "--tree"],
        &["-q", "--graphml"],
        &["-q", "--referrers"],
    ] {
        world.alike(&[query, &all[..]].concat());
    }
    world.is_clean();
}

#[test]
fn valid_derivers_are_told() {
    need!(nix);
    let (world, drv) = filled();
    let derivers = |args: &[&str]| {
        let args = [&["-q", "--valid-derivers"], args].concat();
        world.ours(&args).ok().lines()
    };
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    assert_eq!(derivers(&[&out]), [drv.as_str()]);
    // All that are asked for make one set, with what is referred to first, valid or not.
    let drvs = world.theirs(["-qR", &drv]).ok().lines();
    let drvs: Vec<String> = drvs.into_iter().filter(|it| it.ends_with(".drv")).collect();
    let outs: Vec<String> = drvs
        .iter()
        .flat_map(|drv| world.theirs(["-q", "--outputs", drv]).ok().lines())
        .collect();
    assert!(drvs.len() > 1, "{drvs:?}");
    let mut asked: Vec<&str> = outs.iter().rev().map(String::as_str).collect();
    asked.push(&out);
    assert_eq!(derivers(&asked), drvs);
    let source = world.write("plain", "text");
    let added = world.ours(["--add".as_ref(), source.as_os_str()]);
    assert_eq!(derivers(&[&added.ok().line()]), [""; 0]);
    let (dir, base) = out.rsplit_once('/').unwrap();
    let absent = format!("{dir}/{}", base.replace('-', "-no-"));
    assert_eq!(derivers(&[&absent]), [""; 0]);
}

#[test]
fn arguments_may_stand_on_standard_input() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let list = format!("  {out}\n\n{out}\t");
    let resolved = |args: &[&str]| {
        let cmd = world.ours(args).stdin(&*list);
        cmd.ok().lines()
    };
    assert_eq!(resolved(&["-q", "--resolve", "--stdin"]), [&*out, &out]);
    let args = ["--stdin", "-q", "--resolve", &drv, "--stdin"];
    assert_eq!(resolved(&args), [&*out, &out, &drv]);
    assert_eq!(resolved(&["-q", "--resolve", &drv]), [&*drv]);
    let refused = world
        .ours(["--gc", "--print-dead", "--stdin"])
        .stdin(&*list);
    refused.run().exits(1).says("no arguments expected");
    let restored = world.file("restored");
    let archive = world.theirs(["--dump", &drv]).ok().stdout;
    let args = ["--restore", "--stdin", restored.to_str().unwrap()];
    world.ours(args).stdin(archive).ok();
    assert_eq!(
        std::fs::read(&restored).unwrap(),
        std::fs::read(&drv).unwrap()
    );
}

#[test]
fn a_limit_on_what_is_freed_is_for_nothing_that_is_only_printed() {
    let world = World::new();
    for what in ["--print-roots", "--print-live", "--print-dead"] {
        let ran = world.ours(["--gc", what, "--max-freed", "1"]).run();
        ran.exits(1).says("cannot be combined");
    }
    world.ours(["--gc", "--max-freed", "1"]).ok();
}

#[test]
fn mistakes_end_alike() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let absent = format!(
        "{}/8rhh74q2l84v5z1fa0n941xhbpgw3ncf-absent",
        world.store().display()
    );
    let malformed = format!("{}/x", world.store().display());
    for path in [
        absent.as_str(),
        &malformed,
        "/etc/passwd",
        "nothing",
        "",
        &world.store().to_string_lossy(),
    ] {
        for query in [
            &["-q"][..],
            &["-qR"],
            &["-q", "--references"],
            &["-q", "--referrers"],
            &["-q", "--referrers-closure"],
            &["-q", "--hash"],
            &["-q", "--deriver"],
            &["-q", "--tree"],
            &["-q", "--resolve"],
            &["-qb", "name"],
            &["--check-validity"],
            &["--check-validity", "--print-invalid"],
            &["-l"],
            &["--print-env"],
            &["--verify-path"],
            &["--dump-db"],
        ] {
            // Nix prints the path it then fails on, which nobody reads, and aborts on the empty
            // one.
            let queried = query.contains(&"--print-env") && path.is_empty()
                || query.first() == Some(&"-q") && query.contains(&"--tree") && path == absent;
            if !queried {
                world.alike(&[query, &[path]].concat());
            }
            // What was found before the mistake is printed all the same.
            if query.len() == 2 && query[1] == "--hash" {
                world.alike(&[query, &[&out, path, &out]].concat());
            }
        }
    }
}

#[test]
fn command_lines_without_sense_end_alike() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    for args in [
        &["-q", "--size", "--hash", &out][..],
        &["-q", "--nonsense", &out],
        &["-q", "--binding"],
        &["-q", "--binding", "nothing", &out],
        &["--query", "--gc"],
        &["--init", "x"],
        &["--print-env", &drv, &drv],
        &["--print-fixed-path", "sha256", "x"],
        &["--print-fixed-path", "crc", "x", "y"],
        &["--print-fixed-path", "sha256", "zz", "y"],
        &["--add-fixed"],
        &["--add-fixed", "sha256", "/nowhere"],
        &["--dump"],
        &["--verify", "x"],
        &["--generate-binary-cache-key", "x"],
        &[],
    ] {
        let ran = world.alike(args);
        assert_eq!(ran.status.code(), Some(1), "{ran}");
        ran.one_error();
    }
}

#[test]
fn links_lead_into_the_store() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    symlink(&out, world.file("result")).unwrap();
    symlink("result", world.file("again")).unwrap();
    symlink(world.file("absent"), world.file("dangling")).unwrap();
    symlink("circle", world.file("circle")).unwrap();
    let below = format!("{out}/some/where");
    let dotted = format!(
        "{}/../store/./{}",
        world.store().display(),
        out.rsplit('/').next().unwrap()
    );
    for path in [
        "result",
        "./again",
        "dangling",
        &below,
        &dotted,
        "../files/result",
    ] {
        world.alike(&["-q", "--hash", path]);
        world.alike(&["-q", "--resolve", path]);
    }
    world
        .ours(["-q", "--resolve", "circle"])
        .run()
        .exits(1)
        .one_error();
}

#[test]
fn environments_and_logs_are_printed_alike() {
    need!(nix);
    let world = World::new();
    let drv = world
        .instantiate(
            r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; quoted = "it's \"so\" $HOME";
                 lines = "a\nb"; args = [ "-c" "echo to the log; echo 'twice'; echo x > $out" "it's" "" ]; }"#,
        )
        .remove(0);
    let out = world.theirs(["-r", &drv]).ok().line();
    // Releases before 2.36 quote `_args` in a way that lets a shell run what is in it.
    let variables = |ran: Ran| {
        let text = ran.out();
        text.split_once("export _args;").unwrap().0.to_owned()
    };
    let ours = world.ours(["--print-env", &drv]).ok();
    let theirs = world.theirs(["--print-env", &drv]).ok();
    assert_eq!(variables(ours), variables(theirs));
    for path in [&drv, &out] {
        assert!(
            world
                .alike(&["--read-log", path])
                .out()
                .contains("to the log")
        );
    }
    world.alike(&["-l", &drv, &out]);
    let windrows = world
        .instantiate(
            r#"derivation { name = "y"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo hi; echo y > $out" ]; }"#,
        )
        .remove(0);
    world.windrow("build").arg(&windrows).ok();
    assert_eq!(world.alike(&["-l", &windrows]).out(), "hi\n");
    std::fs::remove_dir_all(world.at("log")).unwrap();
    world.alike(&["-l", &drv]).one_error();
}

#[test]
fn the_program_is_nix_store_under_that_name() {
    need!(nix);
    let (world, drv) = filled();
    let link = world.at("nix-store");
    symlink(env!("CARGO_BIN_EXE_windrow"), &link).unwrap();
    let ran = world
        .program(link.to_str().unwrap())
        .args(["-qR", &drv])
        .ok();
    assert_eq!(ran.out(), world.theirs(["-qR", &drv]).ok().out());
    let version = world
        .program(link.to_str().unwrap())
        .arg("--version")
        .ok()
        .line();
    assert!(version.starts_with("nix-store (windrow) "), "{version}");
    let help = world.ours(["--help"]).ok().out();
    assert!(help.contains("--query-failed-paths"), "{help}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    need!(nix);
    let (world, drv) = filled();
    let script = format!(
        "{} nix-store -qR {drv} | head -1",
        env!("CARGO_BIN_EXE_windrow")
    );
    let ran = world.program("/bin/sh").args(["-c", &script]).ok();
    ran.no_panic().never_says("error");
}
