//! Finds what a run may leave behind in a world: processes, build directories, held locks,
//! temporary roots. Each list is empty when all is well.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The processes, other than this one, whose environment, arguments or directory name the directory
/// `root`.
pub(crate) fn processes(root: &Path) -> Vec<u32> {
    let needle = root.as_os_str().as_encoded_bytes();
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id())
        .filter(|pid| {
            let dir = PathBuf::from(format!("/proc/{pid}"));
            // Zombies have none of these and are no trouble of ours.
            ["environ", "cmdline"]
                .iter()
                .any(|file| fs::read(dir.join(file)).is_ok_and(|bytes| holds(&bytes)))
                || fs::read_link(dir.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root))
        })
        .collect()
}

/// The lock files in `dir` that somebody holds.
pub(crate) fn held_locks(dir: &Path) -> Vec<PathBuf> {
    entries(dir)
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "lock")
        })
        .filter(|path| File::open(path).is_ok_and(|file| file.try_lock().is_err()))
        .collect()
}

/// What lies in `dir`, sorted; nothing if there is no such directory.
pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}
