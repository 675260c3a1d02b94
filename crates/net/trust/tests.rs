//! Trust, compared with a model that knows who signed what.

use proptest::prelude::*;
use windrow_components::content_address::ContentAddress;
use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::StorePath;

use super::*;
use crate::compression::Compression;

fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", "a".repeat(32))).unwrap()
}

fn info() -> NarInfo {
    NarInfo {
        store_path: path("x"),
        url: "nar/1".to_owned(),
        compression: Compression::None,
        file_hash: None,
        file_size: None,
        nar_hash: HashAlgo::Sha256.hash(b"nar"),
        nar_size: 120,
        references: vec![path("a"), path("x")],
        deriver: None,
        sigs: Vec::new(),
        ca: None,
    }
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&format!("key-{number}"), &[number; 32])
}

fn trust(keys: &[u8]) -> Trust {
    Trust {
        store_dir: store(),
        keys: keys.iter().map(|&number| key(number).public()).collect(),
        require_sigs: true,
    }
}

#[test]
fn why_a_path_is_not_trusted_is_said() {
    let mut info = info();
    assert_eq!(trust(&[1]).check(&info, false), Err(Distrust::Unsigned));
    assert_eq!(trust(&[1]).check(&info, true), Ok(()));
    let careless = Trust {
        require_sigs: false,
        ..trust(&[])
    };
    assert_eq!(careless.check(&info, false), Ok(()));
    info.sign(&[key(2), key(3)], &store());
    let others = ["key-2", "key-3"].map(str::to_owned).to_vec();
    assert_eq!(
        trust(&[1]).check(&info, false),
        Err(Distrust::OtherKeys(others))
    );
    assert_eq!(trust(&[1, 3]).check(&info, false), Ok(()));
    info.nar_size += 1;
    let wrong = Distrust::WrongSignature("key-3".to_owned());
    assert_eq!(trust(&[1, 3]).check(&info, false), Err(wrong));
    // Signed elsewhere, so about another path.
    let elsewhere = Trust {
        store_dir: StoreDir::new("/other"),
        ..trust(&[3])
    };
    info.sign(&[key(3)], &store());
    assert!(trust(&[3]).check(&info, false).is_ok());
    assert!(elsewhere.check(&info, false).is_err());
}

#[test]
fn keys_are_read_or_named() {
    let entries = [key(1).public_text(), key(2).public_text()];
    assert_eq!(Trust::parse_keys(&entries).unwrap(), trust(&[1, 2]).keys);
    let error = Trust::parse_keys(&[&entries[0], "nonsense"])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("'nonsense' in the setting"), "{error}");
    assert!(Trust::parse_keys(&[""; 0]).unwrap().is_empty());
    let official = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    assert_eq!(
        Trust::parse_keys(&[official]).unwrap()[0].to_string(),
        official
    );
}

#[test]
fn content_addresses_must_give_the_path_and_be_checkable() {
    let nar = HashAlgo::Sha256.hash(b"nar");
    let other = HashAlgo::Sha256.hash(b"other");
    let sha1 = HashAlgo::Sha1.hash(b"x");
    let of = |method, hash: Hash, references: &[&StorePath], itself: bool, nar_hash| {
        let address = ContentAddress { method, hash };
        let others = references.iter().copied();
        let store_path = address.path(&store(), "x", others, itself).unwrap();
        let mut references: Vec<_> = references.iter().map(|&it| it.clone()).collect();
        references.extend(itself.then(|| store_path.clone()));
        NarInfo {
            store_path,
            references,
            nar_hash,
            ca: Some(address.to_string()),
            ..info()
        }
    };
    let a = path("a");
    for (info, good) in [
        (of(Method::Recursive, nar, &[], false, nar), true),
        (of(Method::Recursive, nar, &[&a], false, nar), true),
        (of(Method::Recursive, other, &[&a], true, nar), true),
        (of(Method::Recursive, sha1, &[], false, nar), true),
        (of(Method::Flat, sha1, &[], false, nar), true),
        (of(Method::Text, other, &[&a], false, nar), true),
        // The NAR that is announced is known to be another.
        (of(Method::Recursive, other, &[], false, nar), false),
        (of(Method::Git, sha1, &[], false, nar), false),
    ] {
        assert_eq!(trust(&[]).check(&info, false).is_ok(), good, "{info:?}");
        let forged = NarInfo {
            store_path: path("x"),
            ..info.clone()
        };
        assert!(trust(&[]).check(&forged, false).is_err(), "{forged:?}");
        let more = NarInfo {
            references: [info.references.clone(), vec![path("z")]].concat(),
            ..info
        };
        assert!(trust(&[]).check(&more, false).is_err(), "{more:?}");
    }
}

/// What may be changed after signing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Nothing,
    Unsigned,
    Path,
    Size,
    Hash,
    MoreReferences,
    FewerReferences,
}

fn changed(mut info: NarInfo, change: Change) -> NarInfo {
    match change {
        Change::Nothing => {}
        Change::Unsigned => {
            // None of these is signed: another cache may have the same path under another URL.
            info.url = "other".to_owned();
            info.compression = Compression::Xz;
            info.file_size = Some(3);
            info.deriver = Some(path("d.drv"));
            info.references.reverse();
        }
        Change::Path => info.store_path = path("y"),
        Change::Size => info.nar_size += 1,
        Change::Hash => info.nar_hash = HashAlgo::Sha256.hash(b"forged"),
        Change::MoreReferences => info.references.push(path("z")),
        Change::FewerReferences => drop(info.references.pop()),
    }
    info
}

proptest! {
    #[test]
    fn a_path_is_trusted_if_a_trusted_key_signed_all_that_counts(
        trusted in prop::collection::vec(0..5_u8, 0..4),
        signers in prop::collection::vec(0..5_u8, 0..4),
        broken in prop::collection::vec(0..5_u8, 0..2),
        change in prop::sample::select(vec![
            Change::Nothing, Change::Unsigned, Change::Path, Change::Size, Change::Hash,
            Change::MoreReferences, Change::FewerReferences,
        ]),
        require_sigs in any::<bool>(),
        url_trusted in any::<bool>(),
    ) {
        let mut info = info();
        info.sign(&signers.iter().map(|&it| key(it)).collect::<Vec<_>>(), &store());
        info.sigs.extend(broken.iter().map(|&it| key(it).sign("something else")));
        let info = changed(info, change);
        let trust = Trust { require_sigs, ..trust(&trusted) };
        let counts = !matches!(change, Change::Nothing | Change::Unsigned);
        let signed = !counts && signers.iter().any(|it| trusted.contains(it));
        let expected = signed || !require_sigs || url_trusted;
        prop_assert_eq!(trust.check(&info, url_trusted).is_ok(), expected);
    }
}
