//! Which directory keeps a build user from a path: one above it that the user may not enter.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Owner;

/// A directory that a user may not enter.
#[derive(Debug, PartialEq, Eq)]
pub struct Barred {
    directory: PathBuf,
    mode: u32,
    owner: Owner,
    user: Owner,
}

/// The outermost directory at or above `path` that the user, who is in no group but its own, may
/// not enter by the directory's mode; none if there is no such.
pub fn barred(path: &Path, user: Owner) -> Option<Barred> {
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    let kept_out = |directory: &&Path| {
        let metadata = directory
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_dir)?;
        let (mode, owner) = (
            metadata.mode() & 0o7777,
            Owner {
                uid: metadata.uid(),
                gid: metadata.gid(),
            },
        );
        let bit = match (owner.uid == user.uid, owner.gid == user.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        (mode & bit == 0 && user.uid != 0).then(|| Barred {
            directory: directory.to_path_buf(),
            mode,
            owner,
            user,
        })
    };
    above.iter().find_map(kept_out)
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (directory, mode) = (self.directory.display(), self.mode);
        write!(
            f,
            "the build user {} may not enter the directory '{directory}', which has mode {mode:04o} \
             and belongs to user {}; try 'chmod o+x {directory}'",
            self.user.uid, self.owner.uid
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_outermost_closed_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let below = root.join("a/b/c");
        fs::create_dir_all(&below).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        mode(&root, 0o755).unwrap();
        mode(&root.join("a"), 0o711).unwrap();
        let user = Owner {
            uid: 54_321,
            gid: 54_321,
        };
        assert_eq!(barred(&below, user), None);
        mode(&root.join("a/b"), 0o750).unwrap();
        mode(&below, 0o700).unwrap();
        let found = barred(&below.join("missing"), user).unwrap();
        assert_eq!(found.directory, root.join("a/b"));
        let text = found.to_string();
        assert!(
            text.contains("mode 0750") && text.contains("54321"),
            "{text}"
        );
        assert_eq!(barred(&below, Owner { uid: 0, gid: 0 }), None);
    }
}
