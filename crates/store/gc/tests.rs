//! The collector on small stores: what it keeps, what it deletes, and what it does when others are
//! at work.

mod by_use;

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::*;
use crate::db::tests::{fresh, registration};
use crate::layout::tests::store_path;
use crate::roots::temporary::TempRoots;

fn options(action: Action) -> GcOptions {
    GcOptions::new(action, crate::DatabaseOptions::default())
}

/// A store of `count` paths, each with a file of 100 bytes and a reference to the next.
fn chain(directory: &tempfile::TempDir, count: usize) -> (Layout, Database) {
    let (layout, mut database) = fresh(directory);
    let rows: Vec<_> = (0..count)
        .map(|number| {
            let next = [number + 1];
            registration(number, if number + 1 < count { &next } else { &[] })
        })
        .collect();
    database.register(&rows).unwrap();
    for number in 0..count {
        let dir = layout.real_path(&store_path(number));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), [b'x'; 100]).unwrap();
    }
    (layout, database)
}

fn root(layout: &Layout, number: usize) -> PathBuf {
    let link = layout.gcroots_dir().join(format!("root{number}"));
    symlink(store_path(number), &link).unwrap();
    link
}

fn run(layout: &Layout, database: &mut Database, options: &GcOptions) -> Result<Collected> {
    let mut collected = Collected::default();
    collect(layout, database, options, &mut collected, &mut |_| ()).map(|()| collected)
}

#[test]
fn what_a_root_needs_stays_and_the_rest_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 6);
    root(&layout, 3);
    let litter = ["junk", ".hidden", "tmp-1-2"];
    litter
        .iter()
        .for_each(|name| fs::create_dir(layout.real_store_dir.join(name)).unwrap());
    let lock = layout.real_path(&(store_path(1) + ".lock"));
    fs::write(&lock, "").unwrap();
    let listed = run(&layout, &mut database, &options(Action::ListLive)).unwrap();
    assert_eq!(listed.paths, [3, 4, 5].map(store_path));
    let listed = run(&layout, &mut database, &options(Action::ListDead)).unwrap();
    assert_eq!(listed.paths.len(), 3 + 3 + 1);
    assert!(lock.exists());
    let collected = run(&layout, &mut database, &options(Action::DeleteDead)).unwrap();
    assert_eq!((collected.deleted, collected.bytes), (7, 300));
    assert_eq!(
        database.all_valid_paths().unwrap(),
        [3, 4, 5].map(store_path)
    );
    let left = fs::read_dir(&layout.real_store_dir).unwrap().count();
    assert_eq!(left, 3 + 1, "the links directory and three paths");
}

#[test]
fn a_limit_ends_it_early() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 20);
    let limited = GcOptions {
        max_freed: 250,
        ..options(Action::DeleteDead)
    };
    let collected = run(&layout, &mut database, &limited).unwrap();
    assert_eq!((collected.deleted, collected.bytes), (3, 300));
    assert_eq!(database.all_valid_paths().unwrap().len(), 17);
    let nothing = GcOptions {
        max_freed: 0,
        ..options(Action::DeleteDead)
    };
    assert_eq!(run(&layout, &mut database, &nothing).unwrap().deleted, 0);
}

#[test]
fn given_paths_go_only_with_all_that_needs_them() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 6);
    root(&layout, 3);
    let delete = |numbers: &[usize]| {
        options(Action::Delete(
            numbers.iter().map(|&n| store_path(n)).collect(),
        ))
    };
    for numbers in [&[1][..], &[3], &[5]] {
        let error = run(&layout, &mut database, &delete(numbers)).unwrap_err();
        assert!(matches!(error, Error::StillAlive { .. }), "{error}");
    }
    assert_eq!(database.all_valid_paths().unwrap().len(), 6);
    assert_eq!(
        run(&layout, &mut database, &delete(&[1, 0]))
            .unwrap()
            .deleted,
        2
    );
    // Not in the store: there is nothing to keep.
    assert_eq!(
        run(&layout, &mut database, &delete(&[9])).unwrap().deleted,
        1
    );
    // Roots don't count, referrers do.
    let ignore = |numbers| GcOptions {
        ignore_liveness: true,
        ..delete(numbers)
    };
    assert!(run(&layout, &mut database, &ignore(&[3])).is_err());
    assert_eq!(
        run(&layout, &mut database, &ignore(&[2, 3]))
            .unwrap()
            .deleted,
        2
    );
    let mut roots = TempRoots::open(&layout).unwrap();
    roots.add(&[&store_path(4)]).unwrap();
    assert!(run(&layout, &mut database, &ignore(&[4])).is_err());
}

#[test]
fn temporary_roots_protect_all_with_their_hash_part() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 4);
    let mut roots = TempRoots::open(&layout).unwrap();
    roots.add(&[&store_path(2), &store_path(9)]).unwrap();
    let beside: Vec<PathBuf> = [
        store_path(9),
        store_path(9) + ".lock",
        store_path(2) + ".chroot",
    ]
    .iter()
    .map(|path| layout.real_path(path))
    .collect();
    beside.iter().for_each(|path| fs::write(path, "").unwrap());
    run(&layout, &mut database, &options(Action::DeleteDead)).unwrap();
    assert_eq!(database.all_valid_paths().unwrap(), [2, 3].map(store_path));
    assert!(beside.iter().all(|path| path.exists()));
    drop(roots);
    assert_eq!(
        run(&layout, &mut database, &options(Action::DeleteDead))
            .unwrap()
            .deleted,
        5
    );
}

#[test]
fn a_root_told_while_it_runs_is_kept_with_what_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let count = 300;
    let (layout, mut database) = chain(&directory, count);
    let mut roots = TempRoots::open(&layout).unwrap();
    let mut told = None;
    let mut collected = Collected::default();
    let mut deleted = 0;
    collect(
        &layout,
        &mut database,
        &options(Action::DeleteDead),
        &mut collected,
        &mut |event| {
            if let Event::Deleting { .. } = event {
                deleted += 1;
                // Some way down the chain, past what loses its row together with the first.
                if told.is_none() {
                    let wanted = store_path(200);
                    roots.add(&[&wanted]).unwrap();
                    told = Some(wanted);
                }
            }
        },
    )
    .unwrap();
    assert_eq!(deleted, 200);
    assert_eq!(collected.deleted, 200);
    let mut left: Vec<String> = (200..count).map(store_path).collect();
    left.sort();
    assert_eq!(database.all_valid_paths().unwrap(), left);
    assert!(left.iter().all(|path| layout.real_path(path).exists()));
}

#[test]
fn a_row_that_appears_meanwhile_is_not_taken_for_litter() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 2);
    let late = layout.real_path(&store_path(7));
    fs::write(&late, "").unwrap();
    let mut other = Database::open(&layout, &crate::DatabaseOptions::default()).unwrap();
    let mut collected = Collected::default();
    collect(
        &layout,
        &mut database,
        &options(Action::DeleteDead),
        &mut collected,
        &mut |event| {
            if let Event::Step("deleting garbage...") = event {
                other.register(&[registration(7, &[])]).unwrap();
            }
        },
    )
    .unwrap();
    assert!(late.exists());
    assert_eq!(database.all_valid_paths().unwrap(), [store_path(7)]);
}

#[test]
fn what_passes_from_a_process_to_a_link_meanwhile_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 3);
    // The last directory of links that the collector looks into.
    let watch = Inotify::init(InitFlags::empty()).unwrap();
    let profiles = layout.state_dir.join("profiles");
    watch
        .add_watch(&profiles, AddWatchFlags::IN_CLOSE_NOWRITE)
        .unwrap();
    let mut process = TempRoots::open(&layout).unwrap();
    process.add(&[&store_path(1)]).unwrap();
    std::thread::scope(|scope| {
        let layout = &layout;
        scope.spawn(move || {
            watch.read_events().unwrap();
            root(layout, 1);
            drop(process);
        });
        run(layout, &mut database, &options(Action::DeleteDead)).unwrap();
    });
    assert_eq!(database.all_valid_paths().unwrap(), [1, 2].map(store_path));
}

#[test]
fn links_that_nobody_shares_go() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 2);
    root(&layout, 1);
    let links = layout.real_store_dir.join(".links");
    for number in [0, 1] {
        let file = layout.real_path(&store_path(number)).join("file");
        fs::hard_link(file, links.join(number.to_string())).unwrap();
    }
    let collected = run(&layout, &mut database, &options(Action::DeleteDead)).unwrap();
    assert_eq!((collected.deleted, collected.bytes), (1, 100));
    assert!(!links.join("0").exists() && links.join("1").exists());
}
