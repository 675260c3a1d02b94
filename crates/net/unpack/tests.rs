//! NARs put on disk, and those that are not what they should be.

use proptest::prelude::*;
use windrow_components::store_path::{StoreDir, StorePath};
use windrow_store::nar::dump;

use super::*;
use crate::compression::{Compression, decoder, encoder};
use crate::listing::Listing;

fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

/// The archive of a tree with those files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    for (name, contents) in files {
        std::fs::write(root.join(name), contents).unwrap();
    }
    let mut archive = Vec::new();
    dump(&root, &mut archive).unwrap();
    archive
}

/// The archive of one file.
fn file_archive(contents: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents).unwrap();
    let mut archive = Vec::new();
    dump(file.path(), &mut archive).unwrap();
    archive
}

fn info(archive: &[u8]) -> NarInfo {
    NarInfo {
        store_path: StorePath::from_base_name(&format!("{}-x", "a".repeat(32))).unwrap(),
        url: "nar/1".to_owned(),
        compression: Compression::None,
        file_hash: None,
        file_size: None,
        nar_hash: HashAlgo::Sha256.hash(archive),
        nar_size: archive.len() as u64,
        references: Vec::new(),
        deriver: None,
        sigs: Vec::new(),
        ca: None,
    }
}

/// Unpacks into a new directory, where nothing may be left after a failure.
fn unpacked(source: impl Read, info: &NarInfo) -> Result<Vec<u8>, UnpackError> {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x");
    let result = unpack(source, info, &target, &Stop::default());
    let left = directory.path().read_dir().unwrap().count();
    assert_eq!(left, usize::from(result.is_ok()));
    result?;
    let mut again = Vec::new();
    dump(&target, &mut again).unwrap();
    Ok(again)
}

fn refused(source: impl Read, info: &NarInfo, expected: &str) {
    let error = unpacked(source, info).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.is_the_caches());
}

#[test]
fn what_was_announced_is_put_in_place() {
    let archive = archive(&[("a", b"text"), ("b", &[7; 600_000])]);
    assert!(unpacked(&archive[..], &info(&archive)).unwrap() == archive);
    for compression in Compression::ALL {
        let mut encoder = encoder(compression, None, 1, Vec::new()).unwrap();
        io::Write::write_all(&mut encoder, &archive).unwrap();
        let packed = encoder.finish().unwrap();
        let source = decoder(compression, &packed[..]).unwrap();
        assert!(unpacked(source, &info(&archive)).unwrap() == archive);
        if compression != Compression::None {
            let cut = decoder(compression, &packed[..packed.len() - 1]).unwrap();
            refused(cut, &info(&archive), "cannot read the NAR");
            let more = [&packed[..], b"more"].concat();
            assert!(unpacked(decoder(compression, &more[..]).unwrap(), &info(&archive)).is_err());
        }
    }
    assert_eq!(Listing::of_nar(&mut &archive[..]).unwrap().nodes().len(), 3);
}

#[test]
fn another_nar_is_thrown_away() {
    let archive = archive(&[("a", b"text")]);
    let good = info(&archive);
    let other = NarInfo {
        nar_hash: HashAlgo::Sha256.hash(b"other"),
        ..good.clone()
    };
    refused(&archive[..], &other, "and its narinfo announces 'sha256:");
    refused(&[][..], &good, "NAR is damaged");
    refused(&archive[..100], &good, "NAR is damaged");
    refused(
        &[&archive[..], b"more"].concat()[..],
        &good,
        "has more than the",
    );
    let size = |nar_size| NarInfo {
        nar_size,
        ..good.clone()
    };
    refused(&archive[..], &size(good.nar_size - 1), "has more than the");
    refused(&archive[..], &size(1), "has more than the");
    refused(
        &archive[..],
        &size(good.nar_size + 1),
        "and its narinfo announces",
    );
    // Never read to its end.
    refused(archive.chain(io::repeat(0)), &good, "has more than the");
    refused(&b"<html>"[..], &good, "NAR is damaged");
}

#[test]
fn what_is_in_the_way_stays_and_a_stop_ends_the_work() {
    let archive = archive(&[("a", b"text")]);
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x");
    std::fs::write(&target, "mine").unwrap();
    let error = unpack(&archive[..], &info(&archive), &target, &Stop::default()).unwrap_err();
    assert!(!error.is_the_caches(), "{error}");
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    let other = directory.path().join("y");
    let stop = Stop::default();
    stop.set();
    assert!(unpack(&archive[..], &info(&archive), &other, &stop).is_err());
    assert!(!other.exists());
}

#[test]
fn contents_must_be_those_of_the_content_address() {
    let tree = archive(&[("a", b"text")]);
    let file = file_archive(b"text");
    let flat = HashAlgo::Sha1.hash(b"text");
    let text = HashAlgo::Sha256.hash(b"text");
    for (archive, method, hash, good) in [
        (&tree, Method::Recursive, HashAlgo::Sha256.hash(&tree), true),
        (&tree, Method::Recursive, HashAlgo::Sha512.hash(&tree), true),
        (&tree, Method::Recursive, HashAlgo::Sha1.hash(b"x"), false),
        (&file, Method::Flat, flat, true),
        (&file, Method::Text, text, true),
        (&file, Method::Flat, HashAlgo::Sha1.hash(b"x"), false),
        (&tree, Method::Flat, flat, false),
    ] {
        let address = ContentAddress { method, hash };
        let info = NarInfo {
            ca: Some(address.to_string()),
            ..info(archive)
        };
        match unpacked(&archive[..], &info) {
            Ok(_) => assert!(good, "{address}"),
            Err(error) => {
                assert!(!good && error.is_the_caches(), "{error}");
                assert!(error.to_string().contains(&address.to_string()), "{error}");
            }
        }
    }
}

/// A path that was made content-addressed, with references to itself in it.
#[test]
fn a_tree_with_its_own_path_in_it_is_checked_without() {
    let scratch = "0".repeat(32);
    let text = |part: &str| format!("exec /nix/store/{part}-x/bin/a");
    let with = |part: &str| archive(&[("a", text(part).as_bytes())]);
    let mut hasher = ModuloHasher::new(HashAlgo::Sha256, *b"00000000000000000000000000000000");
    hasher.update(&with(&scratch));
    let address = ContentAddress {
        method: Method::Recursive,
        hash: hasher.finish(),
    };
    let path = address.path(&store(), "x", [], true).unwrap();
    let archive = with(path.hash_part());
    let good = NarInfo {
        store_path: path.clone(),
        references: vec![path],
        ca: Some(address.to_string()),
        ..info(&archive)
    };
    unpacked(&archive[..], &good).unwrap();
    let forged = with(&"b".repeat(32));
    let bad = NarInfo {
        nar_hash: HashAlgo::Sha256.hash(&forged),
        ..good
    };
    refused(&forged[..], &bad, "are not those of the content address");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_but_the_announced_nar_stays(
        contents in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        flip in 0..=255_u8,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let archive = archive(&[("a", &contents), ("b", b"x")]);
        let mut sent = archive.clone();
        sent[at.index(archive.len())] ^= flip;
        if let Some(cut) = cut {
            sent.truncate(cut.index(archive.len() + 1));
        }
        prop_assert_eq!(unpacked(&sent[..], &info(&archive)).is_ok(), sent == archive);
    }
}

#[test]
fn one_file_is_read_and_checked() {
    let archive = file_archive(b"contents");
    let known = info(&archive);
    assert_eq!(read_file(&archive[..], &known).unwrap(), b"contents");
    assert_eq!(
        read_file(&file_archive(b"")[..], &info(&file_archive(b""))).unwrap(),
        b""
    );
    let error = |archive: &[u8], known: &NarInfo| read_file(archive, known).unwrap_err();
    let other = file_archive(b"contentz");
    assert!(matches!(
        error(&other, &known),
        UnpackError::WrongHash { .. }
    ));
    let longer = file_archive(&[0; 100]);
    assert!(matches!(error(&longer, &known), UnpackError::TooLong(_)));
    let cut = &archive[..archive.len() - 8];
    assert!(matches!(error(cut, &known), UnpackError::Store(_)));
    let tree = self::archive(&[("x", b"contents")]);
    assert!(matches!(error(&tree, &info(&tree)), UnpackError::OtherType));
}
