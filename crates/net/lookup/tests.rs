//! Answers kept, alone and together with a real Nix.

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::narinfo::tests::infos;

fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

fn open(dir: &Path) -> Lookup {
    Lookup::open(dir, &store(), Ttl::default())
}

fn said() -> CacheInfo {
    CacheInfo {
        store_dir: Some("/nix/store".to_owned()),
        want_mass_query: true,
        priority: 40,
    }
}

fn info(number: u8) -> NarInfo {
    let part = windrow_components::nix32::encode(&[number; 20]);
    let text = format!(
        "StorePath: /nix/store/{part}-x\nURL: nar/{number}\nNarSize: 9\nNarHash: sha256:{}\n",
        "0".repeat(52)
    );
    NarInfo::parse(text.as_bytes(), &store(), &part).unwrap()
}

fn part(info: &NarInfo) -> &str {
    info.store_path.hash_part()
}

fn present(info: &NarInfo) -> Known {
    Known::Present(Box::new(info.clone()))
}

fn execute(dir: &Path, name: &str, sql: &str) {
    let connection = Connection::open(dir.join(name)).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn answers_hold_until_they_are_too_old_or_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("cache/nix");
    let mut lookup = open(&dir);
    assert_eq!(lookup.cache("https://c"), None);
    let row = lookup.put_cache("https://c", &said());
    let (one, two, three) = (info(1), info(2), info(3));
    let answers = [(part(&one), Some(&one)), (part(&two), None)];
    lookup.put(&row, &answers);
    drop(lookup);

    let mut lookup = open(&dir);
    let found = lookup.cache("https://c").unwrap();
    assert_eq!(found.info, said());
    let parts = [part(&three), part(&two), part(&one)];
    let expected = vec![Known::Unknown, Known::Absent, present(&one)];
    assert_eq!(lookup.narinfos(&found, &parts), expected);
    let other = lookup.put_cache("https://other", &CacheInfo::default());
    assert_eq!(lookup.narinfo(&other, part(&one)), Known::Unknown);
    // What a cache says anew does not make its paths unknown.
    let again = lookup.put_cache("https://c", &said());
    assert_eq!(lookup.narinfos(&again, &parts), expected);
    lookup.forget(&found, part(&one));
    assert_eq!(lookup.narinfo(&found, part(&one)), Known::Unknown);
    lookup.put(&found, &[(part(&two), Some(&two))]);
    assert_eq!(lookup.narinfo(&found, part(&two)), present(&two));
    assert!(lookup.take_warnings().is_empty());
    assert!(!dir.join(NAMES[1]).exists());

    let ttl = |positive, negative, meta| Ttl {
        positive,
        negative,
        meta,
    };
    lookup.put(&found, &[(part(&one), None)]);
    execute(
        &dir,
        NAMES[0],
        "update NARs set timestamp = timestamp - 100",
    );
    execute(
        &dir,
        NAMES[0],
        "update BinaryCaches set timestamp = timestamp - 100",
    );
    let both = |ttl| {
        let mut lookup = Lookup::open(&dir, &store(), ttl);
        lookup
            .cache("https://c")
            .map(|row| lookup.narinfos(&row, &[part(&one), part(&two)]))
    };
    assert_eq!(
        both(ttl(200, 200, 200)),
        Some(vec![Known::Absent, present(&two)])
    );
    assert_eq!(
        both(ttl(50, 200, 200)),
        Some(vec![Known::Absent, Known::Unknown])
    );
    assert_eq!(
        both(ttl(200, 0, 200)),
        Some(vec![Known::Unknown, present(&two)])
    );
    assert_eq!(both(ttl(200, 200, 50)), None);
    let never = u64::MAX;
    assert_eq!(
        both(ttl(never, never, never)),
        Some(vec![Known::Absent, present(&two)])
    );
}

#[test]
fn all_files_are_written_and_the_newest_answer_counts() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    drop(open(dir));
    for name in &NAMES[1..] {
        std::fs::copy(dir.join(NAMES[0]), dir.join(name)).unwrap();
    }
    execute(dir, NAMES[2], "drop table Realisations");
    let one = info(1);
    let mut lookup = open(dir);
    let row = lookup.put_cache("https://c", &said());
    lookup.put(&row, &[(part(&one), Some(&one))]);
    drop(lookup);
    for name in NAMES {
        let connection = Connection::open(dir.join(name)).unwrap();
        let sql = "select count(*) from NARs where present = 1";
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }
    let connection = Connection::open(dir.join(NAMES[2])).unwrap();
    let made = connection.prepare("select * from Realisations");
    assert!(made.is_err(), "what a Nix has no use for is not made");
    execute(
        dir,
        NAMES[2],
        "update NARs set present = 0, timestamp = timestamp + 5",
    );
    let mut lookup = open(dir);
    let row = lookup.cache("https://c").unwrap();
    assert_eq!(lookup.narinfo(&row, part(&one)), Known::Absent);
    drop(lookup);
    // One that knows nothing of the cache is told of it.
    execute(dir, NAMES[0], "delete from BinaryCaches");
    let mut lookup = open(dir);
    let row = lookup.cache("https://c").unwrap();
    lookup.put(&row, &[(part(&one), Some(&one))]);
    drop(lookup);
    for name in &NAMES[1..] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    let mut lookup = open(dir);
    let row = lookup.cache("https://c").unwrap();
    assert_eq!(lookup.narinfo(&row, part(&one)), present(&one));
    drop(lookup);
    // Only a newer one is there: nothing else is made.
    for pair in NAMES.windows(2) {
        std::fs::rename(dir.join(pair[0]), dir.join(pair[1])).unwrap();
        assert!(open(dir).cache("https://c").is_some());
        assert!(!dir.join(pair[0]).exists());
    }
}

#[test]
fn old_rows_are_deleted_once_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let mut lookup = open(dir);
    let row = lookup.put_cache("https://c", &said());
    let infos = [1, 2, 3, 4].map(info);
    let answers = |at: usize| (part(&infos[at]), (at < 2).then_some(&infos[at]));
    lookup.put(&row, &[answers(0), answers(1), answers(2), answers(3)]);
    let age = |at: usize, seconds: i64| {
        let part = part(&infos[at]);
        let sql =
            format!("update NARs set timestamp = timestamp - {seconds} where hashPart = '{part}'");
        execute(dir, NAMES[0], &sql);
    };
    age(0, 40 * 24 * 3600);
    age(2, 5000);
    let count = || {
        let connection = Connection::open(dir.join(NAMES[0])).unwrap();
        let sql = "select count(*) from NARs";
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let short = Ttl {
        positive: 1,
        negative: 1,
        meta: 1,
    };
    drop(Lookup::open(dir, &store(), short));
    assert_eq!(count(), 4);
    execute(dir, NAMES[0], "update LastPurge set value = value - 100000");
    drop(Lookup::open(dir, &store(), short));
    // Times shorter than Nix's delete nothing that others may want.
    assert_eq!(count(), 2);
}

#[test]
fn files_that_are_no_use_are_warned_of_once() {
    let directory = tempfile::tempdir().unwrap();
    let one = info(1);
    let answers = [(part(&one), Some(&one))];
    let check = |dir: &Path, expected: &str| {
        let mut lookup = open(dir);
        let row = lookup.put_cache("https://c", &said());
        lookup.put(&row, &answers);
        lookup.put(&row, &answers);
        assert_eq!(lookup.narinfo(&row, part(&one)), Known::Unknown);
        assert_eq!(lookup.cache("https://c"), None);
        let warnings = lookup.take_warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains(expected),
            "{warnings:?}"
        );
        assert!(warnings[0].contains(NAMES[0]), "{warnings:?}");
        assert!(lookup.take_warnings().is_empty());
    };
    let garbage = directory.path().join("garbage");
    std::fs::create_dir(&garbage).unwrap();
    std::fs::write(
        garbage.join(NAMES[0]),
        "this is no database, not at all".repeat(99),
    )
    .unwrap();
    check(&garbage, "not a database");
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    execute(
        &other,
        NAMES[0],
        "create table BinaryCaches (x); create table NARs (y)",
    );
    check(&other, "no such column");
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    check(&file, "exists");
    let locked = directory.path().join("locked");
    drop(open(&locked));
    let holder = Connection::open(locked.join(NAMES[0])).unwrap();
    holder.execute_batch("begin exclusive").unwrap();
    check(&locked, "locked");
}

#[test]
fn rows_that_say_what_can_not_be_are_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let one = info(1);
    let mut lookup = open(dir);
    let row = lookup.put_cache("https://c", &said());
    for change in [
        "namePart = 'a/b'",
        "namePart = null",
        "url = null",
        "compression = 'lzma'",
        "narHash = 'sha1:0'",
        "narHash = 'sha1:hks3nlgcwz50lcdvh6yfiz3qkcvygl2n'",
        "narSize = 0",
        "narSize = -1",
        "refs = 'x y'",
        "deriver = '/x'",
        "fileHash = 'x'",
        "ca = 'x'",
    ] {
        lookup.put(&row, &[(part(&one), Some(&one))]);
        assert_eq!(lookup.narinfo(&row, part(&one)), present(&one));
        execute(dir, NAMES[0], &format!("update NARs set {change}"));
        assert_eq!(lookup.narinfo(&row, part(&one)), Known::Unknown, "{change}");
    }
    assert!(lookup.take_warnings().is_empty());
}

#[test]
fn many_may_write_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let mut lookup = open(dir);
                let row = lookup.put_cache("https://c", &said());
                for at in 0..20 {
                    let info = info(number * 20 + at);
                    lookup.put(&row, &[(part(&info), Some(&info))]);
                }
                assert_eq!(lookup.take_warnings(), [""; 0]);
            });
        }
    });
    let mut lookup = open(dir);
    let row = lookup.cache("https://c").unwrap();
    let infos: Vec<NarInfo> = (0..80).map(info).collect();
    let parts: Vec<&str> = infos.iter().map(part).collect();
    let expected: Vec<Known> = infos.iter().map(present).collect();
    assert_eq!(lookup.narinfos(&row, &parts), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_put_is_found(infos in prop::collection::vec(infos(), 1..8)) {
        let directory = tempfile::tempdir().unwrap();
        let mut lookup = open(directory.path());
        let row = lookup.put_cache("https://c", &said());
        let answers: Vec<_> = infos.iter().map(|it| (part(it), Some(it))).collect();
        lookup.put(&row, &answers);
        let parts: Vec<&str> = infos.iter().map(part).collect();
        let expected: Vec<Known> = infos.iter().map(present).collect();
        prop_assert_eq!(lookup.narinfos(&row, &parts), expected);
        prop_assert!(lookup.take_warnings().is_empty());
    }
}
