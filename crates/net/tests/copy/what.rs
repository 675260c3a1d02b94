//! What a cache holds after paths were copied into it.

use std::fs;
use std::io::{BufReader, Read as _};

use windrow_components::hash::HashAlgo;
use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::StoreDir;
use windrow_net::compression::{Compression, decoder};
use windrow_net::listing::Listing;
use windrow_net::trust::Trust;
use windrow_store::nar::dump;

use crate::common::Scene;

#[test]
fn archives_are_whole_in_every_compression_and_kind_of_cache() {
    let mut scene = Scene::new();
    let path = scene.add_tree("tree", &[], |at| {
        fs::create_dir_all(at.join("bin")).unwrap();
        fs::write(at.join("bin/x"), "words ".repeat(100_000)).unwrap();
        std::os::unix::fs::symlink("bin/x", at.join("link")).unwrap();
    });
    let mut expected = Vec::new();
    dump(&scene.real(&path), &mut expected).unwrap();
    for compression in Compression::ALL {
        for kind in ["http", "file"] {
            let dir = scene.at("cache");
            let _ = fs::remove_dir_all(&dir);
            let url = match kind {
                "http" => scene.server.url(),
                _ => format!("file://{}", dir.display()),
            };
            let url = format!("{url}?compression={compression}&parallel-compression=true");
            let outcome = scene.copy(&url, &[&path]).unwrap();
            assert_eq!(outcome.copied, 1, "{url}: {:?}", outcome.ended_by);
            let info = scene.narinfo(&path).unwrap();
            assert_eq!(info.compression, compression);
            let file = fs::read(dir.join(&info.url)).unwrap();
            assert_eq!(info.file_size, Some(file.len() as u64));
            assert_eq!(outcome.sent, file.len() as u64);
            let hash = HashAlgo::Sha256.hash(&file);
            assert_eq!(info.file_hash, Some(hash));
            let name = format!("nar/{}.nar{}", hash.base32(), compression.extension());
            assert_eq!(info.url, name);
            let mut archive = Vec::new();
            let mut reader = decoder(compression, BufReader::new(&file[..])).unwrap();
            reader.read_to_end(&mut archive).unwrap();
            assert!(archive == expected);
            let mode = fs::metadata(dir.join(&info.url)).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
            assert_eq!(mode & 0o444, 0o444, "others may read it");
            let entries = fs::read_dir(dir.join("nar")).unwrap().count();
            assert_eq!(entries, 1);
        }
    }
}

#[test]
fn listings_and_entries_of_debugging_information_are_written_if_they_are_wanted() {
    let mut scene = Scene::new();
    let id = "23456789abcdef0123456789abcdef01234567";
    let path = scene.add_tree("tree", &[], |at| {
        let dir = at.join("lib/debug/.build-id/01");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{id}.debug")), "symbols").unwrap();
    });
    let part = path["/nix/store/".len()..][..32].to_owned();
    scene.copy(&scene.url(""), &[&path]).unwrap();
    assert!(!scene.at("cache").join(format!("{part}.ls")).exists());
    fs::remove_dir_all(scene.at("cache")).unwrap();
    let url = scene.url("&write-nar-listing=true&index-debug-info=1");
    scene.copy(&url, &[&path]).unwrap();
    let listing = fs::read(scene.at("cache").join(format!("{part}.ls"))).unwrap();
    let expected = Listing::dump(&scene.real(&path), &mut Vec::new()).unwrap();
    assert_eq!(Listing::parse(&listing).unwrap(), expected);
    let entry =
        fs::read_to_string(scene.at("cache/debuginfo").join(format!("01{id}.debug"))).unwrap();
    let archive = scene.narinfo(&path).unwrap().url;
    assert!(entry.contains(&format!("\"../{archive}\"")), "{entry}");
    let uploads = scene.uploads();
    assert!(
        uploads.last().unwrap().ends_with(".narinfo"),
        "it comes last: {uploads:?}"
    );
    // Names that no JSON can have.
    let odd = scene.add_tree("odd", &[], |at| {
        use std::os::unix::ffi::OsStrExt as _;
        fs::create_dir(at).unwrap();
        fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    });
    let outcome = scene.copy(&url, &[&odd]).unwrap();
    assert_eq!(outcome.left, std::slice::from_ref(&odd));
    assert!(scene.told("failed")[0].contains("write-nar-listing"));
    assert_eq!(scene.copy(&scene.url(""), &[&odd]).unwrap().copied, 1);
}

#[test]
fn all_keys_sign_beside_what_is_signed() {
    let mut scene = Scene::new();
    let path = scene.add("x", 10, &[]);
    let keys = ["one", "two", "three"].map(|name| {
        let mut seed = [0; 32];
        seed[..3].copy_from_slice(&name.as_bytes()[..3]);
        let key = SecretKey::from_seed(name, &seed);
        fs::write(scene.at(name), key.secret_text()).unwrap();
        key
    });
    let at = |name: &str| scene.at(name).display().to_string();
    let (one, two, three) = (at("one"), at("two"), at("three"));
    let url = scene.url(&format!("&secret-key={one}&secret-keys={two},{three}"));
    let mut info = scene.store.database.path_info(&path).unwrap().unwrap();
    info.sigs = vec!["old:sig".to_owned()];
    scene.copy_only(&url, vec![info]).unwrap();
    let info = scene.narinfo(&path).unwrap();
    let names: Vec<&str> = info
        .sigs
        .iter()
        .map(|it| it.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["old", "one", "three", "two"]);
    for key in keys {
        let trust = Trust {
            store_dir: StoreDir::new("/nix/store"),
            keys: vec![key.public()],
            require_sigs: true,
        };
        trust.check(&info, false).unwrap();
    }
}

#[test]
fn paths_without_what_they_refer_to_need_that_to_be_there() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let only = |path: &str| vec![scene.store.database.path_info(path).unwrap().unwrap()];
    let url = scene.url("");
    let outcome = scene.copy_only(&url, only(&paths[1])).unwrap();
    assert_eq!(outcome.left, [paths[1].clone()]);
    let failed = scene.told("failed");
    assert!(
        failed[0].contains(&format!("it refers to '{}'", paths[0])),
        "{failed:?}"
    );
    assert!(scene.uploads().iter().all(|it| it == "/nix-cache-info"));
    assert_eq!(scene.copy_only(&url, only(&paths[0])).unwrap().copied, 1);
    assert_eq!(scene.copy_only(&url, only(&paths[1])).unwrap().copied, 1);
}
