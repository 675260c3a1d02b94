//! A store that `windrow serve-cache` serves, and who fetches from it: windrow, and each Nix.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::Scene;
use crate::harness::{Cmd, Ran, Running, World, have, need, need_newer, text, wait_until};

/// A server that runs.
struct Served {
    running: Running,
    url: String,
}

impl Served {
    /// Serves the store in which "a" and "b" were built, at any port.
    #[track_caller]
    fn start(scene: &Scene, args: &[&str]) -> Self {
        let at = |dir: &str| scene.world.at(dir).display().to_string();
        let (store, real) = (at("store"), at("built.store"));
        let (state, log) = (at("built.state"), at("built.log"));
        let name = format!("local?store={store}&real={real}&state={state}&log={log}");
        let serve = scene.world.windrow("serve-cache").args(["--store", &name]);
        Self::run(&scene.world, serve.args(args))
    }

    /// Runs that command, whose output goes to a file.
    #[track_caller]
    fn run(world: &World, serve: Cmd) -> Self {
        let said = world.file("said");
        let _ = fs::remove_file(&said);
        let serve = serve.args(["--listen", "127.0.0.1:0"]);
        let running = serve.through("/bin/sh", &["-c", "exec \"$@\" > said", "sh"]);
        let running = running.start();
        let is_there = || fs::read_to_string(&said).is_ok_and(|text| text.ends_with('\n'));
        wait_until("the server says where it listens", is_there);
        let line = text(&said);
        let url = line.trim_end().strip_prefix("serving at ").expect("a URL");
        Self {
            url: url.to_owned(),
            running,
        }
    }

    /// Ends it.
    #[track_caller]
    fn end(self) -> Ran {
        self.end_by("INT")
    }

    /// Ends it by that signal.
    #[track_caller]
    fn end_by(self, signal: &str) -> Ran {
        self.running.signal(signal);
        self.running.wait().exits(0).no_panic()
    }

    /// Where it listens.
    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// The URL of a way to it on which each connection ends after so many bytes of answers.
    fn behind_bad_line(&self, bytes: u64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let address = self.address().to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
                let requests = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || io::copy(&mut &requests.0, &mut &requests.1));
                std::thread::spawn(move || {
                    let _ = io::copy(&mut (&server).take(bytes), &mut &client);
                    [client, server].map(|stream| stream.shutdown(Shutdown::Both))
                });
            }
        });
        url
    }

    /// Asks for something, and does not read the answer.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// What is answered, with its head.
    fn get(&self, path: &str) -> String {
        let mut answer = Vec::new();
        self.ask(path).read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Where the archive of a path is.
    fn archive(&self, path: &str) -> String {
        let (_, name) = path.rsplit_once('/').expect("a store path");
        let narinfo = self.get(&format!("/{}.narinfo", &name[..32]));
        let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: "));
        format!("/{}", url.expect("a URL"))
    }

    /// The most memory that it has had, in KiB.
    fn peak(&self) -> u64 {
        let status = text(format!("/proc/{}/status", self.running.id()));
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.expect("its peak").trim().strip_suffix(" kB");
        number.expect("a size").parse().expect("a number")
    }
}

fn scene() -> Scene {
    Scene::new(|_, _, _| ()).0
}

fn key(scene: &Scene) -> String {
    scene.key.secret.display().to_string()
}

#[test]
fn windrow_fetches_with_signatures_made_for_it() {
    need!("nix-store", "sqlite3");
    let scene = scene();
    for compression in ["zstd", "none"] {
        let args = ["--secret-key-file", &key(&scene), "--compression"];
        let served = Served::start(&scene, &[&args[..], &[compression]].concat());
        let ran = scene.build(&[&served.url]).ok();
        ran.says("2 paths fetched").never_says("warning");
        assert!(scene.runs().is_empty(), "nothing is built");
        let query = format!("select sigs from ValidPaths where path = '{}'", scene.b);
        let sigs = scene.world.sql(&query).concat();
        assert!(sigs.starts_with("test.example-1:"), "{sigs}");
        assert_eq!(served.end().stderr, "");
        scene.is_well();
        scene.start_over(compression);
    }
    let served = Served::start(&scene, &[]);
    let ran = scene.build(&[&served.url]).ok();
    ran.says("it is not signed").says("2 derivations built");
    served.end().says("warning: this cache signs nothing");
    scene.is_well();
}

#[test]
fn what_is_not_compressed_goes_on_where_it_was_cut() {
    need!("nix-store", "sqlite3");
    let (scene, path) = Scene::new(|world, _, _| {
        let large = world.write("large", "much of it\n".repeat(300_000));
        world
            .windrow("nix-store")
            .arg("--add")
            .arg(large)
            .ok()
            .line()
    });
    let args = ["-v", "--compression", "none"];
    let key = key(&scene);
    let args = [&args[..], &["--secret-key-file", &key]].concat();
    let served = Served::start(&scene, &args);
    let url = served.behind_bad_line(1 << 20);
    let fetch = |url: &str| scene.asking("build", &[url]).arg(&path);
    // In the same run.
    fetch(&url).ok().says("1 path fetched");
    scene.world.stays_valid();
    scene.start_over("first");
    // In the next run, by another way.
    let once = fetch(&url).args(["--option", "download-attempts", "1"]);
    once.run().exits(1).no_panic();
    fetch(&served.url).ok().says("1 path fetched");
    scene.world.stays_valid();
    let ran = served.end().never_says("warning");
    let answers = |status: &str| {
        let archives = ran.stderr.lines().filter(|line| line.contains(" /nar/"));
        archives.filter(|line| line.contains(status)).count()
    };
    assert_eq!((answers(" 200, "), answers(" 206, ")), (2, 4), "{ran}");
    scene.is_well();
}

/// Has a Nix do what it can with a cache: fetch paths, read files, listings and logs.
#[track_caller]
fn is_used_by(scene: &Scene, nix: &str, nix_store: &str) {
    let served = Served::start(scene, &["--secret-key-file", &key(scene)]);
    let url = served.url.as_str();
    let trusting = |cmd: Cmd| {
        let cmd = cmd.args(["--option", "trusted-public-keys", &scene.key.public]);
        cmd.args([
            "--option",
            "substitute",
            "true",
            "--option",
            "substituters",
            url,
        ])
    };
    let program = |name: &str| scene.world.program(name);
    trusting(program(nix_store).args(["--realise", &scene.b])).ok();
    assert!(scene.world.is_valid(&scene.a) && scene.world.is_valid(&scene.b));
    scene.start_over("realised");
    let copy = program(nix).args(["copy", "--from", url, &scene.b]);
    trusting(copy).ok();
    assert!(scene.world.is_valid(&scene.a) && scene.world.is_valid(&scene.b));
    let verify = program(nix).args(["store", "verify", "--recursive", &scene.b]);
    trusting(verify).ok();
    let built = scene.world.at("built.store");
    let place = built.join(fs::canonicalize(&scene.b).unwrap().file_name().unwrap());
    let cat = program(nix).args(["store", "cat", "--store", url, &scene.b]);
    assert_eq!(cat.ok().out(), text(place));
    let ls = program(nix).args(["store", "ls", "--json", "--store", url, &scene.b]);
    assert!(ls.ok().out().contains("\"regular\""));
    let log = program(nix).args(["log", "--store", url, &scene.drv]);
    log.ok();
    assert!(scene.runs().is_empty());
    served.end().never_says("warning");
    scene.is_well();
}

#[test]
fn nix_fetches_and_reads_files_and_logs() {
    need!("nix", "nix-store", "sqlite3");
    is_used_by(&scene(), "nix", "nix-store");
}

#[test]
fn a_newer_nix_fetches_and_reads_files_and_logs() {
    need!("nix-store", "sqlite3");
    let (nix, nix_store) = (need_newer!("nix"), need_newer!("nix-store"));
    is_used_by(&scene(), &nix, &nix_store);
}

#[test]
fn requests_are_told_of_and_a_signal_ends_the_server() {
    let world = World::new();
    let path = world
        .windrow("nix-store")
        .arg("--add")
        .arg(world.write("x", "x"));
    let path = path.ok().line();
    let serve = world.windrow("serve-cache").arg("-v");
    let served = Served::run(&world, serve);
    let hash = &path[path.len() - 34..path.len() - 2];
    let narinfo = served.get(&format!("/{hash}.narinfo"));
    assert!(
        narinfo.contains(&format!("StorePath: {path}\n")),
        "{narinfo}"
    );
    assert!(served.get("/a%1bb").starts_with("HTTP/1.1 404"));
    let ran = served.end();
    ran.says(format!(" GET /{hash}.narinfo 200, "))
        .says(" GET /a%1bb 404, ")
        .never_says("error");
    for signal in ["HUP", "INT", "TERM"] {
        let quiet = world.windrow("serve-cache").arg("--quiet");
        let ran = Served::run(&world, quiet).end_by(signal);
        assert_eq!(ran.stderr, "", "{signal}");
    }
    world.is_clean();
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let world = World::new();
    let large = world.write("large", "much of it\n".repeat(3_000_000));
    let path = world.windrow("nix-store").arg("--add").arg(large);
    let path = path.ok().line();
    let serve = world.windrow("serve-cache").arg("--quiet");
    let served = Served::run(&world, serve.args(["--compression", "none"]));
    let url = served.archive(&path);
    let mut idle = served.ask(&url);
    idle.read_exact(&mut [0; 1000]).unwrap();
    served.running.signal("INT");
    served.running.signal("TERM");
    let ran = served.running.wait().exits(130).no_panic();
    ran.says("interrupted by the user");
}

#[test]
fn what_can_not_be_served_is_said() {
    let world = World::new();
    let serve = |args: &[&str]| world.windrow("serve-cache").args(args).run().exits(1);
    let missing = serve(&["--quiet"]).one_error();
    missing.says("there is no store database");
    world
        .windrow("add")
        .arg(world.write("g.json", r#"{"derivations":{}}"#))
        .ok();
    let taken = Served::run(&world, world.windrow("serve-cache"));
    let address = taken.address();
    let listen = |at: &str| serve(&["--quiet", "--listen", at]).one_error();
    listen(address)
        .says(format!("cannot listen at '{address}'"))
        .says("or 0 for any");
    listen("8080").says("give HOST:PORT, such as 127.0.0.1:8080");
    listen("192.0.2.1:0").says("give an address of this machine");
    let none = world.file("none").display().to_string();
    serve(&["--secret-key-file", &none])
        .one_error()
        .says("cannot read the secret key");
    let other = world.write("other", "x").display().to_string();
    serve(&["--secret-key-file", &other])
        .one_error()
        .says("which is to hold a secret key");
    taken.end();
}

#[test]
fn two_hundred_clients_that_take_nothing_cost_little_memory() {
    let world = World::new();
    let large = world.file("large");
    // What can't be compressed to nothing.
    let noise = world.program("openssl").args(["rand", "-out"]);
    if !have(&["openssl"]) {
        return crate::harness::skip("needs openssl");
    }
    noise.arg(&large).arg((48 << 20).to_string()).ok();
    let path = world
        .windrow("nix-store")
        .arg("--add")
        .arg(&large)
        .ok()
        .line();
    let served = Served::run(&world, world.windrow("serve-cache").arg("--quiet"));
    let url = served.archive(&path);
    let mut idle: Vec<_> = (0..200).map(|_| served.ask(&url)).collect();
    for stream in &mut idle {
        // All of them are being sent.
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    assert!(served.get("/nix-cache-info").starts_with("HTTP/1.1 200"));
    let peak = served.peak();
    drop(idle);
    served.end();
    assert!(peak < 180 << 10, "{peak} KiB");
}
