//! Where files with debugging information lie in the archives of a cache, by the build ids that
//! they are for (Nix: `index-debug-info`).

use crate::listing::{Kind, Listing};

/// The directory that such files are in, as names of directories around each other.
const DIRECTORY: [&[u8]; 3] = [b"lib", b"debug", b".build-id"];

/// The files of an archive, at `url` in its cache, that are for a build id: the name and the text
/// of an entry for each.
pub(super) fn entries(listing: &Listing, url: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    // The names of the directories around the present node.
    let mut around: Vec<&[u8]> = Vec::new();
    for node in listing.nodes() {
        around.truncate(node.depth.saturating_sub(1));
        match &node.kind {
            Kind::Directory if node.depth > 0 => around.push(&node.name),
            Kind::Regular { .. } => {
                if let Some((first, second)) = build_id(&around, &node.name) {
                    let member = format!("lib/debug/.build-id/{first}/{second}.debug");
                    let text =
                        serde_json::json!({ "archive": format!("../{url}"), "member": member });
                    entries.push((format!("debuginfo/{first}{second}.debug"), text.to_string()));
                }
            }
            _ => {}
        }
    }
    entries
}

/// The two parts of the build id that a file is for, by its name and the directories around it.
fn build_id<'n>(around: &[&'n [u8]], name: &'n [u8]) -> Option<(&'n str, &'n str)> {
    let (first, outer) = around.split_last()?;
    let is_hex = |text: &str, length| {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.bytes().all(is_digit)
    };
    let first = str::from_utf8(first).ok().filter(|it| is_hex(it, 2))?;
    let second = str::from_utf8(name).ok()?.strip_suffix(".debug")?;
    (outer == DIRECTORY && is_hex(second, 38)).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_found_by_the_names_of_build_ids_only() {
        let dir = tempfile::tempdir().unwrap();
        let long = "0123456789abcdef0123456789abcdef012345";
        for (place, name) in [
            ("lib/debug/.build-id/ab", format!("{long}.debug")),
            ("lib/debug/.build-id/ab", format!("{long}.other")),
            ("lib/debug/.build-id/ab", "short.debug".to_owned()),
            ("lib/debug/.build-id/abc", format!("{long}.debug")),
            ("lib/debug/.build-id/ab/cd", format!("{long}.debug")),
            ("debug/.build-id/ab", format!("{long}.debug")),
        ] {
            fs::create_dir_all(dir.path().join(place)).unwrap();
            fs::write(dir.path().join(place).join(name), "x").unwrap();
        }
        let link = dir
            .path()
            .join(format!("lib/debug/.build-id/cd/{long}.debug"));
        fs::create_dir(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("x", link).unwrap();
        let listing = Listing::dump(dir.path(), &mut Vec::new()).unwrap();
        let member = format!("lib/debug/.build-id/ab/{long}.debug");
        let text = format!(r#"{{"archive":"../nar/x.nar","member":"{member}"}}"#);
        let expected = [(format!("debuginfo/ab{long}.debug"), text)];
        assert_eq!(entries(&listing, "nar/x.nar"), expected);
    }
}
