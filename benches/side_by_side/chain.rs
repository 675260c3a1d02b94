//! Trivial derivations in a row, each waiting for the one before it: windrow beside a loop of a
//! shell over the same commands. What lies between the end of one and the start of the next is what
//! a critical path is made of.
//!
//!     cargo bench --bench side_by_side -- chain          n = 2000
//!     cargo bench --bench side_by_side -- chain 500      another length

use std::process::Command;

use crate::common::{Scratch, have, measuring, median, numbers, printed, ratio, row, run, shared};

pub(crate) fn run_all() {
    let Some(expression) = shared("bench/layered.nix") else {
        println!("skipped: ../shared/bench/layered.nix is not there");
        return;
    };
    if !have("nix-instantiate") {
        println!("skipped: needs nix-instantiate");
        return;
    }
    let (sizes, rounds) = match measuring() {
        true => (numbers(&[2000]), 7),
        false => (vec![20], 1),
    };
    for n in sizes {
        let (mut ours, mut shell) = (Vec::new(), Vec::new());
        // Kept to the end: ext4 makes new files slowly for minutes after many were deleted.
        let mut scratches = Vec::new();
        for _ in 0..rounds {
            let scratch = Scratch::new();
            // Layers of one.
            let mut command = scratch.command("nix-instantiate");
            command
                .arg(&expression)
                .args(["--arg", "n", &n.to_string(), "--arg", "w", "1"])
                .args(["--arg", "d", "1", "--argstr", "salt", "a"]);
            let drv = printed(&mut command);
            let mut windrow = scratch.command(env!("CARGO_BIN_EXE_windrow"));
            ours.push(run(windrow.args(["build", "-q", "-j2", &drv])));
            shell.push(run(&mut shell_loop(&scratch, n)));
            scratches.push(scratch);
        }
        let (ours, shell) = (median(ours), median(shell));
        row(&format!("windrow build -j2, a chain of {n}"), n, ours);
        row(&format!("a shell's loop, {n} times"), n, shell);
        ratio("windrow / loop", ours, shell, "at most 1.3");
    }
}

/// The same commands one after the other, writing the same files, without anything around them.
fn shell_loop(scratch: &Scratch, n: usize) -> Command {
    let directory = scratch.path().join("plain");
    std::fs::create_dir(&directory).expect("a directory");
    let builder = format!("/bin/sh -c \"echo $i > {}/$i\"", directory.display());
    let script = format!("i=0; while [ $i -lt {n} ]; do {builder}; i=$((i + 1)); done");
    let mut command = scratch.command("/bin/sh");
    command.args(["-c", &script]);
    command
}
