//! Paths from substituters instead of builders: what is fetched, in which order, and everything
//! that can go wrong. The substituters are shell scripts that serve a directory.

mod caches;
mod fetching;
mod mishaps;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Cache, Cmd, World, graph_of, sorted_lines, step};

/// A world in which a graph was built once and then forgotten except for its derivations; a cache
/// has all outputs.
struct Scene {
    world: World,
    drv: String,
    cache: Cache,
}

impl Scene {
    #[track_caller]
    fn new(graph: impl FnOnce(&World) -> Value) -> Self {
        let world = World::new();
        let graph = graph(&world);
        let drv = world.add(&graph);
        world.windrow("build").arg(&drv).ok();
        let cache = Cache::of(&world, "cache", "%-_");
        world.set_aside("built");
        assert_eq!(world.add(&graph), drv);
        let _ = fs::remove_file(world.file("runs"));
        Self { world, drv, cache }
    }

    /// Two derivations, "b" with what "a" says in its output and a reference to it.
    #[track_caller]
    fn pair() -> Self {
        Self::new(|world| {
            let log = world.file("runs");
            let mut b = step("b", &log, &["a"]);
            let script = format!("{}\necho @{{a}} >> $out", b["args"][1].as_str().unwrap());
            b["args"][1] = script.into();
            graph_of([("a", step("a", &log, &[])), ("b", b)])
        })
    }

    /// `windrow build` of the one target with these substituters.
    fn build(&self, programs: &[&Path]) -> Cmd {
        self.asking(programs).arg(&self.drv)
    }

    fn asking(&self, programs: &[&Path]) -> Cmd {
        asking(&self.world, programs)
    }

    /// The paths in the cache, by name.
    fn path(&self, name: &str) -> String {
        let entries = fs::read_dir(self.world.file("cache/info")).expect("a cache");
        let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let base = names
            .find(|base| base[32..] == format!("-{name}"))
            .expect("a path of that name");
        self.world.store().join(base).display().to_string()
    }

    fn runs(&self) -> Vec<String> {
        sorted_lines(self.world.file("runs"))
    }

    /// Expects all to be well: nothing left, and a store that Nix finds in order.
    #[track_caller]
    fn is_well(&self) {
        self.world.is_clean();
        self.world.stays_valid();
    }
}

/// `windrow build` with these substituters.
fn asking(world: &World, programs: &[&Path]) -> Cmd {
    let list: Vec<String> = programs
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    world
        .windrow("build")
        .env("NIX_SUBSTITUTERS", list.join(":"))
        .args(["--option", "substitute", "true"])
}

/// Base names as the caches note them.
fn names(fetched: &[String]) -> Vec<&str> {
    fetched.iter().map(|base| &base[33..]).collect()
}
