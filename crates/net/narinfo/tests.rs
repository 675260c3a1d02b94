//! narinfo files as caches serve them, and as they should not.

use proptest::prelude::*;
use windrow_components::hash::HashAlgo;
use windrow_components::nix32;

use super::*;

const ASKED: &str = "8rhh74q2l84v5z1fa0n941xhbpgw3ncf";

fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

fn base(name: &str) -> String {
    format!("{ASKED}-{name}")
}

fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&base(name)).unwrap()
}

fn read(text: &str) -> Result<NarInfo, NarInfoError> {
    NarInfo::parse(text.as_bytes(), &store(), ASKED)
}

fn hash() -> Hash {
    HashAlgo::Sha256.hash(b"nar")
}

/// The smallest file there can be.
fn least() -> String {
    let nar_hash = hash().prefixed_base32();
    format!("StorePath: /nix/store/{ASKED}-x\nURL: nar/1\nNarHash: {nar_hash}\nNarSize: 7\n")
}

#[test]
fn a_file_of_nix_is_read_and_written_alike() {
    let sig = "cache.nixos.org-1:GrGV/Ls10TzoOaCnrcAqmPbKXFLLSBDeGNh5EQGKyuGA4K1wv1LcRVb6/sU+NAPK8lDiam8XcdJzUngmdhfTBQ==";
    let text = format!(
        "StorePath: /nix/store/{ASKED}-x\nURL: nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz\n\
         Compression: xz\nFileHash: sha256:1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3\n\
         FileSize: 4029176\nNarHash: {}\nNarSize: 18735072\nReferences: {} {}\nDeriver: {}\n\
         Sig: {sig}\nCA: fixed:r:{}\n",
        hash().prefixed_base32(),
        base("a"),
        base("x"),
        base("x.drv"),
        hash().prefixed_base32(),
    );
    let info = read(&text).unwrap();
    assert_eq!(info.store_path, path("x"));
    assert_eq!(info.compression, Compression::Xz);
    assert_eq!(
        (info.file_size, info.nar_size),
        (Some(4_029_176), 18_735_072)
    );
    assert_eq!(info.references, [path("a"), path("x")]);
    assert_eq!(info.deriver, Some(path("x.drv")));
    assert_eq!(info.sigs, [sig]);
    assert_eq!(info.other_references(), (vec![&path("a")], true));
    assert_eq!(info.to_text(&store()), text);
    let of = NarInfo::of_path_info(
        &info.to_path_info(&store()),
        &store(),
        info.url.clone(),
        info.compression,
    );
    let expected = NarInfo {
        file_hash: None,
        file_size: None,
        ..info
    };
    assert_eq!(of.unwrap(), expected);
}

#[test]
fn what_may_be_missing_may_be_missing() {
    let info = read(&least()).unwrap();
    assert_eq!(info.compression, Compression::Bzip2);
    let nothing = (info.file_hash, info.file_size, info.deriver, info.ca);
    assert_eq!(nothing, (None, None, None, None));
    assert!(info.references.is_empty() && info.sigs.is_empty());
    let odd = "Compression: \nReferences: \nReferences:  \nDeriver: unknown-deriver\nCA: \n\
        FileSize: 0\nSystem: i686-linux\nUnknown: \nSig: \nSig: a b\n";
    assert_eq!(read(&(least() + odd)), read(&least()));
}

#[test]
fn every_spelling_of_a_hash_is_read() {
    let (nar, file) = (hash(), HashAlgo::Sha512.hash(b"file"));
    let base64 = nar.sri().replace("sha256-", "sha256:");
    for spelt in [
        nar.sri(),
        base64,
        nar.prefixed_base16(),
        nar.prefixed_base32(),
    ] {
        let text = format!("{}NarHash: {spelt}\nFileHash: {}\n", least(), file.sri());
        let info = read(&text).unwrap();
        assert_eq!((info.nar_hash, info.file_hash), (nar, Some(file)));
    }
}

#[test]
fn of_several_lines_the_last_counts_but_for_two() {
    let more = format!(
        "URL: nar/2\nCompression: xz\nCompression: zstd\nNarSize: 8\nSig: b:1\nSig: a:1\nSig: b:1\n\
         Deriver: {}\nDeriver: unknown-deriver\nReferences: {1} {1}\n",
        base("d.drv"),
        base("r")
    );
    let info = read(&(least() + &more)).unwrap();
    assert_eq!((&*info.url, info.nar_size), ("nar/2", 8));
    assert_eq!(info.compression, Compression::Zstd);
    assert_eq!(info.sigs, ["a:1", "b:1"]);
    assert_eq!(info.references, [path("r")]);
    assert_eq!(info.deriver, Some(path("d.drv")));
    for (name, value) in [
        ("References", base("r")),
        ("CA", format!("fixed:{}", hash().sri())),
    ] {
        let twice = format!("{}{name}: {value}\n{name}: {value}\n", least());
        assert_eq!(read(&twice), Err(NarInfoError::Twice(name)));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    for (line, expected) in [
        ("StorePath: /other/x", "field StorePath is bad"),
        ("StorePath: x", "field StorePath is bad"),
        ("NarHash: sha1:x", "field NarHash is bad"),
        (
            &format!("NarHash: {}", hash().base32()),
            "does not name its algorithm",
        ),
        (
            &format!("NarHash: {}", HashAlgo::Sha1.hash(b"x").sri()),
            "by their sha256 alone",
        ),
        ("NarSize: -1", "'-1' is no size in bytes"),
        ("NarSize: +1", "'+1' is no size in bytes"),
        ("NarSize: 9223372036854775808", "is no size in bytes"),
        ("NarSize: ", "'' is no size in bytes"),
        ("NarSize: 0", "field NarSize is bad: no NAR has 0 bytes"),
        ("FileSize: x", "field FileSize is bad"),
        ("FileHash: sha256:0", "field FileHash is bad"),
        (
            "References: x",
            "field References is bad: 'x' is not a store path",
        ),
        ("Deriver: x", "field Deriver is bad"),
        ("Deriver: ", "field Deriver is bad"),
        ("CA: fixed:x", "field CA is bad"),
        ("URL: ", "it has no field URL"),
        (
            "Compression: lzma",
            "field Compression is bad: the compression 'lzma' is not supported",
        ),
        (
            "Compression: what",
            "field Compression is bad: 'what' is no compression",
        ),
        (
            "no field",
            "its line 5 is not 'NAME: VALUE': it has no colon",
        ),
        ("", "its line 5 is not 'NAME: VALUE': it has no colon"),
        (
            "References:",
            "its line 5 is not 'NAME: VALUE': it ends with its colon",
        ),
        ("<html>", "its line 5 is not 'NAME: VALUE'"),
    ] {
        let error = read(&format!("{}{line}\n", least()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn what_is_missing_or_cut_off_or_about_another_path_is_told() {
    let all = least();
    for left_out in ["StorePath", "URL", "NarHash", "NarSize"] {
        let lines = all
            .split_inclusive('\n')
            .filter(|line| !line.starts_with(left_out));
        let error = read(&lines.collect::<String>()).unwrap_err().to_string();
        assert!(
            error.starts_with("it has no field") && error.contains(left_out),
            "{error}"
        );
    }
    let cut = read(all.trim_end()).unwrap_err().to_string();
    assert!(
        cut.contains("its line 4") && cut.contains("it has no end"),
        "{cut}"
    );
    let other = NarInfo::parse(all.as_bytes(), &store(), &"0".repeat(32)).unwrap_err();
    assert!(
        other
            .to_string()
            .contains(&format!("is about '/nix/store/{ASKED}-x'")),
        "{other}"
    );
    assert!(read("").is_err());
    let bytes = [all.as_bytes(), b"URL: \xff\n"].concat();
    assert!(NarInfo::parse(&bytes, &store(), ASKED).is_err());
    let unknown = [all.as_bytes(), b"Foreign: \xff\n"].concat();
    assert!(NarInfo::parse(&unknown, &store(), ASKED).is_ok());
}

#[test]
fn urls_are_resolved_and_stay_in_a_cache_of_files() {
    for (base, url, expected) in [
        ("https://h", "nar/1.nar", "https://h/nar/1.nar"),
        (
            "https://h/a/b",
            "nar/1.nar?hash=x&y",
            "https://h/a/b/nar/1.nar?hash=x&y",
        ),
        ("https://u:p@h/a", "nar/1", "https://u:p@h/a/nar/1"),
        ("https://h/a", "/nar/1", "https://h/nar/1"),
        ("https://h/a", "../nar/1", "https://h/nar/1"),
        ("http://h/a", "https://cdn/x?y", "https://cdn/x?y"),
        ("https://h:8/a", "//cdn/x", "https://cdn/x"),
        ("file:///d", "nar/1.nar?x", "nar/1.nar?x"),
        ("s3://b", "nar/1", "nar/1"),
    ] {
        assert_eq!(resolve(base, url).unwrap(), expected);
    }
    for (base, url) in [
        ("https://h", "file:///etc/passwd"),
        ("https://h", "data:x"),
        ("https://h", "https://"),
        ("file:///d", "../1"),
        ("file:///d", "nar/../../1"),
        ("file:///d", "/etc/passwd"),
        ("file:///d", "nar//1"),
        ("file:///d", "./1"),
        ("file:///d", "nar/"),
        ("file:///d", "https://h/1"),
        ("file:///d", "nar\0"),
        ("s3://b", "../x"),
    ] {
        let error = resolve(base, url).unwrap_err().to_string();
        assert!(error.starts_with("its field URL, '"), "{error}");
    }
}

fn hashes() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(|bytes| Hash::sha256(&bytes))
}

fn paths() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-zA-Z0-9+_?=-]{1,12}").prop_map(|(hash, name)| {
        StorePath::from_base_name(&format!("{}-{name}", nix32::encode(&hash))).unwrap()
    })
}

prop_compose! {
    /// Any narinfo that may be written.
    pub(crate) fn infos()(
        store_path in paths(),
        url in "[a-z0-9/.?=]{1,20}",
        which in 0..Compression::ALL.len(),
        file_hash in prop::option::of(hashes()),
        file_size in prop::option::of(1..1_u64 << 62),
        nar_hash in hashes(),
        nar_size in 1..1_u64 << 62,
        references in prop::collection::btree_set(paths(), 0..4),
        deriver in prop::option::of(paths()),
        sigs in prop::collection::btree_set("[a-z.0-9-]{1,9}:[a-zA-Z0-9+/=]{0,20}", 0..3),
        ca in prop::option::of(hashes()),
    ) -> NarInfo {
        NarInfo {
            store_path,
            url,
            compression: Compression::ALL[which],
            file_hash,
            file_size,
            nar_hash,
            nar_size,
            references: references.into_iter().collect(),
            deriver,
            sigs: sigs.into_iter().collect(),
            ca: ca.map(|hash| format!("fixed:r:{}", hash.prefixed_base32())),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(info in infos()) {
        let text = info.to_text(&store());
        let asked = info.store_path.hash_part().to_owned();
        prop_assert_eq!(NarInfo::parse(text.as_bytes(), &store(), &asked), Ok(info));
    }

    #[test]
    fn no_change_panics(
        info in infos(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = info.to_text(&store()).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let asked = info.store_path.hash_part().to_owned();
        if let Ok(read) = NarInfo::parse(&bytes, &store(), &asked) {
            let again = NarInfo::parse(read.to_text(&store()).as_bytes(), &store(), &asked);
            prop_assert_eq!(again, Ok(read));
        }
    }

    #[test]
    fn nothing_leads_out_of_a_directory(url in "[a./:%\\\\-]{0,12}") {
        if let Ok(name) = resolve("file:///d", &url) {
            let path = std::path::Path::new("/d").join(name);
            let clean = windrow_components::lexical::canonicalise(&path).unwrap();
            prop_assert_eq!(&clean, &path);
            prop_assert!(clean.starts_with("/d") && clean.as_os_str() != "/d");
        }
        let _ = resolve("https://h/x", &url);
    }
}
