//! Listings of trees, compared with those trees and with Nix's.

use proptest::prelude::*;

use super::*;

/// A tree with one of each kind, and its archive.
fn planted() -> (tempfile::TempDir, Vec<u8>, Listing) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("tree");
    std::fs::create_dir_all(root.join("d/empty")).unwrap();
    std::fs::write(root.join("a\"b"), "contents").unwrap();
    std::fs::write(root.join("d/x"), "").unwrap();
    std::os::unix::fs::symlink("d/x", root.join("link")).unwrap();
    let mut archive = Vec::new();
    let listing = Listing::dump(&root, &mut archive).unwrap();
    (directory, archive, listing)
}

#[test]
fn the_listing_is_the_same_from_the_tree_and_from_the_archive() {
    let (_directory, archive, listing) = planted();
    assert_eq!(Listing::of_nar(&mut &archive[..]).unwrap(), listing);
    let expected = r#"{"version":1,"root":{"type":"directory","entries":{"#.to_owned()
        + r#""a\"b":{"type":"regular","size":8,"narOffset":232},"#
        + r#""d":{"type":"directory","entries":{"empty":{"type":"directory","entries":{}},"#
        + r#""x":{"type":"regular","size":0,"narOffset":728}}},"#
        + r#""link":{"type":"symlink","target":"d/x"}}}}"#;
    assert_eq!(listing.to_json().unwrap(), expected);
    assert_eq!(Listing::parse(expected.as_bytes()).unwrap(), listing);
    for node in listing.nodes() {
        if let Kind::Regular { size, offset, .. } = node.kind {
            let start = offset.unwrap() as usize;
            let announced: [u8; 8] = archive[start - 8..start].try_into().unwrap();
            assert_eq!(u64::from_le_bytes(announced), size);
        }
    }
    assert_eq!(&archive[232..240], b"contents");
}

#[test]
fn places_in_the_tree_are_found() {
    let (_directory, _, listing) = planted();
    let name = |path: &str| listing.find(path.as_bytes()).map(|node| node.name.clone());
    for (path, expected) in [
        ("", Some("")),
        ("/", Some("")),
        ("a\"b", Some("a\"b")),
        ("d/x", Some("x")),
        ("/d//x", Some("x")),
        ("d/empty", Some("empty")),
        ("x", None),
        ("link/x", None),
        ("d/empty/x", None),
        ("d/link", None),
    ] {
        assert_eq!(name(path).as_deref(), expected.map(str::as_bytes), "{path}");
    }
}

#[test]
fn a_listing_of_nix_is_read() {
    let text = r#"{"version":1,"root":{"type":"directory","entries":{"f":{"type":"regular","size":6,"narOffset":232},"g":{"type":"regular","size":2,"executable":true,"narOffset":456},"l":{"type":"symlink","target":"f"}}}}"#;
    let listing = Listing::parse(text.as_bytes()).unwrap();
    assert_eq!(listing.to_json().unwrap(), text);
    let file = r#"{"root":{"type":"regular","size":6},"version":1}"#;
    let listing = Listing::parse(file.as_bytes()).unwrap();
    assert_eq!(listing.nodes().len(), 1);
    assert_eq!(
        Listing::parse(listing.to_json().unwrap().as_bytes()),
        Ok(listing)
    );
}

#[test]
fn what_is_no_listing_is_told_with_its_place() {
    let in_root = |entries: &str| {
        format!(r#"{{"version":1,"root":{{"type":"directory","entries":{entries}}}}}"#)
    };
    for (text, expected) in [
        ("".to_owned(), "not JSON"),
        ("[]".to_owned(), "'/': it should be an object"),
        (
            r#"{"version":2,"root":{}}"#.to_owned(),
            "its version should be 1",
        ),
        (r#"{"version":1}"#.to_owned(), "it has no root"),
        (
            r#"{"version":1,"root":{}}"#.to_owned(),
            "its type should be",
        ),
        (in_root("3"), "its entries should be an object"),
        (in_root(r#"{"a":3}"#), "'/a': it should be an object"),
        (in_root(r#"{"..":{}}"#), "no valid file name"),
        (in_root(r#"{"a/b":{}}"#), "no valid file name"),
        (
            in_root(r#"{"a":{"type":"regular","size":-1}}"#),
            "'/a': its size should be a number",
        ),
        (
            in_root(r#"{"a":{"type":"symlink","target":""}}"#),
            "'/a': its target should be a text",
        ),
        (
            in_root(r#"{"a":{"type":"directory","entries":{"b":{"type":"x"}}}}"#),
            "'/a/b': its type should be",
        ),
        (format!("{}1", "[".repeat(1000)), "not JSON"),
    ] {
        let error = Listing::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn names_that_json_can_not_write_are_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    let listing = Listing::dump(&root, &mut Vec::new()).unwrap();
    assert!(matches!(listing.to_json(), Err(ListingError::NotText(_))));
}

#[test]
fn depth_is_no_limit_for_writing() {
    let directory = tempfile::tempdir().unwrap();
    let mut path = directory.path().to_owned();
    for _ in 0..500 {
        path.push("d");
    }
    std::fs::create_dir_all(&path).unwrap();
    let listing = Listing::dump(directory.path(), &mut Vec::new()).unwrap();
    assert_eq!(listing.nodes().len(), 501);
    let json = listing.to_json().unwrap();
    assert_eq!(json.matches('{').count(), json.matches('}').count());
    assert!(Listing::parse(json.as_bytes()).is_err());
    // What is observed is what would be written without.
    let mut archive = Vec::new();
    nar::dump(directory.path(), &mut archive).unwrap();
    let mut observed = Vec::new();
    Listing::dump(directory.path(), &mut observed).unwrap();
    assert!(archive == observed);
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Directory),
        1 => (any::<u64>(), any::<bool>(), prop::option::of(any::<u64>())).prop_map(
            |(size, executable, offset)| Kind::Regular { size, executable, offset }
        ),
        1 => "[a-z/.\"\\\\é]{1,9}".prop_map(|target| Kind::Symlink { target: target.into_bytes() }),
    ]
}

/// Any listing of some depth: a node goes as deep as it wants, below the last directory there.
fn listings() -> impl Strategy<Value = Listing> {
    let nodes = prop::collection::vec((0..5_usize, "[a-z\"\\\\{}é]{1,6}", kinds()), 1..30);
    nodes.prop_map(|wanted| {
        let mut root = std::collections::BTreeMap::new();
        let mut at: Vec<String> = Vec::new();
        for (depth, name, kind) in wanted {
            at.truncate(depth);
            let mut path = at.clone();
            path.push(name);
            if kind == Kind::Directory {
                at.clone_from(&path);
            }
            root.entry(path).or_insert(kind);
        }
        let mut nodes = vec![Node {
            depth: 0,
            name: Vec::new(),
            kind: Kind::Directory,
        }];
        // A file may have taken the name that a directory was to have.
        let directories: Vec<Vec<String>> = root
            .iter()
            .filter(|(_, kind)| **kind == Kind::Directory)
            .map(|(path, _)| path.clone())
            .collect();
        for (path, kind) in root {
            let parents = (1..path.len()).all(|end| directories.contains(&path[..end].to_vec()));
            if parents {
                let name = path[path.len() - 1].clone().into_bytes();
                nodes.push(Node {
                    depth: path.len(),
                    name,
                    kind,
                });
            }
        }
        Listing { nodes }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(listing in listings()) {
        let json = listing.to_json().unwrap();
        prop_assert_eq!(Listing::parse(json.as_bytes()), Ok(listing));
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\":,a-z0-9]{0,40}") {
        let _ = Listing::parse(text.as_bytes());
    }
}
