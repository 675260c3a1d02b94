//! Builders that try to break out. Each attempt is made twice: in the sandbox, where it must fail
//! or be harmless, and with the protection taken away, where it must work, so that it is known to
//! be a real one.

mod builtin;
mod collector;
mod directories;
mod handed_out;
mod input;
mod kernel;
mod killed;

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Caller, Cmd, World, for_each_caller, graph_of, need, sh, sh_with, text, wait_until,
};

/// A sandbox with the machine's own programs, for attempts that busybox is too small for.
pub(super) const ROOMY: &str =
    "sandbox = true\nsandbox-fallback = false\nsandbox-paths = /usr /bin? /lib? /lib64? /lib32?\n";

/// Settings without the protection.
pub(super) const OPEN: [&str; 3] = ["--option", "sandbox", "false"];

/// Runs a test in such a world for each caller.
pub(super) fn attempts(test: impl Fn(&World, Caller)) {
    for_each_caller(|world, caller| {
        world.conf(ROOMY);
        test(world, caller);
    });
}

/// Builds a graph with one target in a fresh name, and gives the text of its output.
#[track_caller]
pub(super) fn built(world: &World, caller: Caller, options: &[&str], derivation: Value) -> String {
    let name = format!("x{}", options.len());
    let file = world.graph("g.json", &graph_of([(name.as_str(), derivation)]));
    let cmd = world.windrow("build").arg(file).args(options);
    text(caller.runs(cmd).ok().path())
}

/// A script that says "broken" if a command works and "held" if not.
pub(super) fn tried(command: &str) -> Value {
    sh(&format!(
        "if {command}; then echo broken; else echo held; fi > $out 2>/dev/null"
    ))
}

/// Expects an attempt to fail in the sandbox and to work outside.
#[track_caller]
pub(super) fn holds(world: &World, caller: Caller, command: &str) {
    let inside = built(world, caller, &[], tried(command));
    assert_eq!(inside, "held\n", "in the sandbox, as {caller:?}: {command}");
    let outside = built(world, caller, &OPEN, tried(command));
    assert_eq!(outside, "broken\n", "without it, as {caller:?}: {command}");
}

/// The command in perl, which every Debian has.
pub(super) fn perl(code: &str) -> String {
    format!("perl -MSocket -e '{code}'")
}

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

#[test]
fn the_network_and_sockets_of_the_machine_are_out_of_reach() {
    need!("perl");
    attempts(|world, caller| {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let connect = format!(
            "socket(S,PF_INET,SOCK_STREAM,0) or exit 1; connect(S,sockaddr_in({port},inet_aton(\"127.0.0.1\"))) or exit 1"
        );
        holds(world, caller, &perl(&connect));
        let name = format!("windrow-test-{}-{caller:?}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _abstract = UnixListener::bind_addr(&address).unwrap();
        let connect = format!(
            "socket(S,PF_UNIX,SOCK_STREAM,0) or exit 1; connect(S,pack(\"Sa*\",AF_UNIX,\"\\0{name}\")) or exit 1"
        );
        holds(world, caller, &perl(&connect));
        world.is_clean();
    });
}

/// Whether this kernel can scope abstract sockets (Landlock since Linux 6.12).
fn scopes_sockets() -> bool {
    let release = text("/proc/sys/kernel/osrelease");
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 12)
}

#[test]
fn fixed_outputs_do_not_reach_abstract_sockets_either() {
    need!("perl");
    if !scopes_sockets() {
        return crate::harness::skip("needs Linux 6.12");
    }
    attempts(|world, caller| {
        let name = format!("windrow-fixed-{}-{caller:?}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let connect = perl(&format!(
            "socket(S,PF_UNIX,SOCK_STREAM,0) or exit 1; connect(S,pack(\"Sa*\",AF_UNIX,\"\\0{name}\")) or exit 1"
        ));
        let run = |name: &str, options: &[&str]| {
            // The hash is that of "held".
            let hash = "sha256-wg3qTYdrW4+woYFLQwFwMM6m1KwwstmucbQE0vq6SbU=";
            let script = format!(
                "if {connect}; then printf broken; else printf held; fi > $out 2>/dev/null"
            );
            let drv = sh_with(
                &script,
                json!({ "outputHash": hash, "outputHashMode": "flat" }),
            );
            let file = world.graph("g.json", &graph_of([(name, drv)]));
            let cmd = world.windrow("build").arg(file).args(options);
            caller.runs(cmd).run()
        };
        run("in", &[]).exits(0);
        run("out", &OPEN).exits(102);
        world.is_clean();
    });
}

#[test]
fn an_open_file_handed_out_does_not_change_a_fixed_output() {
    attempts(|world, caller| {
        // The accomplice holds what the builder made, by a second name in a directory that both
        // see.
        let shared = world.at("files/shared");
        fs::create_dir_all(&shared).unwrap();
        let hash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let drv = sh_with(
            "printf hello > $out; stat -c %i $out",
            json!({ "outputHash": hash, "outputHashMode": "flat" }),
        );
        let file = world.graph("g.json", &graph_of([("x", drv)]));
        let ran = caller
            .runs(world.windrow("build").arg(&file).arg("-L"))
            .ok();
        let inode: u64 = ran
            .stderr
            .split_whitespace()
            .rev()
            .find_map(|word| word.parse().ok().filter(|&n: &u64| n > 1000))
            .expect("the inode that the builder made");
        let out = ran.path();
        assert_ne!(
            out.symlink_metadata().unwrap().ino(),
            inode,
            "the output is the very file that the builder had open"
        );
        assert_eq!(text(&out), "hello");
        world.stays_valid();
    });
}

#[test]
fn processes_outside_are_neither_seen_nor_signalled() {
    attempts(|world, caller| {
        let victim = || caller.runs(world.program("/bin/sleep").arg("300")).start();
        let script = |pid: u32| {
            format!(
                "{{ kill -9 {pid}; [ $$ = 1 ] && kill -9 -1; ls /proc/{pid}; }} 2>/dev/null; ls /proc | grep -c '^[0-9]' > $out"
            )
        };
        let mut running = victim();
        let seen: u32 = built(world, caller, &[], sh(&script(running.id())))
            .trim()
            .parse()
            .unwrap();
        assert!(seen <= 4, "it sees {seen} processes");
        assert!(running.is_running());
        let only_kill = format!("kill -9 {}; echo > $out", running.id());
        built(world, caller, &OPEN, sh(&only_kill));
        assert!(
            !running.wait().status.success(),
            "the attempt is no real one"
        );
        world.is_clean();
    });
}

#[test]
fn a_daemon_does_not_rewrite_the_output_afterwards() {
    attempts(|world, caller| {
        let script = "echo good > $out
            setsid sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 0.1; chmod u+w '$out'; echo evil > '$out'; done' \
              > /dev/null 2>&1 < /dev/null &
            sleep 0.05";
        let built = |options: &[&str]| {
            let name = format!("x{}", options.len());
            let file = world.graph("g.json", &graph_of([(name.as_str(), sh(script))]));
            let cmd = world.windrow("build").arg(file).args(options);
            caller.runs(cmd).ok().path()
        };
        let out = built(&[]);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(text(out), "good\n");
        world.is_clean();
        world.stays_valid();
        let out = built(&OPEN);
        // While it is written anew, it is empty for a moment.
        wait_until("the attempt is a real one", || text(&out) == "evil\n");
        std::thread::sleep(Duration::from_millis(1500));
    });
}

#[test]
fn an_output_that_is_being_swapped_is_taken_as_it_is_in_the_end() {
    attempts(|world, caller| {
        // Not /etc itself, so that nothing but this file is harmed where the protection fails.
        let victim = world.write("victim/file", "precious");
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
        let directory = victim.parent().unwrap();
        // They end by themselves, where nothing ends them. The second one stays in the output
        // wherever that is moved.
        let swap = format!(
            "mkdir $out; echo good > $out/file
            setsid sh -c 'n=0; while [ $n -lt 1500 ]; do n=$((n + 1)); mv '$out' ./was; ln -s {directory} '$out'; rm '$out'; mv ./was '$out'; \
              rm '$out'/file; ln -s {victim} '$out'/file; rm '$out'/file; echo good > '$out'/file; done' > /dev/null 2>&1 < /dev/null &
            sleep 0.3",
            directory = directory.display(),
            victim = victim.display(),
        );
        let change = format!(
            "mkdir $out; cd $out; echo good > file
            setsid sh -c 'n=0; while [ $n -lt 1500 ]; do n=$((n + 1)); chmod u+w .; rm -f file; ln -s {victim} file; \
              rm -f file; echo $n > file; done' > /dev/null 2>&1 < /dev/null &
            sleep 0.3",
            victim = victim.display(),
        );
        let look = || {
            [&victim, directory].map(|path| {
                let metadata = fs::symlink_metadata(path).unwrap();
                (
                    metadata.mode(),
                    metadata.uid(),
                    metadata.mtime(),
                    metadata.ino(),
                )
            })
        };
        let before = look();
        for n in 0..6 {
            let script = if n % 2 == 0 { &swap } else { &change };
            let name = format!("x{n}");
            let file = world.graph(
                "g.json",
                &graph_of([(name.as_str(), sh(&format!("# {n}\n{script}")))]),
            );
            let ran = caller.runs(world.windrow("build").arg(file)).run();
            // Whatever lay there when everything died: it is that, or an error, and never something
            // of the directory.
            let worst = if n % 2 == 0 { 1 } else { 0 };
            assert!(
                (0..=worst).contains(&ran.status.code().unwrap_or(-1)),
                "{ran}"
            );
            let _ = ran.no_panic();
            assert_eq!(look(), before);
        }
        world.is_clean();
        world.stays_valid();
    });
}

#[test]
fn an_output_that_is_a_link_changes_nothing_at_its_target() {
    attempts(|world, caller| {
        let victim = world.write("victim", "precious");
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
        let look = || {
            let metadata = victim.metadata().unwrap();
            (
                metadata.mode(),
                metadata.uid(),
                metadata.mtime(),
                text(&victim),
            )
        };
        let before = look();
        for (name, script) in [
            ("plain", format!("ln -s {} $out", victim.display())),
            (
                "inside",
                format!("mkdir $out; ln -s {} $out/link", victim.display()),
            ),
            ("passwd", "ln -s /etc/passwd $out".to_owned()),
        ] {
            let file = world.graph("g.json", &graph_of([(name, sh(&script))]));
            let out = caller.runs(world.windrow("build").arg(file)).ok().path();
            assert!(out.symlink_metadata().unwrap().is_symlink() || out.join("link").is_symlink());
            assert_eq!(look(), before);
        }
        // A fixed output is copied, which must not follow the link either.
        let hash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        for mode in ["flat", "recursive"] {
            let link = sh_with(
                &format!("ln -s {} $out", victim.display()),
                json!({ "outputHash": hash, "outputHashMode": mode }),
            );
            let file = world.graph("g.json", &graph_of([(mode, link)]));
            let ran = caller.runs(world.windrow("build").arg(file)).run();
            assert!([1, 102].contains(&ran.status.code().unwrap_or(-1)), "{ran}");
            assert_eq!(look(), before);
        }
        world.is_clean();
        world.stays_valid();
    });
}

#[test]
fn no_set_user_id_files_and_attributes_come_about() {
    need!("perl");
    if !cfg!(target_arch = "x86_64") {
        return crate::harness::skip("knows the numbers of x86-64 only");
    }
    attempts(|world, caller| {
        // By number, whatever the C library makes of the calls. It prints the names of those that
        // worked.
        let code = r#"
            my ($m, $cwd, $dot, $n) = (04755, -100, ".", 0);
            sub fresh { my $f = "f" . $n++; open(F, ">$f"); close F; $f }
            sub unused { "f" . $n++ }
            sub seen { my ($name, $f) = @_; print "$name " if -e $f && (stat $f)[2] & 06000 }
            my $f = fresh; syscall(90, $f, $m); seen("chmod", $f);
            $f = fresh; open(F, "<$f"); syscall(91, fileno(F), $m); seen("fchmod", $f);
            $f = fresh; syscall(268, $cwd, $f, $m); seen("fchmodat", $f);
            $f = fresh; syscall(452, $cwd, $f, $m, 0); seen("fchmodat2", $f);
            $f = unused; syscall(2, $f, 0101, $m); seen("open", $f);
            $f = unused; syscall(257, $cwd, $f, 0101, $m); seen("openat", $f);
            $f = unused; my $how = pack("Q3", 0101, $m, 0); syscall(437, $cwd, $f, $how, 24); seen("openat2", $f);
            $f = unused; syscall(85, $f, $m); seen("creat", $f);
            $f = unused; syscall(133, $f, 0100000 | $m, 0); seen("mknod", $f);
            $f = unused; syscall(259, $cwd, $f, 0100000 | $m, 0); seen("mknodat", $f);
            my $fd = syscall(257, $cwd, $dot, 020200002, $m); seen("tmpfile", "/proc/self/fd/$fd") if $fd >= 0;
            $f = fresh; open(F, "<$f"); my $v = "y"; my ($k1, $k2, $k3, $k4) = map { "user.$_" } 1..4;
            print "setxattr " if syscall(188, $f, $k1, $v, 1, 0) == 0;
            print "lsetxattr " if syscall(189, $f, $k2, $v, 1, 0) == 0;
            print "fsetxattr " if syscall(190, fileno(F), $k3, $v, 1, 0) == 0;
            my $args = pack("PLL", $v, 1, 0); print "setxattrat " if syscall(463, $cwd, $f, 0, $k4, $args, 16) == 0;
            my $acl = pack("LSSLSSLSSL", 2, 1, 6, -1, 4, 4, -1, 32, 4, -1); my $k = "system.posix_acl_access";
            print "acl " if syscall(188, $f, $k, $acl, length $acl, 0) == 0;
            my $ring = pack("x120"); print "io_uring " if syscall(425, 1, $ring) >= 0;"#;
        let script = format!("{} > $out", perl(code));
        assert_eq!(built(world, caller, &[], sh(&script)), "");
        let open = ["--option", "filter-syscalls", "false"];
        let found = built(world, caller, &open, sh(&script));
        // Younger kernels have more.
        for name in [
            "chmod",
            "fchmod",
            "fchmodat",
            "open",
            "openat",
            "openat2",
            "creat",
            "mknod",
            "mknodat",
            "tmpfile",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "acl",
        ] {
            let worked = found.split(' ').any(|found| found == name);
            assert!(worked, "the attempt of {name} is no real one: {found}");
        }
        world.is_clean();
    });
}

#[test]
fn calls_of_other_abis_make_no_set_user_id_files_either() {
    need!("perl");
    if !cfg!(target_arch = "x86_64") {
        return crate::harness::skip("knows the machine code of x86-64 only");
    }
    attempts(|world, caller| {
        // A program that calls chmod("f", 04755) through the gate for 32 bits, then as x32 does.
        let code = r#"
            my ($at, $mode) = (0x4000a3, 04755);
            my $code = pack("CLCLCLCC CLCLCLCC CLCCCC", 0xb8, 15, 0xbb, $at, 0xb9, $mode, 0xcd, 0x80,
                0xb8, 0x4000005a, 0xbf, $at, 0xbe, $mode, 0x0f, 0x05, 0xb8, 60, 0x31, 0xff, 0x0f, 0x05);
            my $size = 120 + length($code) + 2;
            open(P, ">prog"); binmode P;
            print P pack("C16 SSLQQQLSSSSSS", 0x7f, 69, 76, 70, 2, 1, 1, (0) x 9, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0);
            print P pack("LLQQQQQQ", 1, 5, 0, 0x400000, 0x400000, $size, $size, 0x1000), $code, "f\0";
            close P; chmod 0755, "prog"; open(F, ">f"); close F; chmod 0644, "f";
            system("./prog") == 0 or die "it does not run: $?"; printf("%o", (stat "f")[2] & 07777);"#;
        let script = format!("{} > $out", perl(code));
        assert_eq!(built(world, caller, &[], sh(&script)), "644");
        let open = ["--option", "filter-syscalls", "false"];
        match built(world, caller, &open, sh(&script)).as_str() {
            "4755" => {}
            "644" => crate::harness::skip("this kernel has no other ABI"),
            other => panic!("the mode is {other}"),
        }
        world.is_clean();
    });
}

#[test]
fn no_device_nodes_and_links_to_files_of_others_come_about() {
    attempts(|world, caller| {
        if caller == Caller::Self_ && crate::harness::is_root() {
            holds(world, caller, "mknod ./device c 1 3");
            // In a mount namespace of its own, so that it does no harm where it works.
            holds(world, caller, "unshare --mount mount -t tmpfs none /mnt");
            holds(world, caller, "chown 1 .");
        }
        let others = world.write("others", "not the builder's");
        fs::set_permissions(&others, fs::Permissions::from_mode(0o666)).unwrap();
        let paths = format!("/others={}", others.display());
        let link = |file: &str| tried(&format!("ln {file} ./link"));
        let inside = built(
            world,
            caller,
            &["--option", "extra-sandbox-paths", &paths],
            link("/others"),
        );
        assert_eq!(inside, "held\n");
        // On the same file system nothing but the sandbox is in the way, for a file that is one's
        // own to write.
        let outside = format!("{}", others.display());
        let options = [&OPEN[..], &["-q"]].concat();
        assert_eq!(built(world, caller, &options, link(&outside)), "broken\n");
        world.is_clean();
    });
}

#[test]
fn filling_what_is_shared_does_no_harm() {
    need!("perl");
    attempts(|world, caller| {
        let limit = ["--option", "max-build-log-size", "100000"];
        // It ends by itself, so that it is a success where nothing limits it.
        let file = world.graph(
            "log.json",
            &graph_of([("log", sh("yes | head -c 30000000; echo > $out"))]),
        );
        let build = || caller.runs(world.windrow("build").arg(&file));
        build().args(limit).run().exits(1).says("log");
        build().ok();

        let shm = "head -c 1000000 /dev/zero > /dev/shm/fill";
        let inside = built(
            world,
            caller,
            &["--option", "sandbox-dev-shm-size", "64k"],
            tried(shm),
        );
        assert_eq!(inside, "held\n");
        assert!(!Path::new("/dev/shm/fill").exists());
        let large = ["--option", "sandbox-dev-shm-size", "8m", "-q"];
        assert_eq!(built(world, caller, &large, tried(shm)), "broken\n");

        let bomb = "my $n = 0; while ($n < 1500) { my $p = fork; last unless defined $p; if (!$p) { sleep 30; exit } $n++ } print $n;";
        let script = format!("{} > $out", perl(bomb));
        let processes = |count: &str| -> u32 {
            let options = ["--option", "sandbox-max-processes", count, "-q", "-q"];
            built(
                world,
                caller,
                &options[..if count == "0" { 5 } else { 4 }],
                sh(&script),
            )
            .parse()
            .unwrap()
        };
        let limited = processes("400");
        world.is_clean();
        if limited == 1500 {
            return crate::harness::skip(
                "this kernel can't limit the processes of a namespace (Linux 6.14)",
            );
        }
        assert!(limited < 400, "{limited} processes");
        assert_eq!(processes("0"), 1500, "the attempt is no real one");
        world.is_clean();
    });
}

#[test]
fn trees_made_to_stay_go_with_the_build() {
    need!("perl");
    attempts(|world, caller| {
        let deep = "for (1..3000) { mkdir \"d\"; chdir \"d\" or last } open(F,\">f\"); chmod 0, \"f\"; chmod 0, \".\";";
        let script = format!(
            "mkdir a b; (cd a; {deep}); chmod 000 a; ln -s / b/root; mkfifo b/fifo; chmod 500 b
             (cd /tmp; {deep}); mkdir $NIX_STORE/more; (cd $NIX_STORE/more; {deep}); chmod 0 $NIX_STORE/more; echo > $out",
            deep = perl(deep)
        );
        built(world, caller, &[], sh(&script));
        world.is_clean();
        let left: Vec<_> = world.store_entries();
        let left: Vec<_> = left
            .iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with('.') || name.contains(".chroot") || name == "more"
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = text("/proc/self/mountinfo");
        assert!(!mounts.contains(world.at("").to_str().unwrap()), "{mounts}");
        // An output may be as deep.
        let output = format!(
            "mkdir $out; cd $out; {}",
            perl(&deep.replace("chmod 0, \"f\"; chmod 0, \".\";", ""))
        );
        let file = world.graph("deep.json", &graph_of([("deep", sh(&output))]));
        caller.runs(world.windrow("build").arg(file)).ok();
        world.is_clean();
    });
}

#[test]
fn builders_of_root_can_not_change_the_kernels_settings() {
    need!(root);
    attempts(|world, caller| {
        if caller != Caller::Self_ {
            return;
        }
        // Written back as it is, so that the attempt that works does no harm.
        let write = "(cat /proc/sys/kernel/core_pattern > saved && cat saved > /proc/sys/kernel/core_pattern)";
        holds(world, caller, write);
    });
}
