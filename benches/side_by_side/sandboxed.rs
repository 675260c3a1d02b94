//! Trivial derivations in layers, each in a sandbox with a static shell: windrow beside nix-store
//! with its sandbox, and beside bwrap started for each of the same commands. And how long a build
//! waits for the cleaning up after another. Takes root.
//!
//!     cargo bench --bench side_by_side -- sandboxed          n = 1000; nix-store takes a minute
//!     cargo bench --bench side_by_side -- sandboxed no-nix

use std::process::Command;

use crate::common::{
    Scratch, have, measuring, median, named, numbers, printed, ratio, row, run, shared,
};
use crate::layered::instantiate;

const CONF: &str = "sandbox = true\nsandbox-fallback = false\nbuild-users-group =\nsubstituters =\n\
                    sandbox-paths = /bin/sh=/usr/bin/busybox\n";

pub(crate) fn run_all() {
    let Some(expression) = shared("bench/layered.nix") else {
        println!("skipped: ../shared/bench/layered.nix is not there");
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the sandboxed runs need root");
        return;
    }
    for program in ["nix-instantiate", "xargs", "bwrap", "busybox"] {
        if !have(program) {
            println!("skipped: the sandboxed runs need {program}");
            return;
        }
    }
    let sizes = if measuring() {
        numbers(&[1000])
    } else {
        vec![20]
    };
    let rounds = if measuring() { 5 } else { 1 };
    let mut scratches = Vec::new();
    for n in sizes {
        let (mut ours, mut bwrap, mut nix) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let scratch = sealed();
            let drv = instantiate(&scratch, &expression, n);
            let mut windrow = scratch.command(env!("CARGO_BIN_EXE_windrow"));
            ours.push(run(windrow.args(["build", "-q", "-j2", &drv])));
            bwrap.push(run(&mut bwrap_command(&scratch, n)));
            scratches.push(scratch);
            if !named("no-nix") && (round == 0 || round == rounds / 2) {
                let scratch = sealed();
                let drv = instantiate(&scratch, &expression, n);
                let mut command = scratch.command("nix-store");
                nix.push(run(command.args(["--realise", "-Q", "-j2", &drv])));
                scratches.push(scratch);
            }
        }
        let (ours, bwrap) = (median(ours), median(bwrap));
        row(&format!("windrow build -j2, sandboxed, n = {n}"), n, ours);
        row(
            &format!("bwrap --unshare-all, xargs -P2, n = {n}"),
            n,
            bwrap,
        );
        ratio("bwrap / windrow", bwrap, ours, "at least 0.7");
        if !nix.is_empty() {
            let nix = median(nix);
            row(&format!("nix-store -j2, sandboxed, n = {n}"), n, nix);
            ratio("nix-store / windrow", nix, ours, "at least 6");
        }
    }
    cleaning_up();
}

fn sealed() -> Scratch {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("conf/nix.conf"), CONF).expect("nix.conf");
    scratch
}

/// The same commands, each in a sandbox that has as much as ours.
fn bwrap_command(scratch: &Scratch, n: usize) -> Command {
    let directory = scratch.path().join("plain");
    std::fs::create_dir(&directory).expect("a directory");
    let line = format!(
        "seq {n} | xargs -P2 -I{{}} bwrap --unshare-all --ro-bind /usr/bin/busybox /bin/sh --bind {} /out \
         --proc /proc --dev /dev --tmpfs /tmp /bin/sh -c 'echo {{}} > /out/{{}}'",
        directory.display()
    );
    let mut command = scratch.command("/bin/sh");
    command.args(["-c", &line]);
    command
}

/// How much later a build starts when the one before it, in the same slot, has left many files
/// behind.
fn cleaning_up() {
    let files = if measuring() { 200_000 } else { 2000 };
    let what = format!("later, after {files} files were left");
    let later = wait_after(files) - wait_after(0);
    println!("{what:<44} {later:>9.1} ms   (at most 20)");
}

/// Milliseconds from the end of a build that leaves that many files to the first of what the next
/// does.
fn wait_after(files: usize) -> f64 {
    let mut waits = Vec::new();
    for _ in 0..if measuring() { 3 } else { 1 } {
        let scratch = sealed();
        let now = "perl -MTime::HiRes=time -e 'printf(q(%.6f),time)' > $out";
        let litter = format!(
            "i=0; while [ $i -lt {} ]; do mkdir $i; cd $i; for j in 0 1 2 3 4 5 6 7 8 9; do for k in 0 1 2 3 4 5 6 7 8 9; do \
             echo > $j$k; done; done; cd ..; i=$((i + 1)); done; {now}",
            files / 100
        );
        let expression = format!(
            "let drv = name: script: derivation {{ inherit name; system = builtins.currentSystem; builder = \"/bin/sh\"; PATH = \"/usr/bin\"; \
               args = [ \"-c\" script ]; }}; in [ (drv \"a-litter\" {litter:?}) (drv \"b-next\" {now:?}) ]"
        )
        .replace("${", "\\${");
        let file = scratch.path().join("litter.nix");
        std::fs::write(&file, expression).expect("a file");
        let drvs = printed(scratch.command("nix-instantiate").arg(&file));
        let mut windrow = scratch.command(env!("CARGO_BIN_EXE_windrow"));
        let paths = ["--option", "extra-sandbox-paths", "/usr /lib? /lib64?"];
        windrow.args(["build", "-q", "-j1"]).args(paths);
        let outs = printed(windrow.args(drvs.lines()));
        let mut times: Vec<f64> = outs
            .lines()
            .map(|out| std::fs::read_to_string(out).expect("an output"))
            .map(|text| text.trim().parse().expect("a time"))
            .collect();
        times.sort_by(f64::total_cmp);
        waits.push((times[1] - times[0]) * 1000.0);
    }
    waits.sort_by(f64::total_cmp);
    waits[waits.len() / 2]
}
