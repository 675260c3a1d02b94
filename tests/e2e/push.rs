//! `upload-caches` and `windrow push`: what is built gets to caches while builds run, and what does
//! not get there waits, whatever ends the run.

mod trouble;

use std::fs;
use std::path::{Path, PathBuf};

use windrow_net::testing::{Behaviour, Server};

use crate::harness::{
    BinaryCache, Cmd, Key, Running, World, graph_of, need, runs_until_go, sh, wait_until,
};

/// A world with derivations "b", which refers to "a", and "last", which needs "b" and ends well
/// once there is a file `go`.
struct Scene {
    world: World,
    graph: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let mut last = runs_until_go(&world);
        last["env"] = serde_json::json!({"needs": "@{b}"});
        let graph = graph_of([
            ("a", sh("echo hello > $out")),
            ("b", sh("echo @{a} > $out")),
            ("last", last),
        ]);
        let graph = world.graph("graph.json", &graph);
        Self { world, graph }
    }

    /// Names caches in the setting.
    fn push_to(&self, urls: &[&str]) {
        let urls = urls.join(" ");
        // No second attempt, which would come after a while.
        let conf = format!("upload-caches = {urls}\ndownload-attempts = 1\n");
        self.world.conf(&conf);
    }

    fn build(&self) -> Cmd {
        self.world.windrow("build").arg(&self.graph)
    }

    /// A build in which "b" is valid and "last" runs.
    #[track_caller]
    fn build_to_last(&self) -> Running {
        let running = self.build().start();
        self.world.wait_for("runs");
        running
    }

    fn go(&self) {
        self.world.write("go", "");
    }

    /// The path that was built under that name.
    #[track_caller]
    fn path(&self, name: &str) -> String {
        let entries = self.world.store_entries().into_iter();
        let mut paths = entries.map(|path| path.display().to_string());
        let path = paths.find(|path| path.ends_with(&format!("-{name}")));
        path.expect("a path of that name")
    }

    /// What `push --list` prints.
    #[track_caller]
    fn waiting(&self) -> Vec<String> {
        self.world.windrow("push").arg("--list").ok().lines()
    }

    /// Has Nix fetch "b" from a cache into an empty store.
    #[track_caller]
    fn nix_fetches(&self, url: &str, trust: &[&str]) {
        let (a, b) = (self.path("a"), self.path("b"));
        self.world.set_aside("built");
        let _ = fs::remove_dir_all(self.world.at("home/.cache"));
        let copy = self.world.program("nix").args(["copy", "--from", url]);
        copy.args(trust).arg(&b).ok();
        assert!(self.world.is_valid(&a) && self.world.is_valid(&b));
        self.world.verifies();
        self.world.set_aside(&format!("from-{}", url.len()));
        self.world.bring_back("built");
    }
}

/// A cache in a directory of the world.
fn cache(world: &World, name: &str) -> BinaryCache {
    BinaryCache {
        dir: world.file(name),
    }
}

#[track_caller]
fn wait_for_file(path: &Path) {
    wait_until(&format!("{} is there", path.display()), || path.exists());
}

#[test]
fn what_is_built_is_pushed_while_builds_run_and_nix_takes_it() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let key = Key::new(&scene.world, "push-1");
    let near = cache(&scene.world, "near");
    let far = cache(&scene.world, "far");
    fs::create_dir(&far.dir).unwrap();
    let server = Server::start(&far.dir);
    let signed = format!("{}?secret-key={}", near.url(), key.secret.display());
    let plain = format!("{}?compression=zstd", server.url());
    scene.push_to(&[&signed, &plain]);
    let running = scene.build_to_last();
    let (a, b) = (scene.path("a"), scene.path("b"));
    for cache in [&near, &far] {
        wait_for_file(&cache.narinfo(&a));
        wait_for_file(&cache.narinfo(&b));
    }
    scene.go();
    let ran = running.wait().exits(0);
    ran.never_says("warning").never_says("error");
    scene.world.is_clean();
    assert!(near.field(&b, "Sig").starts_with("push-1:"));
    assert_eq!(far.field(&b, "Compression"), "zstd");
    // What was built last is pushed by hand, if it did not get there.
    scene.world.windrow("push").ok();
    assert!(scene.waiting().is_empty());
    assert!(far.narinfo(&scene.path("last")).exists());
    let ran = scene.world.windrow("push").ok();
    ran.says("nothing waits to be pushed");
    // Nix warns of a setting that it does not know.
    scene.world.conf("");
    let trust = ["--option", "trusted-public-keys", &key.public];
    scene.nix_fetches(&near.url(), &trust);
    scene.nix_fetches(&server.url(), &["--no-check-sigs"]);
}

#[test]
fn what_was_there_or_fetched_is_not_pushed() {
    need!("sqlite3");
    let scene = Scene::new();
    scene.go();
    // Nothing is noted without the setting.
    scene.build().ok();
    assert!(scene.waiting().is_empty());
    let copy = scene.world.windrow("copy");
    let other = cache(&scene.world, "other");
    copy.args(["--to", &other.url()]).arg(scene.path("b")).ok();
    scene.push_to(&["http://127.0.0.1:9"]);
    scene.build().ok().never_says("wait");
    let b = scene.path("b");
    scene.world.set_aside("built");
    let build = scene.world.windrow("build").arg(&b).args([
        "--option",
        "substitute",
        "true",
        "--option",
        "substituters",
        &format!("{}?trusted=true", other.url()),
    ]);
    build.ok().never_says("wait");
    assert!(scene.waiting().is_empty());
}

#[test]
fn one_of_two_caches_is_chosen_and_one_no_longer_named_is_told_of() {
    need!("sqlite3");
    let scene = Scene::new();
    let (one, two) = (cache(&scene.world, "one"), cache(&scene.world, "two"));
    // Files lie where the directories are to be, so that nothing is pushed at once.
    for cache in [&one, &two] {
        fs::write(&cache.dir, "").unwrap();
    }
    let with_level = format!("{}?compression=none", one.url());
    scene.push_to(&[&with_level, &two.url()]);
    trouble::build_in_vain(&scene).says("3 paths wait for 'windrow push'");
    assert_eq!(scene.waiting().len(), 6);
    for cache in [&one, &two] {
        fs::remove_file(&cache.dir).unwrap();
    }
    let push = scene.world.windrow("push").args(["--to", &one.url()]);
    push.ok().says("copied 3 paths").never_says("two");
    // Its parameters are those of the setting.
    assert_eq!(one.field(&scene.path("b"), "Compression"), "none");
    assert!(!two.dir.exists());
    let waiting = scene.waiting();
    assert_eq!(waiting.len(), 3);
    let b = format!("{} {}", scene.path("b"), two.url());
    assert!(waiting.contains(&b), "{waiting:?}");
    scene.world.conf("");
    let push = scene.world.windrow("push");
    push.ok().says("does not name").says(two.url());
    assert!(two.narinfo(&scene.path("b")).exists());
    assert!(scene.waiting().is_empty());
}

#[test]
fn a_password_is_asked_of_the_netrc_file_or_named_again() {
    for by_netrc in [true, false] {
        let scene = Scene::new();
        let far = cache(&scene.world, "far");
        fs::create_dir(&far.dir).unwrap();
        let server = Server::start(&far.dir);
        server.behave("*", Behaviour::Status(403));
        let address = server.address();
        let url = format!("http://me:secret@{address}?compression=zstd");
        scene.push_to(&[&url]);
        scene.go();
        scene.build().ok();
        scene.world.conf("");
        let login = Behaviour::Login("me".to_owned(), "secret".to_owned());
        server.behave("*", login);
        assert!(!scene.waiting().is_empty());
        let push = scene.world.windrow("push");
        let push = if by_netrc {
            let entry = format!("machine {} login me password secret\n", address.ip());
            let netrc = scene.world.write("netrc", entry);
            push.args(["--option", "netrc-file", netrc.to_str().unwrap()])
        } else {
            push.args(["--to", &format!("http://me:secret@{address}")])
        };
        push.ok();
        assert!(scene.waiting().is_empty());
        assert_eq!(far.field(&scene.path("b"), "Compression"), "zstd");
    }
}

#[test]
fn what_waits_can_be_forgotten() {
    need!("sqlite3");
    let scene = Scene::new();
    scene.go();
    scene.push_to(&["http://127.0.0.1:9", "http://127.0.0.1:9/other"]);
    scene.build().ok();
    let forget = scene.world.windrow("push").arg("--forget");
    forget.args(["--to", "http://127.0.0.1:9/other"]).ok();
    assert_eq!(scene.waiting().len(), 3);
    scene.world.windrow("push").arg("--forget").ok();
    assert!(scene.waiting().is_empty());
}
