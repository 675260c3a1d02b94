//! Collections that go by last use: what goes, in which order, when they stop, and what is noted
//! afterwards.

use super::*;
use crate::own::{OwnDatabase, uses};

/// Notes uses as a run of builds does.
fn note(layout: &Layout, uses: &[(usize, i64)]) {
    let database = OwnDatabase::open(layout, &crate::DatabaseOptions::default()).unwrap();
    let paths: Vec<(String, i64)> = uses.iter().map(|&(n, t)| (store_path(n), t)).collect();
    let uses = || paths.iter().map(|(path, time)| (&**path, *time));
    database.write("note", |db| uses::note(db, uses())).unwrap();
}

/// What is noted, by the paths' numbers.
fn noted(layout: &Layout) -> Vec<(usize, i64)> {
    let mut all: Vec<(usize, i64)> = uses::all(layout)
        .unwrap()
        .into_iter()
        .map(|(path, time)| (path.rsplit_once("path").unwrap().1.parse().unwrap(), time))
        .collect();
    all.sort_unstable();
    all
}

fn by_use(action: Action, used_before: Option<i64>, max_size: Option<u64>) -> GcOptions {
    let by_use = ByUse {
        used_before,
        max_size,
    };
    GcOptions {
        by_use: Some(by_use),
        ..options(action)
    }
}

/// A store of paths without references, used at these times. Registered at 1000, each with a NAR of
/// 120 bytes.
fn used_at(directory: &tempfile::TempDir, times: &[i64]) -> (Layout, Database) {
    let (layout, mut database) = fresh(directory);
    let rows: Vec<_> = (0..times.len()).map(|n| registration(n, &[])).collect();
    database.register(&rows).unwrap();
    for number in 0..times.len() {
        fs::write(layout.real_path(&store_path(number)), [b'x'; 100]).unwrap();
    }
    let uses: Vec<_> = times.iter().copied().enumerate().collect();
    note(&layout, &uses);
    (layout, database)
}

#[test]
fn what_was_used_lately_stays() {
    let directory = tempfile::tempdir().unwrap();
    // The second was registered after its only use, as if it had been built again.
    let (layout, mut database) = used_at(&directory, &[3000, 10, 2000, 2999]);
    root(&layout, 3);
    let collect = |database: &mut Database, action, before| {
        run(&layout, database, &by_use(action, Some(before), None)).unwrap()
    };
    assert_eq!(
        collect(&mut database, Action::ListDead, 1000).paths.len(),
        0
    );
    let listed = collect(&mut database, Action::ListDead, 2001);
    assert_eq!(listed.paths, [1, 2].map(store_path));
    let collected = collect(&mut database, Action::DeleteDead, 2001);
    assert_eq!((collected.deleted, collected.bytes), (2, 200));
    assert_eq!(database.all_valid_paths().unwrap(), [0, 3].map(store_path));
    let amount = |paths| Amount {
        paths,
        bytes: paths * 120,
    };
    let survey = Survey {
        valid: amount(4),
        alive: amount(1),
        recent: amount(1),
        gone: amount(2),
        ..Survey::default()
    };
    assert_eq!(collected.survey, Some(survey));
    assert_eq!(listed.survey, Some(survey));
    // What is gone is forgotten, and what a root leads to is used until now.
    let uses = noted(&layout);
    assert_eq!(uses[0], (0, 3000));
    assert!(
        uses.len() == 2 && uses[1].0 == 3 && uses[1].1 > 1_000_000,
        "{uses:?}"
    );
}

#[test]
fn a_size_is_reached_by_what_was_not_used_for_longest() {
    let directory = tempfile::tempdir().unwrap();
    let times: Vec<i64> = (0..200).map(|n| 2000 + (n * 37) % 200).collect();
    let (layout, mut database) = used_at(&directory, &times);
    fs::write(layout.real_store_dir.join("litter"), "x").unwrap();
    let collect = |database: &mut Database, action, size| {
        run(&layout, database, &by_use(action, None, Some(size))).unwrap()
    };
    let nothing = collect(&mut database, Action::ListDead, u64::MAX);
    assert_eq!(nothing.paths, ["/nix/store/litter"]);
    // The last one makes the store smaller than it must be.
    let collected = collect(&mut database, Action::DeleteDead, 120 * 50 + 119);
    assert_eq!(collected.deleted, 150 + 1);
    let left = database.all_valid_paths().unwrap();
    let newest = (0..200).filter(|&n| times[n] >= 2150).map(store_path);
    assert_eq!(left, newest.collect::<Vec<_>>());
    assert_eq!(collect(&mut database, Action::DeleteDead, 0).deleted, 50);
    assert!(noted(&layout).is_empty());
}

#[test]
fn what_is_in_use_by_then_does_not_count_as_gone() {
    let directory = tempfile::tempdir().unwrap();
    let times: Vec<i64> = (2000..2100).collect();
    let (layout, mut database) = used_at(&directory, &times);
    let mut roots = TempRoots::open(&layout).unwrap();
    let wanted: Vec<String> = (0..30).map(store_path).collect();
    let mut collected = Collected::default();
    // Half of it is to go; a process begins to use some of that before it does.
    let limited = by_use(Action::DeleteDead, None, Some(120 * 50));
    collect(
        &layout,
        &mut database,
        &limited,
        &mut collected,
        &mut |event| {
            if let Event::Step("deleting garbage...") = event {
                let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                roots.add(&wanted).unwrap();
            }
        },
    )
    .unwrap();
    assert_eq!(collected.deleted, 50);
    let left = (0..100).filter(|n| !(30..80).contains(n)).map(store_path);
    assert_eq!(
        database.all_valid_paths().unwrap(),
        left.collect::<Vec<_>>()
    );
}

#[test]
fn what_stays_keeps_the_use_that_it_had_by_what_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 4);
    note(&layout, &[(0, 5000)]);
    let collect = |database: &mut Database, before, size| {
        let options = by_use(Action::DeleteDead, before, size);
        run(&layout, database, &options).unwrap().deleted
    };
    // The first alone goes: nothing can go before what refers to it.
    assert_eq!(collect(&mut database, None, Some(360)), 1);
    assert_eq!(noted(&layout), [(1, 5000)]);
    assert_eq!(collect(&mut database, Some(5000), None), 0);
    // Nix's collector knows nothing of what is noted.
    database
        .invalidate_unneeded(&[(&store_path(1), true)])
        .unwrap();
    assert_eq!(collect(&mut database, Some(5001), None), 3);
    assert!(noted(&layout).is_empty());
}

#[test]
fn what_is_noted_decides_or_nothing_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 2);
    let own = layout.db_dir().join("windrow.sqlite");
    fs::create_dir(&own).unwrap();
    let limited = by_use(Action::DeleteDead, Some(5000), None);
    assert!(run(&layout, &mut database, &limited).is_err());
    assert_eq!(database.all_valid_paths().unwrap().len(), 2);
    // Where uses don't matter, a database that can't be opened is no reason to collect nothing.
    root(&layout, 1);
    let mut said = Vec::new();
    let mut collected = Collected::default();
    let all = options(Action::DeleteDead);
    collect(&layout, &mut database, &all, &mut collected, &mut |event| {
        if let Event::NotNoted(error) = event {
            said.push(error.to_string());
        }
    })
    .unwrap();
    assert_eq!(collected.deleted, 1);
    assert!(
        said.len() == 1 && said[0].contains("windrow.sqlite"),
        "{said:?}"
    );
}

#[test]
fn nothing_is_noted_where_nothing_was() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = chain(&directory, 2);
    root(&layout, 1);
    run(&layout, &mut database, &options(Action::DeleteDead)).unwrap();
    let own = layout.db_dir().join("windrow.sqlite");
    assert!(!own.exists());
    let listing = by_use(Action::ListDead, None, None);
    run(&layout, &mut database, &listing).unwrap();
    assert!(!own.exists());
    run(
        &layout,
        &mut database,
        &by_use(Action::DeleteDead, None, None),
    )
    .unwrap();
    assert_eq!(noted(&layout).len(), 1);
}

#[test]
fn outputs_that_only_a_setting_keeps_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, mut database) = fresh(&directory);
    // A tool's derivation (1) and output (2), and those of what was built with it (3, 4).
    let (mut tool, mut program) = (registration(1, &[]), registration(3, &[1]));
    tool.outputs = vec![("out".to_owned(), store_path(2))];
    program.outputs = vec![("out".to_owned(), store_path(4))];
    let [mut tool_out, mut out] = [2, 4].map(|number| registration(number, &[]));
    tool_out.info.deriver = Some(store_path(1));
    out.info.deriver = Some(store_path(3));
    database.register(&[tool, tool_out, program, out]).unwrap();
    for number in 1..=4 {
        fs::write(layout.real_path(&store_path(number)), "").unwrap();
    }
    root(&layout, 4);
    let survey = |database: &mut Database, keep_outputs, keep_derivations| {
        let options = GcOptions {
            keep_outputs,
            keep_derivations,
            ..by_use(Action::ListDead, None, None)
        };
        let survey = run(&layout, database, &options).unwrap().survey.unwrap();
        [
            survey.alive,
            survey.by_outputs,
            survey.gone,
            survey.outputs_gone,
        ]
        .map(|it| it.paths)
    };
    assert_eq!(survey(&mut database, true, true), [4, 1, 0, 0]);
    assert_eq!(survey(&mut database, false, true), [3, 0, 1, 1]);
    assert_eq!(survey(&mut database, false, false), [1, 0, 3, 0]);
    assert_eq!(survey(&mut database, true, false), [1, 0, 3, 0]);
}
