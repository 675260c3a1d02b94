//! What commands take as targets: names in graphs, the graph of the directory, graphs and lists on
//! standard input; and that looking at a graph writes nothing.

use serde_json::{Value, json};

use crate::harness::{World, graph_of, sh, sh_with, text};

/// A graph whose target is `all`; `main` has two outputs, and `lost` needs a file that is not
/// there.
fn graph(world: &World) -> Value {
    world.write("main.c", "int main;\n");
    let two = json!({"outputs": ["out", "dev"]});
    let mut graph = graph_of([
        (
            "main",
            sh_with("echo log of main; cat @{main.c} > $out; echo h > $dev", two),
        ),
        ("lib", sh("echo log of lib; echo lib > $out")),
        ("all", sh("cat @{main} @{lib} > $out")),
        ("lost", sh("cat @{missing.c} > $out")),
    ]);
    graph["sources"] = json!({"main.c": "main.c", "missing.c": "missing.c"});
    graph["targets"] = json!(["all"]);
    graph
}

#[test]
fn names_of_a_graph_are_built_and_nothing_that_they_do_not_need() {
    let world = World::new();
    let file = world.graph("g.json", &graph(&world));
    let file = file.display();
    // As a whole it can't be built, for a source is not there.
    let whole = world.windrow("build").arg(file.to_string()).run();
    whole.exits(1).one_error().says("missing.c");
    let build = |names: &[&str]| {
        let names = names.iter().map(|name| format!("{file}{name}"));
        world.windrow("build").args(names).ok().lines()
    };
    let main = build(&["#main"]);
    assert_eq!(main.len(), 1);
    assert_eq!(text(&main[0]), "int main;\n");
    let dev = build(&["#main^dev"]);
    assert_eq!(text(&dev[0]), "h\n");
    assert_eq!(build(&["#main^*"]), [&*dev[0], &*main[0]]);
    let several = build(&["#lib", "#main^dev,out", "#lib"]);
    let lib = several.first().expect("a path");
    assert_eq!(text(lib), "lib\n");
    let expected = [lib, &dev[0], &main[0], lib];
    assert_eq!(several.iter().collect::<Vec<_>>(), expected);
    let entries = world.store_entries();
    let has = |name: &str| {
        entries
            .iter()
            .any(|it| it.to_string_lossy().ends_with(name))
    };
    assert!(
        has("-main.drv") && !has("-all.drv") && !has("-lost.drv"),
        "{entries:?}"
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn the_graph_of_this_directory_is_meant_where_none_is_named() {
    let world = World::new();
    for command in ["build", "plan"] {
        let ran = world.windrow(command).run().exits(1).one_error();
        ran.says("windrow.json").prints_nothing();
    }
    world.graph("windrow.json", &graph_of([("x", sh("echo x > $out"))]));
    let all = world.windrow("build").ok().line();
    assert_eq!(text(&all), "x\n");
    assert_eq!(world.windrow("build").arg("#x").ok().line(), all);
    assert_eq!(
        world.windrow("build").args(["#x", "--check"]).ok().line(),
        all
    );
    let ran = world.windrow("build").arg("x").run().exits(1).one_error();
    ran.says("('#x')");
    world.is_clean();
}

#[test]
fn standard_input_is_a_graph_or_a_list() {
    let world = World::new();
    let graph = graph(&world);
    let build = |text: String| world.windrow("build").arg("-").stdin(text).run();
    build(graph.to_string())
        .exits(1)
        .one_error()
        .says("missing.c");
    let good = graph_of([("lib", sh("echo log of lib; echo lib > $out"))]);
    let lib = build(format!("\n {good}")).exits(0).line();
    assert_eq!(text(&lib), "lib\n");
    build("{".to_owned())
        .exits(1)
        .one_error()
        .says("standard input:1:");
    let add = |text: String| world.windrow("add").arg("-").stdin(text).run();
    let drv = add(good.to_string()).exits(0).line();
    let shown = world.windrow("show").arg(&drv).ok().out();
    assert_eq!(add(shown).exits(0).line(), drv, "as Nix's JSON");
    add("{".to_owned())
        .exits(1)
        .one_error()
        .says("standard input:1:");
    let file = world.graph("g.json", &graph);
    let list = format!("{}#lib\n\n {lib}\n", file.display());
    let built = world.windrow("build").arg("-").stdin(list).ok();
    assert_eq!(built.lines(), [lib.clone(), lib.clone()]);
    for list in ["", " \n\n"] {
        for command in ["build", "plan"] {
            let ran = world.windrow(command).arg("-").stdin(list).run();
            ran.exits(1).one_error().says("is empty").prints_nothing();
        }
    }
    let ran = world.windrow("build").args(["-", &lib]).stdin("").run();
    ran.exits(1).one_error().says("is empty").prints_nothing();
    world.is_clean();
}

#[test]
fn names_that_are_not_in_the_graph() {
    let world = World::new();
    let file = world.graph("g.json", &graph(&world));
    let file = file.display();
    for (name, why) in [
        ("#mian", "no derivation 'mian'; did you mean 'main'?"),
        ("#main.c", "'main.c' is a source"),
        ("#main^doc", "'main' has no output 'doc'; it has out, dev"),
        ("#main^", "an output's name is missing"),
        ("#", "the name of a derivation is missing"),
    ] {
        let what = format!("{file}{name}");
        let ran = world.windrow("build").arg(&what).run().exits(1).one_error();
        let ran = ran.says(format!("cannot build '{what}'")).says(why);
        ran.prints_nothing();
        let ran = world.windrow("show").arg(&what).run().exits(1).one_error();
        ran.says(format!("cannot use '{what}'")).says(why);
    }
}

#[test]
fn what_looks_at_a_graph_writes_nothing() {
    let world = World::new();
    world.graph("windrow.json", &graph(&world));
    let plan = world.windrow("plan").arg("#all").ok();
    assert_eq!(plan.lines().len(), 3, "{plan}");
    let dry = world.windrow("build").args(["#all", "--dry-run"]).ok();
    assert_eq!(dry.lines(), plan.lines());
    let shown = world.windrow("show").arg("#all").ok();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let last = plan.lines().pop().unwrap();
    assert_eq!(shown[&last]["name"], "all");
    for command in ["log", "history"] {
        world
            .windrow(command)
            .arg("#all")
            .run()
            .exits(1)
            .one_error();
    }
    assert!(!world.store().exists() && !world.state().exists());
    // What was planned is what is built.
    let built = world.windrow("build").arg("#all").ok().line();
    let valid = world.windrow("plan").arg("#all").ok().prints_nothing();
    valid.says("nothing would be built");
    let shown = world.windrow("show").arg(&built).ok();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(shown.as_object().unwrap().contains_key(&last), "{shown}");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn logs_and_history_by_name() {
    let world = World::new();
    world.graph("windrow.json", &graph(&world));
    world.windrow("build").arg("#all").ok();
    let log = world.windrow("log").arg("#main").ok();
    assert_eq!(log.out(), "log of main\n");
    let row = |ran: crate::harness::Ran| ran.lines()[1].clone();
    let by_name = row(world.windrow("history").arg("lib").ok());
    assert_eq!(row(world.windrow("history").arg("#lib").ok()), by_name);
    // A change makes another derivation, whose name is the same and that has no log yet.
    world.write("main.c", "int main2;\n");
    let ran = world.windrow("log").arg("#main").run().exits(1).one_error();
    ran.says("no build log");
    world.windrow("history").arg("#main").ok();
}
