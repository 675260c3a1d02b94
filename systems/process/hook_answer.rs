//! What a pre-build hook answers: which paths of the machine a sandbox shows in addition, as Nix
//! reads it.

use windrow_sandbox::paths::SandboxPath;

use crate::process::side_channel::SAID_MAX;

/// Reads an answer: `extra-sandbox-paths`, or `extra-chroot-dirs`, and a path a line until an empty
/// line or the end; any number of these. A last line counts even without its end.
///
/// # Errors
/// When there is something else in it, or it is too long.
pub fn read(said: &[u8]) -> Result<Vec<SandboxPath>, String> {
    const WHOSE: &str = "its output";
    if said.len() >= SAID_MAX {
        return Err(format!("wrote {SAID_MAX} bytes or more to its output"));
    }
    let text = std::str::from_utf8(said).map_err(|_| "wrote what is not UTF-8".to_owned())?;
    let (mut paths, mut listing) = (Vec::new(), false);
    for line in text.split_terminator('\n') {
        match (listing, line) {
            (false, "extra-sandbox-paths" | "extra-chroot-dirs") => listing = true,
            (false, _) => {
                return Err(format!(
                    "wrote the unknown command {line:?}; 'extra-sandbox-paths' is expected"
                ));
            }
            (true, "") => listing = false,
            (true, path) => paths.push(SandboxPath::plain(path, WHOSE)?),
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_up_to_an_empty_line() {
        let read = |text: &str| {
            let paths = read(text.as_bytes())?;
            let pairs = paths.iter().map(|path| {
                assert!(!path.optional);
                format!("{}<{}", path.target.display(), path.source.display())
            });
            Ok::<_, String>(pairs.collect::<Vec<_>>())
        };
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("extra-sandbox-paths\n\n"), Ok(vec![]));
        assert_eq!(
            read("extra-sandbox-paths\n/a\n/b=/c?\n\nextra-chroot-dirs\n/d"),
            Ok(vec!["/a</a".into(), "/b</c?".into(), "/d</d".into()])
        );
        for (bad, why) in [
            ("\n", "unknown command \"\""),
            ("/a\n", "unknown command \"/a\""),
            ("extra-sandbox-paths\n/a\n\n/b\n", "unknown command \"/b\""),
            ("extra-sandbox-paths\na\n", "'a' is not an absolute path"),
            ("extra-sandbox-paths\n/a=/../b\n", "without '..'"),
            ("extra-sandbox-paths\n/=/b\n", "'/' as a target"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(super::read(b"\xff").unwrap_err().contains("UTF-8"));
        let long = "extra-sandbox-paths\n".to_owned() + &"/a\n".repeat(SAID_MAX / 3);
        assert!(read(&long).unwrap_err().contains("65536 bytes or more"));
    }
}
