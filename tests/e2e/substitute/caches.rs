//! Binary caches written by real Nix: what is fetched from them, whose signatures count, and what
//! happens when one is damaged or dead.

mod http;
mod many;
mod misbehaving;
mod newer;
mod peers;
mod served;
mod shown;

use std::fs;

use crate::harness::{BinaryCache, Cmd, Key, World, graph_of, need, sh, sorted_lines, step};

/// A world in which "b", which refers to "a", was built and forgotten; both derivations are there.
struct Scene {
    world: World,
    drv: String,
    key: Key,
    a: String,
    b: String,
}

impl Scene {
    /// The scene, and what `write` made while the outputs were there: caches of the closure of "b".
    #[track_caller]
    fn new<T>(write: impl FnOnce(&World, &Key, &str) -> T) -> (Self, T) {
        let world = World::new();
        let log = world.file("runs");
        let mut b = step("b", &log, &["a"]);
        let script = format!("{}\necho @{{a}} >> $out", b["args"][1].as_str().unwrap());
        b["args"][1] = script.into();
        let graph = graph_of([("a", step("a", &log, &[])), ("b", b)]);
        let drv = world.add(&graph);
        let built = world.windrow("build").arg(&drv).ok().line();
        let key = Key::new(&world, "test.example-1");
        let made = write(&world, &key, &built);
        let a = fs::read_to_string(&built).unwrap();
        let a = a.lines().last().expect("the path of a").to_owned();
        world.set_aside("built");
        assert_eq!(world.add(&graph), drv);
        let _ = fs::remove_file(log);
        let scene = Self {
            world,
            drv,
            key,
            a,
            b: built,
        };
        (scene, made)
    }

    /// With one signed cache.
    #[track_caller]
    fn with_cache(compression: &str) -> (Self, BinaryCache) {
        Self::new(|world, key, path| {
            BinaryCache::written_by_nix(world, "cache", (compression, Some(key)), &[path])
        })
    }

    /// A command with these caches, and the key trusted.
    fn asking(&self, command: &str, urls: &[&str]) -> Cmd {
        self.world
            .windrow(command)
            .args(["--option", "substitute", "true"])
            .args(["--option", "substituters", &urls.join(" ")])
            .args(["--option", "trusted-public-keys", &self.key.public])
    }

    /// `windrow build` of "b" with these caches.
    fn build(&self, urls: &[&str]) -> Cmd {
        self.asking("build", urls).arg(&self.drv)
    }

    /// What was built since the scene began.
    fn runs(&self) -> Vec<String> {
        sorted_lines(self.world.file("runs"))
    }

    /// Expects all to be well: nothing left, no download among it, and a store that Nix finds in
    /// order.
    #[track_caller]
    fn is_well(&self) {
        self.world.is_clean();
        self.world.stays_valid();
        let downloads = fs::read_dir(self.world.state().join("windrow-downloads"));
        assert_eq!(downloads.map_or(0, Iterator::count), 0);
    }

    /// Forgets what was fetched or built, and what caches have said.
    #[track_caller]
    fn start_over(&self, name: &str) {
        self.world.set_aside(name);
        self.world
            .windrow("add")
            .arg(self.world.file("graph.json"))
            .ok();
        let _ = fs::remove_file(self.world.file("runs"));
        let _ = fs::remove_dir_all(self.world.at("home/.cache"));
    }
}

#[test]
fn outputs_come_from_caches_of_every_compression_that_nix_writes() {
    need!("nix", "nix-store", "sqlite3");
    for compression in ["none", "xz", "bzip2", "zstd", "gzip", "br", "lz4"] {
        let (scene, cache) = Scene::with_cache(compression);
        assert_eq!(cache.field(&scene.b, "Compression"), compression);
        let ran = scene.build(&[&cache.url()]).ok();
        assert_eq!(ran.line(), scene.b);
        ran.says("2 paths fetched").never_says("warning");
        assert!(scene.runs().is_empty(), "nothing is built");
        let query = "select path, sigs, deriver, ultimate from ValidPaths where path like '%-_'";
        let rows = scene.world.sql(query);
        assert_eq!(rows.len(), 2, "{rows:?}");
        for (path, row) in [(&scene.a, &rows), (&scene.b, &rows)] {
            let sig = cache.field(path, "Sig");
            let deriver = cache.field(path, "Deriver");
            let deriver = scene.world.store().join(deriver);
            let expected = format!("{path}|{sig}|{}|", deriver.display());
            assert!(row.contains(&expected), "{expected} in {rows:?}");
        }
        scene.is_well();
    }
}

#[test]
fn a_path_by_itself_comes_with_all_that_it_refers_to() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    let ran = scene.asking("build", &[&cache.url()]).arg(&scene.b).ok();
    assert_eq!(ran.line(), scene.b);
    assert!(scene.world.is_valid(&scene.a));
    scene.is_well();
    scene.start_over("first");
    let realise = scene.world.ours(["--realise"]).arg(&scene.b);
    let realise = realise.args(["--option", "substitute", "true"]);
    let realise = realise.args(["--option", "substituters", &cache.url()]);
    let realise = realise.args(["--option", "trusted-public-keys", &scene.key.public]);
    let ran = realise.ok();
    assert_eq!(ran.line(), scene.b);
    ran.says("these 2 paths will be fetched");
    assert!(scene.world.is_valid(&scene.a));
    scene.is_well();
}

#[test]
fn only_what_a_trusted_key_has_signed_is_taken() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, [unsigned, other]) = Scene::new(|world, _, path| {
        let other = Key::new(world, "other.example-1");
        [("unsigned", None), ("other", Some(&other))]
            .map(|(name, key)| BinaryCache::written_by_nix(world, name, ("xz", key), &[path]))
    });
    for (cache, says) in [
        (&unsigned, "it is not signed"),
        (
            &other,
            "none of the keys that signed it is trusted: other.example-1",
        ),
    ] {
        let ran = scene.build(&[&cache.url()]).ok();
        ran.says(says).says(cache.url()).never_says("fetching");
        assert_eq!(scene.runs(), ["a", "b"], "it is built instead");
        scene.is_well();
        scene.start_over(cache.dir.file_name().unwrap().to_str().unwrap());
    }
    // By URL, or for all.
    let trusted = format!("{}?trusted=true", unsigned.url());
    scene.build(&[&trusted]).ok().says("2 paths fetched");
    scene.start_over("trusted");
    let lax = scene.build(&[&other.url()]);
    let lax = lax.args(["--option", "require-sigs", "false"]);
    lax.ok().says("2 paths fetched");
    assert!(scene.runs().is_empty());
    scene.is_well();
}

#[test]
fn a_signature_holds_for_what_was_signed_only() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("none");
    cache.change(&scene.b, "NarSize: ", "NarSize: 1");
    let ran = scene.build(&[&cache.url()]).ok();
    ran.says("its signature by the trusted key 'test.example-1' is wrong");
    assert_eq!(scene.runs(), ["b"]);
    scene.is_well();
}

#[test]
fn a_damaged_archive_comes_from_the_next_cache_or_is_built() {
    need!("nix", "nix-store", "sqlite3");
    for compression in ["none", "xz", "zstd"] {
        let (scene, [bad, good]) = Scene::new(|world, key, path| {
            ["bad", "good"].map(|name| {
                BinaryCache::written_by_nix(world, name, (compression, Some(key)), &[path])
            })
        });
        bad.damage(&scene.b);
        let failed = format!("fetching path '{}'", scene.b);
        let ran = scene.build(&[&bad.url(), &good.url()]).ok();
        ran.says(&failed).says("2 paths fetched").no_panic();
        assert!(scene.runs().is_empty());
        scene.is_well();
        scene.start_over(compression);
        // No --fallback is needed for what can be built.
        let ran = scene.build(&[&bad.url()]).ok();
        ran.says(&failed).says("1 derivation built").no_panic();
        assert_eq!(scene.runs(), ["b"]);
        scene.is_well();
        scene.start_over("built-again");
        let alone = scene.asking("build", &[&bad.url()]).arg(&scene.b);
        let ran = alone.run().exits(1).no_panic();
        ran.says("no binary cache that has it could deliver it");
        assert!(!scene.world.is_valid(&scene.b));
        scene.is_well();
    }
}

#[test]
fn a_dead_cache_beside_a_good_one_is_told_of_and_nothing_else() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    // Nobody listens at port 1.
    let dead = "http://127.0.0.1:1";
    let absent = format!("file://{}", scene.world.file("absent").display());
    for urls in [[dead, &cache.url(), &absent], [&cache.url(), &absent, dead]] {
        let ran = scene.build(&urls).ok();
        ran.says("2 paths fetched").says("there is no directory");
        assert!(scene.runs().is_empty());
        scene.is_well();
        scene.start_over(&format!("{}", urls[0].len()));
    }
    // Only it could have something.
    let ran = scene.build(&[dead]).ok();
    ran.says(format!("binary cache '{dead}' is left out for 60 seconds"));
    assert_eq!(scene.runs(), ["a", "b"]);
    scene.is_well();
}

#[test]
fn a_cache_of_another_store_is_not_used() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    let info = cache.dir.join("nix-cache-info");
    fs::write(info, "StoreDir: /elsewhere/store\n").unwrap();
    let ran = scene.build(&[&cache.url()]).ok();
    ran.says("it has paths of the store '/elsewhere/store'");
    assert_eq!(scene.runs(), ["a", "b"]);
    scene.is_well();
}

#[test]
fn what_a_cache_lacks_is_built_and_then_the_rest_is_fetched() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    cache.forget(&scene.a);
    scene.build(&[&cache.url()]).ok().says("1 path fetched");
    assert_eq!(scene.runs(), ["a"]);
    scene.is_well();
}

#[test]
fn the_priority_decides_who_gives_a_path() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, [one, two]) = Scene::new(|world, key, path| {
        ["one", "two"]
            .map(|name| BinaryCache::written_by_nix(world, name, ("xz", Some(key)), &[path]))
    });
    for cache in [&one, &two] {
        // Whoever is chosen is told of, for it can't deliver.
        cache.damage(&scene.a);
        cache.damage(&scene.b);
    }
    let info = "WantMassQuery: 1\nPriority: 30\n";
    fs::write(two.dir.join("nix-cache-info"), info).unwrap();
    fs::write(one.dir.join("nix-cache-info"), info.replace("30", "40")).unwrap();
    let of = |cache: &BinaryCache| cache.archive(&scene.a).display().to_string();
    let ran = scene.build(&[&one.url(), &two.url()]).ok();
    let at = |text: &str, cache| text.find(&of(cache)).expect("it is told of");
    assert!(at(&ran.stderr, &two) < at(&ran.stderr, &one), "{ran}");
    scene.start_over("first");
    let first = format!("{}?priority=3", one.url());
    let ran = scene.build(&[&first, &two.url()]).ok();
    assert!(at(&ran.stderr, &one) < at(&ran.stderr, &two), "{ran}");
}

#[test]
fn a_plan_tells_what_caches_would_send() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("none");
    let sum = |name: &str| -> u64 {
        let size = |path| cache.field(path, name).parse::<u64>().unwrap();
        size(&scene.a) + size(&scene.b)
    };
    let mib = |bytes: u64| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
    let sizes = format!(
        "these 2 paths would be fetched ({} download, {} unpacked)",
        mib(sum("FileSize")),
        mib(sum("NarSize"))
    );
    let ran = scene.asking("plan", &[&cache.url()]).arg(&scene.drv).ok();
    let ran = ran.says("nothing would be built").says(&sizes);
    ran.says(&scene.a).says(&scene.b);
    let dry = scene.build(&[&cache.url()]).arg("--dry-run").ok();
    dry.says(&sizes);
    assert!(!scene.world.is_valid(&scene.b));
    scene.is_well();
}

#[test]
fn caches_that_can_not_be_used_are_named() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    world.conf("substitute = true\nsubstituters = ssh://-h.invalid ftp://h.invalid\n");
    let ran = world.windrow("build").arg(&drv).ok();
    ran.says("the setting 'substituters' names what windrow can't fetch from")
        .says("'ssh://-h.invalid' is not the URL of a store: it should name a host")
        .says("'ftp'");
}

#[test]
fn a_corrupt_path_is_replaced_from_a_cache() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    scene.build(&[&cache.url()]).ok();
    let good = fs::read(&scene.b).unwrap();
    fs::remove_file(&scene.b).unwrap();
    fs::write(&scene.b, "corrupt").unwrap();
    let repair = scene.asking("build", &[&cache.url()]);
    repair.arg("--repair").arg(&scene.b).ok();
    assert_eq!(fs::read(&scene.b).unwrap(), good);
    assert!(scene.runs().is_empty());
    scene.is_well();
}

#[test]
fn paths_come_from_another_store_on_this_machine() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, ()) = Scene::new(|_, _, _| ());
    // What was built lies elsewhere now, with its own database.
    let at = |dir: &str| scene.world.at(format!("built.{dir}")).display().to_string();
    let store = scene.world.store().display().to_string();
    let (real, state) = (at("store"), at("state"));
    let url = format!("local?store={store}&real={real}&state={state}");
    let ran = scene.build(&[&url]).ok();
    ran.says("it is not signed");
    assert_eq!(scene.runs(), ["a", "b"]);
    scene.is_well();
    scene.start_over("unsigned");
    let trusted = format!("{url}&trusted=true");
    scene.build(&[&trusted]).ok().says("2 paths fetched");
    assert!(scene.runs().is_empty());
    scene.is_well();
    scene.start_over("trusted");
    // What is not what its database says is not taken.
    let b = scene.b.replace(&store, &real);
    fs::remove_file(&b).unwrap();
    fs::write(&b, "corrupt").unwrap();
    let ran = scene.build(&[&trusted]).ok();
    ran.says(format!("from '{b}' failed"));
    assert_eq!(scene.runs(), ["b"]);
    scene.is_well();
    scene.start_over("corrupt");
    let other = format!(
        "local?root={}&trusted=true",
        scene.world.at("built").display()
    );
    let ran = scene.build(&[&other]).ok();
    ran.says("it has paths of the store '/nix/store'");
    assert_eq!(scene.runs(), ["a", "b"]);
}

#[test]
fn a_path_is_repaired_and_wanted_at_the_same_time() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    // Without their derivations; "b" refers to "a".
    scene.world.set_aside("derivations");
    let repair = scene
        .world
        .ours(["--repair-path"])
        .args([&scene.a, &scene.b]);
    let repair = repair.args(["--option", "substitute", "true"]);
    let repair = repair.args(["--option", "substituters", &cache.url()]);
    let repair = repair.args(["--option", "trusted-public-keys", &scene.key.public]);
    repair.ok().never_says("warning");
    assert!(scene.world.is_valid(&scene.a) && scene.world.is_valid(&scene.b));
    scene.is_well();
}
