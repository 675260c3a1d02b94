//! Derivations that use the engine's own builders, `builtin:…`, to reach what other builders can't.
//! As root, as root with build users, and as an ordinary user.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use super::OPEN;
use crate::build_users;
use crate::builtin::{HELLO, builtin, fetch, serve};
use crate::harness::{
    Caller, Cmd, HttpsServer, Ran, World, for_each_caller, graph_of, need, sh, text,
};

/// Who runs windrow, and as whom builders run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Whoever runs the tests.
    Self_,
    /// Root, whose builders are this user.
    Users(u32),
    /// An ordinary user.
    Somebody,
}

impl Who {
    fn runs(self, world: &World, cmd: Cmd) -> Cmd {
        match self {
            Who::Somebody => Caller::Somebody.runs(cmd),
            Who::Self_ => cmd,
            Who::Users(_) => build_users::with_users(world, cmd),
        }
    }

    /// Builds a graph with one target, and gives what came of it.
    #[track_caller]
    fn builds(self, world: &World, options: &[&str], graph: &Value) -> Ran {
        let file = world.graph("g.json", graph);
        let cmd = world.windrow("build").arg(file).args(options);
        self.runs(world, cmd).run()
    }

    /// Builds a derivation under that name.
    #[track_caller]
    fn builds_one(self, world: &World, options: &[&str], name: &str, derivation: Value) -> Ran {
        self.builds(world, options, &graph_of([(name, derivation)]))
    }
}

const SANDBOX: &str = "sandbox = true\nsandbox-fallback = false\n";

/// Runs a test in a world with a sandbox that shows nothing of the machine, for everybody.
fn everywhere(test: impl Fn(&World, Who)) {
    let test = |world: &World, who, conf: &str| {
        world.conf(&format!("{SANDBOX}{conf}"));
        test(world, who);
        world.is_clean();
        // Nix does not know the users.
        world.conf("");
        world.stays_valid();
    };
    for_each_caller(|world, caller| match caller {
        Caller::Self_ => test(world, Who::Self_, ""),
        Caller::Somebody => test(world, Who::Somebody, ""),
    });
    need!(root);
    need!("unshare", "mount");
    let (world, first) = build_users::world(build_users::TWO);
    let group = "build-users-group = windrow-test-users\n";
    test(&world, Who::Users(first + 1), group);
}

/// Writes a file that only whoever runs windrow may read.
fn secret(world: &World, who: Who, contents: &str) -> String {
    let path = world.write("secret", contents);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    if who == Who::Somebody {
        let owner = Caller::Somebody
            .runs(Cmd::new("/usr/bin/id", "/".as_ref()).arg("-u"))
            .ok()
            .line();
        std::os::unix::fs::chown(&path, Some(owner.parse().unwrap()), None).unwrap();
    }
    format!("file://{}", path.display())
}

#[test]
fn a_file_that_is_no_input_is_not_fetched() {
    everywhere(|world, who| {
        let url = secret(world, who, "hello");
        let ran = who.builds_one(world, &[], "x", fetch(&url, HELLO)).exits(1);
        ran.says("/secret").says("in the sandbox there are only");
        world.is_clean();
        let ran = who.builds_one(world, &OPEN, "x", fetch(&url, HELLO));
        match who {
            // It is not the build user's to read, sandbox or not.
            Who::Users(_) => drop(ran.exits(1).says("Permission denied")),
            _ => assert_eq!(text(ran.exits(0).path()), "hello", "no real attempt"),
        }
    });
}

#[test]
fn without_an_output_hash_nothing_is_fetched() {
    everywhere(|world, who| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let http = format!("http://{}/secret", listener.local_addr().unwrap());
        for url in [secret(world, who, "hello"), http.clone()] {
            for sandbox in ["true", "relaxed", "false"] {
                let options = ["--option", "sandbox", sandbox];
                let drv = builtin("fetchurl", json!({ "url": url }), None);
                let ran = who.builds_one(world, &options, "x", drv);
                ran.exits(100).one_error().says("outputHash").no_panic();
            }
        }
        let free = builtin("fetchurl", json!({ "url": http, "__noChroot": "1" }), None);
        let relaxed = ["--option", "sandbox", "relaxed"];
        who.builds_one(world, &relaxed, "x", free.clone())
            .exits(100);
        who.builds_one(world, &[], "x", free).exits(100);
        let nobody = listener.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(nobody, Err(std::io::ErrorKind::WouldBlock));
    });
}

/// Answers one request with "hello", and tells the user of whoever asks.
fn ask_who() -> (String, std::sync::mpsc::Receiver<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, users) = channel();
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let ports = (
            format!(":{:04X}", peer.port()),
            format!(":{:04X}", address.port()),
        );
        let table = text("/proc/net/tcp");
        let user = table.lines().find_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let found = words[1].ends_with(&ports.0) && words[2].ends_with(&ports.1);
            found.then(|| words[7].parse().unwrap())
        });
        sender
            .send(user.expect("a socket of this machine"))
            .unwrap();
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    });
    (format!("http://{address}/hello"), users)
}

#[test]
fn a_fixed_output_is_fetched_in_the_sandbox_by_the_build_user() {
    everywhere(|world, who| {
        for (n, sandbox) in ["true", "relaxed", "false"].into_iter().enumerate() {
            let (url, users) = ask_who();
            let options = ["--option", "sandbox", sandbox];
            let name = format!("x{n}");
            let ran = who.builds_one(world, &options, &name, fetch(&url, HELLO));
            assert_eq!(text(ran.exits(0).path()), "hello");
            let user = users.recv().unwrap();
            match who {
                Who::Users(own) => assert_eq!(user, own, "{sandbox}"),
                Who::Somebody => assert_ne!(user, 0, "{sandbox}"),
                Who::Self_ => {}
            }
            world.is_clean();
        }
        // As with any builder.
        let mut free = fetch("file:///x", HELLO);
        free["env"]["__noChroot"] = "1".into();
        let ran = who.builds_one(world, &[], "free", free);
        ran.exits(1).says("'__noChroot'");
    });
}

/// A tarball with a channel, as a source of a graph in which it is unpacked.
fn channel_of(world: &World, more: Value) -> Value {
    if !world.file("one.tar.xz").exists() {
        world.write("in/nixpkgs-1/default.nix", "{}\n");
        world
            .program("tar")
            .args(["-C", "in", "-cJf", "one.tar.xz", "nixpkgs-1"])
            .ok();
    }
    let mut env = json!({ "src": "@{tarball}", "channelName": "nixos" });
    for (name, value) in more.as_object().unwrap() {
        env[name] = value.clone();
    }
    let mut graph = graph_of([("x", builtin("unpack-channel", env, None))]);
    graph["sources"] = json!({ "tarball": "one.tar.xz" });
    graph
}

#[test]
fn variables_of_a_derivation_mean_nothing_to_the_engines_builders() {
    need!("tar", "xz");
    everywhere(|world, who| {
        let made = world.at("tmp/made");
        let evil = |url: &str| {
            json!({
                "TAR_OPTIONS": format!("--checkpoint=1 --checkpoint-action=exec=touch\\ {}", made.display()),
                "XZ_OPT": "--nonsense",
                "LD_PRELOAD": "/no/such/library.so",
                "LD_DEBUG": "all",
                "LD_AUDIT": "/no/such/audit.so",
                "GLIBC_TUNABLES": "glibc.malloc.check=3",
                "GCONV_PATH": "/no/such/place",
                "RUST_BACKTRACE": "full",
                "RUST_LOG": "trace",
                "http_proxy": "http://127.0.0.1:1",
                "all_proxy": "http://127.0.0.1:1",
                "SSL_CERT_FILE": "/no/such/file",
                "url": url,
            })
        };
        for (n, options) in [&["-L"][..], &["-L", "--option", "sandbox", "false"]]
            .into_iter()
            .enumerate()
        {
            let mut graph = channel_of(world, evil(""));
            graph["derivations"]["x"]["env"]["n"] = n.to_string().into();
            let ran = who.builds(world, options, &graph).exits(0);
            for word in ["preload", "audit", "library", "trace"] {
                assert!(!ran.stderr.contains(word), "{ran}");
            }
            assert_eq!(text(ran.path().join("nixos/default.nix")), "{}\n");
            let server = serve(&[("/hello", "hello")]);
            let mut drv = fetch(&format!("{server}/hello"), HELLO);
            drv["env"] = evil(&format!("{server}/hello"));
            let ran = who.builds_one(world, options, &format!("f{n}"), drv);
            assert_eq!(text(ran.exits(0).path()), "hello");
        }
        assert!(!made.exists());
        // They do mean something to a program that gets them.
        let version = world.windrow("--version");
        version
            .env("LD_PRELOAD", "/no/such/library.so")
            .ok()
            .says("preload");
    });
}

#[test]
fn what_the_engine_tells_its_builders_does_not_get_out() {
    everywhere(|world, who| {
        let netrc = world.write("netrc", "machine h login user password hunter2\n");
        let netrc = netrc.to_str().unwrap();
        for (n, sandbox) in ["true", "false"].into_iter().enumerate() {
            let options = [
                "--option",
                "netrc-file",
                netrc,
                "--option",
                "sandbox",
                sandbox,
            ];
            for (m, file) in ["fd/0", "fd/3", "mem", "environ", "cmdline"]
                .iter()
                .enumerate()
            {
                let url = format!("file:///proc/self/{file}");
                let name = format!("x{n}{m}");
                let ran = who.builds_one(world, &options, &name, fetch(&url, HELLO));
                assert!([1, 102].contains(&ran.status.code().unwrap_or(-1)), "{ran}");
                assert!(!ran.stderr.contains("hunter2"), "{ran}");
            }
        }
        let stored = world.store_entries();
        assert!(!stored.is_empty(), "no real attempt");
        for path in stored.iter().filter(|path| path.is_file()) {
            assert!(!text(path).contains("hunter2"), "{}", path.display());
        }
    });
}

#[test]
fn profiles_and_channels_are_made_of_inputs_only() {
    need!("tar", "xz");
    everywhere(|world, who| {
        let graph = channel_of(world, json!({}));
        let out = who.builds(world, &[], &graph).exits(0).path();
        assert_eq!(text(out.join("nixos/default.nix")), "{}\n");
        let outside = json!({
            "src": world.file("one.tar.xz").to_str().unwrap(), "channelName": "nixos",
        });
        let unpack = builtin("unpack-channel", outside, None);
        let ran = who.builds_one(world, &[], "outside", unpack.clone());
        ran.exits(100).says("one.tar.xz");
        who.builds_one(world, &OPEN, "outside", unpack).exits(0);

        let package = world.write("package/bin/x", "x");
        let package = package.parent().and_then(Path::parent).unwrap();
        let profile = |list: &str| {
            let env = json!({ "derivations": list, "manifest": "/m" });
            let mut graph = graph_of([
                (
                    "a",
                    builtin(
                        "buildenv",
                        json!({"derivations": "", "manifest": "/a"}),
                        None,
                    ),
                ),
                ("env", builtin("buildenv", env, None)),
            ]);
            graph["targets"] = json!(["env"]);
            graph
        };
        let out = who.builds(world, &[], &profile("true 5 1 @{a}")).exits(0);
        let link = fs::read_link(out.path().join("manifest.nix")).unwrap();
        assert_eq!(link, Path::new("/m"));
        let outside = profile(&format!("true 5 1 {}", package.display()));
        let ran = who.builds(world, &[], &outside).exits(100);
        ran.says("No such file");
        let out = who.builds(world, &OPEN, &outside).exits(0).path();
        assert!(out.join("bin").is_symlink(), "no real attempt");
    });
}

#[test]
fn a_mirror_on_this_machine_shows_one_file_of_it() {
    everywhere(|world, who| {
        world.write(&format!("mirror/sha256/{HELLO}"), "hello");
        world.write("mirror/sha256/other", "other");
        let mirror = format!("file://{}", world.file("mirror").display());
        let options = ["--option", "hashed-mirrors", &mirror];
        let other = format!("{mirror}/sha256/other");
        let wrong = "0".repeat(64);
        let ran = who.builds_one(world, &options, "other", fetch(&other, &wrong));
        ran.exits(1).says("in the sandbox there are only");
        let ran = who.builds_one(world, &options, "x", fetch("file:///no/such/file", HELLO));
        assert_eq!(text(ran.exits(0).path()), "hello");
    });
}

#[test]
fn certificates_are_those_of_the_setting_and_are_checked() {
    need!("openssl");
    everywhere(|world, who| {
        let server = HttpsServer::start(world);
        let drv = fetch(&format!("https://127.0.0.1:{}/hello", server.port), HELLO);
        let ca = world.file("ca.pem");
        let with = |file: &str| {
            let options = ["--option", "ssl-cert-file", file];
            who.builds_one(world, &options, "x", drv.clone())
        };
        let (other, none) = (world.write("other.pem", ""), world.file("none"));
        with(other.to_str().unwrap())
            .exits(1)
            .says("no certificates");
        with(none.to_str().unwrap())
            .exits(1)
            .says("certificate authorities");
        who.builds_one(world, &[], "x", drv.clone()).exits(1);
        let ran = with(ca.to_str().unwrap()).exits(0);
        assert_eq!(text(ran.path()), "hello");
        drop(server);
    });
}

#[test]
fn the_shell_of_a_sandbox_sees_nothing_of_the_engines_files() {
    need!("busybox");
    everywhere(|world, who| {
        let sees = sh("[ ! -e /.windrow ] && [ ! -e /lib64 ] && echo > $out");
        let shell = ["--option", "sandbox-paths", "/bin/sh=/usr/bin/busybox"];
        who.builds_one(world, &shell, "x", sees).exits(0);
    });
}
