//! Both programs at once on one store, at random for a bounded time: builds, collections, verifications, additions.
//! In the end the store verifies and every root is intact. WINDROW_SOAK=SECONDS makes it longer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::harness::{World, need};

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
fn derivations(world: &World) -> Vec<String> {
    let expression = r#"
      let make = name: deps: derivation { inherit name deps; system = builtins.currentSystem; builder = "/bin/sh";
            args = [ "-c" "PATH=/usr/bin:/bin; mkdir $out; echo $deps > $out/deps; cp $out/deps $out/same; sleep 0.0$(( $$ % 5 ))" ]; };
          layer = n: below: builtins.genList (i: make "l${toString n}-${toString i}"
            (if below == [] then [] else [ (builtins.elemAt below i) (builtins.elemAt below (if i == 7 then 0 else i + 1)) ])) 8;
          a = layer 0 []; b = layer 1 a; c = layer 2 b; in a ++ b ++ c"#;
    world.instantiate(expression)
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
    let what = random.below(13);
    // Nix 2.8 deletes what became a root while it decides (mended in 2.35), and its --verify forgets paths that were
    // registered after it listed the folder. So these work alone; windrow's work beside everything.
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
            let _ = std::fs::remove_file(&root);
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
        _ => {
            let root = world.file(&format!("root-{worker}-{}", random.below(3)));
            let _ = std::fs::remove_file(root);
            return;
        }
    };
    let well = ran.status.success() && !ran.stderr.contains("disappeared");
    assert!(well && !ran.stderr.contains("panicked"), "{ran}");
}

#[test]
fn both_work_on_one_store_and_it_stays_in_order() {
    need!(nix);
    let world = World::new();
    let drvs = derivations(&world);
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
        .ok()
        .path();
    let closure = world.theirs(["-qR".as_ref(), top.as_os_str()]).ok().lines();
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
    world.verifies();
    world
        .ours(["--verify", "--check-contents"])
        .ok()
        .never_says("error");
    let roots: Vec<PathBuf> = (0..4)
        .flat_map(|worker| (0..3).map(move |n| format!("root-{worker}-{n}")))
        .map(|name| world.file(&name))
        .filter(|root| root.symlink_metadata().is_ok())
        .collect();
    for root in roots.iter().chain([&kept]) {
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
    assert!(closure.iter().all(|path| world.is_valid(path)));
    // With the roots gone, nothing is left.
    std::fs::remove_dir_all(world.state().join("gcroots/derivations")).unwrap();
    roots
        .iter()
        .chain([&kept])
        .for_each(|root| std::fs::remove_file(root).unwrap());
    world.ours(["--gc"]).ok();
    assert!(
        world.store_entries().is_empty(),
        "{:?}",
        world.store_entries()
    );
    world.is_clean();
}
