//! Where the parts of a store lie, and the directories that opening a store creates.
//! Knows names and modes only; what stands in the files is the other modules' business.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Uid, geteuid};

use crate::error::{Error, Result};
use windrow_sys::xattr;

/// The directories of a store. The logical store directory is part of every store path; where the
/// files really lie may differ, as with Nix's `--store DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The store directory that stands in store paths, without a slash at the end.
    pub store_dir: String,
    /// Where the entries of the store directory lie on this machine.
    pub real_store_dir: PathBuf,
    /// The state directory (`NIX_STATE_DIR`): database, roots, temporary roots.
    pub state_dir: PathBuf,
    /// The log directory (`NIX_LOG_DIR`).
    pub log_dir: PathBuf,
}

impl Layout {
    /// The directory of the database, its version file, big lock and reserved space.
    pub fn db_dir(&self) -> PathBuf {
        self.state_dir.join("db")
    }

    /// The file that a collector deletes to have room to work when the disk is full.
    pub fn reserve(&self) -> PathBuf {
        self.db_dir().join("reserved")
    }

    /// The directory with one file of temporary roots for each process.
    pub fn temproots_dir(&self) -> PathBuf {
        self.state_dir.join("temproots")
    }

    /// The directory with one file for each run of windrow that builds in the store.
    pub fn runs_dir(&self) -> PathBuf {
        self.state_dir.join("windrow").join("runs")
    }

    /// The directory of permanent and indirect roots.
    pub fn gcroots_dir(&self) -> PathBuf {
        self.state_dir.join("gcroots")
    }

    /// The lock that a collector holds exclusively while it runs.
    pub fn gc_lock(&self) -> PathBuf {
        self.state_dir.join("gc.lock")
    }

    /// The socket at which a running collector takes temporary roots.
    pub fn gc_socket(&self) -> PathBuf {
        self.state_dir.join("gc-socket").join("socket")
    }

    /// Where a store path, or a file below one, lies on this machine. A path of another store
    /// is looked for in this one, by its base name.
    pub fn real_path(&self, store_path: &str) -> PathBuf {
        let inside = store_path
            .strip_prefix(&self.store_dir)
            .and_then(|it| it.strip_prefix('/'));
        let name = inside
            .or_else(|| store_path.rsplit('/').next())
            .unwrap_or_default();
        self.real_store_dir.join(name)
    }

    /// The 32 characters that tell store paths apart, or an error if this is no store path.
    pub(crate) fn hash_part<'a>(&self, store_path: &'a str) -> Result<&'a [u8; 32]> {
        store_path
            .strip_prefix(&self.store_dir)
            .and_then(|it| it.strip_prefix('/'))
            .filter(|base| !base.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'/')))
            .and_then(|base| base.as_bytes().split_first_chunk::<32>())
            .filter(|(hash, name)| {
                name.len() > 1 && name[0] == b'-' && hash.iter().all(u8::is_ascii_alphanumeric)
            })
            .map(|(hash, _)| hash)
            .ok_or_else(|| Error::NotAStorePath {
                path: store_path.to_owned(),
                store_dir: self.store_dir.clone(),
            })
    }

    /// Creates whatever is missing of the directories that the constructor of Nix's `LocalStore`
    /// creates; several processes may do so at once.
    ///
    /// With a build users group, and as root, the store directory belongs to root and that group
    /// with mode 1775, so that builders can create outputs in it but not touch each other's.
    ///
    /// # Errors
    /// [`Error::SymlinkedStore`] if a component of the real store directory is a symbolic link,
    /// unless `allow_symlinked_store` (the caller's `NIX_IGNORE_SYMLINK_STORE=1`); nothing is
    /// created then. [`Error::File`] if a directory can't be created.
    pub fn create_directories(
        &self,
        build_users_gid: Option<u32>,
        allow_symlinked_store: bool,
    ) -> Result<()> {
        if !allow_symlinked_store {
            self.refuse_symlinks()?;
        }
        create_directory(&self.real_store_dir)?;
        create_links_dir(&self.real_store_dir.join(".links"))?;

        let profiles = self.state_dir.join("profiles");
        let gcroots = self.gcroots_dir();
        for directory in [
            &profiles,
            &gcroots,
            &gcroots.join("auto"),
            &self.temproots_dir(),
        ] {
            create_directory(directory)?;
        }
        create_directory(&self.db_dir())?;
        link_profiles(&profiles, &gcroots.join("profiles"))?;
        for per_user in [profiles.join("per-user"), gcroots.join("per-user")] {
            create_directory(&per_user)?;
            set_mode(&per_user, 0o755)?;
        }

        if let Some(gid) = build_users_gid
            && geteuid().is_root()
        {
            create_directory(&self.state_dir.join("userpool"))?;
            self.share_with_builders(gid)?;
        }
        Ok(())
    }

    fn refuse_symlinks(&self) -> Result<()> {
        for component in self.real_store_dir.ancestors() {
            match component.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(Error::SymlinkedStore {
                        store: self.real_store_dir.clone(),
                        link: component.to_owned(),
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", component)(error)),
            }
        }
        Ok(())
    }

    fn share_with_builders(&self, gid: u32) -> Result<()> {
        let store = &self.real_store_dir;
        let metadata = store.metadata().map_err(Error::io("look at", store))?;
        if (metadata.uid(), metadata.gid()) != (0, gid) {
            nix::unistd::chown(store, Some(Uid::from_raw(0)), Some(Gid::from_raw(gid)))
                .map_err(|errno| Error::io("change the owner of", store)(errno.into()))?;
        }
        set_mode(store, 0o1775)
    }
}

fn create_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(Error::io("create the directory", path))
}

/// The one directory of a store that is no path: without what the store's own hands down to it.
fn create_links_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(Error::io("create the directory", path))?,
    }
    let dir = fs::File::open(path).map_err(Error::io("open", path))?;
    xattr::drop_inherited(dir.as_fd())
        .map_err(|errno| Error::io("remove the access lists of", path)(errno.into()))
}

/// Sets the mode only where it differs: whoever may use a store need not own its directories.
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let metadata = path.metadata().map_err(Error::io("look at", path))?;
    if metadata.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Error::io("set the mode of", path))
}

fn link_profiles(profiles: &Path, link: &Path) -> Result<()> {
    match std::os::unix::fs::symlink(profiles, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create the symbolic link", link)(error))
        }
        _ => Ok(()),
    }
}

/// Takes out `.` and `..` by their letters alone, as Nix's `canonPath` does.
pub fn lexical(path: &Path) -> PathBuf {
    let mut lexical = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(lexical.pop()),
            component => lexical.push(component),
        }
    }
    lexical
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A layout below a directory; the logical store directory differs from the real one.
    pub(crate) fn scratch(directory: &Path) -> Layout {
        let directory = directory.canonicalize().unwrap();
        Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: directory.join("store"),
            state_dir: directory.join("var"),
            log_dir: directory.join("log"),
        }
    }

    /// A well-formed store path that differs with its number.
    pub(crate) fn store_path(number: usize) -> String {
        format!("/nix/store/{number:032}-path{number}")
    }

    #[test]
    fn two_threads_create_the_same_store() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| layout.create_directories(None, false)));
            for thread in both {
                thread.join().unwrap().unwrap();
            }
        });
        let gcroots = layout.gcroots_dir();
        assert_eq!(
            gcroots.join("profiles").read_link().unwrap(),
            layout.state_dir.join("profiles")
        );
        for name in [
            "var/db",
            "var/temproots",
            "var/gcroots/auto",
            "store/.links",
        ] {
            assert!(directory.path().join(name).is_dir(), "{name}");
        }
        assert_eq!(
            gcroots.join("per-user").metadata().unwrap().mode() & 0o7777,
            0o755
        );
        layout.create_directories(None, false).unwrap();
    }

    #[test]
    fn a_symlinked_store_is_refused_and_nothing_is_created() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", directory.path().join("link")).unwrap();
        let mut layout = scratch(directory.path());
        layout.real_store_dir = directory.path().canonicalize().unwrap().join("link/store");
        let error = layout.create_directories(None, false).unwrap_err();
        assert!(
            matches!(&error, Error::SymlinkedStore { link, .. } if link.ends_with("link")),
            "{error}"
        );
        assert!(!layout.state_dir.exists() && !layout.real_store_dir.exists());
        layout.create_directories(None, true).unwrap();
        assert!(directory.path().join("elsewhere/store/.links").is_dir());
    }

    #[test]
    fn root_shares_the_store_with_the_build_users() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can give a directory to a group");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(Some(12345), false).unwrap();
        let metadata = layout.real_store_dir.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 12345));
        assert_eq!(metadata.mode() & 0o7777, 0o1775);
        assert!(layout.state_dir.join("userpool").is_dir());
    }

    #[test]
    fn real_paths_stay_in_the_store() {
        let layout = scratch(Path::new("/"));
        assert_eq!(
            layout.real_path("/nix/store/abc-x"),
            Path::new("/store/abc-x")
        );
        assert_eq!(
            layout.real_path("/nix/store/abc-x/bin"),
            Path::new("/store/abc-x/bin")
        );
        assert_eq!(
            layout.real_path("/gnu/store/abc-x"),
            Path::new("/store/abc-x")
        );
    }

    #[test]
    fn only_store_paths_have_a_hash_part() {
        let layout = scratch(Path::new("/"));
        let path = store_path(7);
        assert_eq!(layout.hash_part(&path).unwrap(), &path.as_bytes()[11..43]);
        for bad in [
            "",
            "/nix/store",
            "/nix/store/",
            "/nix/store/short-x",
            "/gnu/store/x",
        ] {
            assert!(layout.hash_part(bad).is_err(), "{bad}");
        }
        for suffix in ["\n", "\0", "/bin"] {
            assert!(
                layout.hash_part(&(path.clone() + suffix)).is_err(),
                "{suffix:?}"
            );
        }
        assert!(layout.hash_part(&path[..43]).is_err());
    }
}
