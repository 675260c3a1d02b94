//! Databases that can't be used: newer, damaged, cut short. One message that names the file, exit
//! 1, nothing changed. Stores that can't be written are in bad_disk.rs.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Ran, World, sh};

/// A world with a built derivation, and another that is not built.
fn world_with_store() -> (World, String) {
    let world = World::new();
    let built = world.add_one("built", sh("echo built > $out"));
    world.windrow("build").arg(built).ok();
    let drv = world.add_one("x", sh("echo x > $out"));
    (world, drv)
}

#[track_caller]
fn refused(world: &World, drv: &str) -> Ran {
    let mut last = None;
    for subcommand in ["plan", "build"] {
        last = Some(
            world
                .windrow(subcommand)
                .arg(drv)
                .run()
                .exits(1)
                .one_error()
                .prints_nothing(),
        );
    }
    assert!(world.temporary().is_empty());
    last.unwrap()
}

fn schema(world: &World) -> PathBuf {
    world.state().join("db/schema")
}

#[test]
fn a_newer_schema() {
    let (world, drv) = world_with_store();
    assert_eq!(fs::read_to_string(schema(&world)).unwrap(), "10");
    fs::write(schema(&world), "11").unwrap();
    let before = fs::read(world.database()).unwrap();
    refused(&world, &drv)
        .says("schema 11")
        .says(world.state().to_str().unwrap());
    assert_eq!(fs::read_to_string(schema(&world)).unwrap(), "11");
    assert!(
        fs::read(world.database()).unwrap() == before,
        "the database is left alone"
    );
    fs::write(schema(&world), "10").unwrap();
    world.windrow("build").arg(&drv).ok();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn an_older_schema() {
    let (world, drv) = world_with_store();
    fs::write(schema(&world), "7").unwrap();
    refused(&world, &drv).says("schema 7");
    assert_eq!(fs::read_to_string(schema(&world)).unwrap(), "7");
}

#[test]
fn a_schema_that_is_no_number() {
    let (world, drv) = world_with_store();
    for wrong in ["ten", "-1", "99999999999999999999", "\u{0}"] {
        fs::write(schema(&world), wrong).unwrap();
        refused(&world, &drv).says(schema(&world).to_str().unwrap());
    }
    fs::write(schema(&world), "10").unwrap();
    world.windrow("build").arg(&drv).ok();
    world.stays_valid();
}

#[test]
fn a_database_that_is_something_else() {
    let (world, drv) = world_with_store();
    let database = world.database();
    let good = fs::read(&database).unwrap();
    for wrong in [
        &b"this is no database at all, whatever its name may say"[..],
        &[0xff; 100_000],
    ] {
        fs::write(&database, wrong).unwrap();
        refused(&world, &drv).says(database.to_str().unwrap());
        assert_eq!(fs::read(&database).unwrap(), wrong, "it is left alone");
    }
    fs::write(&database, good).unwrap();
}

#[test]
fn a_database_cut_short() {
    let (world, drv) = world_with_store();
    let database = world.database();
    // All that is in the log goes into the file first.
    if !crate::harness::have(&["sqlite3"]) {
        return crate::harness::skip("needs sqlite3");
    }
    world.sql("pragma wal_checkpoint(truncate)");
    let good = fs::read(&database).unwrap();
    for length in [50, 4096, 5000, 8192] {
        assert!(length < good.len());
        fs::write(&database, &good[..length]).unwrap();
        refused(&world, &drv).says(database.to_str().unwrap());
    }
    fs::write(&database, good).unwrap();
    world.windrow("build").arg(&drv).ok();
    world.stays_valid();
}

#[test]
fn a_database_with_rubbish_in_its_pages() {
    let (world, drv) = world_with_store();
    if !crate::harness::have(&["sqlite3"]) {
        return crate::harness::skip("needs sqlite3");
    }
    world.sql("pragma wal_checkpoint(truncate)");
    let database = world.database();
    let good = fs::read(&database).unwrap();
    let mut bad = good.clone();
    bad[4096..].fill(0xa5);
    fs::write(&database, bad).unwrap();
    refused(&world, &drv)
        .says(database.to_str().unwrap())
        .says("damaged");
    fs::write(&database, good).unwrap();
    world.windrow("build").arg(&drv).ok();
    world.stays_valid();
}

#[test]
fn a_database_that_is_a_directory() {
    let world = World::new();
    fs::create_dir_all(world.database()).unwrap();
    let file = world.graph(
        "g.json",
        &crate::harness::graph_of([("x", sh("echo > $out"))]),
    );
    let ran = world
        .windrow("build")
        .arg(file)
        .run()
        .exits(1)
        .one_error()
        .prints_nothing();
    ran.says(world.database().to_str().unwrap());
}
