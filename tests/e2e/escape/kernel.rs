//! What builders try with the kernel itself: namespaces in their own, cgroups, keys, leases,
//! families of sockets, requests to devices and files; and what they leave for those who look at a
//! failed build.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::json;

use super::{OPEN, attempts, built, holds, perl, tried};
use crate::harness::{Caller, World, graph_of, need, sh, sh_with, skip, text};

/// Settings without the filter of system calls.
const UNFILTERED: [&str; 3] = ["--option", "filter-syscalls", "false"];
/// Settings with namespaces in that of a builder. One word more, for builds are named after the
/// number of words.
const NESTING: [&str; 4] = ["--option", "sandbox-allow-namespaces", "true", "-q"];

/// Expects an attempt to fail with the filter and to work without it, both in a sandbox.
#[track_caller]
fn filtered(world: &World, caller: Caller, command: &str) {
    let inside = built(world, caller, &[], tried(command));
    assert_eq!(inside, "held\n", "filtered, as {caller:?}: {command}");
    let outside = built(world, caller, &UNFILTERED, tried(command));
    assert_eq!(outside, "broken\n", "unfiltered, as {caller:?}: {command}");
    world.is_clean();
}

/// The numbers of the calls that are made by number here are those of x86-64.
macro_rules! need_x86_64 {
    () => {
        if !cfg!(target_arch = "x86_64") {
            return skip("knows the numbers of x86-64 only");
        }
    };
}

/// Whether this machine lets a process that is nobody special make these namespaces.
fn makes_namespaces(options: &str) -> bool {
    let line = format!("setpriv --reuid=31234 --regid=31234 --clear-groups unshare {options} true");
    crate::harness::Cmd::new("/bin/sh", "/".as_ref())
        .args(["-c", &line])
        .run()
        .status
        .success()
}

#[test]
fn no_namespaces_are_made_unless_a_setting_allows_it() {
    need!("unshare", "setpriv");
    need!(root);
    if !makes_namespaces("--user --map-root-user --mount --pid --fork") {
        return skip("this machine makes no user namespaces");
    }
    attempts(|world, caller| {
        for kinds in ["", "--mount", "--net", "--uts --ipc --pid --fork"] {
            let command = format!("unshare --user --map-root-user {kinds} true");
            holds(world, caller, &command);
            let allowed = built(world, caller, &NESTING, tried(&command));
            assert_eq!(allowed, "broken\n", "allowed, as {caller:?}: {command}");
        }
        // Threads and processes are made by the same call.
        let threads = "perl -e 'for (1..3) { my $p = fork; defined $p or exit 1; exit unless $p; waitpid $p, 0 } exit system(\"true\")'";
        assert_eq!(built(world, caller, &[], tried(threads)), "broken\n");
        world.is_clean();
    });
}

#[test]
fn no_cgroups_are_mounted_even_where_namespaces_are_allowed() {
    need!("unshare", "mount", "setpriv");
    need!(root);
    if !makes_namespaces("--user --map-root-user --cgroup --mount") {
        return skip("this machine makes no namespaces of cgroups");
    }
    let filesystems = text("/proc/filesystems");
    let kinds = [
        ("cgroup2", "cgroup2"),
        ("cgroup", "cgroup -o none,name=systemd"),
    ];
    attempts(|world, caller| {
        for (kind, mount) in kinds {
            if !filesystems
                .lines()
                .any(|line| line.ends_with(&format!("\t{kind}")))
            {
                continue;
            }
            // Seeing it is enough: what would be killed is windrow, and who started it.
            let command = |flags: &str| {
                let mount = format!("mkdir -p m; mount -t {mount} none m && [ -e m/cgroup.procs ]");
                format!("unshare --user --map-root-user --mount {flags} sh -c \"{mount}\"")
            };
            for flags in ["--cgroup", ""] {
                for options in [&[][..], &NESTING] {
                    let seen = built(world, caller, options, tried(&command(flags)));
                    assert_eq!(
                        seen,
                        "held\n",
                        "as {caller:?}: {} {options:?}",
                        command(flags)
                    );
                }
            }
            // A hierarchy of the old kind may not be there to be mounted.
            let seen = built(world, caller, &OPEN, tried(&command("--cgroup")));
            if kind == "cgroup2" {
                assert_eq!(seen, "broken\n", "the attempt is no real one");
            }
        }
        world.is_clean();
    });
}

#[test]
fn namespaces_are_refused_where_they_can_not_be_limited_as_well() {
    need!("unshare", "mount");
    need!(root);
    attempts(|world, caller| {
        // A user's sandbox needs a /proc that it may change, or there is none at all.
        if caller != Caller::Self_ {
            return;
        }
        let run = |options: &[&str], command: &str| {
            let name = format!("x{}", options.len());
            let file = world.graph("g.json", &graph_of([(name.as_str(), tried(command))]));
            let line = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"";
            let cmd = world.windrow("build").arg(file).args(options);
            let unshare = ["--mount", "/bin/sh", "-c", line, "sh"];
            text(cmd.through("/usr/bin/unshare", &unshare).ok().path())
        };
        for (kinds, allowed) in [
            ("", "broken\n"),
            ("--mount", "broken\n"),
            ("--cgroup", "held\n"),
        ] {
            let command = format!("unshare --user {kinds} true");
            assert_eq!(run(&[], &command), "held\n", "{command}");
            assert_eq!(run(&NESTING, &command), allowed, "allowed: {command}");
            assert_eq!(
                run(&OPEN, &command),
                "broken\n",
                "the attempt is no real one"
            );
        }
        // What is refused must not keep programs from making threads and processes.
        let works = "perl -e 'my $p = fork; defined $p or exit 1; exit unless $p; waitpid $p, 0; exit system(\"true\")'";
        assert_eq!(run(&["-q"], works), "broken\n");
        world.is_clean();
    });
}

/// A file for a builder to see that has the caller's set-user-id bit, at `/tools/suid`.
fn set_user_id_file(world: &World, caller: Caller) -> String {
    let file = world.write("tools/suid", "#!/bin/sh\n");
    let tools = file.parent().unwrap();
    if caller == Caller::Somebody {
        std::os::unix::fs::chown(&file, Some(31_234), Some(31_234)).unwrap();
    }
    fs::set_permissions(tools, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    format!("/tools={}", tools.display())
}

/// What lies in a tree, links not followed.
fn tree(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![path.to_owned()];
    if path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir())
    {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(tree(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn what_is_kept_of_a_failed_build_gives_nobody_privileges() {
    need!("unshare", "mount", "setpriv");
    need!(root);
    if !text("/proc/filesystems").contains("\toverlay") || !makes_namespaces("--user --mount") {
        return skip("needs overlay file systems and user namespaces");
    }
    attempts(|world, caller| {
        let paths = set_user_id_file(world, caller);
        // The kernel itself copies the file with its mode, when the overlay's is opened for
        // writing.
        let script = "mkdir up work m $out; chmod 1777 /tmp; mkfifo fifo; ln -s /tools/suid link
            unshare --user --map-root-user --mount sh -c '
              mount -t overlay none -o lowerdir=/tools,upperdir=up,workdir=work,userxattr m && : >> m/suid'
            [ -u up/suid ] && echo it is there; echo > $out/file; mv up/suid $out/ 2>/dev/null; cp -a $out/suid . 2>/dev/null
            unshare --user --map-root-user --mount sh -c '
              mount -t overlay none -o lowerdir=/tools,upperdir=up,workdir=work,userxattr m && : >> m/suid'; exit 1";
        let kept = |name: &str, options: &[&str]| {
            let file = world.graph("g.json", &graph_of([(name, sh(script))]));
            let cmd = world
                .windrow("build")
                .arg(file)
                .args(["--keep-failed", "-L"]);
            let cmd = cmd
                .args(["--option", "extra-sandbox-paths", &paths])
                .args(options);
            let ran = caller.runs(cmd).run().exits(100);
            let kept = world.at(format!("tmp/nix-build-{name}.drv-0"));
            assert_eq!(kept.metadata().unwrap().mode() & 0o7777, 0o755);
            let output = world.store_entries().into_iter();
            let output =
                output.filter(|path| path.to_string_lossy().ends_with(&format!("-{name}")));
            for path in output.flat_map(|output| tree(&output)).chain(tree(&kept)) {
                let metadata = path.symlink_metadata().unwrap();
                let harmful = metadata.mode() & 0o7022;
                assert!(metadata.is_symlink() || harmful == 0, "{}", path.display());
            }
            (ran.stderr.contains("it is there"), kept)
        };
        let (seen, closed) = kept("closed", &[]);
        assert!(!seen, "a set-user-id file came about, as {caller:?}");
        assert!(!closed.join("build/up/suid").exists());
        let (seen, open) = kept("open", &NESTING);
        assert!(seen, "the attempt is no real one, as {caller:?}");
        assert!(open.join("build/up/suid").exists() && open.join("build/fifo").exists());
        world.is_clean_but_for(&[closed, open]);
    });
}

#[test]
fn what_is_kept_without_a_sandbox_gives_nobody_privileges_either() {
    attempts(|world, caller| {
        let script =
            "mkdir sub $out; echo > sub/suid; echo > $out/suid; chmod 6755 sub/suid $out/suid
            chmod 1777 sub; [ -u sub/suid ] && echo it is there; exit 1";
        let file = world.graph("g.json", &graph_of([("x", sh(script))]));
        let cmd = world
            .windrow("build")
            .arg(file)
            .args(["--keep-failed", "-L"]);
        let ran = caller
            .runs(cmd.args(OPEN).args(UNFILTERED))
            .run()
            .exits(100);
        assert!(
            ran.stderr.contains("it is there"),
            "the attempt is no real one: {ran}"
        );
        let kept = world.at("tmp/nix-build-x.drv-0");
        let output = world.store_entries().into_iter();
        let output = output.filter(|path| path.to_string_lossy().ends_with("-x"));
        let output: Vec<_> = output.flat_map(|output| tree(&output)).collect();
        assert!(output.len() == 2 && kept.join("sub/suid").exists());
        for path in output.into_iter().chain(tree(&kept)) {
            let harmful = path.metadata().unwrap().mode() & 0o7022;
            assert_eq!(harmful, 0, "{}", path.display());
        }
        assert_eq!(kept.metadata().unwrap().mode() & 0o7777, 0o755);
    });
}

#[test]
fn keys_of_others_are_out_of_reach() {
    need!("perl");
    need_x86_64!();
    attempts(|world, caller| {
        // To the keyring of the user, which outlives the build and is that of all builds of the
        // same user.
        let call = |code: &str| {
            perl(&format!(
                "my ($type, $name, $data) = (\"user\", \"windrow-test\", \"x\"); exit({code} < 0)"
            ))
        };
        filtered(
            world,
            caller,
            &call("syscall(248, $type, $name, $data, 1, -4)"),
        );
        filtered(world, caller, &call("syscall(250, 0, -4, 1)"));
        // What is not found, the kernel asks a program of the machine for, as root.
        let found =
            "syscall(248, $type, $name, $data, 1, -3) < 0 ? -1 : syscall(249, $type, $name, 0, 0)";
        filtered(world, caller, &call(found));
    });
}

#[test]
fn nobody_is_kept_from_opening_an_input() {
    need!("perl");
    attempts(|world, caller| {
        let attempt = |options: &[&str]| {
            let lease = perl("open(F, \"<\", $ENV{file}) or exit 1; exit !fcntl(F, 1024, 0)");
            let script = format!(
                "file=@{{dep}}/file; export file; if {lease}; then echo broken; else echo held; fi > $out"
            );
            let name = format!("x{}", options.len());
            let graph = graph_of([
                ("dep", sh("mkdir $out; echo > $out/file")),
                (name.as_str(), sh(&script)),
            ]);
            let file = world.graph("g.json", &graph);
            let cmd = world.windrow("build").arg(file).args(options);
            text(caller.runs(cmd).ok().path())
        };
        assert_eq!(attempt(&[]), "held\n");
        assert_eq!(
            attempt(&UNFILTERED),
            "broken\n",
            "the attempt is no real one"
        );
        world.is_clean();
    });
}

/// Prints the families of sockets, and the protocols of AF_NETLINK, that there are.
const SOCKETS: &str = r#"for my $f (1..45) { for my $t (1, 2) { if (syscall(41, $f, $t, 0) >= 0) { print "$f "; last } } }
    for my $p (1..22) { print "16:$p " if syscall(41, 16, 3, $p) >= 0 }
    for my $f (16, 40) { print "pair:$f " if syscall(53, $f, 1, 0, my $b = " " x 8) >= 0 }"#;

#[test]
fn sockets_are_of_the_families_that_builds_need() {
    need!("perl");
    need_x86_64!();
    attempts(|world, caller| {
        let script = format!("{} > $out", perl(SOCKETS));
        let seen = built(world, caller, &[], sh(&script));
        let known = ["1", "2", "10", "16"];
        assert!(
            seen.split_whitespace()
                .all(|family| known.contains(&family)),
            "{seen}"
        );
        assert!(seen.starts_with("1 2 "), "{seen}");
        let open = built(world, caller, &UNFILTERED, sh(&script));
        // Messages from the machine's devices, in every kernel; sockets of its hypervisor and
        // others, in some.
        assert!(
            open.contains("16:15 "),
            "the attempt is no real one: {open}"
        );
        world.is_clean();
    });
}

#[test]
fn other_abis_make_no_other_sockets() {
    need!("perl");
    need_x86_64!();
    attempts(|world, caller| {
        // A program that calls socketcall(SYS_SOCKET, { AF_UNIX, SOCK_STREAM, 0 }) through the gate
        // for 32 bits, and exits with the sign of the answer.
        let code = r#"
            my $length = 5 + 5 + 5 + 2 + 2 + 3 + 5 + 2; my $at = 0x400078 + $length;
            my $code = pack("CLCLCLCC CCCCC CLCC", 0xb8, 102, 0xbb, 1, 0xb9, $at, 0xcd, 0x80,
                0x89, 0xc7, 0xc1, 0xef, 31, 0xb8, 60, 0x0f, 0x05);
            length($code) == $length or die "its length is wrong"; $code .= pack("LLL", 1, 1, 0);
            my $size = 120 + length $code;
            open(P, ">prog"); binmode P;
            print P pack("C16 SSLQQQLSSSSSS", 0x7f, 69, 76, 70, 2, 1, 1, (0) x 9, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0);
            print P pack("LLQQQQQQ", 1, 5, 0, 0x400000, 0x400000, $size, $size, 0x1000), $code;
            close P; chmod 0755, "prog"; my $status = system("./prog");
            $status == 0 || $status == 256 or die "it does not run: $status"; print $status ? "held" : "broken";"#;
        let script = format!("{} > $out", perl(code));
        let Ok(open) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            built(world, caller, &UNFILTERED, sh(&script))
        })) else {
            return skip("this kernel has no other ABI");
        };
        if open == "held" {
            return skip("this kernel has no other ABI");
        }
        assert_eq!(open, "broken");
        assert_eq!(built(world, caller, &[], sh(&script)), "held");
        // Programs of that ABI know nothing else.
        let file = world.graph(
            "old.json",
            &graph_of([("old", sh_with(&script, json!({ "system": "i686-linux" })))]),
        );
        let cmd = world.windrow("build").arg(file);
        let cmd = cmd.args(["--option", "extra-platforms", "i686-linux"]);
        assert_eq!(text(caller.runs(cmd).ok().path()), "broken");
        world.is_clean();
    });
}

#[test]
fn labels_of_flows_do_not_outlive_a_build() {
    need!("perl");
    attempts(|world, caller| {
        let label = perl(
            "socket(S, 10, 2, 0) or exit 1; my $r = pack(\"x15 C N C C S S S L\", 1, 0x12345, 0, 1, 1, 0, 0, 0); exit !setsockopt(S, 41, 32, $r)",
        );
        if !Path::new("/proc/net/if_inet6").exists() {
            return skip("this kernel has no IPv6");
        }
        filtered(world, caller, &label);
    });
}

#[test]
fn terminals_take_no_words_that_nobody_typed() {
    need!("perl");
    if !text("/proc/sys/dev/tty/legacy_tiocsti").starts_with('1') {
        return skip("this kernel has that for nobody");
    }
    attempts(|world, caller| {
        // On a terminal of its own, which it must be able to have.
        let code = "setsid(); $SIG{HUP} = \"IGNORE\"; my ($zero, $number, $x) = (pack(\"i\", 0), \"\\0\" x 4, \"x\"); open(M, \"+<\", \"/dev/ptmx\") or exit 1;
            ioctl(M, 0x40045431, $zero) && ioctl(M, 0x80045430, $number) or exit 1;
            open(T, \"+<\", \"/dev/pts/\" . unpack(\"i\", $number)) or exit 1;";
        let on_terminal = |then: &str| {
            format!(
                "perl -MPOSIX -e 'my $p = fork; if ($p) {{ waitpid $p, 0; exit($? != 0) }} {code} {then}'"
            )
        };
        filtered(world, caller, &on_terminal("exit !ioctl(T, 0x5412, $x)"));
        let written = built(
            world,
            caller,
            &["-q"],
            tried(&on_terminal("exit !syswrite(T, \"x\")")),
        );
        assert_eq!(written, "broken\n");
        world.is_clean();
    });
}

#[test]
fn files_get_no_flags() {
    need!("perl");
    need_x86_64!();
    attempts(|world, caller| {
        // "Not to be dumped", which takes no privileges.
        let flag =
            perl("open(F, \">f\"); my $v = pack(\"q\", 0x40); exit !ioctl(F, 0x40086602, $v)");
        if built(world, caller, &UNFILTERED, tried(&flag)) == "held\n" {
            return skip("this file system has no flags");
        }
        assert_eq!(built(world, caller, &[], tried(&flag)), "held\n");
        world.is_clean();
    });
}
