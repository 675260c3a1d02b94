//! Users who want to hold up root's collector: through its socket, and through directories of roots
//! that are theirs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::harness::{Caller, HeldDatabase, World, graph_of, need, sh, wait_until};

/// What somebody else does at the socket for as long as it lives: connections that send and never
/// read, that are silent, and that begin a line and never end it.
const HOSTILE: &str = r#"
    my ($socket, $said) = @ARGV;
    my (@kept, $first);
    $SIG{PIPE} = "IGNORE";
    my $line = "/nix/store/" . ("0" x 32) . "-x\n";
    until (-e "$said.stop") {
        my $s;
        # All are held: one that is closed would let go whoever waits for it.
        my $ok = @kept < 600 && socket($s, AF_UNIX, SOCK_STREAM | 04000, 0) && connect($s, pack_sockaddr_un($socket));
        if ($ok) {
            my $kind = @kept % 3;
            if ($kind == 0) { 1 while syswrite($s, $line x 100); }
            if ($kind == 1) { syswrite($s, "/nix/store/beginning"); }
            push @kept, $s;
            if (@kept == 300) { open(my $f, ">", $said); }
        } else { select(undef, undef, undef, 0.01); }
    }
"#;

#[test]
fn others_at_the_socket_do_not_hold_up_the_collector() {
    need!(root);
    need!("setpriv", "perl", "sqlite3");
    let world = World::new();
    world.open_to_all();
    let go = world.file("go");
    let script = format!(
        "echo >> {}; while [ ! -e {} ]; do sleep 0.05; done; echo > $out",
        world.file("runs").display(),
        go.display()
    );
    let drv = world.add_one("x", sh(&script));
    symlink(&drv, world.state().join("gcroots/drv")).unwrap();
    fs::create_dir(world.store().join(format!("{:032}-dead", 0))).unwrap();
    let said = world.file("said");
    let socket = world.state().join("gc-socket/socket");
    let hostile = world
        .program("perl")
        .args(["-MSocket", "-e", HOSTILE])
        .arg(&socket)
        .arg(&said);
    let hostile = Caller::Somebody.runs(hostile).start();
    // Nothing can be deleted until it is released, so the collection goes on for as long as that
    // takes.
    let held = HeldDatabase::new(&world);
    let collection = world.windrow("nix-store").arg("--gc").start();
    wait_until("others have filled the socket", || said.exists());
    // Who is honest is served.
    let build = world.windrow("build").arg(&drv).start();
    world.wait_for("runs");
    held.release();
    collection.wait().exits(0);
    assert!(!world.store().join(format!("{:032}-dead", 0)).exists());
    fs::write(world.file("said.stop"), "").unwrap();
    fs::write(&go, "").unwrap();
    hostile.wait();
    build.wait().exits(0);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn roots_that_lead_nowhere_do_not_end_the_collector() {
    need!(root);
    need!("setpriv", "perl");
    let world = World::new();
    world.open_to_all();
    let out = world.add_one("x", sh("echo > $out"));
    let out = world.windrow("build").arg(out).ok().line();
    let own = world.state().join("gcroots/per-user/somebody");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o1777)).unwrap();
    let make = format!(
        r#"chdir "{}"; symlink("{out}", "root"); symlink("loop", "loop"); symlink("loop/x", "through");
           symlink("x" x 300, "long"); system("mkfifo", "pipe");
           for (1 .. 3000) {{ mkdir "deep"; chdir "deep" or die }}"#,
        own.display()
    );
    let make = world.program("perl").args(["-e", &make]);
    Caller::Somebody.runs(make).ok();
    let garbage = graph_of([("garbage", sh("echo > $out"))]);
    let garbage = world
        .windrow("build")
        .arg(world.graph("g.json", &garbage))
        .ok()
        .line();
    world.windrow("nix-store").arg("--gc").ok();
    assert!(world.is_valid(&out) && !world.is_valid(&garbage));
    world.program("rm").arg("-rf").arg(&own).ok();
}
