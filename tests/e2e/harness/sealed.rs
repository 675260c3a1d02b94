//! Worlds whose builders are in a sandbox, with a static shell as the one program, and the two
//! kinds of callers that all of it must hold for: root, and an ordinary user.

use serde_json::{Value, json};

use super::{Cmd, World, have, is_root, sh_with, skip};

/// What nix.conf says in such a world. There is no way around the sandbox.
pub(crate) const SEALED: &str = "sandbox = true\nsandbox-fallback = false\n\
                                 sandbox-paths = /bin/busybox=/usr/bin/busybox /bin/sh=/usr/bin/busybox\n";

/// Who runs windrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever runs the tests.
    Self_,
    /// A user that only these tests have, by number.
    Somebody,
}

/// The number of that user and its group.
const SOMEBODY: u32 = 31_234;

impl Caller {
    /// The command as that caller.
    pub(crate) fn runs(self, cmd: Cmd) -> Cmd {
        match self {
            Caller::Self_ => cmd,
            Caller::Somebody => cmd.through(
                "/usr/bin/setpriv",
                &[
                    &format!("--reuid={SOMEBODY}"),
                    &format!("--regid={SOMEBODY}"),
                    "--clear-groups",
                ],
            ),
        }
    }
}

/// Runs a test in a sealed world for each caller that there can be on this machine.
pub(crate) fn for_each_caller(test: impl Fn(&World, Caller)) {
    if !have(&["busybox"]) {
        return skip("needs busybox");
    }
    for caller in [Caller::Self_, Caller::Somebody] {
        if caller == Caller::Somebody {
            let probe = Cmd::new(env!("CARGO_BIN_EXE_windrow"), "/".as_ref()).arg("--version");
            if !is_root() || !have(&["setpriv"]) || !caller.runs(probe).run().status.success() {
                skip(
                    "as an ordinary user: needs root, setpriv, and a build directory that every user can read",
                );
                continue;
            }
        }
        let world = World::new();
        world.conf(SEALED);
        if caller == Caller::Somebody {
            world.open_to_all();
        }
        test(&world, caller);
    }
}

/// A derivation that runs a script with the applets of busybox.
pub(crate) fn busybox(script: &str) -> Value {
    busybox_with(script, json!({}))
}

/// The same with more members.
pub(crate) fn busybox_with(script: &str, more: Value) -> Value {
    let applets = "mkdir /tmp/bin; /bin/busybox --install -s /tmp/bin; PATH=/tmp/bin";
    sh_with(&format!("{applets}\n{script}"), more)
}
