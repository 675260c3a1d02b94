//! Standard input: each build has its own, and nothing of the machine can be changed through it.

use serde_json::Value;

use super::{OPEN, ROOMY, attempts, perl, tried};
use crate::harness::{Caller, for_each_caller, graph_of, is_root, need, sh, text};

/// Says "seen" if a flag that can be set on an open file is set on standard input.
fn looks() -> Value {
    // The numbers of F_GETFL and O_NONBLOCK.
    let look = perl("exit(fcntl(STDIN, 3, 0) & 04000 ? 0 : 1)");
    sh(&format!(
        ": @{{sets}}; if {look}; then echo seen; else echo unseen; fi > $out"
    ))
}

#[test]
fn flags_that_a_builder_sets_on_its_input_are_its_own() {
    need!("perl");
    for sandbox in [ROOMY, ""] {
        for_each_caller(|world, caller| {
            world.conf(sandbox);
            let set = perl(
                "fcntl(STDIN, 4, fcntl(STDIN, 3, 0) | 04000) or exit 1; flock(STDIN, 1) or exit 2",
            );
            let graph = graph_of([
                ("sets", sh(&format!("{set} && echo > $out"))),
                ("looks", looks()),
            ]);
            let file = world.graph("g.json", &graph);
            let seen = text(caller.runs(world.windrow("build").arg(file)).ok().path());
            assert_eq!(seen, "unseen\n", "as {caller:?}");
            world.is_clean();
        });
    }
}

#[test]
fn builders_of_root_do_not_change_the_device_they_read_from() {
    need!("perl");
    attempts(|world, caller| {
        if caller != Caller::Self_ || !is_root() {
            return;
        }
        // To what it is, so that the attempt that works does no harm.
        let change = perl("chmod(0666, *STDIN) or exit 1");
        let built = |name: &str, options: &[&str]| {
            let file = world.graph("g.json", &graph_of([(name, tried(&change))]));
            text(
                caller
                    .runs(world.windrow("build").arg(file).args(options))
                    .ok()
                    .path(),
            )
        };
        assert_eq!(built("in", &[]), "held\n");
        assert_eq!(
            built("out", &OPEN),
            "broken\n",
            "the attempt is no real one"
        );
        world.is_clean();
    });
}
