//! Logs of builds: where they lie, under each of the names that releases of Nix gave them. Writing
//! and printing them is others' business.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{Error, Result};

/// What a log that is not compressed has in its mode if its end could not be written: a bit that
/// means nothing else for a file, and takes no room on a full disk.
pub const CUT: u32 = 0o1000;

/// Whether a log, of which that is the mode, has been cut. One that is compressed has no end then.
pub fn is_marked_cut(mode: u32) -> bool {
    mode & CUT != 0
}

/// Where the log of a derivation is kept, under Nix's directory scheme; `drv_base_name` is a base
/// name of a store path.
pub fn log_path(log_dir: &Path, drv_base_name: &str, compressed: bool) -> PathBuf {
    let (directory, rest) = drv_base_name.split_at(2);
    let extension = if compressed { ".bz2" } else { "" };
    log_dir
        .join("drvs")
        .join(directory)
        .join(format!("{rest}{extension}"))
}

/// A log that was found.
#[derive(Debug)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// The file, open.
    pub file: File,
    /// Whether it is compressed, with bzip2.
    pub is_compressed: bool,
}

/// The log of a derivation, whose base name is that of a store path (Nix's
/// `LocalFSStore::getBuildLogExact`); none if there is none. Only a regular file is a log: no link
/// leads out of the directory of logs, and nothing waits for somebody who writes.
///
/// # Errors
/// When there is one that can't be opened.
pub fn find(log_dir: &Path, drv_base_name: &str) -> Result<Option<Found>> {
    let flat = log_dir.join("drvs").join(drv_base_name);
    let candidates = [
        (log_path(log_dir, drv_base_name, false), false),
        (log_path(log_dir, drv_base_name, true), true),
        (flat.clone(), false),
        (flat.with_added_extension("bz2"), true),
    ];
    for (path, is_compressed) in candidates {
        match open_regular(&path) {
            Ok(None) => {}
            Ok(Some(file)) => {
                return Ok(Some(Found {
                    path,
                    file,
                    is_compressed,
                }));
            }
            Err(error) => return Err(Error::io("open the log", path)(error)),
        }
    }
    Ok(None)
}

/// Opens a log by its path; none if there is nothing of that name, or no regular file.
///
/// # Errors
/// When it can't be opened.
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            // A link, or a socket.
            let is_none = [Errno::ENOENT, Errno::ELOOP, Errno::ENXIO]
                .iter()
                .any(|errno| error.raw_os_error() == Some(*errno as i32));
            return if is_none { Ok(None) } else { Err(error) };
        }
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_logs() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("drvs");
        fs::create_dir_all(logs.join("ab")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink(dir.path().join("secret"), logs.join("ab/-link.drv")).unwrap();
        symlink(dir.path().join("none"), logs.join("ab/-dangling.drv")).unwrap();
        fs::create_dir(logs.join("ab/-dir.drv")).unwrap();
        let _socket = UnixListener::bind(logs.join("ab/-socket.drv")).unwrap();
        // Nobody ever writes to it.
        nix::unistd::mkfifo(&logs.join("ab/-pipe.drv"), Mode::S_IRWXU).unwrap();
        let (tell, told) = mpsc::channel();
        for name in ["link", "dangling", "dir", "socket", "pipe", "none"] {
            let (tell, log_dir) = (tell.clone(), dir.path().to_owned());
            let drv = format!("ab-{name}.drv");
            std::thread::spawn(move || tell.send(find(&log_dir, &drv)));
            let found = told.recv_timeout(Duration::from_secs(60)).expect(name);
            assert!(found.unwrap().is_none(), "{name}");
            // The next place is looked at.
            let flat = logs.join(format!("ab-{name}.drv"));
            fs::write(&flat, "text").unwrap();
            let found = find(dir.path(), &format!("ab-{name}.drv")).unwrap();
            assert_eq!(found.unwrap().path, flat, "{name}");
        }
    }
}
