//! What people and programs see of fetches while they go on.

use serde_json::{Value, json};
use windrow_net::testing::Behaviour;

use super::http::served;
use crate::harness::{Terminal, need};

#[test]
fn the_live_region_shows_how_much_is_here() {
    need!("nix", "nix-store", "setsid");
    let (scene, cache, server) = served("none");
    let archive = format!("/{}", cache.field(&scene.b, "URL"));
    server.behave_times(1, &archive, Behaviour::Stall(100));
    let terminal = Terminal::new(24, 100);
    let build = scene.build(&[&server.url()]).env("TERM", "xterm");
    let build = build.args(["--option", "stalled-download-timeout", "3"]);
    let running = terminal.run(build, &scene.world.file("stdout")).start();
    let size = cache.field(&scene.b, "FileSize");
    terminal.shows(&["fetch b", &format!("100 bytes of {size} bytes, ")]);
    running.wait().exits(0);
    terminal.shows(&["fetched a", "fetched b", "2 paths fetched"]);
    scene.is_well();
}

#[test]
fn programs_are_told_how_much_is_here() {
    need!("nix", "nix-store");
    let (scene, cache, server) = served("none");
    let build = scene.build(&[&server.url()]);
    let ran = build.args(["--log-format", "internal-json"]).ok();
    let lines = ran.stderr.lines();
    let records: Vec<Value> = lines
        .map(|line| serde_json::from_str(line.strip_prefix("@nix ").unwrap()).unwrap())
        .collect();
    let starts = |kind: u64| {
        let is = |it: &&Value| it["action"] == "start" && it["type"] == kind;
        records.iter().filter(is).collect::<Vec<_>>()
    };
    let all = &starts(103)[0]["id"];
    let results = |id: &Value, kind: u64| {
        let is = |it: &&Value| it["id"] == *id && it["action"] == "result" && it["type"] == kind;
        let results = records.iter().filter(is);
        results.map(|it| it["fields"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        results(all, 105).last(),
        Some(&json!([2, 2, 0, 0])),
        "{ran}"
    );
    let mut bytes = 0;
    for path in [&scene.a, &scene.b] {
        let size: u64 = cache.field(path, "FileSize").parse().unwrap();
        bytes += size;
        let of = |kind: u64| {
            let mut starts = starts(kind).into_iter();
            let start = starts.find(|it| it["fields"][0] == path.as_str());
            start.unwrap_or_else(|| panic!("no activity {kind} of '{path}'\n{ran}"))
        };
        let (fetch, copy) = (of(108), of(100));
        assert_eq!((&fetch["parent"], &copy["parent"]), (all, &fetch["id"]));
        let last = json!([size, size, 0, 0]);
        assert_eq!(results(&copy["id"], 105).last(), Some(&last), "{ran}");
    }
    assert_eq!(
        results(all, 106).last(),
        Some(&json!([100, bytes])),
        "{ran}"
    );
}
