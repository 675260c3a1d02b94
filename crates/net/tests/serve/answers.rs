//! What is answered, and that nothing but the store can be had.

use std::fs;
use std::io::{BufReader, Write as _};
use std::os::unix::fs::symlink;

use windrow_components::store_path::StoreDir;
use windrow_net::cache_info::CacheInfo;
use windrow_net::compression::{Compression, decoder};
use windrow_net::listing::Listing;
use windrow_net::serve::Packing;
use windrow_net::trust::Trust;

use crate::common::{Got, Scene};

fn trust(scene: &Scene) -> Trust {
    Trust {
        store_dir: StoreDir::new("/nix/store"),
        keys: vec![scene.key.public()],
        require_sigs: true,
    }
}

#[test]
fn paths_are_there_with_all_that_a_cache_has() {
    let mut scene = Scene::new();
    let paths = [
        scene.add_dir("dir", 300),
        scene.add_file("file", 1_000_000),
        scene.add("link", |at| symlink("/etc/passwd", at).unwrap()),
        scene.add_dir("empty", 0),
    ];
    let trust = trust(&scene);
    for packing in Packing::ALL {
        let served = scene.serve(packing);
        let info = CacheInfo::parse(&served.get("/nix-cache-info").body).unwrap();
        assert_eq!(info.store_dir.as_deref(), Some("/nix/store"));
        assert_eq!((info.want_mass_query, info.priority), (true, 30));
        for path in &paths {
            let mut info = served.narinfo(path);
            // Not for the content address that it has.
            info.ca = None;
            trust.check(&info, false).unwrap();
            let archive = scene.archive(path);
            let got = served.get(&format!("/{}", info.url));
            assert_eq!((got.status, got.is_whole), (200, true));
            assert_eq!(got.header("content-type"), Some("application/x-nix-nar"));
            let mut unpacked = decoder(info.compression, std::io::Cursor::new(got.body)).unwrap();
            let mut found = Vec::new();
            unpacked.read_to_end(&mut found).unwrap();
            assert!(found == archive, "{path:?}");
            assert_eq!(info.nar_size, archive.len() as u64);
            let listing = served.get(&format!("/{}.ls", path.hash_part()));
            let expected = Listing::of_nar(&mut &archive[..]).unwrap();
            assert_eq!(Listing::parse(&listing.body).unwrap(), expected);
        }
        assert!(served.troubles().is_empty());
    }
}

#[test]
fn what_is_not_compressed_announces_its_size_and_hash() {
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 3);
    let plain = scene.serve(Packing::None).narinfo(&path);
    assert_eq!(plain.compression, Compression::None);
    assert_eq!(plain.file_hash.as_ref(), Some(&plain.nar_hash));
    assert_eq!(plain.file_size, Some(plain.nar_size));
    let packed = scene.serve(Packing::Zstd);
    let info = packed.narinfo(&path);
    assert_eq!(info.compression, Compression::Zstd);
    assert_eq!((&info.file_hash, info.file_size), (&None, None));
    // Who remembers the one can have it from a server that names the other.
    let got = packed.get(&format!("/{}", plain.url));
    assert_eq!(got.body, scene.archive(&path));
}

#[test]
fn heads_are_those_of_the_bodies() {
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 3);
    let served = scene.serve(Packing::None);
    let hash = path.hash_part();
    let url = format!("/{}", served.narinfo(&path).url);
    let length = scene.archive(&path).len().to_string();
    for name in [
        "/",
        "/nix-cache-info",
        "/x",
        &format!("/{hash}.narinfo"),
        &format!("/{hash}.ls"),
        &format!("/{}.ls", "1".repeat(32)),
        &url,
    ] {
        let (head, got) = (served.ask("HEAD", name, ""), served.get(name));
        assert_eq!(head.status, got.status, "{name}");
        for header in ["content-type", "etag", "accept-ranges"] {
            assert_eq!(head.header(header), got.header(header), "{name}: {header}");
        }
        // A listing is not made to say how long it would be.
        let is_listing = name.ends_with(".ls") && got.status == 200;
        let length = (!is_listing).then(|| got.body.len().to_string());
        assert_eq!(head.header("content-length"), length.as_deref(), "{name}");
        let length = got.body.len().to_string();
        assert_eq!(got.header("content-length"), Some(&*length), "{name}");
    }
    assert_eq!(served.get(&url).header("content-length"), Some(&*length));
    let packed = served.ask("HEAD", &format!("{url}.zst"), "Range: bytes=5-\r\n");
    assert_eq!(
        (packed.status, packed.header("content-length")),
        (200, None)
    );
    assert_eq!(packed.header("accept-ranges"), Some("none"));
    let part = served.ask("HEAD", &url, "Range: bytes=5-\r\n");
    assert_eq!(
        (part.status, part.header("content-length")),
        (200, Some(&*length))
    );
}

#[test]
fn parts_of_archives_can_be_asked_for() {
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 200);
    let archive = scene.archive(&path);
    let served = scene.serve(Packing::None);
    let url = format!("/{}", served.narinfo(&path).url);
    let all = archive.len();
    for (range, from, end) in [
        ("0-".to_owned(), 0, all),
        ("0-0".to_owned(), 0, 1),
        ("1000-1999".to_owned(), 1000, 2000),
        (format!("{}-", all / 2), all / 2, all),
        (format!("{}-{all}", all - 1), all - 1, all),
        ("-100".to_owned(), all - 100, all),
    ] {
        let got = served.ask("GET", &url, &format!("Range: bytes={range}\r\n"));
        assert_eq!((got.status, got.is_whole), (206, true), "{range}");
        let said = format!("bytes {from}-{}/{all}", end - 1);
        assert_eq!(got.header("content-range"), Some(&*said));
        assert!(got.body == archive[from..end], "{range}");
    }
    let beyond = served.ask("GET", &url, &format!("Range: bytes={all}-\r\n"));
    assert_eq!(beyond.status, 416);
    assert_eq!(
        beyond.header("content-range"),
        Some(&*format!("bytes */{all}"))
    );
    let tag = beyond.header("etag").unwrap();
    for (headers, status, length) in [
        (
            format!("Range: bytes=5-\r\nIf-Range: {tag}\r\n"),
            206,
            all - 5,
        ),
        (
            "Range: bytes=5-\r\nIf-Range: \"other\"\r\n".to_owned(),
            200,
            all,
        ),
        ("Range: bytes=5-6,8-9\r\n".to_owned(), 200, all),
        ("Range: bytes=x\r\n".to_owned(), 200, all),
    ] {
        let got = served.ask("GET", &url, &headers);
        assert_eq!((got.status, got.body.len()), (status, length), "{headers}");
    }
    let packed = served.ask("GET", &format!("{url}.zst"), "Range: bytes=5-\r\n");
    assert_eq!((packed.status, packed.header("content-range")), (200, None));
    assert!(served.troubles().is_empty());
}

#[test]
fn nothing_but_the_store_is_there() {
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 3);
    let drv = "0123456789abcdfghijklmnpqrsvwxyz-x.drv";
    let secret = scene.layout.log_dir.join("secret");
    let logs = scene.layout.log_dir.join("drvs/01");
    fs::create_dir_all(&logs).unwrap();
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, logs.join(&drv[2..])).unwrap();
    // It lies in the store, and is not valid.
    let other = scene.layout.real_store_dir.join("1".repeat(32) + "-other");
    fs::write(&other, "secret").unwrap();
    let served = scene.serve(Packing::None);
    let url = served.narinfo(&path).url;
    let (stem, hash) = (path.hash_part(), &url[url.len() - 56..url.len() - 4]);
    let name = path.base_name();
    for (attempt, expected) in [
        ("/etc/passwd".to_owned(), 404),
        ("/../../../../etc/passwd".to_owned(), 404),
        ("/%2e%2e/%2e%2e/etc/passwd".to_owned(), 404),
        ("/..%2f..%2fetc%2fpasswd".to_owned(), 404),
        ("/nar/../../../etc/passwd".to_owned(), 404),
        ("/log/..%2f..%2fsecret".to_owned(), 404),
        (format!("/log/{drv}"), 404),
        (format!("/log/{drv}%00"), 404),
        (format!("/{name}"), 404),
        (format!("/{name}/f1"), 404),
        (format!("{}/f1", scene.place(&path).display()), 404),
        (format!("/{}.narinfo", "1".repeat(32)), 404),
        (format!("/{}.ls", "1".repeat(32)), 404),
        (format!("/nar/{}-{hash}.nar", "1".repeat(32)), 404),
        // What the path was, or will be.
        (format!("/nar/{stem}-{}.nar", "1".repeat(52)), 404),
        (format!("/{stem}.narinfo/../x"), 404),
        (format!("/{stem}%.narinfo"), 404),
        (format!("/{}", "x".repeat(9000)), 404),
        // A query is of no meaning here.
        (format!("/{url}?hash=x"), 200),
        (format!("http://elsewhere.invalid/{url}"), 200),
        ("/\u{7f}".to_owned(), 400),
        ("/ /".to_owned(), 400),
    ] {
        let got = served.get(&attempt);
        assert_eq!(got.status, expected, "{attempt}");
        assert!(!got.text().contains("secret"), "{attempt}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X"] {
        let got = served.ask(method, &format!("/{stem}.narinfo"), "");
        assert_eq!(got.status, 405, "{method}");
        assert_eq!(got.header("allow"), Some("GET, HEAD"));
    }
}

#[test]
fn what_becomes_valid_or_is_deleted_is_seen_at_once() {
    let mut scene = Scene::new();
    let served = scene.serve(Packing::None);
    let path = scene.add_dir("x", 3);
    let info = served.narinfo(&path);
    let full = format!("/nix/store/{}", path.base_name());
    fs::remove_dir_all(scene.place(&path)).unwrap();
    let gone = served.get(&format!("/{}", info.url));
    assert_eq!(gone.status, 404);
    assert!(served.troubles().concat().contains("No such file"));
    scene.store.database.invalidate(&full).unwrap();
    let name = format!("/{}.narinfo", path.hash_part());
    assert_eq!(served.get(&name).status, 404);
}

#[test]
fn logs_are_sent_as_their_reader_likes() {
    let scene = Scene::new();
    let served = scene.serve(Packing::Zstd);
    let text = "all well\n".repeat(10_000);
    let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let part = "0123456789abcdfghijklmnpqrsvwxyz";
    let logs = scene.layout.log_dir.join("drvs/01");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join(format!("{}-a.drv.bz2", &part[2..])), &packed).unwrap();
    fs::write(logs.join(format!("{}-b.drv", &part[2..])), &text).unwrap();
    let half = &packed[..packed.len() / 2];
    fs::write(logs.join(format!("{}-c.drv.bz2", &part[2..])), half).unwrap();
    fs::write(logs.join(format!("{}-d.drv.bz2", &part[2..])), "").unwrap();
    let both = "Accept-Encoding: gzip, bzip2\r\n";
    for (name, headers, coding, expected) in [
        ("a", "", None, text.as_bytes()),
        ("a", "Accept-Encoding: gzip\r\n", None, text.as_bytes()),
        ("a", both, Some("bzip2"), &packed[..]),
        ("b", both, None, text.as_bytes()),
        // What is still being written is sent as far as it goes.
        ("c", both, Some("bzip2"), half),
        ("d", "", None, b""),
    ] {
        let got = served.ask("GET", &format!("/log/{part}-{name}.drv"), headers);
        assert_eq!((got.status, got.is_whole), (200, true), "{name}");
        assert_eq!(got.header("content-encoding"), coding, "{name}");
        assert!(got.body == expected, "{name} {headers}");
    }
    let cut = served.get(&format!("/log/{part}-c.drv"));
    assert!(cut.is_whole && text.starts_with(&cut.text()));
    assert_eq!(served.get(&format!("/log/{part}-e.drv")).status, 404);
    assert!(served.troubles().is_empty());
}

#[test]
fn a_connection_is_good_for_many_requests() {
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 30);
    let served = scene.serve(Packing::Zstd);
    let url = format!("/{}", served.narinfo(&path).url);
    let mut stream = served.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let heads: String = ["/nix-cache-info", "/none", &url, &url]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .concat();
    // All at once: they are answered in their order.
    stream.write_all(heads.as_bytes()).unwrap();
    let status = [(); 4].map(|()| Got::read(&mut reader, false).status);
    assert_eq!(status, [200, 404, 200, 200]);
}

#[test]
fn people_are_told_how_the_cache_is_used() {
    let scene = Scene::new();
    let served = scene.serve(Packing::Zstd);
    let text = served.get("/").text();
    assert!(text.contains("extra-substituters = http://h:1\n"), "{text}");
    let key = format!("extra-trusted-public-keys = {}\n", scene.key.public_text());
    assert!(text.contains(&key), "{text}");
}
