//! What running programs use: their executables, directories, open and mapped files, and the paths
//! in their environment. Reads /proc (Nix's `findRuntimeRoots`); programs of others, which this
//! user may not look at, are passed over.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use super::roots::{Roots, enclosing, keep_valid};
use crate::Database;
use crate::Layout;
use crate::error::Result;

/// Kernel settings that name programs.
const KERNEL_FILES: [&str; 3] = [
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/fbsplash",
    "/proc/sys/kernel/poweroff_cmd",
];

/// The valid paths that processes use, with the places in /proc that say so.
///
/// # Errors
/// When the database can't be asked. What can't be read in /proc is passed over, as it ends with
/// its process.
pub fn find(layout: &Layout, database: &Database) -> Result<Roots> {
    let mut found = Vec::new();
    let prefix = format!("{}/", layout.store_dir);
    let mut scan = Scan {
        layout,
        prefix: Finder::new(prefix.as_bytes()),
        found: &mut found,
    };
    if let Ok(entries) = fs::read_dir("/proc") {
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.as_bytes().iter().all(u8::is_ascii_digit) {
                scan.process(&entry.path());
            }
        }
    }
    for file in KERNEL_FILES {
        if let Ok(text) = fs::read(file) {
            scan.text(&text, Path::new(file));
        }
    }
    keep_valid(database, found)
}

struct Scan<'a> {
    layout: &'a Layout,
    prefix: Finder<'a>,
    found: &'a mut Vec<(String, PathBuf)>,
}

impl Scan<'_> {
    fn process(&mut self, dir: &Path) {
        for name in ["exe", "cwd"] {
            self.link(dir.join(name));
        }
        match fs::read_dir(dir.join("fd")) {
            Ok(entries) => entries.flatten().for_each(|entry| self.link(entry.path())),
            // Then its maps and environment are closed to us as well.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
            Err(_) => {}
        }
        for name in ["maps", "environ"] {
            let file = dir.join(name);
            if let Ok(text) = fs::read(&file) {
                self.text(&text, &file);
            }
        }
    }

    fn link(&mut self, link: PathBuf) {
        if let Ok(target) = fs::read_link(&link) {
            self.found
                .extend(enclosing(self.layout, &target).map(|path| (path, link)));
        }
    }

    /// Finds what looks like a store path, wherever it stands.
    fn text(&mut self, text: &[u8], file: &Path) {
        let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(byte);
        let store = self.prefix.needle().len();
        let mut last = None;
        for start in self.prefix.find_iter(text) {
            let rest = &text[start + store..];
            let length = rest
                .iter()
                .position(|byte| !in_name(byte))
                .unwrap_or(rest.len());
            let path = &text[start..start + store + length];
            // A library is mapped several times in a row.
            if last == Some(path) {
                continue;
            }
            last = Some(path);
            let path = String::from_utf8_lossy(path).into_owned();
            if self.layout.hash_part(&path).is_ok() {
                self.found.push((path, file.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::tests::{fresh, registration};
    use crate::layout::tests::store_path;

    #[test]
    fn environments_open_files_and_directories_are_roots() {
        let directory = tempfile::tempdir().unwrap();
        let (mut layout, mut database) = fresh(&directory);
        // Real paths, so that files can be opened at them.
        layout.store_dir = layout.real_store_dir.to_str().unwrap().to_owned();
        let at = |number: usize| store_path(number).replace("/nix/store", &layout.store_dir);
        for number in 1..6 {
            let mut new = registration(number, &[]);
            new.info.path = at(number);
            database.register(&[new]).unwrap();
            fs::create_dir(at(number)).unwrap();
        }
        fs::write(at(2) + "/file", "").unwrap();
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .env_clear()
            .env("SOME", format!("x:{}/bin:{}", at(1), at(9)))
            .stdin(fs::File::open(at(2) + "/file").unwrap())
            .current_dir(at(3))
            .spawn()
            .unwrap();
        let environ = format!("/proc/{}/environ", child.id());
        while !fs::read(&environ).is_ok_and(|text| text.starts_with(b"SOME")) {
            std::thread::yield_now();
        }
        let found = find(&layout, &database).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let paths: Vec<&String> = found.keys().collect();
        assert_eq!(paths, [&at(1), &at(2), &at(3)]);
        assert!(
            found[&at(1)]
                .iter()
                .any(|place| place == Path::new(&environ))
        );
    }
}
