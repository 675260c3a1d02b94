//! What a builder finds in the sandbox, and what the settings of it do, as root and as an ordinary
//! user. Attempts to break out of it are in escape.rs.

use std::fs;

use serde_json::json;

use crate::harness::{
    Caller, World, busybox, busybox_with, for_each_caller, graph_of, is_root, sh, text,
};

/// Builds a graph, whose last target's output's text it gives, and expects nothing to be left.
#[track_caller]
fn built(world: &World, caller: Caller, graph: &serde_json::Value) -> String {
    let file = world.graph("g.json", graph);
    let ran = caller.runs(world.windrow("build").arg(file)).ok();
    world.is_clean();
    world.stays_valid();
    let chroots = world.store_entries();
    let left: Vec<_> = chroots
        .iter()
        .filter(|path| {
            path.to_string_lossy().contains(".chroot") || path.to_string_lossy().contains("/.")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    text(ran.lines().last().expect("an output"))
}

#[test]
fn a_builder_sees_its_inputs_and_little_else() {
    for_each_caller(|world, caller| {
        let look = "exec > $out 2>&1; ls $NIX_STORE | sed 's/^.*-//'; cat @{dep}/file @{file}
            echo; ls /; echo; ls /dev; echo; ls /etc; cat /etc/passwd /etc/group /etc/hosts
            echo $(id -u) $(id -g) $$ $PWD $TMPDIR $(hostname) $(cat /proc/sys/kernel/domainname)
            echo $(ls /proc | grep '^[0-9]')
            sed -n 's/^ *\\(.*\\):.*/\\1/p' /proc/net/dev; ping -c 1 -w 3 127.0.0.1 > /dev/null; ls -ld /tmp /build | cut -c1-10
            grep -E '^(CapEff|NoNewPrivs|Seccomp)' /proc/self/status
            cat /proc/self/mountinfo | grep -c .";
        let graph = graph_of([
            ("dep", busybox("mkdir $out; echo dep > $out/file")),
            ("file", busybox("echo text > $out")),
            ("other", busybox("echo other > $out")),
            ("x", busybox(look)),
        ]);
        let seen = built(world, caller, &graph);
        let expected = "file\ndep\ndep\ntext\n\nbin\nbuild\ndev\netc\nproc\ntmp\n\n";
        let mut lines: Vec<&str> = seen.lines().collect();
        // `ls` sorts by hash, and the output that is being written is there as well.
        let mut inputs: Vec<&str> = lines.drain(..3).collect();
        inputs.sort_unstable();
        assert_eq!(inputs, ["dep", "file", "x"], "{seen}");
        let rest = lines.join("\n");
        let expected = expected.trim_start_matches("file\ndep\n");
        assert!(rest.starts_with(expected), "{seen}");
        for line in [
            "root:x:0:0:Nix build user:/build:/noshell",
            "nixbld:x:1000:100:Nix build user:/build:/noshell",
            "nixbld:!:100:",
            "127.0.0.1 localhost",
            "1000 100 1 /build /build localhost (none)",
            "lo",
            "drwxrwxrwt",
            "drwx------",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(lines.contains(&line), "no line '{line}' in\n{seen}");
        }
    });
}

#[test]
fn nothing_but_the_output_and_its_own_directories_is_writable() {
    for_each_caller(|world, caller| {
        let graph = graph_of([
            ("dep", busybox("mkdir $out; echo dep > $out/file")),
            (
                "x",
                busybox(
                    "exec > $out; for dir in / /etc /dev /proc /proc/sys/kernel /bin @{dep} /nix /tmp /build /dev/shm; do
                       (echo x > $dir/new) 2>/dev/null && echo $dir; done
                     for file in /etc/passwd /bin/busybox /bin/sh @{dep}/file; do
                       (echo x >> $file) 2>/dev/null && echo $file
                       chmod 777 $file 2>/dev/null && echo chmod $file
                       rm -f $file 2>/dev/null && echo rm $file; mv $file /tmp/x 2>/dev/null && echo mv $file; done; true",
                ),
            ),
        ]);
        assert_eq!(built(world, caller, &graph), "/tmp\n/build\n/dev/shm\n");
    });
}

#[test]
fn its_namespaces_and_mounts_are_its_own() {
    for_each_caller(|world, caller| {
        let kinds = ["user", "mnt", "pid", "net", "ipc", "uts"];
        let look = format!(
            "for kind in {}; do readlink /proc/self/ns/$kind; done > $out; cut -d' ' -f5 /proc/self/mountinfo >> $out",
            kinds.join(" ")
        );
        let graph = graph_of([
            ("dep", busybox("echo > $out")),
            ("x", busybox(&format!(": @{{dep}}; {look}"))),
        ]);
        let seen = built(world, caller, &graph);
        let lines: Vec<&str> = seen.lines().collect();
        for (kind, inside) in kinds.iter().zip(&lines) {
            let outside = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(outside.to_str(), Some(*inside), "as {caller:?}");
        }
        let store = world.store().display().to_string();
        let own = ["/", "/tmp", "/build", "/proc", "/bin/busybox", "/bin/sh"];
        for mount in &lines[kinds.len()..] {
            let below = ["/dev/", "/proc/", &store];
            let known = own.contains(mount) || below.iter().any(|dir| mount.starts_with(dir));
            assert!(known, "'{mount}' is mounted, as {caller:?}\n{seen}");
        }
        // The store, and the one input of it.
        let of_store = lines.iter().filter(|mount| mount.starts_with(&store));
        assert_eq!(of_store.count(), 2, "as {caller:?}\n{seen}");
    });
}

#[test]
fn a_builder_inherits_three_descriptors() {
    for_each_caller(|world, caller| {
        // No shell, which would have some of its own. The last one is that of the directory that is
        // listed.
        let list = json!({ "builder": "/bin/busybox", "args": ["ls", "/proc/self/fd"] });
        let file = world.graph("g.json", &graph_of([("x", list)]));
        let cmd = world.windrow("build").arg(file).arg("-L");
        let ran = caller.runs(cmd).run().exits(1);
        let lines = ran
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("x> "));
        assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2", "3"], "{ran}");
        world.is_clean();
    });
}

#[test]
fn devices_work() {
    for_each_caller(|world, caller| {
        let script = "head -c 3 /dev/zero | wc -c > $out; head -c 5 /dev/urandom | wc -c >> $out; echo lost > /dev/null
            (echo full > /dev/full) 2>/dev/null || echo full >> $out
            echo piped | cat /dev/stdin >> $out; echo shared > /dev/shm/x; cat /dev/shm/x >> $out
            script -q -c 'tty' /dev/null >> $out < /dev/null || true";
        let seen = built(world, caller, &graph_of([("x", busybox(script))]));
        assert!(seen.starts_with("3\n5\nfull\npiped\nshared\n"), "{seen}");
    });
}

#[test]
fn fixed_outputs_have_the_network_of_the_machine_and_its_names() {
    for_each_caller(|world, caller| {
        let hash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let script = format!(
            "exec 2>&1; [ $(readlink /proc/self/ns/net) = '{}' ] || exit 3; [ -e /etc/resolv.conf ] || [ {} = 0 ] || exit 4
             grep -q 'files dns' /etc/nsswitch.conf || exit 5; [ $(id -u) = 1000 ] || exit 6; [ $$ = 1 ] || exit 7
             (echo x > /etc/hosts) 2>/dev/null && exit 8; printf hello > $out",
            own.display(),
            i32::from(std::path::Path::new("/etc/resolv.conf").exists()),
        );
        let output = json!({ "outputHash": hash, "outputHashMode": "flat" });
        let graph = graph_of([("x", busybox_with(&script, output))]);
        assert_eq!(built(world, caller, &graph), "hello");
    });
}

#[test]
fn what_asks_for_no_sandbox_gets_none_only_where_it_is_relaxed() {
    for_each_caller(|world, caller| {
        let script = format!("cat {} > $out", world.write("outside", "seen\n").display());
        let env = json!({ "env": { "__noChroot": "1" } });
        let file = world.graph(
            "g.json",
            &graph_of([("x", crate::harness::sh_with(&script, env))]),
        );
        let build = || caller.runs(world.windrow("build").arg(&file));
        build().run().exits(1).says("__noChroot").says("relaxed");
        let relaxed = build().args(["--option", "sandbox", "relaxed"]).ok();
        assert_eq!(text(relaxed.path()), "seen\n");
        // An ordinary derivation has one all the same.
        let file = world.graph("h.json", &graph_of([("y", sh(&script))]));
        let cmd = world.windrow("build").arg(file);
        let cmd = cmd.args(["--option", "sandbox", "relaxed"]);
        caller.runs(cmd).run().exits(100);
        world.is_clean();
    });
}

#[test]
fn a_builder_that_is_not_in_the_sandbox_is_named_with_the_setting() {
    for_each_caller(|world, caller| {
        let derivation = json!({ "builder": "/usr/bin/env", "args": [] });
        let file = world.graph("g.json", &graph_of([("x", derivation)]));
        caller
            .runs(world.windrow("build").arg(file))
            .run()
            .exits(100)
            .one_error()
            .says("/usr/bin/env")
            .says("sandbox-paths");
        world.is_clean();
    });
}

#[test]
fn paths_of_the_machine_are_shown_as_the_setting_says() {
    for_each_caller(|world, caller| {
        let dir = world.write("shown/file", "text\n");
        let dir = dir.parent().unwrap().display().to_string();
        let paths =
            format!("/a/b={dir} /tmp/deep/er={dir} /opt/file={dir}/file /none?  {dir}/file");
        let script = format!(
            "cat /a/b/file /tmp/deep/er/file /opt/file {dir}/file > $out; (echo > /a/b/new) 2>/dev/null && exit 3
             (echo > /tmp/deep/er/new) 2>/dev/null && exit 4; [ ! -e /none ]"
        );
        let file = world.graph("g.json", &graph_of([("x", busybox(&script))]));
        let build = |paths: &str| {
            caller.runs(world.windrow("build").arg(&file).args([
                "--option",
                "extra-sandbox-paths",
                paths,
            ]))
        };
        let refused = |paths: &str| build(paths).run().exits(1).one_error();
        refused("/none").says("/none").says("sandbox-paths");
        refused("none").says("absolute").says("sandbox-paths");
        assert_eq!(text(build(&paths).ok().path()), "text\n".repeat(4));
        assert!(!world.file("shown/new").exists());
        world.is_clean();
    });
}

/// A valid path whose file `path` names another one.
pub(crate) fn tool_with_a_reference(world: &World, caller: Caller) -> String {
    let graph = graph_of([
        ("dep", busybox("echo dep > $out")),
        ("tool", busybox("mkdir $out; echo @{dep} > $out/path")),
    ]);
    let file = world.graph("g.json", &graph);
    caller.runs(world.windrow("build").arg(file)).ok().line()
}

#[test]
fn a_path_of_the_store_brings_what_it_refers_to() {
    for_each_caller(|world, caller| {
        let tool = tool_with_a_reference(world, caller);
        let file = world.graph(
            "h.json",
            &graph_of([("x", busybox("cat $(cat /tool/path) > $out"))]),
        );
        let paths = format!("/tool={tool}");
        let cmd = world.windrow("build").arg(file);
        let cmd = cmd.args(["--option", "extra-sandbox-paths", &paths]);
        assert_eq!(text(caller.runs(cmd).ok().path()), "dep\n");
        world.is_clean();
    });
}

#[test]
fn other_settings_of_the_sandbox() {
    for_each_caller(|world, caller| {
        let script = "pwd > $out; sed -n 's/.* .dev.shm .*size=//p' /proc/self/mountinfo | sed 's/[ ,].*//' >> $out
            grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status >> $out; chmod 4755 . && chmod 755 . && echo setuid >> $out; true";
        let file = world.graph("g.json", &graph_of([("x", busybox(script))]));
        let cmd = world.windrow("build").arg(file);
        let cmd = cmd.args(["--option", "sandbox-build-dir", "/tmp/work/here"]);
        let cmd = cmd.args(["--option", "sandbox-dev-shm-size", "64k"]);
        let cmd = cmd.args(["--option", "filter-syscalls", "false"]);
        let seen = text(caller.runs(cmd).ok().path());
        let expected = "/tmp/work/here\n64k\nNoNewPrivs:\t1\nSeccomp:\t0\nsetuid\n";
        assert_eq!(seen, expected);
        world.is_clean();
    });
}

#[test]
fn a_failed_build_is_kept_for_inspection_when_asked_for() {
    for_each_caller(|world, caller| {
        let script = "echo made > $out; chmod 666 $out; echo left > litter; exit 9";
        let file = world.graph("g.json", &graph_of([("x", busybox(script))]));
        let build = || caller.runs(world.windrow("build").arg(&file));
        build().run().exits(100);
        world.is_clean();
        assert!(
            world
                .store_entries()
                .iter()
                .all(|path| !path.ends_with("-x"))
        );

        let ran = build().arg("--keep-failed").run().exits(100);
        let kept = world.at("tmp/nix-build-x.drv-0");
        assert!(ran.stderr.contains(&format!(
            "keeping build directory '{}/build'",
            kept.display()
        )));
        assert_eq!(text(kept.join("build/litter")), "left\n");
        let outs = world.store_entries();
        let out = outs
            .iter()
            .find(|path| path.to_string_lossy().ends_with("-x"))
            .expect("the output");
        assert_eq!(text(out), "made\n");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(out).unwrap().permissions().mode() & 0o7777,
            0o444
        );
        assert!(!world.is_valid(out));
        // It is in nobody's way afterwards.
        build().run().exits(100);
        world.is_clean_but_for(&[kept]);
    });
}

#[test]
fn root_of_a_user_namespace_without_further_ones_has_a_sandbox_too() {
    for_each_caller(|world, caller| {
        let script = "exec > $out; id -u; grep -E '^Cap(Eff|Bnd)' /proc/self/status; echo $$; ls / | grep -c .
            (echo x > /etc/new) 2>/dev/null && echo wrote; mount -t tmpfs none /tmp 2>/dev/null && echo mounted; true";
        let graph = graph_of([("dep", busybox("echo dep > $out")), ("x", busybox(script))]);
        let file = world.graph("g.json", &graph);
        let line = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
        let args = ["--user", "--map-root-user", "/bin/sh", "-c", line, "sh"];
        let cmd = world
            .windrow("build")
            .arg(file)
            .through("/usr/bin/unshare", &args);
        let ran = caller.runs(cmd).ok();
        let seen = text(ran.lines().last().expect("an output"));
        let none = "0000000000000000";
        assert_eq!(seen, format!("0\nCapEff:\t{none}\nCapBnd:\t{none}\n1\n6\n"));
        world.is_clean();
    });
}

#[test]
fn a_store_kept_elsewhere_is_shown_where_its_paths_say() {
    for_each_caller(|world, caller| {
        let graph = graph_of([
            ("dep", busybox("mkdir $out; echo dep > $out/file")),
            ("x", busybox("cat @{dep}/file > $out; echo $out >> $out")),
        ]);
        let file = world.graph("g.json", &graph);
        let root = world.at("files/root");
        let cmd = world.windrow("build").arg(file).arg("--store").arg(&root);
        let out = caller.runs(cmd.env_remove("NIX_STORE_DIR")).ok().line();
        assert!(out.starts_with("/nix/store/"), "{out}");
        let real = root.join(out.trim_start_matches('/'));
        assert_eq!(text(real), format!("dep\n{out}\n"));
        world.is_clean();
    });
}

#[test]
fn a_rebuild_of_one_output_of_two_needs_no_other_names() {
    for_each_caller(|world, caller| {
        let script = "echo $dev $(cat /proc/sys/kernel/random/uuid) > $out; echo dev > $dev";
        let two = busybox_with(script, json!({ "outputs": ["out", "dev"] }));
        let file = world.graph("g.json", &graph_of([("x", two)]));
        let drv = caller.runs(world.windrow("add").arg(file)).ok().line();
        let build = || {
            let cmd = world.windrow("build").arg(format!("{drv}^out,dev"));
            caller.runs(cmd).ok().lines()
        };
        let paths = build();
        let old = text(&paths[1]);
        if !crate::harness::have(&["sqlite3"]) {
            return;
        }
        let _ = world.sql(&format!(
            "pragma foreign_keys=0; delete from Refs where referrer = (select id from ValidPaths where path = '{0}') or \
             reference = (select id from ValidPaths where path = '{0}'); delete from ValidPaths where path = '{0}'",
            paths[0]
        ));
        assert_eq!(build(), paths);
        assert_eq!(text(&paths[1]), old);
        world.is_clean();
    });
}

#[test]
fn builders_must_lose_supplementary_groups_where_a_setting_says_so() {
    for_each_caller(|world, caller| {
        let file = world.graph("g.json", &graph_of([("x", busybox("id -G > $out"))]));
        let build = |value: &[&str]| {
            let build = world.windrow("build").arg(&file).args(value);
            caller.runs(build)
        };
        let must = ["--option", "require-drop-supplementary-groups", "true"];
        let need_not = ["--option", "require-drop-supplementary-groups", "false"];
        if caller == Caller::Somebody {
            let ran = build(&must).run().exits(1).one_error();
            ran.says("'require-drop-supplementary-groups'")
                .says("CAP_SETGID");
            build(&[]).ok();
        } else if is_root() {
            // Root without that capability, and by default.
            let less = ["--inh-caps=-setgid", "--bounding-set=-setgid"];
            let ran = build(&[]).through("/usr/bin/setpriv", &less).run();
            ran.exits(1).says("'require-drop-supplementary-groups'");
            build(&must).ok();
        }
        build(&need_not).ok();
    });
}
