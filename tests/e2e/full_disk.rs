//! File systems that are at their end, of bytes or of inodes: whose fault that is, and how garbage
//! is collected there.

use serde_json::Value;

use crate::harness::{SEALED, World, busybox, graph_of, have, need, need_ext4, need_mounts, sh};

/// A builder that makes more files than there are inodes, and fails.
const MANY_FILES: &str = "i=0; while [ $i -lt 500 ]; do true > f$i || exit 3; i=$((i+1)); done";

/// A line that builds a derivation with that one script, and tells the status.
fn build(world: &World, name: &str, derivation: Value) -> String {
    let file = world.graph(&format!("{name}.json"), &graph_of([(name, derivation)]));
    format!("$w build {} > /dev/null; echo status $?", file.display())
}

/// Fills a file system: `bytes` and `inodes` fill what `$1` names as far as they go.
const FILL: &str = "fill() { \
    dd if=/dev/zero of=$1/ballast bs=64k 2>/dev/null; dd if=/dev/zero of=$1/more bs=1 count=99999 2>/dev/null; \
    mkdir -p $1/many; i=0; while true > $1/many/f$i; do i=$((i+1)); done 2>/dev/null; }";

/// A want of inodes is not the builder's fault, wherever it works.
fn inodes(world: &World, mount: &str, make: fn(&str) -> Value) {
    world.conf(&format!("build-cache-failure = true\n{}", conf_of(make)));
    let script = [
        build(world, "fails-anyhow", make("exit 3")),
        build(world, "many", make(MANY_FILES)),
        build(
            world,
            "overlooks",
            make(&format!("({MANY_FILES}) 2> /dev/null; exit 0")),
        ),
        "$w failed-paths".to_owned(),
    ];
    let ran = world.on_disk(mount, &script.join("\n"));
    let out = ran.out();
    assert!(out.starts_with("status 100\nstatus 1\nstatus 1\n"), "{ran}");
    assert!(out.ends_with("-fails-anyhow\n"), "{ran}");
    assert_eq!(out.lines().count(), 4, "{ran}");
    ran.no_panic().says("has hardly any inodes left");
}

fn conf_of(make: fn(&str) -> Value) -> &'static str {
    if std::ptr::fn_addr_eq(make, busybox_many as fn(&str) -> Value) {
        SEALED
    } else {
        ""
    }
}

#[test]
fn want_of_inodes_on_ext4_is_not_remembered() {
    need_ext4!();
    let world = World::new();
    let mount = world.small_ext4(40, 256);
    inodes(&world, &mount, sh);
}

#[test]
fn want_of_inodes_in_the_build_directory_is_not_remembered() {
    need_ext4!();
    let world = World::new();
    world.conf("build-cache-failure = true\n");
    let image = world.small_ext4(32, 128);
    let script = format!(
        "{image} $TMPDIR\n{}\n{}\n$w failed-paths",
        build(&world, "fails-anyhow", sh("exit 3")),
        build(&world, "many", sh(MANY_FILES)),
    );
    let ran = world.on_disk("mount -t tmpfs none", &script);
    assert!(ran.out().starts_with("status 100\nstatus 1\n"), "{ran}");
    assert!(ran.out().ends_with("-fails-anyhow\n"), "{ran}");
}

#[test]
fn want_of_inodes_in_a_sandbox_is_not_remembered() {
    need_mounts!();
    need!("busybox");
    inodes(
        &World::new(),
        "mount -t tmpfs -o nr_inodes=1k none",
        busybox_many,
    );
}

/// As the others, with a shell that is in the sandbox, and many files for many inodes.
fn busybox_many(script: &str) -> Value {
    busybox(&script.replace("500", "2000"))
}

#[test]
fn whoever_adds_to_a_store_without_inodes_hears_of_them() {
    need_mounts!();
    let world = World::new();
    let many: Vec<String> = (0..300).map(|n| format!("d{n}")).collect();
    let many = graph_of(many.iter().map(|name| (name.as_str(), sh("true"))));
    let graph = world.graph("many.json", &many).display().to_string();
    world.write("source/a", "text");
    let files = world.at("files").display().to_string();
    let script = format!(
        "cd {files}; mkdir source/d; i=0; while [ $i -lt 300 ]; do echo > source/d/$i; i=$((i+1)); done
         tar cf source.tar source
         $w nix-store --dump source > source.nar
         tell() {{ \"$@\" > /dev/null; echo status $?; echo >&2 ----; }}
         tell $w add {graph}; $w nix-store --gc > /dev/null 2>&1
         tell $w build {graph}; $w nix-store --gc > /dev/null 2>&1
         tell $w nix-store --add source; $w nix-store --gc > /dev/null 2>&1
         tell $w nix-store --restore $NIX_STORE_DIR/restored < source.nar"
    );
    let ran = world.on_disk("mount -t tmpfs -o nr_inodes=150 none", &script);
    assert_eq!(ran.out(), "status 1\n".repeat(4), "{ran}");
    let told = ran.stderr.split("----\n").filter(|it| !it.is_empty());
    let told: Vec<&str> = told.collect();
    assert_eq!(told.len(), 4, "{ran}");
    for told in told {
        assert!(told.contains("inodes"), "{told}: {ran}");
        assert_eq!(told.matches("error:").count(), 1, "{told}: {ran}");
    }
    ran.no_panic().says("delete some files");
}

/// A script that fills a disk, collects, and tells of it.
fn collect(world: &World, ran_by: &str) -> String {
    let garbage = build(
        world,
        "garbage",
        sh("mkdir $out; cd $out; for f in 1 2 3 4 5 6 7 8 9; do echo $f > $f; done"),
    );
    format!(
        "{FILL}\n{garbage}\nfill $NIX_LOG_DIR; df -i $NIX_STATE_DIR >&2; df $NIX_STATE_DIR >&2
         {ran_by}; echo collected $?; ls -A $NIX_STORE_DIR"
    )
}

#[test]
fn garbage_is_collected_with_no_byte_and_no_inode_left() {
    need_mounts!();
    for ext4 in [false, true] {
        for ran_by in [
            "$w nix-store --gc",
            "$w nix-store --delete $NIX_STORE_DIR/*-garbage",
        ] {
            let world = World::new();
            let mount = if !ext4 {
                "mount -t tmpfs -o size=24m,nr_inodes=200 none".to_owned()
            } else if have(&["mkfs.ext4"]) && crate::harness::may_loop() {
                world.small_ext4(32, 200)
            } else {
                crate::harness::skip("on ext4: needs mkfs.ext4 and loop devices");
                continue;
            };
            let ran = world.on_disk(&mount, &collect(&world, ran_by));
            let out = ran.out();
            let lines: Vec<&str> = out.lines().collect();
            assert_eq!(lines[0], "status 0", "{ran}");
            assert!(out.contains("deleted"), "{ran}");
            assert!(lines.contains(&"collected 0"), "{ran}");
            assert!(!out.contains("-garbage\n"), "{ran}");
        }
    }
}

#[test]
fn a_collector_without_a_reserve_says_what_it_lacks() {
    need_mounts!();
    let world = World::new();
    world.conf("gc-reserved-space = 0\n");
    let mount = "mount -t tmpfs -o size=24m,nr_inodes=200 none";
    let ran = world.on_disk(mount, &collect(&world, "$w nix-store --gc"));
    assert!(ran.out().contains("collected 1\n"), "{ran}");
    assert!(ran.out().contains("-garbage\n"), "{ran}");
    ran.no_panic()
        .says("the disk is full")
        .says("nothing in reserve")
        .says("such as old logs");
}

#[test]
fn garbage_is_collected_during_a_build_when_inodes_are_few() {
    need_mounts!();
    let world = World::new();
    world.conf("min-free = 1\nmin-free-check-interval = 1\n");
    let many = "mkdir $out; cd $out; i=0; while [ $i -lt 1590 ]; do true > f$i; i=$((i+1)); done";
    let waits =
        "while ls $NIX_STORE/*-many > /dev/null 2>&1; do sleep 0.05; done; echo gone > $out";
    let script = format!(
        "{}\n{}",
        build(&world, "many", sh(many)),
        build(&world, "waits", sh(waits))
    );
    let ran = world.on_disk("mount -t tmpfs -o nr_inodes=1700 none", &script);
    assert_eq!(ran.out(), "status 0\nstatus 0\n", "{ran}");
    ran.says("running auto-GC to free inodes");
}

#[test]
fn a_cache_is_not_to_blame_for_a_full_disk() {
    need_mounts!();
    let world = World::new();
    let names: Vec<String> = (0..10).map(|n| format!("large{n}")).collect();
    let large = |name: &str| {
        sh(&format!(
            "head -c 4000000 /dev/zero > $out; echo {name} >> $out"
        ))
    };
    let graph = graph_of(names.iter().map(|name| (name.as_str(), large(name))));
    let graph = world.graph("large.json", &graph);
    let built = world.windrow("build").arg(&graph).ok();
    let cache = format!("file://{}", world.at("cache").display());
    let copy = world.windrow("copy").args(["--to", &cache]);
    copy.args(built.lines()).ok();
    world.set_aside("built");
    world.conf(&format!(
        "substitute = true\nsubstituters = {cache}?trusted=true\n"
    ));
    let script = format!("$w build -k {}; echo status $?", built.lines().join(" "));
    let ran = world.on_disk("mount -t tmpfs -o size=3m none", &script);
    assert_eq!(ran.out(), "status 1\n", "{ran}");
    let ran = ran.no_panic().says("No space left on device");
    ran.never_says("left out");
}
