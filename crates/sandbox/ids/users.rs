//! Build users: who builders run as when the engine is root. Shared with Nix by locks in the state
//! directory, so that two engines never use one user at the same time (Nix 1.8: `UserLock`).

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hashbrown::HashSet;
use nix::unistd::{Group, User};
use windrow_sys::flock;
use windrow_sys::mutex;

use crate::ids::Owner;
use crate::process::guard;

/// How many ids a slot of allocated ones has, as in Nix.
const IDS_PER_SLOT: u32 = 65_536;

/// The build users of this machine. Clones are the same.
#[derive(Debug, Clone)]
pub struct UserPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    /// The lock files.
    directory: PathBuf,
    /// Each with the name of its lock file.
    users: Vec<(String, Owner)>,
    /// For messages.
    group: String,
    /// The group and the store that it must be able to write to, with the path of the latter.
    store: Option<(u32, PathBuf)>,
    held: Mutex<HashSet<u32>>,
}

/// A build user that nobody else uses. Dropped, it is free.
#[derive(Debug)]
pub struct UserLock {
    owner: Owner,
    /// Holds the lock.
    _file: File,
    pool: Arc<Pool>,
}

impl UserPool {
    /// The members of a group. `None` if there is no such group.
    ///
    /// # Errors
    /// When it has no members, or one of them does not exist or is the engine's own user.
    pub fn of_group(
        group: &str,
        state_dir: &Path,
        real_store_dir: &Path,
    ) -> Result<Option<Self>, String> {
        let look = |what: &str, errno: nix::Error| format!("cannot look up {what}: {errno}");
        let found = Group::from_name(group)
            .map_err(|errno| look(&format!("the group '{group}'"), errno))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let gid = found.gid.as_raw();
        if found.mem.is_empty() {
            return Err(format!(
                "the build users group '{group}' has no members; add users to it, or set 'build-users-group' to nothing \
                 to build as root"
            ));
        }
        if gid == 0 {
            return Err(format!(
                "the build users group '{group}' must not be root's"
            ));
        }
        let mut users = Vec::new();
        for name in &found.mem {
            let user = User::from_name(name)
                .map_err(|errno| look(&format!("the user '{name}'"), errno))?
                .ok_or_else(|| {
                    format!("the user '{name}' in the group '{group}' does not exist")
                })?;
            let uid = user.uid.as_raw();
            if uid == 0 || user.uid == nix::unistd::geteuid() || user.uid == nix::unistd::getuid() {
                return Err(format!(
                    "the user that runs windrow should not be a member of '{group}', as '{name}' is"
                ));
            }
            users.push((uid.to_string(), Owner { uid, gid }));
        }
        Ok(Some(Self::new(
            state_dir.join("userpool"),
            users,
            format!("the group '{group}'"),
            Some((gid, real_store_dir.to_owned())),
        )))
    }

    /// Ranges of ids that belong to nobody (`auto-allocate-uids`), each user with a group of the
    /// same number.
    ///
    /// # Errors
    /// When there is no room for one range.
    pub fn allocated(start: u32, count: u32, state_dir: &Path) -> Result<Self, String> {
        let slots = count / IDS_PER_SLOT;
        let fits = start
            .checked_add(count)
            .is_some_and(|end| start > 0 && end < u32::MAX);
        if slots == 0 || !fits {
            return Err(format!(
                "the settings 'start-id' ({start}) and 'id-count' ({count}) leave no room for a range of {IDS_PER_SLOT} ids"
            ));
        }
        let users = (0..slots).map(|slot| {
            let id = start + slot * IDS_PER_SLOT;
            (format!("slot-{slot}"), Owner { uid: id, gid: id })
        });
        Ok(Self::new(
            state_dir.join("userpool2"),
            users.collect(),
            "the range of 'start-id' and 'id-count'".to_owned(),
            None,
        ))
    }

    fn new(
        directory: PathBuf,
        users: Vec<(String, Owner)>,
        group: String,
        store: Option<(u32, PathBuf)>,
    ) -> Self {
        Self(Arc::new(Pool {
            directory,
            users,
            group,
            store,
            held: Mutex::default(),
        }))
    }

    /// A user that nobody uses; `None` if there is none at the moment.
    ///
    /// # Errors
    /// When a lock file can't be made, or builders could not write to the store.
    ///
    /// Nix 1.8: `UserLock::UserLock`, `UserLock::~UserLock`, `UserLock::acquire`.
    /// Nix 1.8: `UserLock::release`.
    pub fn acquire(&self) -> Result<Option<UserLock>, String> {
        self.acquire_one(|_| true)
    }

    /// The user of that number, if it is one of them and nobody uses it.
    ///
    /// # Errors
    /// As [`UserPool::acquire`].
    pub fn acquire_uid(&self, uid: u32) -> Result<Option<UserLock>, String> {
        self.acquire_one(|owner| owner.uid == uid)
    }

    /// Whether that is the number of one of them.
    pub fn has(&self, uid: u32) -> bool {
        self.0.users.iter().any(|(_, owner)| owner.uid == uid)
    }

    fn acquire_one(&self, fits: impl Fn(&Owner) -> bool) -> Result<Option<UserLock>, String> {
        let pool = &self.0;
        if let Some((gid, store)) = &pool.store {
            check_store(store, *gid)?;
        }
        let mut held = mutex::lock(&pool.held);
        for (name, owner) in pool.users.iter().filter(|(_, owner)| fits(owner)) {
            if held.contains(&owner.uid) {
                continue;
            }
            let path = pool.directory.join(name);
            let about = |error: io::Error| {
                format!(
                    "cannot lock the build user's file '{}': {error}",
                    path.display()
                )
            };
            let file = pool.open(&path).map_err(about)?;
            if flock::try_lock_exclusive(&file).map_err(about)? {
                held.insert(owner.uid);
                guard::add_user(owner.uid);
                return Ok(Some(UserLock {
                    owner: *owner,
                    _file: file,
                    pool: Arc::clone(pool),
                }));
            }
        }
        Ok(None)
    }

    /// Whether this engine uses any of them.
    pub fn is_used_by_us(&self) -> bool {
        let held = mutex::lock(&self.0.held);
        !held.is_empty()
    }

    /// Which process uses one of them, for people who wait for one.
    pub fn holder(&self) -> Option<String> {
        let names = self.0.users.iter().map(|(name, _)| name);
        let mut files = names.map(|name| self.0.directory.join(name));
        files.find_map(|file| windrow_sys::waiting::holder_elsewhere(&file))
    }

    /// Where the users come from, for messages.
    pub fn origin(&self) -> &str {
        &self.0.group
    }
}

impl Pool {
    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || flock::open_or_create(path, 0);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut directory = DirBuilder::new();
                directory
                    .recursive(true)
                    .mode(0o755)
                    .create(&self.directory)?;
                open()
            }
            result => result,
        }
    }
}

impl UserLock {
    /// The user and its group.
    ///
    /// Nix 1.8: `UserLock::getUser`, `UserLock::getUID`, `UserLock::getGID`, `UserLock::enabled`.
    pub fn owner(&self) -> Owner {
        self.owner
    }
}

impl Drop for UserLock {
    fn drop(&mut self) {
        let mut held = mutex::lock(&self.pool.held);
        held.remove(&self.owner.uid);
        guard::strike_user(self.owner.uid);
    }
}

/// Builders make their outputs in the store, but must not touch those of others: the sticky bit
/// sees to it.
fn check_store(store: &Path, gid: u32) -> Result<(), String> {
    let shown = store.display();
    let metadata = store
        .metadata()
        .map_err(|error| format!("cannot look at '{shown}': {error}"))?;
    let mode = metadata.mode();
    if mode & 0o1070 != 0o1070 || metadata.gid() != gid {
        return Err(format!(
            "builders do not have write permission to '{shown}'; try 'chgrp {gid} {shown}; chmod 1775 {shown}'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn pool(directory: &Path) -> UserPool {
        UserPool::allocated(1 << 20, 2 * IDS_PER_SLOT, directory).unwrap()
    }

    #[test]
    fn a_user_is_used_once_at_a_time_whoever_asks() {
        let directory = tempfile::tempdir().unwrap();
        // Two engines: they know of each other by the locks only.
        let (one, other) = (pool(directory.path()), pool(directory.path()));
        let first = one.acquire().unwrap().unwrap();
        let second = other.acquire().unwrap().unwrap();
        assert_eq!(first.owner().uid, 1 << 20);
        assert_eq!(second.owner().uid, (1 << 20) + IDS_PER_SLOT);
        assert!(one.acquire().unwrap().is_none() && other.acquire().unwrap().is_none());
        assert!(one.is_used_by_us());
        assert!(one.has(1 << 20) && !one.has(1 + (1 << 20)));
        assert!(other.acquire_uid(1 << 20).unwrap().is_none());
        drop(first);
        assert!(!one.is_used_by_us());
        // A process that another test makes has a copy of the lock's descriptor for a moment.
        let mut again = std::iter::repeat_with(|| other.acquire().unwrap());
        let again = again.find_map(|user| user).unwrap();
        assert_eq!(again.owner().uid, 1 << 20);
        let file = directory
            .path()
            .join("userpool2/slot-0")
            .metadata()
            .unwrap();
        assert_eq!((file.len(), file.mode() & 0o7777), (0, 0o600));
    }

    #[test]
    fn ranges_must_have_room() {
        for (start, count) in [(0, IDS_PER_SLOT), (1, 10), (u32::MAX - 5, IDS_PER_SLOT)] {
            let error = UserPool::allocated(start, count, Path::new("/x")).unwrap_err();
            assert!(error.contains("start-id"), "{error}");
        }
    }

    #[test]
    fn a_store_that_builders_cannot_write_to_is_refused_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path();
        let gid = store.metadata().unwrap().gid();
        let set = |mode| std::fs::set_permissions(store, std::fs::Permissions::from_mode(mode));
        set(0o1775).unwrap();
        check_store(store, gid).unwrap();
        for (mode, group) in [(0o775, gid), (0o1755, gid), (0o1775, gid + 1)] {
            set(mode).unwrap();
            let error = check_store(store, group).unwrap_err();
            assert!(error.contains(&format!("chgrp {group} ")) && error.contains("chmod 1775"));
        }
    }

    #[test]
    fn groups_that_are_not_there_are_told_from_bad_ones() {
        let none = UserPool::of_group("no-such-group-here", Path::new("/x"), Path::new("/y"));
        assert!(none.unwrap().is_none());
    }
}
