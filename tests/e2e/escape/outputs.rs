//! Outputs that change, lead elsewhere, or have what no output may have.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use serde_json::json;

use super::{OPEN, attempts, built, holds, perl, tried};
use crate::harness::{Caller, graph_of, need, sh, sh_with, text, wait_until};

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
