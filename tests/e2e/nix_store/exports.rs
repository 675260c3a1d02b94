//! Exports and imports, and the keys that sign exports.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::{filled, next_second};
use crate::harness::{World, need};

/// What exports all that a derivation needs, and its outputs.
fn export_of(world: &World, drv: &str) -> Vec<String> {
    let paths = world.theirs(["-qR", "--include-outputs", drv]).ok().lines();
    std::iter::once("--export".to_owned())
        .chain(paths)
        .collect()
}

#[test]
fn one_exports_and_the_other_imports() {
    need!("nix-store", "nix-instantiate", "nix-hash", "sqlite3");
    let (world, drv) = filled();
    let args = export_of(&world, &drv);
    let export = world.alike(&args).stdout;
    let rows = |world: &World| {
        let mut rows = world.sql("select path, hash, narSize, deriver, (select count(*) from Refs where referrer = id) from ValidPaths");
        rows.sort();
        rows
    };
    world.set_aside("built");
    let theirs = world.theirs(["--import"]).stdin(export.clone()).ok();
    let nix = rows(&world);
    world.set_aside("nix");
    let ours = world.ours(["--import"]).stdin(export.clone()).ok();
    assert_eq!(ours.out(), theirs.out());
    assert_eq!(rows(&world), nix);
    world.verifies();
    // Again, it changes nothing.
    next_second();
    assert_eq!(
        world.ours(["--import"]).stdin(export.clone()).ok().out(),
        theirs.out()
    );
    assert_eq!(rows(&world), nix);
    world.verifies();
    world.is_clean();
    assert!(world.ours(&args).ok().stdout == export);
}

#[test]
fn bad_exports_leave_the_store_as_it_was() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let export = world.ours(["--export", &out]).ok().stdout;
    let closure = world.theirs(["-qR", &out]).ok().lines();
    let args: Vec<&str> = ["--export"]
        .into_iter()
        .chain(closure.iter().map(String::as_str))
        .collect();
    let whole = world.ours(&args).ok().stdout;
    world.set_aside("built");
    world.theirs(["--init"]).ok();
    // Its references are not here.
    let ran = world.ours(["--import"]).stdin(export).run().exits(1);
    ran.one_error().says("is not valid");
    assert!(!world.is_valid(&out));
    for length in (0..whole.len())
        .step_by(whole.len() / 40 + 1)
        .chain([whole.len() - 1])
    {
        world
            .ours(["--import"])
            .stdin(&whole[..length])
            .run()
            .exits(1)
            .one_error();
        let left = world.store_entries();
        let litter = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with("-import");
        assert!(!left.iter().any(|path| litter(&path)), "{left:?}");
    }
    world.verifies();
    world
        .ours(["--import"])
        .stdin("nonsense, and more of it")
        .run()
        .exits(1)
        .one_error();
    world.ours(["--import"]).stdin(whole).ok();
    world.verifies();
    world.is_clean();
}

#[test]
fn a_modified_path_is_not_exported() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&out, "something else").unwrap();
    world
        .ours(["--export", &out])
        .run()
        .exits(1)
        .one_error()
        .says("was modified");
    world
        .alike(&["--verify-path", &out])
        .says("was modified")
        .exits(1);
    let fine = world.theirs(["-qR", &out]).ok().lines().remove(0);
    world.alike(&["--verify-path", &fine]).exits(0);
    world.alike(&["--verify-path", &fine, &out]).exits(1);
    let ran = world.alike(&["--verify", "--check-contents"]).exits(1);
    ran.says(format!("path '{out}' was modified!"))
        .says("not all store errors were fixed");
    world.alike(&["--verify"]).exits(0);
}

#[test]
fn keys_are_made_that_nix_signs_with() {
    need!("nix-store", "nix");
    let world = World::new();
    let file = world.write("plain", "hello\n");
    let path = world.ours(["--add".as_ref(), file.as_os_str()]).ok().line();
    world
        .ours([
            "--generate-binary-cache-key",
            "cache.example.org-1",
            "secret",
            "public",
        ])
        .ok()
        .prints_nothing();
    let mode = world
        .file("secret")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    world
        .program("nix")
        .args(["store", "sign", "--key-file", "secret", &path])
        .ok();
    let public = crate::harness::text(world.file("public"));
    assert!(public.starts_with("cache.example.org-1:"), "{public}");
    let trust = [
        "--sigs-needed",
        "1",
        "--option",
        "trusted-public-keys",
        &public,
    ];
    world
        .program("nix")
        .args(["store", "verify", "--no-contents"])
        .args(trust)
        .arg(&path)
        .ok();
    let again = world.ours([
        "--generate-binary-cache-key",
        "cache.example.org-1",
        "secret2",
        "public2",
    ]);
    again.ok();
    assert_ne!(crate::harness::text(world.file("public2")), public);
}

#[test]
fn an_import_that_was_killed_leaves_litter_at_most() {
    need!("nix-store", "nix-instantiate", "nix-hash", "mkfifo");
    let (world, drv) = filled();
    let args = export_of(&world, &drv);
    let export = world.ours(&args).ok().stdout;
    world.set_aside("built");
    let scratch = || {
        world
            .store_entries()
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with("-import"))
            .count()
    };
    for part in 1..8 {
        let fifo = world.file(&format!("fifo{part}"));
        world.program("mkfifo").arg(&fifo).ok();
        let script = format!(
            "exec {} nix-store --import < {}",
            env!("CARGO_BIN_EXE_windrow"),
            fifo.display()
        );
        let import = world.program("/bin/sh").args(["-c", &script]).start();
        let mut pipe = std::fs::File::options().write(true).open(&fifo).unwrap();
        // It waits for more in the middle of a path.
        std::io::Write::write_all(&mut pipe, &export[..export.len() * part / 8]).unwrap();
        let before = scratch();
        crate::harness::wait_until("it imports", || scratch() > before || before > 0);
        import.signal("KILL");
        import.wait();
        world.verifies();
    }
    world.ours(["--import"]).stdin(export).ok();
    world.verifies();
    assert!(scratch() > 0);
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    symlink(&out, world.state().join("gcroots/out")).unwrap();
    world.ours(["--gc"]).ok();
    assert_eq!(scratch(), 0);
    world.verifies();
    assert!(world.is_valid(&out));
}
