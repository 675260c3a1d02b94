//! Both programs at once on one store, at random for a bounded time: builds of derivations with
//! several outputs, checks of them, collections, verifications, additions, with and without a
//! sandbox. In the end the store verifies and every root is intact. WINDROW_SOAK=SECONDS makes it
//! longer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::harness::{SEALED, World, need};

/// How long it takes, unless asked otherwise.
const USUAL: Duration = Duration::from_secs(12);

/// A generator of numbers that need not be good.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Derivations in three layers, with references at run time, so that what is kept has a closure.
/// Each has three outputs: the next layer refers to the first, the first to the second, and the
/// third to nothing.
fn derivations(world: &World, sandboxed: bool) -> Vec<String> {
    // In the sandbox busybox is the only program, and has its applets built in.
    let with = |applet: &str| match sandboxed {
        true => format!("/bin/busybox {applet}"),
        false => applet.to_owned(),
    };
    let (mkdir, cp, sleep) = (with("mkdir"), with("cp"), with("sleep"));
    let script = format!(
        "PATH=/usr/bin:/bin; {mkdir} $out $dev; echo $deps $dev > $out/deps; {cp} $out/deps $out/same; {sleep} 0.0$(( $$ % 5 )); \
         echo $name > $dev/name; {sleep} 0.0$(( $$ % 3 )); echo $name > $doc"
    );
    let expression = format!(
        r#"
      let make = name: deps: derivation {{ inherit name deps; system = builtins.currentSystem; builder = "/bin/sh";
            outputs = [ "out" "dev" "doc" ]; args = [ "-c" "{script}" ]; }};
          layer = n: below: builtins.genList (i: make "l${{toString n}}-${{toString i}}"
            (if below == [] then [] else [ (builtins.elemAt below i) (builtins.elemAt below (if i == 7 then 0 else i + 1)) ])) 8;
          a = layer 0 []; b = layer 1 a; c = layer 2 b; in a ++ b ++ c"#
    );
    world.instantiate(&expression)
}

/// The links that stand for the outputs of a derivation when it was built with the root `root`.
fn links(root: &Path) -> [PathBuf; 3] {
    ["", "-dev", "-doc"].map(|output| {
        let mut name = root.as_os_str().to_owned();
        name.push(output);
        name.into()
    })
}

fn remove_roots(root: &Path) {
    for link in links(root) {
        let _ = std::fs::remove_file(link);
    }
}

/// One thing that one of the programs does. All of it must succeed, whatever the others do.
fn act(world: &World, random: &mut Random, drvs: &[String], worker: usize, gate: &RwLock<()>) {
    let ours = random.below(2) == 0;
    let program = |args: &[&str]| {
        if ours {
            world.ours(args)
        } else {
            world.theirs(args)
        }
    };
    let drv = &drvs[random.below(drvs.len())];
    let what = random.below(16);
    // Nix 2.8 deletes what became a root while it decides (mended in 2.35), and its --verify
    // forgets paths that were registered after it listed the directory. So these work alone;
    // windrow's work beside everything.
    let alone = !ours && matches!(what, 5..=8 | 10 | 11);
    let (_alone, _beside);
    if alone {
        _alone = gate.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _beside = gate.read().unwrap_or_else(PoisonError::into_inner);
    }
    let ran = match what {
        0..=3 => {
            // A root that comes and goes.
            let root = world.file(&format!("root-{worker}-{}", random.below(3)));
            remove_roots(&root);
            program(&[
                "-r",
                "--add-root",
                root.to_str().unwrap(),
                "--indirect",
                "-Q",
                drv,
            ])
            .run()
        }
        4 => program(&["-r", "-Q", drv]).run(),
        5..=6 => program(&["--gc"]).run(),
        7 => program(&["--gc", "--max-freed", "2000"]).run(),
        8 => program(&["--verify"]).run(),
        9 => {
            let file = world.write(&format!("added-{worker}"), random.below(1000).to_string());
            program(&["--add", file.to_str().unwrap()]).run()
        }
        11 => program(&["--optimise"]).run(),
        10 => program(&["--gc", "--print-dead"]).run(),
        // One output is wanted, three are made.
        12 => {
            let wanted = format!("{drv}!{}", ["out", "dev", "doc"][random.below(3)]);
            program(&["-r", "-Q", &wanted]).run()
        }
        13..=14 => {
            let ran = world.windrow("build").args(["--check", drv]).run();
            // What nobody built, or a collection took, can't be compared.
            if ran.stderr.contains("so checking is not possible") {
                return;
            }
            ran
        }
        _ => {
            remove_roots(&world.file(&format!("root-{worker}-{}", random.below(3))));
            return;
        }
    };
    let well = ran.status.success() && !ran.stderr.contains("disappeared");
    assert!(well && !ran.stderr.contains("panicked"), "{ran}");
}

#[test]
fn both_work_on_one_store_and_it_stays_in_order() {
    need!(nix);
    soak(false);
}

#[test]
fn both_work_on_one_store_with_sandboxes_and_it_stays_in_order() {
    need!(nix);
    need!("busybox");
    // An ordinary user's Nix has no sandbox for a store like this.
    need!(root);
    soak(true);
}

/// Expects the store to verify, and what the roots keep to be there. Returns the roots.
fn roots_are_whole(world: &World) -> Vec<PathBuf> {
    world.verifies();
    world
        .ours(["--verify", "--check-contents"])
        .ok()
        .never_says("error");
    let roots: Vec<PathBuf> = (0..4)
        .flat_map(|worker| (0..3).map(move |n| format!("root-{worker}-{n}")))
        .chain(["kept".to_owned()])
        .flat_map(|name| links(&world.file(&name)))
        .filter(|root| root.symlink_metadata().is_ok())
        .collect();
    for root in &roots {
        let target = std::fs::read_link(root).unwrap();
        for path in world
            .theirs(["-qR".as_ref(), target.as_os_str()])
            .ok()
            .lines()
        {
            assert!(
                std::path::Path::new(&path).exists(),
                "{path} of {}",
                root.display()
            );
        }
    }
    roots
}

fn soak(sandboxed: bool) {
    let world = World::new();
    if sandboxed {
        world.conf(SEALED);
    }
    let drvs = derivations(&world, sandboxed);
    // The derivations themselves stay.
    let roots = world.state().join("gcroots/derivations");
    std::fs::create_dir_all(&roots).unwrap();
    for (number, drv) in drvs.iter().enumerate() {
        std::os::unix::fs::symlink(drv, roots.join(number.to_string())).unwrap();
    }
    let seconds = std::env::var("WINDROW_SOAK")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + seconds.map_or(USUAL, Duration::from_secs);
    // What is kept from the beginning: the top of one tower, with all that it refers to.
    let kept = world.file("kept");
    let top = world
        .ours(["-r", "-Q", "--add-root"])
        .arg(&kept)
        .arg("--indirect")
        .arg(drvs.last().unwrap())
        .ok();
    assert_eq!(top.lines().len(), 3);
    let closure = world
        .theirs(["-qR".as_ref(), kept.as_os_str()])
        .ok()
        .lines();
    assert!(closure.len() > 3);
    let done = AtomicUsize::new(0);
    let gate = RwLock::new(());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (world, drvs, done, gate) = (&world, &drvs, &done, &gate);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (worker as u64 + 1) << 20);
                while Instant::now() < end {
                    act(world, &mut random, drvs, worker, gate);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(
        done.load(Ordering::Relaxed) > 8,
        "there was hardly any time"
    );
    let roots = roots_are_whole(&world);
    assert!(closure.iter().all(|path| world.is_valid(path)));
    // With the roots gone, nothing is left.
    std::fs::remove_dir_all(world.state().join("gcroots/derivations")).unwrap();
    roots
        .iter()
        .for_each(|root| std::fs::remove_file(root).unwrap());
    world.ours(["--gc"]).ok();
    assert!(
        world.store_entries().is_empty(),
        "{:?}",
        world.store_entries()
    );
    world.is_clean();
}
