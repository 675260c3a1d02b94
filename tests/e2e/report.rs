//! Reports: of builds that end well, fail and are interrupted, of simulations, of what was written
//! before. That they are complete in themselves, and that a browser draws them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{World, graph_of, have, runs_until_go, sh, skip, text};

/// The data that the page's script draws.
#[track_caller]
fn data(page: &str) -> Value {
    let (_, after) = page
        .split_once(r#"<script type="application/json" id="data">"#)
        .expect("data");
    let (data, _) = after.split_once("</script>").expect("an end of the data");
    serde_json::from_str(data).expect("data that is JSON")
}

/// Expects a page that loads nothing from anywhere.
#[track_caller]
fn is_self_contained(page: &str) {
    for reference in ["http://", "https://", " src=", " href=", "url(", "@import"] {
        assert!(!page.contains(reference), "the page has '{reference}'");
    }
    assert!(page.ends_with("</html>\n"), "the page is not whole");
}

/// The names of a run's spans, in the order of their starts.
fn names(data: &Value, run: usize) -> Vec<&str> {
    let places = data["runs"][run]["name"].as_array().expect("names");
    let name = |place: &Value| data["names"][place.as_u64().expect("a place") as usize].as_str();
    places.iter().filter_map(name).collect()
}

/// The names of a run's critical path.
fn critical_path(data: &Value, run: usize) -> Vec<String> {
    let all = names(data, run);
    let chain = data["runs"][run]["chain"].as_array().expect("a chain");
    let at = |place: &Value| all[place.as_u64().expect("a place") as usize].to_owned();
    chain.iter().map(at).collect()
}

#[test]
fn a_build_that_failed_has_a_report_with_its_critical_path_and_logs() {
    let world = World::new();
    let hostile = "printf '\\033[31mred </script><script>alert(1)</script>\\033[0m\\n' >&2";
    let graph = graph_of([
        ("a-1", sh("sleep 0.3; echo > $out")),
        ("b-1", sh("echo > $out")),
        ("c-1", sh("cat @{a-1} @{b-1} > $out")),
        ("d-1", sh(&format!(": @{{c-1}}; {hostile}; exit 1"))),
        ("e-1", sh(": @{d-1}; echo > $out")),
    ]);
    let file = world.graph("g.json", &graph);
    let report = world.file("build.html");
    let command = world.windrow("build").arg(&file).args(["-j2", "--report"]);
    command.arg(&report).run().exits(100);
    let page = text(&report);
    is_self_contained(&page);
    let data = data(&page);
    assert_eq!(critical_path(&data, 0), ["a-1", "c-1", "d-1"]);
    let run = &data["runs"][0];
    assert_eq!(
        (&run["capacity"], &run["verdict"]),
        (&json!(2), &json!("0001"))
    );
    assert!(
        run["cpu"].as_array().unwrap().iter().all(Value::is_u64),
        "{run}"
    );
    for part in [
        "<h2>Failures</h2>",
        "d-1.drv",
        "Not run because of that",
        "<li>e-1</li>",
    ] {
        assert!(page.contains(part), "the page lacks '{part}'");
    }
    assert!(page.contains("red &lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</span>"));
    assert!(!page.contains("<script>alert(1)"));
    // What is there already is replaced; a build with nothing to do has a report without spans.
    let graph = graph_of([("b-1", sh("echo > $out"))]);
    let file = world.graph("b.json", &graph);
    let command = world.windrow("build").arg(&file).arg("--report");
    command.arg(&report).ok();
    let page = text(&report);
    assert!(page.contains("succeeded") && !page.contains("<h2>Timeline</h2>"));
    let left = fs::read_dir(report.parent().unwrap()).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(".windrow-")
    });
    assert_eq!(left.count(), 0, "a temporary file was left");
}

#[test]
fn a_build_that_is_interrupted_has_a_report() {
    let world = World::new();
    let graph = graph_of([("first", sh("echo > $out")), ("x", runs_until_go(&world))]);
    let file = world.graph("g.json", &graph);
    let report = world.file("build.html");
    let command = world.windrow("build").arg(file).args(["-j2", "--report"]);
    let running = command.arg(&report).start();
    world.wait_for("runs");
    running.signal("TERM");
    running.wait().exits(128 + 15).no_panic();
    let page = text(&report);
    is_self_contained(&page);
    assert!(page.contains("interrupted"));
    let data = data(&page);
    let x = names(&data, 0)
        .iter()
        .position(|name| *name == "x")
        .unwrap();
    assert_eq!(
        data["runs"][0]["verdict"].as_str().unwrap().as_bytes()[x],
        b'2'
    );
}

#[test]
fn a_report_that_can_not_be_written_is_told_before_the_work() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let nowhere = "no/such/directory/r.html";
    let command = world
        .windrow("build")
        .arg(&file)
        .args(["--report", nowhere]);
    command
        .run()
        .exits(1)
        .one_error()
        .says(nowhere)
        .prints_nothing();
    for option in ["--report", "--gantt"] {
        let command = world.windrow("simulate").arg("chain:n=3");
        let ran = command.args([option, nowhere]).run().prints_nothing();
        ran.exits(1).one_error().says(nowhere);
    }
    let command = world.windrow("simulate").args(["chain:n=3", "-j", "1,2"]);
    let ran = command.args(["--gantt", "g.svg"]).run().exits(1);
    ran.one_error()
        .says("a picture of the timeline is of one simulation");
}

const GRAPH: &str = "layered:n=200,width=20,degree=3,time=uniform:1..10s,seed=7";

#[test]
fn a_simulation_has_a_report_and_a_picture() {
    let world = World::new();
    let (report, picture) = (world.file("r.html"), world.file("g.svg"));
    let command = world.windrow("simulate").arg(GRAPH).args(["-j", "4"]);
    let command = command.arg("--report").arg(&report);
    command.arg("--gantt").arg(&picture).ok();
    let page = text(&report);
    is_self_contained(&page);
    let data = data(&page);
    assert_eq!(names(&data, 0).len(), 200);
    let run = &data["runs"][0];
    assert!(run["chain"].as_array().unwrap().len() > 2, "{run}");
    let lanes = run["lane"].as_array().unwrap();
    assert!(lanes.iter().all(|lane| lane.as_u64().unwrap() < 4), "{run}");
    let svg = text(&picture);
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
        "{svg:.60}"
    );
    assert!(svg.contains("critical path") && svg.matches("<rect").count() > 200);
    // The same seed gives the same report, byte for byte.
    let again = world.file("again.html");
    let command = world.windrow("simulate").arg(GRAPH).args(["-j", "4"]);
    command.arg("--report").arg(&again).ok();
    assert!(
        page == text(&again),
        "the same simulation has another report"
    );
}

#[test]
fn policies_are_compared_in_a_report() {
    let world = World::new();
    let report = world.file("r.html");
    let command = world.windrow("simulate").arg(GRAPH).args(["-j", "2,8"]);
    let command = command.args(["--compare", "fifo,critical-path,random", "--report"]);
    command.arg(&report).ok();
    let page = text(&report);
    is_self_contained(&page);
    assert_eq!(data(&page)["runs"].as_array().unwrap().len(), 6);
    for part in [
        "Makespan over slots or cores",
        "Makespan with 2 slots or cores",
        "Makespan with 8 slots or cores",
        "critical-path, 8 slots",
        "<svg ",
    ] {
        assert!(page.contains(part), "the page lacks '{part}'");
    }
}

#[test]
fn tasks_on_machines_have_the_lanes_of_all_their_cores() {
    let world = World::new();
    let machines = world.write(
        "machines.toml",
        "[[machine]]\nname = \"big\"\ncores = 4\nspeed = 2.0\n\n[[machine]]\nname = \"small\"\ncores = 1\n",
    );
    let report = world.file("r.html");
    let command = world.windrow("simulate").arg("chain:n=5,time=constant:2s");
    let command = command
        .args(["--policy", "heft", "--machines"])
        .arg(machines);
    command.arg("--report").arg(&report).ok();
    let data = data(&text(&report));
    let run = &data["runs"][0];
    assert_eq!(run["groups"], json!([["big", "core", 4, true]]));
    assert_eq!(
        (&run["capacity"], &run["end"]),
        (&json!(5), &json!(5_000_000))
    );
    assert_eq!(critical_path(&data, 0).len(), 5);
}

#[test]
fn what_was_written_before_becomes_a_report() {
    let world = World::new();
    let results = world.file("results.jsonl");
    let mut all = String::new();
    for seed in ["1", "2", "3"] {
        let graph = "layered:n=100,width=10,degree=2,time=exponential:2s";
        let command = world
            .windrow("simulate")
            .arg(graph)
            .args(["-j", "2,4,8", "--json"]);
        let command = command.args(["--durations", "exponential:2s", "--seed", seed]);
        all += &command.args(["--compare", "fifo,critical-path"]).ok().out();
    }
    fs::write(&results, all).unwrap();
    let trace = world.file("trace.json");
    let command = world.windrow("simulate").arg(GRAPH).arg("--trace");
    command.arg(&trace).ok();
    let (report, plot) = (world.file("r.html"), world.file("p.svg"));
    let command = world.windrow("report").arg(&results).arg(&trace);
    let command = command.arg("-o").arg(&report).arg("--plot").arg(&plot);
    command.ok().prints_nothing();
    let page = text(&report);
    is_self_contained(&page);
    assert_eq!(names(&data(&page), 0).len(), 200);
    for part in [
        "Means of 3 seeds, lines are 95 % confidence intervals",
        "Makespan over its lower bound",
        "<h2>Results</h2>",
    ] {
        assert!(page.contains(part), "the page lacks '{part}'");
    }
    assert!(text(&plot).contains(">\ncritical-path\n</text>"));
}

#[test]
fn files_that_are_nothing_of_windrows_have_one_message() {
    let world = World::new();
    let refused = |name: &str, contents: &str, says: &str| {
        let file = world.write(name, contents);
        let command = world.windrow("report").arg(file).args(["-o", "r.html"]);
        let ran = command.run().exits(1).one_error();
        ran.says("cannot report on").says(name).says(says);
    };
    refused("a.txt", "hello", "it is not JSON");
    refused("b.json", "", "it is empty");
    refused("c.json", "{\"nodes\": 3}", "missing field `policy`");
    refused("d.json", "[1, 2]", "invalid type");
    let command = world.windrow("report").args(["none.json", "-o", "r.html"]);
    command.run().exits(1).one_error().says("none.json");
    let file = world.write(
        "e.json",
        "{\"policy\": \"fifo\", \"jobs\": 2, \"makespan\": 3}",
    );
    let command = world.windrow("report").arg(&file).args(["--plot", "p.svg"]);
    command.run().exits(1).one_error().says("nothing to plot");
    assert!(!world.file("p.svg").exists());
}

/// What a page becomes in a browser, with a script that runs at its end.
fn in_browser(world: &World, page: &Path, script: &str) -> String {
    let page = text(page);
    // Errors are part of what becomes of it.
    let watch = "<script>addEventListener('error', (it) => document.documentElement.setAttribute('data-error', it.message))</script>";
    let page = page.replacen("<style>", &format!("{watch}<style>"), 1);
    let page = page.replacen("</body>", &format!("<script>{script}</script></body>"), 1);
    let file = world.write("tested.html", page);
    let command = world.program("chromium").args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        "--dump-dom",
    ]);
    let ran = command.arg(format!("file://{}", file.display())).ok();
    let dom = ran.out();
    assert!(!dom.contains(" data-error=\""), "{:.3000}", dom);
    dom
}

#[test]
fn a_browser_draws_the_timeline() {
    if !have(&["chromium"]) {
        return skip("there is no chromium");
    }
    let world = World::new();
    let report = world.file("r.html");
    let command = world.windrow("simulate").arg(GRAPH).args(["-j", "3"]);
    let command = command.args(["--compare", "fifo,random", "--fail", "n190", "-k"]);
    command.arg("--report").arg(&report).ok();
    let script = r#"
        const view = views[0];
        const pixels = () => {
            const canvas = view.canvas;
            const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return bytes.reduce((sum, byte) => sum + byte, 0);
        };
        const whole = pixels();
        const span = view.at(view.x(view.run.start[5]) + 1, AXIS + (view.run.lane[5] + 0.5) * view.row);
        view.search("n1");
        const hits = view.hitList.length;
        view.nextHit(1);
        view.zoom(0.5);
        view.draw();
        const wide = view.to - view.from < view.run.extent;
        view.fit();
        document.querySelector("[data-run='1'][role=tab]").click();
        document.querySelector("article:not(.hidden) th[data-by=name] button").click();
        document.body.dataset.seen = JSON.stringify({
            whole: whole > 0, changed: pixels() !== whole, hits, wide, span, tabs: views.length,
            first: document.querySelector("article:not(.hidden) table.slowest td").textContent,
        });
    "#;
    let dom = in_browser(&world, &report, script);
    let (_, seen) = dom.split_once("data-seen=\"").expect("what the script saw");
    let seen = seen.split('"').next().unwrap().replace("&quot;", "\"");
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["whole"], true, "{seen}");
    assert_eq!(
        (&seen["changed"], &seen["wide"]),
        (&json!(true), &json!(true)),
        "{seen}"
    );
    assert_eq!(seen["span"], 5, "{seen}");
    assert!(seen["hits"].as_u64().unwrap() > 50, "{seen}");
    assert_eq!(
        (&seen["tabs"], &seen["first"]),
        (&json!(2), &json!("n0")),
        "{seen}"
    );
}
