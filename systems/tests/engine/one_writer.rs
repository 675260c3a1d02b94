//! The scheduler's state has one writer: what the compiler can't tell is looked for in the source.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Stages and slots are private to the scheduler. Nobody else is to keep stages of their own, or to
/// reach into it.
#[test]
fn nobody_but_the_scheduler_assigns_a_stage_or_counts_slots() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(root, &mut found);
    let mut setters = 0;
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("tests/") {
            continue;
        }
        if name == "world/scheduler/mod.rs" {
            setters += text.matches("fn set(").count();
            assert_eq!(
                text.matches("self.used =").count(),
                1,
                "slots are counted in one place"
            );
            continue;
        }
        if name.starts_with("world/scheduler/") {
            for of_one_file in [".stages", "used =", "fn set("] {
                assert!(!text.contains(of_one_file), "'{name}' has '{of_one_file}'");
            }
        }
        for forbidden in [
            "&mut Stage",
            "Column<Stage>",
            "*stage =",
            "used +=",
            "used -=",
        ] {
            assert!(!text.contains(forbidden), "'{name}' has '{forbidden}'");
        }
    }
    assert_eq!(setters, 1, "stages change in one place");
}
