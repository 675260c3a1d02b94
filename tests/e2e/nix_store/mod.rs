//! `windrow nix-store` beside Debian's nix-store: on the same store both must print the same bytes
//! and end alike. A file for each family of operations.

mod building;
mod elsewhere;
mod exports;
mod keeping;
mod looking;
mod moving;
mod options;
mod print_env;
mod repair;
mod soak;

use std::ffi::OsStr;

use crate::harness::{Cmd, Ran, World, wait_until};
use crate::real_nix::rich_expression;

impl World {
    /// Debian's nix-store.
    pub(crate) fn theirs<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Cmd {
        self.program("nix-store").args(args)
    }

    /// windrow's.
    pub(crate) fn ours<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Cmd {
        self.windrow("nix-store").args(args)
    }

    /// Runs both and compares standard output and exit status; gives windrow's run.
    #[track_caller]
    pub(crate) fn alike<A: AsRef<OsStr> + Clone>(&self, args: &[A]) -> Ran {
        self.alike_with(args, "")
    }

    /// The same with a standard input.
    #[track_caller]
    pub(crate) fn alike_with<A: AsRef<OsStr> + Clone>(
        &self,
        args: &[A],
        input: impl Into<Vec<u8>>,
    ) -> Ran {
        let input = input.into();
        let theirs = self.theirs(args).stdin(input.clone()).run();
        let ours = self.ours(args).stdin(input).run().no_panic();
        assert!(
            theirs.stdout == ours.stdout,
            "Nix prints\n{theirs}\nwindrow prints\n{ours}"
        );
        assert_eq!(
            theirs.status.code(),
            ours.status.code(),
            "Nix ends with\n{theirs}\nwindrow ends with\n{ours}"
        );
        ours
    }
}

/// A world whose store holds all kinds of paths, built by Nix, and its top derivation.
#[track_caller]
pub(crate) fn filled() -> (World, String) {
    let world = World::new();
    let expression = rich_expression(&world);
    let drv = world.instantiate(&expression).remove(0);
    world.theirs(["--realise", "-j2", "-Q", &drv]).ok();
    (world, drv)
}

/// Waits until the clock of the database shows another second.
pub(crate) fn next_second() {
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let start = now();
    wait_until("the next second", || now() > start);
}
