//! Trivial derivations in layers, without a sandbox, two slots: windrow beside nix-store and beside
//! xargs, which only starts the same commands.
//!
//!     cargo bench --bench side_by_side -- layered            n = 1000 and 5000
//!     cargo bench --bench side_by_side -- layered 20000      other sizes (nix-store up to 5000)
//!     cargo bench --bench side_by_side -- layered no-nix     without nix-store (it takes minutes)

use std::process::Command;

use crate::common::{
    Cost, Scratch, have, measuring, median, named, numbers, printed, ratio, row, run, shared,
};

pub(crate) fn run_all() {
    let Some(expression) = shared("bench/layered.nix") else {
        println!("skipped: ../shared/bench/layered.nix is not there");
        return;
    };
    if !have("nix-instantiate") || !have("xargs") {
        println!("skipped: needs nix-instantiate and xargs");
        return;
    }
    let sizes = if measuring() {
        numbers(&[1000, 5000])
    } else {
        vec![20]
    };
    let rounds = if measuring() { 5 } else { 1 };
    let mut costs = vec![(Vec::new(), Vec::new()); sizes.len()];
    // Kept to the end: ext4 makes new files slowly for minutes after many were deleted. For the
    // same reason all sizes take turns.
    let mut scratches = Vec::new();
    for _ in 0..rounds {
        for (&n, (ours, xargs)) in sizes.iter().zip(&mut costs) {
            let scratch = Scratch::new();
            let drv = instantiate(&scratch, &expression, n);
            let mut windrow = scratch.command(env!("CARGO_BIN_EXE_windrow"));
            ours.push(run(windrow.args(["build", "-q", "-j2", &drv])));
            xargs.push(run(&mut xargs_command(&scratch, n)));
            scratches.push(scratch);
        }
    }
    let mut first: Option<(usize, Cost)> = None;
    for (n, (ours, xargs)) in sizes.into_iter().zip(costs) {
        let (ours, xargs) = (median(ours), median(xargs));
        row(&format!("windrow build -j2, n = {n}"), n, ours);
        row(&format!("xargs -P2, n = {n}"), n, xargs);
        ratio("windrow / xargs", ours, xargs, "at most 1.5");
        if measuring() && n <= 5000 && !named("no-nix") {
            let scratch = Scratch::new();
            let drv = instantiate(&scratch, &expression, n);
            let nix = run(scratch
                .command("nix-store")
                .args(["--realise", "-Q", "-j2", &drv]));
            scratches.push(scratch);
            row(&format!("nix-store --realise -j2, n = {n}"), n, nix);
            let bound = "at least 5 at n = 1000, 20 at n = 5000";
            ratio("nix-store / windrow", nix, ours, bound);
        }
        if let Some((m, small)) = first {
            let each = |n: usize, cost: Cost| cost.wall.as_secs_f64() / n as f64;
            let growth = each(n, ours) / each(m, small);
            let what = format!("cost each, n = {n} / n = {m}");
            println!("{what:<44} {growth:>9.2}   (at most 1.2)");
        }
        first.get_or_insert((n, ours));
    }
}

pub(crate) fn instantiate(scratch: &Scratch, expression: &std::path::Path, n: usize) -> String {
    let w = match n {
        0..100 => 10,
        100..5000 => 100,
        _ => 1000,
    };
    let mut command = scratch.command("nix-instantiate");
    command
        .arg(expression)
        .args(["--arg", "n", &n.to_string(), "--arg", "w", &w.to_string()]);
    printed(command.args(["--arg", "d", "3", "--argstr", "salt", "a"]))
}

/// The same commands, writing the same files, without anything around them.
fn xargs_command(scratch: &Scratch, n: usize) -> Command {
    let directory = scratch.path().join("plain");
    std::fs::create_dir(&directory).expect("a directory");
    let line = format!("echo {{}} > {}/{{}}", directory.display());
    let mut command = scratch.command("/bin/sh");
    command.args([
        "-c",
        &format!("seq {n} | xargs -P2 -I{{}} /bin/sh -c '{line}'"),
    ]);
    command
}
