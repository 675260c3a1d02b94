//! What is not what it was is never sent as if it were.

use std::fs::{self, File};
use std::io::{self, Cursor, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use windrow_net::compression::{Compression, decoder};
use windrow_net::serve::Packing;

use crate::common::{Scene, Served};

/// Bytes that can't be compressed.
fn noise(size: u64) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..size).map(|_| next()).collect()
}

/// Expects neither form of an archive to come to its end.
fn is_cut(served: &Served, url: &str, case: &str) {
    for (end, compression) in [("", Compression::None), (".zst", Compression::Zstd)] {
        let got = served.get(&format!("/{url}{end}"));
        if got.status == 404 {
            // It was found out before anything was sent.
            assert_eq!(got.text(), "it is not what it was\n");
            assert!(!case.starts_with("large"), "{case}{end}");
            continue;
        }
        assert_eq!((got.status, got.is_whole), (200, false), "{case}{end}");
        if compression == Compression::Zstd {
            let mut archive = Vec::new();
            let unpacked = decoder(compression, Cursor::new(got.body));
            let unpacked = unpacked.and_then(|mut it| it.read_to_end(&mut archive));
            assert!(unpacked.is_err(), "{case}");
        }
    }
    served.wait_for_trouble("cannot send '");
}

#[test]
fn what_was_changed_is_never_sent_to_its_end() {
    for size in [10, 1 << 20] {
        let mut scene = Scene::new();
        let path = scene.add("x", |dir| {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("a"), "a").unwrap();
            fs::write(dir.join("b"), noise(size)).unwrap();
        });
        let served = scene.serve(Packing::None);
        let (url, place) = (served.narinfo(&path).url, scene.place(&path));
        let change = |name: &str, with: &dyn Fn(&File)| {
            let file = place.join(name);
            let mut permissions = file.metadata().unwrap().permissions();
            #[expect(clippy::permissions_set_readonly_false, reason = "it is deleted soon")]
            permissions.set_readonly(false);
            fs::set_permissions(&file, permissions).unwrap();
            with(&File::options().write(true).open(file).unwrap());
        };
        let kind = if size > 10 { "large" } else { "small" };
        let is_cut_when = |how: &str| is_cut(&served, &url, &format!("{kind}, {how}"));
        change("b", &|file| file.write_all_at(b"x", size - 1).unwrap());
        is_cut_when("a bit");
        change("b", &|file| file.set_len(size - 1).unwrap());
        is_cut_when("shorter");
        change("b", &|file| file.set_len(size * 2 + 1).unwrap());
        is_cut_when("longer");
        let mut dir = fs::metadata(&place).unwrap().permissions();
        #[expect(clippy::permissions_set_readonly_false, reason = "it is deleted soon")]
        dir.set_readonly(false);
        fs::set_permissions(&place, dir).unwrap();
        fs::remove_file(place.join("b")).unwrap();
        is_cut(&served, &url, "gone");
        let rest = served.ask("GET", &format!("/{url}"), "Range: bytes=300-\r\n");
        assert_eq!(rest.status, 404);
    }
}

/// Asks for an archive in HTTP/1.0, where an answer may end with the connection.
fn ask_old(served: &Served, url: &str) -> io::Result<Vec<u8>> {
    let mut stream = served.connect();
    let head = format!("GET /{url} HTTP/1.0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.0 200"), "{url}");
    assert!(!text.contains("transfer-encoding"), "{url}");
    Ok(answer)
}

#[test]
fn what_is_cut_does_not_look_complete_to_old_proxies() {
    const SIZE: u64 = 1 << 20;
    let mut scene = Scene::new();
    let path = scene.add("x", |file| fs::write(file, noise(SIZE)).unwrap());
    let served = scene.serve(Packing::Zstd);
    let url = served.narinfo(&path).url;
    let answer = ask_old(&served, &url).unwrap();
    let packed = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let mut archive = Vec::new();
    let unpacked = decoder(Compression::Zstd, Cursor::new(answer[packed..].to_vec()));
    unpacked.unwrap().read_to_end(&mut archive).unwrap();
    assert!(archive == scene.archive(&path));
    let place = scene.place(&path);
    fs::set_permissions(&place, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().write(true).open(place).unwrap();
    file.write_all_at(b"x", SIZE - 1).unwrap();
    let error = ask_old(&served, &url).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn what_is_deleted_while_it_is_sent_is_cut() {
    let mut scene = Scene::new();
    let path = scene.add("x", |dir| {
        fs::create_dir(dir).unwrap();
        for name in ["a", "b", "c"] {
            File::create(dir.join(name))
                .unwrap()
                .set_len(64 << 20)
                .unwrap();
        }
    });
    let served = scene.serve(Packing::None);
    let url = served.narinfo(&path).url;
    let mut stream = served.connect();
    let head = format!("GET /{url} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.peek(&mut [0]).unwrap();
    windrow_sys::tree::delete_path(&scene.place(&path)).unwrap();
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert!(got.len() < 3 * (64 << 20), "{} bytes", got.len());
    served.wait_for_trouble("cannot send '");
}

#[test]
fn a_database_that_can_not_be_read_is_said_to_whoever_runs_the_server() {
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 3);
    let served = scene.serve(Packing::None);
    let name = format!("/{}.narinfo", path.hash_part());
    assert_eq!(served.get(&name).status, 200);
    let database = scene.layout.db_dir().join("db.sqlite");
    fs::rename(&database, database.with_extension("away")).unwrap();
    // A connection that is open yet may answer.
    let begun = std::time::Instant::now();
    while served.get(&name).status != 500 {
        assert!(begun.elapsed() < crate::common::LIMIT);
    }
    let got = served.get(&name);
    assert_eq!(got.text(), "the store can't be read\n");
    assert!(served.troubles().concat().contains("db.sqlite"));
    fs::rename(database.with_extension("away"), &database).unwrap();
    assert_eq!(served.get(&name).status, 200);
}
