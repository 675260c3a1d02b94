//! The system's answers with more to say: text that does not hide their number, and what helps
//! against them.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use crate::limits;
use crate::space::Room;

/// An answer with text of its own, which should name the answer.
#[derive(Debug)]
struct Told {
    text: String,
    source: io::Error,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The error with this text instead of its own; its number stays known to [`number`].
pub fn told(source: io::Error, text: String) -> io::Error {
    io::Error::new(source.kind(), Told { text, source })
}

/// The system's number of an error (`EMFILE`, …), or of the one that it comes of.
pub fn number(error: &io::Error) -> Option<i32> {
    if let Some(number) = error.raw_os_error() {
        return Some(number);
    }
    let mut cause: Option<&(dyn Error + 'static)> = match error.get_ref() {
        Some(inner) => Some(inner),
        None => None,
    };
    while let Some(error) = cause {
        let number = error.downcast_ref().and_then(io::Error::raw_os_error);
        if number.is_some() {
            return number;
        }
        cause = error.source();
    }
    None
}

/// The error with what to do about a failure on a path behind its text, if that does not say all.
/// To be asked at once: whoever fails gives back what was lacking.
pub fn with_remedy(source: io::Error, path: &Path) -> io::Error {
    match remedy_at(&source, path) {
        remedy if remedy.is_empty() => source,
        remedy => {
            let text = format!("{source}{remedy}");
            told(source, text)
        }
    }
}

/// What to do about a failure on a path, as the end of a message; nothing where its text says all.
fn remedy_at(error: &io::Error, path: &Path) -> String {
    match number(error) {
        Some(libc::ENOSPC) => inodes_lack(path),
        // Of a path it says that it is locked, for one.
        Some(libc::EAGAIN) => String::new(),
        _ => limits::remedy(error),
    }
}

/// "No space left" is said as well where files can't be made for want of inodes.
fn inodes_lack(path: &Path) -> String {
    // What could not be made is not there.
    let room = path.ancestors().find_map(|dir| Room::of(dir).ok());
    match room {
        Some(room) if room.has_few_inodes() => format!(
            "; no more files can be made there, for its file system has {} inodes left: delete some \
             files",
            room.inodes.unwrap_or_default()
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stays_known() {
        let plain = io::Error::from_raw_os_error(libc::EMFILE);
        let twice = told(told(plain, "cannot a".to_owned()), "cannot b".to_owned());
        assert_eq!(number(&twice), Some(libc::EMFILE));
        assert_eq!(twice.to_string(), "cannot b");
        assert!(limits::lacks_means(&twice));
        assert!(limits::remedy(&twice).contains("ulimit -n"));
        let plain = io::Error::from_raw_os_error(libc::ENFILE);
        let of_file = io::Error::other(crate::Error::io("open", "/f")(plain));
        assert_eq!(number(&of_file), Some(libc::ENFILE));
        assert_eq!(number(&io::Error::other("text")), None);
    }

    #[test]
    fn a_failure_on_a_path_says_what_helps() {
        let path = std::env::temp_dir().join("not/there");
        let remedy = |errno| remedy_at(&io::Error::from_raw_os_error(errno), &path);
        assert!(remedy(libc::EMFILE).contains("ulimit -n"));
        assert_eq!(remedy(libc::EAGAIN), "");
        assert_eq!(remedy(libc::EACCES), "");
        let room = Room::of(&std::env::temp_dir()).unwrap();
        assert_eq!(remedy(libc::ENOSPC).is_empty(), !room.has_few_inodes());
    }
}
