use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::dirs::names;

impl RunDir {
    /// Leaves everything as a run does that is killed.
    fn die(self) {
        let run = std::mem::ManuallyDrop::new(self);
        run.record.unlock().unwrap();
    }
}

fn in_store(store: &Path) -> PathBuf {
    let dir = store.join(format!("{}{IN_STORE_SUFFIX}", "0".repeat(32)));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    dir
}

#[test]
fn what_a_killed_run_left_goes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (builds, store) = (
        directory.path().join("builds"),
        directory.path().join("store"),
    );
    fs::create_dir(&builds).unwrap();
    fs::create_dir(&store).unwrap();
    let run = RunDir::create(&builds).unwrap();
    let make = |name: &str| {
        let (path, stamp) = run.make_build_dir().unwrap();
        let public = run.publish(&path, name).unwrap();
        fs::write(public.join("file"), "").unwrap();
        (public, stamp)
    };
    make("dead");
    let (closed, _) = make("closed");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o500)).unwrap();
    let (_, stamp) = make("kept");
    run.forget(&stamp).unwrap();
    let (moved, _) = make("moved");
    fs::rename(moved, builds.join("elsewhere")).unwrap();
    run.make_build_dir().unwrap();
    run.note_in_store(&in_store(&store)).unwrap();
    fs::create_dir(builds.join("nix-build-others.drv-0")).unwrap();
    let alive = RunDir::create(&builds).unwrap();
    let (path, _) = alive.make_build_dir().unwrap();
    alive.publish(&path, "alive").unwrap();

    delete_dead(&builds, &store);
    let left = names(&builds);
    assert!(left.contains(&"nix-build-dead-0".to_owned()), "it lives");
    assert_eq!(names(&store).len(), 1);
    run.die();
    delete_dead(&builds, &store);
    let alive_name = alive.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(
        names(&builds),
        [
            alive_name,
            "elsewhere",
            "nix-build-alive-0",
            "nix-build-kept-0",
            "nix-build-others.drv-0"
        ]
    );
    assert!(names(&store).is_empty());
}

#[test]
fn what_only_looks_like_a_run_stays() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let outside = at("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&outside, at(".windrow-run-linked")).unwrap();
    fs::write(at(".windrow-run-a-file"), "").unwrap();
    for name in [".windrow-run-aaaaaa", ".windrow-run-longer-name"] {
        fs::create_dir(at(name)).unwrap();
    }
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(at(".windrow-run-aaaaaa"), open).unwrap();
    let before = names(directory.path());
    delete_dead(directory.path(), directory.path());
    assert_eq!(names(directory.path()), before);
    assert!(names(&outside).is_empty());

    // A record that tells of another place than this store.
    let run = RunDir::create(directory.path()).unwrap();
    run.note_in_store(&outside).unwrap();
    run.die();
    delete_dead(directory.path(), directory.path());
    assert_eq!(names(directory.path()), before);
}

#[test]
fn one_that_is_taken_for_dead_as_it_is_made_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".windrow-run-aaaaaa");
    DirBuilder::new().mode(0o700).create(&path).unwrap();
    let dead = DeadRun::take(&path).unwrap().unwrap();
    assert!(create_record(&path).unwrap().is_none());
    dead.delete(directory.path(), directory.path()).unwrap();
    assert!(create_record(&path).unwrap().is_none());
    assert!(!path.exists());
}

#[test]
fn two_take_no_dead_run_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDir::create(directory.path()).unwrap();
    let path = run.path().to_owned();
    assert!(DeadRun::take(&path).unwrap().is_none());
    run.die();
    let taken = DeadRun::take(&path).unwrap().unwrap();
    assert!(DeadRun::take(&path).unwrap().is_none());
    drop(taken);
    assert!(DeadRun::take(&path).unwrap().is_some());
}

#[test]
fn a_directory_that_changed_looks_different_where_that_can_be_told() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDir::create(directory.path()).unwrap();
    if !run.tells_changes_apart() {
        eprintln!("skipped: this file system does not tell changes apart");
        return;
    }
    let (path, first) = run.make_build_dir().unwrap();
    for _ in 0..1000 {
        let before = Stamp::of(&path).unwrap();
        assert_eq!(before, Stamp::of(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let after = Stamp::of(&path).unwrap();
        assert_ne!(before, after);
        assert!(after.is_same_directory(&first));
    }
}
