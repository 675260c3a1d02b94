//! What processes that were killed have left beside the paths they worked on: lock files. Their
//! files of temporary roots tell which paths these are, so that the store needs not be searched;
//! they go last. So do the files in which they told what they did.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::Layout;
use crate::locks::path_lock::delete_retired;
use crate::runs;
use windrow_sys::flock;

/// Takes away the lock files and the temporary roots of processes that are dead. What can't be
/// taken away is left to the next one who tries: it is no harm.
pub fn clear(layout: &Layout) {
    // Whoever looks for those who live deletes them.
    let _ = runs::living(layout);
    let Ok(files) = fs::read_dir(layout.temproots_dir()) else {
        return;
    };
    for file in files.flatten() {
        clear_one(layout, &file.path());
    }
}

/// The same for one file of temporary roots, if its owner is dead. Nothing is said of failures.
fn clear_one(layout: &Layout, path: &Path) -> Option<()> {
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = options.open(path).ok()?;
    let is_dead = flock::try_lock_exclusive(&file).ok()?;
    let metadata = file.metadata().ok()?;
    if !is_dead || !metadata.is_file() || metadata.nlink() == 0 {
        return None;
    }
    let mut roots = Vec::new();
    file.read_to_end(&mut roots).ok()?;
    // As long as the file is locked, its paths, and what lies beside them, are kept from
    // collection.
    for root in roots.split(|&byte| byte == 0) {
        if let Ok(root) = str::from_utf8(root)
            && layout.hash_part(root).is_ok()
        {
            let _ = delete_retired(&layout.real_path(root));
        }
    }
    // Marked for whoever has it open, as collectors do it.
    fs::remove_file(path).ok()?;
    file.write_all(b"d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{scratch, store_path};
    use crate::locks::path_lock::try_lock;
    use crate::roots::temporary::TempRoots;

    #[test]
    fn lock_files_and_roots_of_the_dead_go_and_those_of_the_living_stay() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let place = |number| layout.real_path(&store_path(number));
        let lock_file = |number| {
            let mut path = place(number).into_os_string();
            path.push(".lock");
            std::path::PathBuf::from(path)
        };
        let mut ours = TempRoots::open(&layout).unwrap();
        ours.add(&[&store_path(1)]).unwrap();
        for number in 1..=4 {
            fs::write(lock_file(number), "").unwrap();
        }
        // Cut in the middle of a record, and with a path that is not in the store.
        let dead = format!("{}\0/etc/passwd\0{}\0/nix/st", store_path(2), store_path(3));
        let dead_roots = layout.temproots_dir().join("1234567");
        fs::write(&dead_roots, dead).unwrap();
        let held = try_lock(&place(3)).unwrap().unwrap();
        let opened = File::open(&dead_roots).unwrap();

        clear(&layout);
        assert!(lock_file(1).exists(), "somebody who lives works there");
        assert!(!lock_file(2).exists());
        assert!(lock_file(3).exists(), "somebody holds it");
        assert!(lock_file(4).exists(), "nobody has said whose it is");
        assert!(!dead_roots.exists() && opened.metadata().unwrap().nlink() == 0);
        assert_eq!(std::io::read_to_string(&opened).unwrap().pop(), Some('d'));
        assert_eq!(fs::read_dir(layout.temproots_dir()).unwrap().count(), 1);
        drop(held);
    }
}
