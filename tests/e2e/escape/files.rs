//! What a builder can read and write outside its own directories.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{OPEN, attempts, built, holds};
use crate::harness::{Caller, Cmd, graph_of, need, sh, text};

#[test]
fn secrets_are_not_read() {
    attempts(|world, caller| {
        let secret = world.at("home/secret");
        fs::write(&secret, "secret").unwrap();
        holds(
            world,
            caller,
            &format!("grep -q secret {}", secret.display()),
        );
        if caller == Caller::Self_ && crate::harness::is_root() {
            holds(world, caller, "[ -s /etc/shadow ]");
            holds(world, caller, "ls /root");
        }
        let other = sh("echo undeclared > $out");
        let file = world.graph("other.json", &graph_of([("other", other)]));
        let other = caller.runs(world.windrow("build").arg(file)).ok().line();
        // Named in pieces, so that no engine could take it for an input.
        let (dir, name) = other.split_at(other.len() - 20);
        holds(
            world,
            caller,
            &format!("grep -q undeclared {dir}\"\"{name}"),
        );
        let everything = "[ $(ls $NIX_STORE | wc -l) -gt 1 ]";
        holds(world, caller, everything);
        world.is_clean();
    });
}

#[test]
fn inputs_are_not_written_to() {
    attempts(|world, caller| {
        let graph = |options: usize| {
            graph_of([
                ("dep", sh("mkdir $out; echo good > $out/file")),
                (
                    format!("x{options}").leak(),
                    sh("{ chmod u+w @{dep} @{dep}/file; echo evil > @{dep}/file; echo > @{dep}/new
                         rm -rf @{dep}; mv @{dep} @{dep}.moved; mount -o remount,rw @{dep}; umount @{dep}; } 2>/dev/null
                        echo @{dep} > $out"),
                ),
            ])
        };
        let dep = |options: &[&str]| {
            let file = world.graph("g.json", &graph(options.len()));
            let cmd = world.windrow("build").arg(file).args(options);
            text(caller.runs(cmd).ok().path()).trim().to_owned()
        };
        let path = dep(&[]);
        assert_eq!(text(Path::new(&path).join("file")), "good\n");
        world.is_clean();
        world.stays_valid();
        let path = dep(&OPEN);
        assert!(
            !Path::new(&path).join("file").exists(),
            "the attempt is no real one"
        );
    });
}

#[test]
fn nothing_but_outputs_comes_into_the_store() {
    attempts(|world, caller| {
        let script = "echo evil > $NIX_STORE/00000000000000000000000000000000-evil; echo > $NIX_STORE/.hidden
            mkdir $NIX_STORE/dir; ln -s /etc $NIX_STORE/link; echo > $out";
        let strange = |options: &[&str]| {
            built(world, caller, options, sh(script));
            let entries = world.store_entries();
            let strange = entries.iter().filter(|path| {
                ["-evil", "hidden", "dir", "link"]
                    .iter()
                    .any(|name| path.to_string_lossy().ends_with(name))
            });
            strange.count()
        };
        assert_eq!(strange(&[]), 0);
        world.is_clean();
        assert_eq!(strange(&OPEN), 4, "the attempt is no real one");
    });
}

#[test]
fn builds_do_not_reach_each_others_directories() {
    attempts(|world, caller| {
        let tmp = world.at("tmp");
        let evil = format!(
            "for i in 1 2 3 4 5 6 7 8 9 10; do for dir in {0}/nix-build-victim* {0}/.windrow-run-*/*/build /build/../victim; do
               (echo > $dir/evil) 2>/dev/null; done; sleep 0.1; done; echo > $out",
            tmp.display()
        );
        let seen = |options: &[&str]| {
            let (victim, attacker) = (
                format!("victim{}", options.len()),
                format!("attacker{}", options.len()),
            );
            let all = sh(&format!("cat @{{{victim}}} @{{{attacker}}} > $out"));
            let graph = graph_of([
                (victim.as_str(), sh("sleep 1; ls > $out")),
                (attacker.as_str(), sh(&evil)),
                (
                    if options.is_empty() {
                        "all"
                    } else {
                        "all-open"
                    },
                    all,
                ),
            ]);
            let file = world.graph("g.json", &graph);
            let cmd = world
                .windrow("build")
                .arg(file)
                .args(["-j", "2"])
                .args(options);
            text(caller.runs(cmd).ok().path())
        };
        assert_eq!(seen(&[]), "\n");
        assert_eq!(seen(&OPEN), "evil\n\n", "the attempt is no real one");
        world.is_clean();
    });
}

#[test]
fn others_do_not_enter_the_build_directory() {
    need!(root);
    attempts(|world, caller| {
        let entered = |options: &[&str]| {
            let mark = if options.is_empty() { "in" } else { "out" };
            // What a builder leaves open to all, as set-user-id programs of it would be.
            let script = "chmod 777 .; echo > bait; chmod 777 bait; mkdir $out; chmod 777 $out; echo > $out/bait; sleep 1; chmod 755 $out";
            let file = world.graph(&format!("{mark}.json"), &graph_of([(mark, sh(script))]));
            let running = caller
                .runs(world.windrow("build").arg(file).args(options))
                .start();
            let stranger = |glob: &str| {
                let line = format!("ls {glob}");
                Cmd::new("/bin/sh", "/".as_ref())
                    .args(["-c", &line])
                    .through(
                        "/usr/bin/setpriv",
                        &["--reuid=31235", "--regid=31235", "--clear-groups"],
                    )
                    .run()
                    .status
                    .success()
            };
            std::thread::sleep(Duration::from_millis(600));
            let (tmp, store) = (world.at("tmp"), world.store());
            let found = ["/nix-build-*/bait", "/.windrow-run-*/*/build/bait"]
                .iter()
                .any(|name| stranger(&format!("{}{name}", tmp.display())))
                || stranger(&format!(
                    "{}/*/bait {0}/*.chroot/*/store/*/bait",
                    store.display()
                ));
            running.wait().exits(0);
            found
        };
        assert!(!entered(&[]));
        assert!(entered(&OPEN), "the attempt is no real one");
    });
}
