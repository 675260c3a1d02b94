//! Fixed outputs: every algorithm, flat and recursive, what their builders get, and what happens
//! when another hash comes out than was asked for.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Ran, World, busybox_with, for_each_caller, graph_of, need, sh_with, text};

/// What `nix-hash` says of a file or directory, in base 16.
#[track_caller]
fn nix_hash(world: &World, algo: &str, flat: bool, what: &str) -> String {
    let hash = world.program("nix-hash").args(["--type", algo]);
    let hash = if flat { hash.arg("--flat") } else { hash };
    hash.arg(what).ok().line()
}

/// A derivation with a fixed output that is made by a script.
fn fixed(algo: &str, mode: &str, hash: &str, script: &str) -> Value {
    let fixed = json!({"outputHash": hash, "outputHashAlgo": algo, "outputHashMode": mode});
    sh_with(script, fixed)
}

const ALGORITHMS: [&str; 4] = ["md5", "sha1", "sha256", "sha512"];
const FILE: &str = "printf hello > $out";
const DIRECTORY: &str = "mkdir -p $out/d; printf hello > $out/d/x; ln -s x $out/d/y; printf x > $out/run; chmod 755 $out/run";

#[test]
fn every_algorithm_flat_and_recursive() {
    need!("nix-store", "nix-hash", "sqlite3");
    let world = World::new();
    let like = world.file("like");
    let like = like.to_str().unwrap();
    for (mode, script) in [
        ("flat", FILE),
        ("recursive", FILE),
        ("recursive", DIRECTORY),
    ] {
        let _ = fs::remove_file(like).and_then(|()| fs::remove_dir_all(like));
        world.program("rm").args(["-rf", like]).ok();
        let make = script.replace("$out", like);
        world.program("sh").args(["-c", &make]).ok();
        for (number, algo) in ALGORITHMS.iter().enumerate() {
            let hash = nix_hash(&world, algo, mode == "flat", like);
            let name = format!("x{number}-{}", script.len());
            let drv = world.add_one(&name, fixed(algo, mode, &hash, script));
            let out = world.windrow("build").arg(&drv).ok().line();
            assert_eq!(nix_hash(&world, algo, mode == "flat", &out), hash);
            let prefix = if mode == "flat" { "" } else { "r:" };
            let ca = world.sql(&format!("select ca from ValidPaths where path = '{out}'"));
            assert!(
                ca[0].starts_with(&format!("fixed:{prefix}{algo}:")),
                "{ca:?}"
            );
        }
    }
    world.verifies();
    world.is_clean();
}

/// BLAKE3 of "hello", by Nix 2.34.
const BLAKE3: [&str; 3] = [
    "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f",
    "03r0cx565i88x638mdsfq7w6wl5k9f6ybici8ig950l6ncyid3za",
    "6o8WPbOGgpJeRJHF5Y1Ls1Bu+MFOt4qG6QjFYkpnIA8=",
];

#[test]
fn blake3_in_every_spelling() {
    let world = World::new();
    let [base16, base32, base64] = BLAKE3;
    let sri = format!("blake3-{base64}");
    let outputs = [base16, base32, base64, &sri].map(|hash| {
        let drv = world.add_one("x", fixed("blake3", "flat", hash, FILE));
        world.windrow("build").arg(drv).ok().line()
    });
    assert!(outputs.iter().all(|out| *out == outputs[0]), "{outputs:?}");
    let drv = world.add_one("x", fixed("", "flat", &sri, FILE));
    assert_eq!(world.windrow("build").arg(drv).ok().line(), outputs[0]);
    let print = world.ours(["--print-fixed-path", "blake3", base32, "x"]);
    assert_eq!(print.ok().line(), outputs[0]);

    // An archive has another hash than the file in it.
    let recursive = fixed("blake3", "recursive", &"0".repeat(64), FILE);
    let drv = world.add_one("x", recursive);
    let ran = world.windrow("build").arg(drv).run().exits(102);
    ran.says("got:    blake3-7jpuOXtMm4zbSFgvpSh/GKcOuXUgngDbBgXWpK/XWvE=");
    let file = world.write("hello", "hello");
    let add = world.ours(["--add-fixed", "blake3"]).arg(file).ok().line();
    let print = world.ours(["--print-fixed-path", "blake3", base16, "hello"]);
    assert_eq!(print.ok().line(), add);
    let unknown = world.ours(["--print-fixed-path", "blake9", base16, "x"]);
    unknown
        .run()
        .exits(1)
        .says("blake3, md5, sha1, sha256 or sha512");
    world.is_clean();
}

/// Builds a fixed output that has another hash, and gives the failed run and what it says it got.
#[track_caller]
fn mismatch(world: &World, algo: &str, mode: &str, script: &str, size: usize) -> (Ran, String) {
    let drv = world.add_one("x", fixed(algo, mode, &"0".repeat(size * 2), script));
    let ran = world.windrow("build").arg(&drv).run().exits(102);
    let ran = ran.one_error().prints_nothing().says(&drv);
    let got = (ran.stderr.lines())
        .find_map(|line| line.trim().strip_prefix("got:"))
        .unwrap_or_else(|| panic!("no hash\n{ran}"));
    let got = got.trim().to_owned();
    assert!(
        ran.stderr.contains(&format!("specified: {algo}-AAAA")),
        "{ran}"
    );
    (ran, got)
}

#[test]
fn with_another_hash_the_output_is_kept_at_the_path_of_its_own() {
    need!("nix-store", "sqlite3");
    let sizes = [16, 20, 32, 64];
    for (mode, script) in [("flat", FILE), ("recursive", DIRECTORY)] {
        for (algo, size) in ALGORITHMS.iter().zip(sizes) {
            let world = World::new();
            let (ran, got) = mismatch(&world, algo, mode, script, size);
            let kept: Vec<String> = world.sql(
                "select path from ValidPaths where path not like '%.drv' and ultimate = 1 and ca like 'fixed:%'",
            );
            assert_eq!(kept.len(), 1, "{kept:?}");
            assert!(
                ran.stderr.contains(&format!("kept as '{}'", kept[0])),
                "{ran}"
            );
            world.verifies();
            world.is_clean();
            // With the hash that it has, there is nothing left to build.
            let right = fixed(algo, mode, &got, &format!("{script}; exit 9"));
            let drv = world.add_one("x", right);
            assert_eq!(world.windrow("build").arg(drv).ok().line(), kept[0]);
            let store = world.store_entries();
            let outputs = store
                .iter()
                .filter(|path| path.to_str().unwrap().ends_with("-x"));
            assert_eq!(
                outputs.count(),
                1,
                "nothing lies at the other path: {store:?}"
            );
        }
    }
}

#[test]
fn nix_keeps_it_at_the_same_path() {
    need!(nix);
    let world = World::new();
    let expression = |hash: &str| {
        format!(
            r#"derivation {{ name = "x"; system = builtins.currentSystem; builder = "/bin/sh";
                 args = [ "-c" "PATH=/usr/bin:/bin; {DIRECTORY}" ]; outputHashMode = "recursive"; outputHashAlgo = "sha256";
                 outputHash = "{hash}"; }}"#
        )
    };
    let zero = "0".repeat(64);
    let state = |world: &World| {
        world.sql(
            "select path, hash, narSize, deriver, ultimate, ca from ValidPaths where path not like '%.drv' order by path",
        )
    };
    let drv = world.instantiate(&expression(&zero)).remove(0);
    let nix = world.program("nix-store").args(["--realise", &drv]).run();
    let (status, nix) = (nix.status.code(), state(&world));
    world.set_aside("nix");
    assert_eq!(world.instantiate(&expression(&zero)).remove(0), drv);
    let ran = world.windrow("build").arg(&drv).run();
    assert_eq!(ran.status.code(), status, "{ran}");
    assert_eq!(state(&world), nix);
    world.verifies();
}

#[test]
fn it_is_not_kept_while_somebody_works_there() {
    need!("nix-store", "sqlite3");
    let world = World::new();
    let (ran, _) = mismatch(&world, "sha256", "flat", FILE, 32);
    let kept = world
        .sql("select path from ValidPaths where ca like 'fixed:%'")
        .remove(0);
    drop(ran);
    world.program("nix-store").args(["--delete", &kept]).ok();
    let lock = fs::File::create(format!("{kept}.lock")).unwrap();
    lock.lock().unwrap();
    let drv = world.add_one("x", fixed("sha256", "flat", &"0".repeat(64), FILE));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(102)
        .never_says("kept as");
    assert!(!world.is_valid(&kept));
    drop(lock);
    world.stays_valid();
}

#[test]
fn two_that_exchange_their_hashes_do_not_wait_for_each_other() {
    need!("nix-hash", "sqlite3");
    let world = World::new();
    let hash = |text: &str| {
        let file = world.write("like", text);
        nix_hash(&world, "sha256", true, file.to_str().unwrap())
    };
    let wait = |mine: &str, other: &str| {
        let (mine, other) = (world.file(mine), world.file(other));
        format!(
            "echo > {}; while [ ! -e {} ]; do sleep 0.01; done",
            mine.display(),
            other.display()
        )
    };
    let one = fixed(
        "sha256",
        "flat",
        &hash("two"),
        &format!("{}; printf one > $out", wait("1", "2")),
    );
    let two = fixed(
        "sha256",
        "flat",
        &hash("one"),
        &format!("{}; printf two > $out", wait("2", "1")),
    );
    let named = |mut value: Value| {
        value["name"] = "x".into();
        value
    };
    let graph = crate::harness::graph_of([("one", named(one)), ("two", named(two))]);
    let file = world.graph("g.json", &graph);
    let ran = world
        .windrow("build")
        .arg(file)
        .args(["-j2", "-k"])
        .run()
        .exits(102);
    ran.no_panic();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_flat_output_must_be_a_plain_file() {
    let world = World::new();
    for script in [
        "mkdir $out",
        "ln -s /etc/passwd $out",
        "printf hello > $out; chmod 755 $out",
    ] {
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let drv = world.add_one("x", fixed("sha256", "flat", hash, script));
        let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
        ran.says("non-executable regular file").says(&drv);
        world.is_clean();
    }
    world.stays_valid();
}

#[test]
fn a_fixed_output_may_not_refer_to_anything() {
    need!("nix-hash");
    let world = World::new();
    let low = crate::harness::sh("echo low > $out");
    let graph = |hash: &str| {
        let top = fixed("sha256", "recursive", hash, "echo @{low} > $out");
        let mut graph = crate::harness::graph_of([("low", low.clone()), ("x", top)]);
        graph["targets"] = json!(["x"]);
        world.graph("g.json", &graph)
    };
    let file = graph(&"0".repeat(64));
    let ran = world.windrow("build").arg(&file).run().exits(102);
    // With the right hash as with a wrong one, it is not kept.
    let got = (ran.stderr.lines())
        .find_map(|line| line.trim().strip_prefix("got:"))
        .unwrap()
        .trim()
        .to_owned();
    ran.never_says("kept as");
    let ran = world
        .windrow("build")
        .arg(graph(&got))
        .run()
        .exits(1)
        .one_error();
    ran.says("refers to store paths").says("-x'");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn variables_come_from_the_setting_before_the_environment() {
    let world = World::new();
    let seen = world.file("seen");
    let script = format!(
        "echo $one $two ${{three-unset}} > {}; {FILE}",
        seen.display()
    );
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let mut drv = fixed("sha256", "flat", hash, &script);
    drv["env"] = json!({"impureEnvVars": "one two three"});
    let drv = world.add_one("x", drv);
    world
        .windrow("build")
        .arg(&drv)
        .args(["--option", "impure-env", "one=setting"])
        .env("one", "caller")
        .env("two", "caller")
        .ok();
    assert_eq!(text(seen), "setting caller\n");
}

#[test]
fn in_a_sandbox_it_is_kept_as_well() {
    for_each_caller(|world, caller| {
        let hash = "0".repeat(64);
        let fixed =
            json!({"outputHash": hash, "outputHashAlgo": "sha256", "outputHashMode": "recursive"});
        let make = "mkdir -p $out/d; echo hello > $out/d/x";
        let file = world.graph("g.json", &graph_of([("x", busybox_with(make, fixed))]));
        let ran = caller
            .runs(world.windrow("build").arg(file))
            .run()
            .exits(102);
        let ran = ran.one_error().says("kept as '");
        let kept = ran
            .stderr
            .split("kept as '")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        let kept = kept.expect("a path");
        assert!(world.is_valid(kept));
        assert_eq!(text(format!("{kept}/d/x")), "hello\n");
        world.is_clean();
        world.stays_valid();
    });
}
