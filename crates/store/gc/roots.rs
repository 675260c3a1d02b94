//! What keeps paths alive from outside: links below gcroots and profiles, and the temporary roots
//! of processes. The rules of Nix's `findRootsNoTemp` and `findTempRoots`; dangling indirect links
//! are taken away on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::Database;
use crate::Layout;
use crate::error::{Error, Result};
use crate::layout::lexical;
use windrow_sys::flock;
use windrow_sys::names::with_suffix;

/// Roots by the store path they keep: links, or what stands for other kinds.
pub type Roots = BTreeMap<String, BTreeSet<PathBuf>>;

/// Finds the roots that are links.
///
/// # Errors
/// When a directory of links can't be read, or the database not be asked.
pub fn links(layout: &Layout, database: &Database) -> Result<Roots> {
    let mut found = Vec::new();
    let mut finder = Finder {
        layout,
        auto: layout.gcroots_dir().join("auto"),
        found: &mut found,
    };
    finder.look(&layout.gcroots_dir())?;
    finder.look(&layout.state_dir.join("profiles"))?;
    keep_valid(database, found)
}

/// Drops what leads to paths that aren't valid.
pub(super) fn keep_valid(database: &Database, found: Vec<(String, PathBuf)>) -> Result<Roots> {
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    let valid = database.valid_paths(&paths)?;
    let mut roots = Roots::new();
    for ((path, link), valid) in found.into_iter().zip(valid) {
        if valid {
            roots.entry(path).or_default().insert(link);
        }
    }
    Ok(roots)
}

/// The store path that `target` is or lies in, if it is one of this store.
pub(super) fn enclosing(layout: &Layout, target: &Path) -> Option<String> {
    let inside = target
        .to_str()?
        .strip_prefix(&layout.store_dir)?
        .strip_prefix('/')?;
    let base = inside.split('/').next()?;
    let path = format!("{}/{base}", layout.store_dir);
    layout.hash_part(&path).is_ok().then_some(path)
}

struct Finder<'a> {
    layout: &'a Layout,
    auto: PathBuf,
    found: &'a mut Vec<(String, PathBuf)>,
}

impl Finder<'_> {
    /// Looks at a file, and at all that lies below a directory. Users have directories of their own
    /// here, and may nest them as deep as they like.
    fn look(&mut self, path: &Path) -> Result<()> {
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            match self.look_at(&path, &mut left) {
                Err(Error::File(windrow_sys::Error::Io { source, .. }))
                    if leads_nowhere(&source) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn look_at(&mut self, path: &Path, left: &mut Vec<PathBuf>) -> Result<()> {
        let kind = fs::symlink_metadata(path)
            .map_err(Error::io("look at", path))?
            .file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
                left.push(entry.map_err(Error::io("list", path))?.path());
            }
        } else if kind.is_symlink() {
            self.link(path)?;
        } else if kind.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let target = format!("{}/{name}", self.layout.store_dir);
            if self.layout.hash_part(&target).is_ok() {
                self.found.push((target, path.to_owned()));
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &Path) -> Result<()> {
        let target = fs::read_link(path).map_err(Error::io("read the link", path))?;
        if target.starts_with(&self.layout.store_dir) {
            self.found
                .extend(enclosing(self.layout, &target).map(|it| (it, path.to_owned())));
            return Ok(());
        }
        // An indirect root: the user's own link, which may be gone.
        let target = lexical(&path.parent().unwrap_or(path).join(target));
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let second = fs::read_link(&target).map_err(Error::io("read the link", &target))?;
                self.found
                    .extend(enclosing(self.layout, &second).map(|it| (it, target)));
            }
            Ok(_) => {}
            Err(error) if is_missing(error.kind()) && path.starts_with(&self.auto) => {
                if let Some(second) = take_away(path, &target) {
                    self.found
                        .extend(enclosing(self.layout, &second).map(|it| (it, target)));
                }
            }
            Err(error) => return Err(Error::io("look at", &target)(error)),
        }
        Ok(())
    }
}

/// Takes away the registration of a user's link that is gone; one that has come back keeps it, and
/// its target is returned. Registrations of one link are all alike, so the one in place may be
/// newer than the one that was looked at. It is put aside, where it counts as before, and then
/// looked at again: who makes a link registers it afterwards.
fn take_away(registration: &Path, link: &Path) -> Option<PathBuf> {
    let suffix = format!(".gone-{}", std::process::id());
    let aside = registration.with_file_name(with_suffix(registration.file_name()?, &suffix));
    // Somebody else may have been faster.
    fs::rename(registration, &aside).ok()?;
    let target = fs::read_link(link).ok();
    if target.is_some() {
        let _ = fs::rename(&aside, registration);
    } else {
        let _ = fs::remove_file(&aside);
    }
    target
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether nobody can get anywhere by that path, so that nothing it might lead to is in use: users
/// make such links, and may make them so on purpose.
fn leads_nowhere(error: &std::io::Error) -> bool {
    let kind = error.kind();
    is_missing(kind)
        || kind == ErrorKind::PermissionDenied
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENAMETOOLONG))
}

/// Opens what should be a file of roots. Of a pipe there would be no end.
fn open_temporary(path: &Path) -> std::io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file; delete it",
        ));
    }
    Ok(file)
}

/// The temporary roots of all processes that live, with the processes' numbers; files that the dead
/// left are deleted.
///
/// # Errors
/// When a file can't be read.
pub fn temporary(layout: &Layout) -> Result<Vec<(String, String)>> {
    let dir = layout.temproots_dir();
    let mut roots = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
        let path = entry.map_err(Error::io("list", &dir))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') {
            continue;
        }
        let mut file = match open_temporary(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(Error::io("open", &path))?,
        };
        if flock::try_lock_exclusive(&file).map_err(Error::io("lock", &path))? {
            // Its owner is dead; whoever opens it now must see that it is gone.
            let _ = fs::remove_file(&path);
            let _ = file.write_all(b"d");
            continue;
        }
        let mut contents = Vec::new();
        file.read_to_end(&mut contents)
            .map_err(Error::io("read", &path))?;
        // What stands after the last zero is being written; its owner waits until it is told that
        // no collector runs.
        let mut records: Vec<&[u8]> = contents.split(|&byte| byte == 0).collect();
        records.pop();
        for record in records {
            roots.push((String::from_utf8_lossy(record).into_owned(), name.clone()));
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::db::tests::{fresh, registration};
    use crate::layout::tests::store_path;
    use crate::roots::links::add_indirect_root;
    use crate::roots::temporary::TempRoots;

    #[test]
    fn direct_indirect_and_named_roots_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        database
            .register(&[1, 2, 3, 4].map(|number| registration(number, &[])))
            .unwrap();
        let gcroots = layout.gcroots_dir();
        let name = |path: String| path.rsplit('/').next().unwrap().to_owned();
        fs::create_dir_all(gcroots.join("deep/er")).unwrap();
        symlink(store_path(1) + "/bin/x", gcroots.join("deep/er/direct")).unwrap();
        let result = directory.path().join("result");
        symlink(store_path(2), &result).unwrap();
        symlink(&result, gcroots.join("auto/a")).unwrap();
        fs::write(gcroots.join(name(store_path(3))), "").unwrap();
        symlink(store_path(9), gcroots.join("invalid")).unwrap();
        symlink(
            directory.path().join("absent"),
            gcroots.join("auto/dangling"),
        )
        .unwrap();
        symlink(directory.path().join("absent"), gcroots.join("dangling")).unwrap();
        symlink("/etc", gcroots.join("elsewhere")).unwrap();
        symlink("../gcroots/deep", layout.state_dir.join("profiles/loop")).unwrap();
        let found = links(&layout, &database).unwrap();
        let paths: Vec<&String> = found.keys().collect();
        assert_eq!(paths, [&store_path(1), &store_path(2), &store_path(3)]);
        assert!(found[&store_path(2)].contains(&result));
        assert!(gcroots.join("auto/dangling").symlink_metadata().is_err());
        assert!(gcroots.join("dangling").symlink_metadata().is_ok());
    }

    #[test]
    fn what_users_make_to_lead_nowhere_holds_up_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        database.register(&[registration(1, &[])]).unwrap();
        let own = layout.gcroots_dir().join("per-user/somebody");
        fs::create_dir(&own).unwrap();
        symlink(store_path(1), own.join("root")).unwrap();
        symlink("loop", own.join("loop")).unwrap();
        symlink("loop/further", own.join("through-loop")).unwrap();
        symlink("x".repeat(300), own.join("long")).unwrap();
        nix::unistd::mkfifo(&own.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        crate::files::sample::plant_chain(&own.join("deep"), 5000);
        let found = links(&layout, &database).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&store_path(1)]);
        windrow_sys::tree::delete_path(&own).unwrap();
    }

    #[test]
    fn a_pipe_among_the_files_of_roots_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, _database) = fresh(&directory);
        let pipe = layout.temproots_dir().join("1");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = temporary(&layout).unwrap_err().to_string();
        assert!(error.contains("temproots/1"), "{error}");
    }

    #[test]
    fn a_link_that_has_come_back_stays_registered() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, _database) = fresh(&directory);
        let result = directory.path().join("result");
        let registrations = || {
            let auto = fs::read_dir(layout.gcroots_dir().join("auto")).unwrap();
            auto.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        add_indirect_root(&layout, &result, &store_path(1)).unwrap();
        let [registration] = <[_; 1]>::try_from(registrations()).unwrap();
        let target = take_away(&registration, &result);
        assert_eq!(target, Some(store_path(1).into()));
        assert_eq!(registrations(), std::slice::from_ref(&registration));
        fs::remove_file(&result).unwrap();
        assert_eq!(take_away(&registration, &result), None);
        assert!(registrations().is_empty());
        assert_eq!(take_away(&registration, &result), None);
    }

    #[test]
    fn only_the_living_have_temporary_roots() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, _database) = fresh(&directory);
        let mut own = TempRoots::open(&layout).unwrap();
        own.add(&[&store_path(1), &store_path(2)]).unwrap();
        let dead = layout.temproots_dir().join("1");
        fs::write(&dead, store_path(3) + "\0").unwrap();
        fs::write(layout.temproots_dir().join(".keep"), "").unwrap();
        let found = temporary(&layout).unwrap();
        let paths: Vec<String> = found.into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [store_path(1), store_path(2)]);
        assert!(!dead.exists());
    }
}
