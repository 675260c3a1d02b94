//! The network, sockets and processes of the machine.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde_json::json;

use super::{OPEN, attempts, built, holds, perl};
use crate::harness::{graph_of, need, sh, sh_with, text};

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
