//! What build users make: taken over only as theirs, changed by nobody afterwards, and harmless.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use super::{TWO, need_users, with_users, world};
use crate::harness::{graph_of, need, sh, sh_with, text};

#[test]
fn outputs_of_somebody_else_or_open_to_others_are_refused() {
    need_users!();
    let (world, _) = world(TWO);
    let strange = world.write("strange", "not the builder's");
    fs::hard_link(&strange, world.at("tmp/strange")).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&strange, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = |name: &str, script: &str, says: &str| {
        let file = world.graph("g.json", &graph_of([(name, sh(script))]));
        let ran = with_users(&world, world.windrow("build").arg(file)).run();
        assert_ne!(ran.status.code(), Some(0), "{ran}");
        ran.says(says);
    };
    refused(
        "open",
        "echo > $out; chmod 666 $out",
        "suspicious ownership or permission",
    );
    let link = format!(
        "mkdir $out; ln {} $out/link",
        world.at("tmp/strange").display()
    );
    // The kernel protects hard links too, but not to files that everybody may write to.
    refused("link", &link, "invalid ownership on file");
    let rename = format!("mv {} $out", world.at("tmp/strange").display());
    refused("moved", &rename, "cannot move");
    assert_eq!(strange.metadata().unwrap().uid(), 0);
    assert_eq!(text(&strange), "not the builder's");
}

#[test]
fn an_open_file_handed_out_does_not_change_a_fixed_output() {
    need_users!();
    let (world, _) = world(TWO);
    let hash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let inode = world.at("tmp/inode");
    let script = format!("printf hello > $out; stat -c %i $out > {}", inode.display());
    let drv = sh_with(
        &script,
        json!({ "outputHash": hash, "outputHashMode": "flat" }),
    );
    let file = world.graph("g.json", &graph_of([("x", drv)]));
    let out = with_users(&world, world.windrow("build").arg(file))
        .ok()
        .path();
    let made: u64 = text(&inode).trim().parse().unwrap();
    assert_ne!(out.metadata().unwrap().ino(), made);
    world.is_clean_but_for(&[inode]);
    let strange = world.store_entries();
    assert!(
        strange
            .iter()
            .all(|path| !path.to_string_lossy().contains("/.")),
        "{strange:?}"
    );
}

#[test]
fn a_fixed_output_that_is_copied_is_left_alone_by_collectors() {
    need_users!();
    need!("nix-store", "nix-hash");
    let (world, _) = world(TWO);
    let fill = |dir: &str| {
        format!("mkdir {dir}; i=0; while [ $i -lt 3000 ]; do echo $i > {dir}/$i; i=$((i+1)); done")
    };
    let like = world.file("like").display().to_string();
    world.program("sh").args(["-c", &fill(&like)]).ok();
    let hash = world.program("nix-hash").args(["--type", "sha256", &like]);
    let hash = hash.ok().line();
    let is_copying = || {
        let entries = world.store_entries();
        let mut copies = entries.iter().filter(|path| path.join("copy").exists());
        copies.next().is_some()
    };
    let mut stopped = 0;
    for attempt in 0..20 {
        let fixed = json!({ "outputHash": hash, "outputHashAlgo": "sha256", "outputHashMode": "recursive" });
        let name = format!("x{attempt}");
        let graph = graph_of([(name.as_str(), sh_with(&fill("$out"), fixed))]);
        let file = world.graph("g.json", &graph);
        let mut build = with_users(&world, world.windrow("build").arg(file)).start();
        while build.is_running() && !is_copying() {}
        if build.is_running() {
            build.signal("STOP");
            if is_copying() {
                stopped += 1;
                for collector in [world.windrow("nix-store"), world.program("nix-store")] {
                    // Nix does not know the users' group.
                    let none = ["--gc", "--option", "build-users-group", ""];
                    collector.args(none).ok();
                    assert!(is_copying(), "the copy was collected");
                }
            }
            build.signal("CONT");
        }
        let out = build.wait().exits(0).path();
        assert_eq!(fs::read_dir(out).unwrap().count(), 3000);
        world.is_clean();
        if stopped == 2 {
            break;
        }
    }
    assert!(stopped > 0, "it was never met while it copied");
    world.conf("");
    world.stays_valid();
}

#[test]
fn what_a_build_user_leaves_is_made_harmless_before_others_are_let_in() {
    need_users!();
    use std::os::unix::fs::PermissionsExt as _;
    let (world, first) = world(TWO);
    // Set-id bits of a build user would let others act as one that a later build has. Without the
    // filter, for there are other ways to make them.
    let script = "mkdir sub; echo > sub/suid; chmod 6755 sub/suid; echo > open; chmod 666 open; chmod 777 . sub
        [ -u sub/suid ] && echo it is there; mkdir $out; echo > $out/suid; chmod 4755 $out/suid; exit 1";
    let file = world.graph("g.json", &graph_of([("x", sh(script))]));
    for sandbox in ["false", "true"] {
        let cmd = world
            .windrow("build")
            .arg(&file)
            .args(["--keep-failed", "-L"]);
        let paths = "/usr /bin? /lib? /lib64? /lib32?";
        let cmd = cmd.args([
            "--option",
            "sandbox",
            sandbox,
            "--option",
            "sandbox-paths",
            paths,
        ]);
        let cmd = cmd.args(["--option", "filter-syscalls", "false"]);
        let ran = with_users(&world, cmd).run().exits(100);
        assert!(
            ran.stderr.contains("it is there"),
            "the attempt is no real one: {ran}"
        );
        let top = world.at("tmp/nix-build-x.drv-0");
        let kept = top.join("build");
        let mode =
            |path: std::path::PathBuf| path.metadata().unwrap().permissions().mode() & 0o7777;
        let seen = ["", "sub", "sub/suid", "open"].map(|name| mode(kept.join(name)));
        assert_eq!(seen, [0o755, 0o755, 0o755, 0o644], "sandbox {sandbox}");
        assert_eq!(mode(top.clone()), 0o755);
        assert_eq!(kept.join("sub/suid").metadata().unwrap().uid(), first + 1);
        let output = world.store_entries().into_iter();
        let output = output.filter(|path| path.to_string_lossy().ends_with("-x"));
        for path in output {
            assert_eq!(mode(path.join("suid")) & 0o7022, 0, "sandbox {sandbox}");
        }
        fs::remove_dir_all(top).unwrap();
    }
}

#[test]
fn a_directory_that_build_users_may_not_enter_is_named() {
    need_users!();
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = world(TWO);
    let drv = world.add_one("x", sh("echo > $out"));
    fs::set_permissions(world.at(""), fs::Permissions::from_mode(0o750)).unwrap();
    // Where build directories are is another matter.
    let tmp = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let build = world.windrow("build").env("TMPDIR", tmp.path()).arg(&drv);
    let ran = with_users(&world, build).run().exits(1);
    let root = world.at("").display().to_string();
    ran.says("may not enter the directory")
        .says(root.trim_end_matches('/'))
        .says("mode 0750");
}
