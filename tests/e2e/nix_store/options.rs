//! Settings on the command line of nix-store: which mistakes are warned of, and which are errors.

use crate::harness::{World, graph_of, need, sh};

#[test]
fn unknown_settings_are_warned_of() {
    need!(nix);
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let args = ["--option", "bogus", "1", "-q", "--outputs", &drv];
    let theirs = world
        .theirs(args)
        .ok()
        .says("warning: unknown setting 'bogus'");
    let ours = world.alike(&args).says("warning: unknown setting 'bogus'");
    assert_eq!(ours.stderr.lines().count(), theirs.stderr.lines().count());
    let args = [
        "-r", "--quiet", "--quiet", "--quiet", "--option", "bogus", "1", &drv,
    ];
    world.ours(args).ok().never_says("bogus");
    world.alike(&["--bogus", "1", "-q", &drv]).exits(1);
    // A bad value is warned of as well, and the setting stays what it was.
    for (name, value) in [
        ("max-jobs", "x"),
        ("cores", "-1"),
        ("keep-going", "maybe"),
        ("timeout", "3x"),
        ("sandbox", "maybe"),
        ("build-timeout", "x"),
        ("gc-reserved-space", "1Q"),
    ] {
        let args = ["--option", name, value, "-q", "--outputs", &drv];
        world.theirs(args).ok().says("warning: error:");
        let ours = world.alike(&args);
        let text = format!("warning: invalid value '{value}' for setting '{name}'");
        ours.says(text).says("the option is ignored");
    }
    // Not so where it has a flag of its own.
    world.alike(&["--cores", "x", "-q", &drv]).exits(1);
    world.alike(&["--timeout", "x", "-q", &drv]).exits(1);
    let file = world.graph("g.json", &graph_of([("x", sh("true"))]));
    let strict = world.windrow("build").arg(file);
    strict.args(["--option", "cores", "x"]).run().exits(1);
}
