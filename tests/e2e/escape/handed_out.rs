//! Outputs of which the builder has handed an open file to an accomplice: where that can be, the
//! output is another file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::build_users::{TWO, with_users, world as world_with_users};
use crate::harness::{Cmd, World, graph_of, have, is_root, need, sh_with, skip, text};
use serde_json::{Value, json};

/// A process of somebody else that waits at a socket for an open file, and writes to it when it is
/// told to.
const ACCOMPLICE: &str = "
import os, socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777); server.listen()
peer, _ = server.accept()
_, fds, _, _ = socket.recv_fds(peer, 1, 1)
peer.send(b'1')
while not os.path.exists(sys.argv[2]): time.sleep(0.01)
os.pwrite(fds[0], b'evil!', 0)
print(os.fstat(fds[0]).st_ino)
";

/// What the builder does with its output, and with the output's directory entry of the same inode.
const HANDS_OUT: &str = "
import os, socket, sys
file = open(os.environ['out'], 'w+'); file.write('hello'); file.flush()
peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1])
socket.send_fds(peer, [b'1'], [file.fileno()]); peer.recv(1)
";

/// The text of an output whose builder has handed it out, after the accomplice has written to what
/// it got.
fn after_writing(world: &World, runs: &dyn Fn(Cmd) -> Cmd, mark: &str, more: Value) -> String {
    let (socket, go) = (
        world.file(&format!("socket-{mark}")),
        world.file(&format!("go-{mark}")),
    );
    let accomplice = world.write("accomplice.py", ACCOMPLICE);
    let hands_out = world.write("hands_out.py", HANDS_OUT);
    let accomplice = world
        .program("/usr/bin/python3")
        .arg(accomplice)
        .args([&socket, &go]);
    let accomplice = accomplice
        .through(
            "/usr/bin/setpriv",
            &["--reuid=31236", "--regid=31236", "--clear-groups"],
        )
        .start();
    crate::harness::wait_until("the accomplice listens", || socket.exists());
    let script = format!(
        "/usr/bin/python3 {} {}",
        hands_out.display(),
        socket.display()
    );
    let file = world.graph("g.json", &graph_of([(mark, sh_with(&script, more))]));
    let out = runs(world.windrow("build").arg(file)).ok().path();
    assert_eq!(text(&out), "hello", "{mark}");
    world.write(go.file_name().unwrap().to_str().unwrap(), "");
    accomplice.wait().exits(0);
    text(out)
}

#[test]
fn an_open_file_handed_out_changes_no_output_of_a_build_user() {
    need!(root);
    need!("unshare", "mount", "setpriv");
    if !have(&["/usr/bin/python3"]) {
        return skip("needs python3");
    }
    let (world, _) = world_with_users(TWO);
    fs::set_permissions(world.at("files"), fs::Permissions::from_mode(0o1777)).unwrap();
    let users = |cmd: Cmd| with_users(&world, cmd);
    assert_eq!(after_writing(&world, &users, "off", json!({})), "hello");
    let relaxed = |cmd: Cmd| with_users(&world, cmd.args(["--option", "sandbox", "relaxed"]));
    let no_chroot = json!({ "env": { "__noChroot": "1" } });
    assert_eq!(
        after_writing(&world, &relaxed, "relaxed", no_chroot),
        "hello"
    );
    world.is_clean();
    let strange = world.store_entries();
    let strange = strange
        .iter()
        .filter(|path| path.to_string_lossy().contains("/."));
    assert_eq!(strange.count(), 0);
    // Nix does not know these users.
    world.conf("");
    world.stays_valid();
    // A builder that is root itself is whoever runs windrow.
    let open = after_writing(&world, &|cmd| cmd, "open", json!({}));
    assert_eq!(open, "evil!", "the attempt is no real one");
    assert!(is_root());
}

#[test]
fn others_do_not_enter_the_build_directory_of_a_build_user() {
    need!(root);
    need!("unshare", "mount", "setpriv");
    let (world, first) = world_with_users(TWO);
    let entered = |mark: &str, runs: &dyn Fn(Cmd) -> Cmd| {
        let (ready, go) = (
            world.file(&format!("ready-{mark}")),
            world.file(&format!("go-{mark}")),
        );
        fs::write(&ready, "").unwrap();
        fs::set_permissions(&ready, fs::Permissions::from_mode(0o666)).unwrap();
        let script = format!(
            "chmod 777 .; chmod 777 .. 2>/dev/null; echo > bait; chmod 666 bait; cd $TMPDIR && pwd > {ready}
             while [ ! -e {go} ]; do sleep 0.01; done; echo > $out",
            ready = ready.display(),
            go = go.display()
        );
        let file = world.graph("g.json", &graph_of([(mark, crate::harness::sh(&script))]));
        let running = runs(world.windrow("build").arg(file)).start();
        crate::harness::wait_until("the builder is ready", || !text(&ready).is_empty());
        let dir = text(&ready).trim().to_owned();
        // A stranger, and the other build user, who is in the builder's group.
        let found = [(31_237, 31_237), (first + 2, first)].map(|(uid, gid)| {
            let (user, group) = (format!("--reuid={uid}"), format!("--regid={gid}"));
            let command = Cmd::new("/bin/sh", "/".as_ref());
            let line = format!("echo evil > {dir}/bait || ls {dir}");
            let command = command.args(["-c", &line]);
            let command = command.through("/usr/bin/setpriv", &[&user, &group, "--clear-groups"]);
            command.run().status.success()
        });
        world.write(go.file_name().unwrap().to_str().unwrap(), "");
        running.wait().exits(0);
        world.is_clean();
        found
    };
    let users = |cmd: Cmd| with_users(&world, cmd);
    assert_eq!(entered("users", &users), [false, false]);
    // A builder that is whoever runs windrow may show others what it likes.
    world.conf("");
    assert_eq!(
        entered("open", &|cmd| cmd),
        [true, true],
        "the attempt is no real one"
    );
}
