//! Build logs: where they lie, that they hold every byte, and that `windrow log` finds them.
//! The end of a failed build's log is in failure.rs.

use crate::harness::{World, graph_of, need, sh, text, wait_until};

/// A log file's contents, unpacked.
fn unpacked(world: &World, drv: &str) -> Vec<u8> {
    world
        .program("bzip2")
        .arg("-dc")
        .arg(world.log_file(drv))
        .ok()
        .stdout
}

#[test]
fn a_log_holds_every_byte_under_nixs_directories() {
    need!("bzip2");
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh(r"printf 'one\n\ttwo\r\n\001\377\000x\n\nno newline'; printf ' err' >&2; echo > $out"),
    );
    let out = world.windrow("build").arg(&drv).ok().line();
    let expected = b"one\n\ttwo\r\n\x01\xff\0x\n\nno newline err";
    assert_eq!(unpacked(&world, &drv), expected);
    assert_eq!(world.windrow("log").arg(&drv).ok().stdout, expected);
    assert_eq!(
        world.windrow("log").arg(&out).ok().stdout,
        expected,
        "through the deriver"
    );
    if crate::harness::have(&["nix-store"]) {
        assert_eq!(
            world
                .program("nix-store")
                .args(["--read-log", &drv])
                .ok()
                .stdout,
            expected
        );
        assert_eq!(
            world
                .program("nix-store")
                .args(["--read-log", &out])
                .ok()
                .stdout,
            expected
        );
    }
}

#[test]
fn standard_output_and_error_keep_their_order() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("for i in 1 2 3; do echo out $i; echo err $i >&2; done; echo > $out"),
    );
    world.windrow("build").arg(&drv).ok();
    let expected = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    assert_eq!(world.windrow("log").arg(&drv).ok().out(), expected);
}

#[test]
fn an_empty_log() {
    need!("bzip2");
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    world.windrow("build").arg(&drv).ok();
    assert_eq!(unpacked(&world, &drv), b"");
    world.windrow("log").arg(&drv).ok().prints_nothing();
}

#[test]
fn a_log_of_five_megabytes() {
    need!("bzip2");
    let world = World::new();
    let drv = world.add_one("x", sh("i=0; while [ $i -lt 5 ]; do i=$((i+1)); head -c 1000000 /dev/zero | tr '\\0' $i; echo; done; echo > $out"));
    let out = world.windrow("build").arg(&drv).ok().line();
    let log = unpacked(&world, &drv);
    let expected: Vec<u8> = (b'1'..=b'5')
        .flat_map(|digit| [vec![digit; 1_000_000], vec![b'\n']].concat())
        .collect();
    assert!(
        log == expected,
        "{} bytes instead of {}",
        log.len(),
        expected.len()
    );
    assert!(world.windrow("log").arg(out).ok().stdout == expected);
}

#[test]
fn the_log_of_a_failed_build_is_complete_and_the_next_build_replaces_it() {
    let world = World::new();
    let script = format!(
        "cat {0}; grep -q bad {0} && exit 1; echo > $out",
        world.file("say").display()
    );
    let drv = world.add_one("x", sh(&script));
    world.write("say", "bad\n".repeat(1000));
    world.windrow("build").arg(&drv).run().exits(100);
    assert_eq!(
        world.windrow("log").arg(&drv).ok().out(),
        "bad\n".repeat(1000)
    );
    world.write("say", "good\n");
    world.windrow("build").arg(&drv).ok();
    assert_eq!(world.windrow("log").arg(&drv).ok().out(), "good\n");
}

#[test]
fn logs_uncompressed_or_not_kept() {
    let world = World::new();
    let graph = |word: &str| graph_of([("x", sh(&format!("echo {word}; echo > $out")))]);
    let plain = world.add(&graph("plain"));
    world
        .windrow("build")
        .arg(&plain)
        .args(["--option", "compress-build-log", "false"])
        .ok();
    assert!(!world.log_file(&plain).exists());
    assert_eq!(text(world.log_file(&plain).with_extension("")), "plain\n");
    assert_eq!(world.windrow("log").arg(&plain).ok().out(), "plain\n");
    let none = world.add(&graph("none"));
    world
        .windrow("build")
        .arg(&none)
        .args(["--option", "keep-build-log", "false"])
        .ok();
    assert!(!world.log_file(&none).exists());
    world
        .windrow("log")
        .arg(&none)
        .run()
        .exits(1)
        .one_error()
        .says(&none);
}

#[test]
fn a_log_that_is_not_there() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    world
        .windrow("log")
        .arg(&drv)
        .run()
        .exits(1)
        .one_error()
        .says(&drv)
        .prints_nothing();
    world
        .windrow("log")
        .arg("nonsense")
        .run()
        .exits(1)
        .one_error()
        .says("nonsense")
        .prints_nothing();
}

#[test]
fn logs_of_builds_side_by_side_do_not_mix() {
    let world = World::new();
    let names = ["a", "b", "c", "d"];
    let chatter = |name| {
        sh(&format!(
            "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo {name} says something; done; echo {name} > $out"
        ))
    };
    let file = world.graph("g.json", &graph_of(names.map(|name| (name, chatter(name)))));
    let outs = world.windrow("build").arg(file).arg("-j4").ok().lines();
    assert_eq!(outs.len(), 4);
    for out in outs {
        let name = text(&out);
        let log = world.windrow("log").arg(&out).ok().out();
        assert_eq!(
            log,
            format!("{} says something\n", name.trim()).repeat(2000)
        );
    }
}

#[test]
fn a_log_that_comes_faster_than_it_can_be_written_is_whole_and_its_builder_waits() {
    need!("bzip2", "perl");
    let world = World::new();
    // Forty megabytes of lines that do not compress well, in well under a second.
    let script = r#"perl -e 'my $x = 1; for (1 .. 40) { my $s = ""; for (1 .. 125000) { $x = ($x * 69069 + 1) & 0xffffffff;
        $s .= pack("N", $x) . "ab\n" . "c" } print $s }'; echo > $out"#;
    let drv = world.add_one("x", sh(script));
    world.windrow("build").arg(&drv).ok();
    assert_eq!(world.windrow("log").arg(&drv).ok().stdout.len(), 40_000_000);
    world.is_clean();
}

#[test]
fn short_lines_without_end_are_shown_a_few_at_a_time() {
    let world = World::new();
    let drv = world.add_one("x", sh("yes"));
    // Whatever ends such a build is looked after between two reads, when 65,536 bytes hold as many
    // lines; a limit on its log is what shows how many were read.
    let ran = world.windrow("build").arg(&drv).arg("-L");
    let ran = ran.args(["--option", "max-build-log-size", "1000"]).run();
    ran.exits(1);
    let log = world.windrow("log").arg(&drv).ok().stdout;
    assert!(log.len() < 400_000, "{}", log.len());
    world.is_clean();
}

/// A builder that asks something, and one that only ever goes back to the beginning of its line.
#[test]
fn lines_without_end_are_shown_while_the_builder_runs() {
    let asks = "printf 'what is it? '";
    let goes_back = r"printf '10 %%\r20 %%\r'";
    for (format, says, shown) in [
        ("raw", asks, "x> what is it?"),
        ("internal-json", asks, "[\"what is it? \"]"),
        ("raw", goes_back, "x> 20 %"),
    ] {
        let world = World::new();
        let (go, err) = (world.file("go"), world.file("err"));
        let builder = format!(
            "{says}; while [ ! -e {} ]; do /bin/sleep 0.05; done; echo > $out",
            go.display()
        );
        let drv = world.add_one("x", sh(&builder));
        world.write("err", "");
        let redirect = format!("exec \"$@\" 2> {}", err.display());
        let engine = world
            .windrow("build")
            .arg(&drv)
            .args(["-L", "--log-format", format])
            .through("/bin/sh", &["-c", &redirect, "sh"])
            .start();
        wait_until("the line is shown", || text(&err).contains(shown));
        world.write("go", "");
        engine.wait().exits(0);
    }
}
