//! Listings of NARs: JSON that others wrote, and archives that are listed.

use windrow_net::listing::Listing;

use crate::shared::seeds as seeds_of;

/// What is read is written and read as the same, and all of it is found at its place.
pub fn check(bytes: &[u8]) {
    if let Ok(listing) = Listing::of_nar(&mut &bytes[..]) {
        hold(&listing, false);
    }
    match Listing::parse(bytes) {
        Ok(listing) => hold(&listing, true),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn hold(listing: &Listing, is_shallow: bool) {
    let mut place: Vec<&[u8]> = Vec::new();
    for node in listing.nodes() {
        place.truncate(node.depth);
        place.push(&node.name);
        assert_eq!(listing.find(&place.join(&b'/')), Some(node));
    }
    if let Ok(json) = listing.to_json() {
        let again = Listing::parse(json.as_bytes());
        assert!(!is_shallow || again.is_ok());
        // What is deeper than the reader goes is all that it may refuse.
        let is_deep = listing.nodes().iter().any(|node| node.depth > 60);
        assert!(again.map_or(is_deep, |again| again == *listing));
    }
}

/// A listing with everything, some that are none, and an archive.
pub fn seeds() -> Vec<Vec<u8>> {
    let entries = r#"{"a":{"type":"regular","size":6,"executable":true,"narOffset":232},
        "b":{"type":"directory","entries":{"c\u00e9":{"type":"symlink","target":"../a"}}}}"#;
    let texts = [
        format!(r#"{{"version":1,"root":{{"type":"directory","entries":{entries}}}}}"#),
        r#"{"root":{"type":"regular","size":1},"version":1}"#.to_owned(),
        r#"{"version":2}"#.to_owned(),
        r#"{"version":1,"root":{"type":"directory","entries":{"..":{}}}}"#.to_owned(),
    ];
    [seeds_of(texts), crate::nar::seeds()].concat()
}
