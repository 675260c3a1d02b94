//! Signatures of what was built (`secret-key-files`): those that real Nix makes, on the same paths.

use std::path::PathBuf;

use crate::harness::{World, graph_of, need, sh};

/// Makes a key of that name; gives the file of its secret half, and the public one.
fn key(world: &World, name: &str) -> (PathBuf, String) {
    let (secret, public) = (world.file(&format!("{name}.sec")), world.file("public"));
    let made = world.ours(["--generate-binary-cache-key", name]);
    made.arg(&secret).arg(&public).ok();
    (secret, std::fs::read_to_string(public).unwrap())
}

/// A world whose settings name these keys, and a derivation with an input, a source and a fixed
/// output below it.
fn signing(keys: &[&str]) -> (World, Vec<(PathBuf, String)>, String) {
    let world = World::new();
    let keys: Vec<_> = keys.iter().map(|name| key(&world, name)).collect();
    let files = keys.iter().map(|(file, _)| file.display().to_string());
    let files = files.collect::<Vec<_>>().join(" ");
    world.conf(&format!("secret-key-files = {files}\n"));
    let drv = world.add(&graph_of([
        ("low", sh("echo low > $out")),
        ("x", sh("read line < @{low}; echo $line @{low} $out > $out")),
    ]));
    (world, keys, drv)
}

const SIGNED: &str = "select path, sigs from ValidPaths where sigs is not null order by path";

#[test]
fn what_is_built_is_signed_as_by_nix_and_what_is_added_is_not() {
    need!("nix", "nix-store", "sqlite3");
    let (world, keys, drv) = signing(&["b.example-1", "a.example-1"]);
    let out = world.windrow("build").arg(&drv).ok().line();
    let source = world.write("source", "x");
    world.ours(["--add"]).arg(source).ok();
    let ours = world.sql(SIGNED);
    assert_eq!(
        ours.len(),
        2,
        "two outputs, no derivation, no source: {ours:?}"
    );
    assert!(
        ours.iter()
            .all(|row| row.contains("|a.example-1:") && row.contains(" b.example-1:"))
    );

    // Trusted by its signature alone, though it was built here.
    let verify = |key: &str| {
        let verify = world
            .program("nix")
            .args(["store", "verify", "--sigs-needed", "1"]);
        let verify = verify.args(["--recursive", "--option", "trusted-public-keys", key]);
        // Nix trusts the keys that it signs with as well.
        let verify = verify.args(["--option", "secret-key-files", ""]);
        verify.arg(&out).run()
    };
    for (_, public) in &keys {
        verify(public).exits(0);
    }
    let (_, other) = key(&world, "c.example-1");
    verify(&other).exits(2).says("is untrusted");

    // Nix signs them anew, and comes to the same.
    world.sql("update ValidPaths set sigs = null");
    for (secret, _) in &keys {
        let sign = world
            .program("nix")
            .args(["store", "sign", "--recursive", "--key-file"]);
        sign.arg(secret).arg(&out).ok();
    }
    assert_eq!(world.sql(SIGNED), ours);
    world.verifies();
}

#[test]
fn what_comes_out_the_same_again_is_trusted_and_signed() {
    need!("nix-store", "sqlite3");
    let (world, _, drv) = signing(&["k"]);
    let out = world.windrow("build").arg(&drv).ok().line();
    let whole =
        format!("select ultimate, sigs, deriver, hash from ValidPaths where path = '{out}'");
    let built = world.sql(&whole);
    // As if it had been fetched.
    let forget =
        format!("update ValidPaths set ultimate = null, sigs = 'a:x z:y' where path = '{out}'");
    let after = |check: crate::harness::Cmd| {
        world.sql(&forget);
        check.ok();
        world.sql(&whole)
    };
    let ours = after(world.windrow("build").args([&drv, "--check"]));
    assert!(
        ours[0].contains("|a:x k:") && ours[0].contains(" z:y|"),
        "{ours:?}"
    );
    let theirs = after(world.program("nix-store").args(["-r", "--check", &drv]));
    assert_eq!(ours, theirs);
    assert_eq!(ours[0].replace("a:x ", "").replace(" z:y", ""), built[0]);
    world.stays_valid();
}

#[test]
fn a_key_that_is_none_ends_a_run_before_its_first_build() {
    let (world, _, drv) = signing(&["k"]);
    let runs = world.file("runs");
    let marked = world.add_one("y", sh(&format!("echo >> {}; echo > $out", runs.display())));
    let public = world.file("public");
    for bad in [public, world.file("none"), world.write("bad", "k:!!")] {
        let option = ["--option", "secret-key-files", bad.to_str().unwrap()];
        let ran = world
            .windrow("build")
            .arg(&marked)
            .args(option)
            .run()
            .exits(1);
        ran.one_error().says(bad.to_str().unwrap());
        assert!(!runs.exists(), "it was built for nothing");
    }
    world.windrow("build").arg(&drv).ok();
    // Nothing is to be signed where nothing is built.
    let option = ["--option", "secret-key-files", "/none"];
    world.windrow("build").arg(&drv).args(option).ok();
    world.is_clean();
    world.stays_valid();
}
