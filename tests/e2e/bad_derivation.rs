//! Derivations that are missing, truncated, malformed or wrong: one message that names them, exit
//! 1, a valid store. Builders that fail are in failure.rs.

use std::fs;
use std::path::Path;

use crate::harness::{Ran, World, graph_of, need, sh, sh_with, text};

/// A world with a registered derivation "x" on an input "low" that is not built.
fn world_with_drv() -> (World, String) {
    let world = World::new();
    let drv = world.add(&graph_of([
        ("x", sh("cat @{low} > $out")),
        ("low", sh("echo low > $out")),
    ]));
    (world, drv)
}

/// Replaces a file of the store, which is read-only.
fn overwrite(path: &str, contents: &[u8]) {
    let moved = format!("{path}.new");
    fs::write(&moved, contents).unwrap();
    fs::rename(moved, path).unwrap();
}

/// Expects each way to use the derivation to end in one error that names it, and nothing to be
/// built.
#[track_caller]
fn refused(world: &World, drv: &str) -> Ran {
    let entries = world.store_entries().len();
    let mut last = None;
    for subcommand in ["plan", "show", "build"] {
        let ran = world
            .windrow(subcommand)
            .arg(drv)
            .run()
            .exits(1)
            .no_panic()
            .prints_nothing();
        last = Some(ran.says(drv));
    }
    let built = world
        .store_entries()
        .iter()
        .filter(|path| !path.to_str().unwrap().ends_with(".lock"))
        .count();
    assert_eq!(built, entries, "nothing is built");
    world.is_clean();
    last.unwrap()
}

#[test]
fn a_missing_drv() {
    let world = World::new();
    let drv = world
        .store()
        .join("00000000000000000000000000000000-absent.drv");
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .one_error()
        .says(drv.to_str().unwrap())
        .prints_nothing();
    let (world, drv) = world_with_drv();
    let contents = fs::read(&drv).unwrap();
    fs::remove_file(&drv).unwrap();
    refused(&world, &drv);
    overwrite(&drv, &contents);
    world.windrow("build").arg(&drv).ok();
    world.stays_valid();
}

#[test]
fn a_truncated_drv() {
    let (world, drv) = world_with_drv();
    let contents = fs::read(&drv).unwrap();
    let end = contents.len();
    for length in [
        0,
        1,
        6,
        7,
        8,
        20,
        end / 4,
        end / 2,
        3 * end / 4,
        end - 2,
        end - 1,
    ] {
        overwrite(&drv, &contents[..length]);
        let ran = refused(&world, &drv);
        assert!(ran.stderr.len() < 2000, "one message, not a dump\n{ran}");
    }
    overwrite(&drv, &contents);
    world.stays_valid();
}

#[test]
fn a_malformed_drv() {
    let (world, drv) = world_with_drv();
    let contents = text(&drv);
    let wrong = [
        contents.replacen("Derive(", "Derived(", 1),
        contents.replacen("Derive([", "Derive( [", 1),
        format!("{contents}\n"),
        format!("{contents}{contents}"),
        contents.replacen("[(\"out\"", "[(out", 1),
        contents.replacen("\",\"", "\"\"", 1),
        contents.replace("/bin/sh", "/bin/s\u{0}"),
        "\u{FFFD}\0\0\0".repeat(10),
    ];
    for contents in &wrong {
        overwrite(&drv, contents.as_bytes());
        refused(&world, &drv);
    }
    overwrite(&drv, b"Derive(\xff\xfe");
    refused(&world, &drv);
    overwrite(&drv, contents.as_bytes());
    world.windrow("build").arg(&drv).ok();
    world.stays_valid();
}

#[test]
fn a_truncated_drv_deep_in_the_graph() {
    let (world, drv) = world_with_drv();
    let low = text(&drv)
        .split('"')
        .find(|part| part.ends_with("-low.drv"))
        .unwrap()
        .to_owned();
    let contents = fs::read(&low).unwrap();
    overwrite(&low, &contents[..100]);
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing()
        .says(&low);
    overwrite(&low, &contents);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_drv_whose_contents_were_changed() {
    let (world, drv) = world_with_drv();
    let contents = text(&drv);
    let other = contents.replacen("/bin/sh", "/bin/xx", 1);
    overwrite(&drv, other.as_bytes());
    let entries = world.store_entries().len();
    let ran = world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing();
    ran.says(&drv);
    assert!(world.store_entries().len() <= entries + 2);
    overwrite(&drv, contents.as_bytes());
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_drv_that_is_a_directory_or_a_link() {
    let (world, drv) = world_with_drv();
    let contents = fs::read(&drv).unwrap();
    fs::remove_file(&drv).unwrap();
    fs::create_dir(&drv).unwrap();
    refused(&world, &drv);
    fs::remove_dir(&drv).unwrap();
    std::os::unix::fs::symlink("/nowhere", &drv).unwrap();
    refused(&world, &drv);
    fs::remove_file(&drv).unwrap();
    overwrite(&drv, &contents);
    world.stays_valid();
}

/// Puts contents into the store as `NAME.drv` at the path that they give, registered, past all
/// checks.
fn smuggle(world: &World, name: &str, contents: &str) -> String {
    let file = world.write("smuggled.drv", contents);
    let hash = |file: &Path, more: &[&str]| {
        world
            .program("nix-hash")
            .args(["--type", "sha256", "--flat"])
            .args(more)
            .arg(file)
            .ok()
            .line()
    };
    let store = world.store();
    let inner = hash(&file, &[]);
    let fingerprint = format!("text:sha256:{inner}:{}:{name}.drv", store.display());
    let fingerprint = world.write("fingerprint", fingerprint);
    let drv = format!(
        "{}/{}-{name}.drv",
        store.display(),
        hash(&fingerprint, &["--truncate", "--base32"])
    );
    fs::write(&drv, contents).unwrap();
    world.program("chmod").args(["444", &drv]).ok();
    world.program("touch").args(["-d", "@1", &drv]).ok();
    let nar = world
        .program("nix-hash")
        .args(["--type", "sha256", &drv])
        .ok()
        .line();
    let size = world
        .program("nix-store")
        .args(["--dump", &drv])
        .ok()
        .stdout
        .len();
    world.sql(&format!(
        "insert into ValidPaths (path, hash, registrationTime, narSize) values ('{drv}', 'sha256:{nar}', 1, {size})"
    ));
    drv
}

#[test]
fn a_drv_that_names_another_output_path() {
    need!("nix-store", "nix-hash", "sqlite3");
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    let contents = text(&drv);
    let path = contents
        .split('"')
        .find(|part| part.ends_with("-x"))
        .unwrap();
    // The same contents again: this shows that the smuggling itself makes nothing wrong.
    world.program("nix-store").args(["--delete", &drv]).ok();
    assert_eq!(smuggle(&world, "x", &contents), drv);
    world.windrow("build").arg(&drv).ok();

    let hash = &path[world.store().to_str().unwrap().len() + 1..][..32];
    let wrong = path.replace(hash, &"1".repeat(32));
    let drv = smuggle(&world, "x", &contents.replace(path, &wrong));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .one_error()
        .prints_nothing();
    ran.says(&drv).says(&wrong).says(path);
    assert!(!fs::exists(&wrong).unwrap());
    world.is_clean();
    world.verifies();
}

#[test]
fn a_drv_whose_variable_names_another_output_path() {
    need!("nix-store", "nix-hash", "sqlite3");
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    let contents = text(&drv);
    let (head, tail) = contents.rsplit_once("(\"out\",\"").unwrap();
    let (_, rest) = tail.split_once('"').unwrap();
    let drv = smuggle(&world, "x", &format!("{head}(\"out\",\"/elsewhere\"{rest}"));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .one_error()
        .prints_nothing()
        .says(&drv)
        .says("variable 'out'");
    assert!(!fs::exists("/elsewhere").unwrap());
    world.is_clean();
    world.verifies();
}

#[test]
fn a_drv_in_nixs_json_with_another_output_path() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    let shown = world.windrow("show").arg(&drv).ok().out();
    let path = text(&drv)
        .split('"')
        .find(|part| part.ends_with("-x"))
        .unwrap()
        .to_owned();
    let wrong = path.replace(
        &path[world.store().to_str().unwrap().len() + 1..][..32],
        &"1".repeat(32),
    );
    let file = world.write("wrong.json", shown.replace(&path, &wrong));
    let ran = world
        .windrow("add")
        .arg(file)
        .run()
        .exits(1)
        .one_error()
        .prints_nothing();
    ran.says("wrong.json").says(&wrong);
    assert_eq!(world.store_entries().len(), 1);
    world.is_clean();
}

#[test]
fn outputs_that_a_derivation_does_not_have() {
    let (world, drv) = world_with_drv();
    for what in [format!("{drv}^nope"), format!("{drv}!out,nope")] {
        world
            .windrow("build")
            .arg(what)
            .run()
            .exits(1)
            .one_error()
            .prints_nothing()
            .says(&drv)
            .says("nope");
    }
    let drv = world.add_one(
        "y",
        sh_with("true", serde_json::json!({"outputs": ["bin", "lib"]})),
    );
    world
        .windrow("build")
        .arg(format!("{drv}^out"))
        .run()
        .exits(1)
        .one_error()
        .says("out")
        .says(&drv);
    world.is_clean();
}

#[test]
fn an_output_of_an_input_that_does_not_exist() {
    need!("nix-store", "nix-hash", "sqlite3");
    let world = World::new();
    let drv = world.add(&graph_of([
        ("x", sh("cat @{low} > $out")),
        ("low", sh("echo > $out")),
    ]));
    let contents = text(&drv).replacen("-low.drv\",[\"out\"]", "-low.drv\",[\"gone\"]", 1);
    assert!(contents.contains("gone"));
    let low = contents
        .split('"')
        .find(|part| part.ends_with("-low.drv"))
        .unwrap()
        .to_owned();
    overwrite(&drv, contents.as_bytes());
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing()
        .says(&drv);
    world.is_clean();
    assert!(world.is_valid(low));
}
