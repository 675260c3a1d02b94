//! The directories of builds: made, given to builders, taken back, used again or deleted.

pub mod admit;
pub mod build_dir;
mod chroot;
pub mod in_store;
pub mod run_dir;
pub mod sandbox_dirs;
pub mod view;

/// The sorted names of what lies in a directory, for tests.
#[cfg(test)]
fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
