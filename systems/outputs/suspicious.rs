//! Why an output has another owner or mode than its builder should have given it, as far as the
//! file system tells: a default access list of the store directory, or how it is mounted.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use windrow_sys::xattr::has_default_acl;

/// What is suspicious about an output that lies at `path`, and what may have caused it.
pub(super) fn describe(path: &Path, metadata: &Metadata, builder_uid: u32) -> String {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let mut text = format!("it has mode {mode:04o} and belongs to user {owner}");
    if owner != builder_uid {
        text.push_str(&format!(", not to {builder_uid}, who built it"));
    }
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let directory = path.parent().unwrap_or(path);
    let shown = directory.display();
    let cause = if owner == builder_uid && has_default_acl(directory) {
        format!("the directory '{shown}' has a default ACL: try 'setfacl -k {shown}'")
    } else if let Some(mount) = Mount::of(directory, &mounts).and_then(|mount| mount.cause()) {
        mount
    } else if owner == builder_uid {
        "its builder let others write to it".to_owned()
    } else {
        return text;
    };
    text + "; " + &cause
}

/// A line of /proc/self/mountinfo.
#[derive(Debug)]
struct Mount {
    place: Vec<u8>,
    /// The options of the mount and of the file system.
    options: String,
    kind: String,
}

impl Mount {
    /// The mount that a directory lies in: of those above it the innermost, and of several at one
    /// place the last.
    fn of(directory: &Path, mountinfo: &[u8]) -> Option<Self> {
        let lines = mountinfo.split(|&byte| byte == b'\n');
        let mounts = lines.filter_map(Self::parse);
        let above = mounts.filter(|mount| {
            let place = Path::new(std::ffi::OsStr::from_bytes(&mount.place));
            directory.starts_with(place)
        });
        above.max_by_key(|mount| mount.place.len())
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(line);
        let (mount, system) = text.split_once(" - ")?;
        let place = line.split(|&byte| byte == b' ').nth(4)?;
        let mut system = system.split(' ');
        let kind = system.next()?.to_owned();
        let options = format!("{},{}", mount.split(' ').nth(5)?, system.nth(1)?);
        Some(Self {
            place: unescape(place),
            options,
            kind,
        })
    }

    /// What of the mount gives files other owners or modes than they were made with.
    fn cause(&self) -> Option<String> {
        let names = [
            "uid",
            "gid",
            "umask",
            "fmask",
            "dmask",
            "file_mode",
            "dir_mode",
        ];
        let is_cause = |option: &&str| {
            let name = option.split('=').next().unwrap_or_default();
            names.contains(&name) || *option == "idmapped"
        };
        let place = String::from_utf8_lossy(&self.place);
        let what = format!("the file system '{place}' ({})", self.kind);
        if let Some(option) = self.options.split(',').find(is_cause) {
            return Some(format!("{what} is mounted with the option '{option}'"));
        }
        let is_remote = self.kind.starts_with("nfs") || self.kind == "9p";
        is_remote.then(|| format!("{what} may map users, as by 'root_squash' of its server"))
    }
}

/// Spaces and the like stand there as octal numbers.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let number = (first == b'\\').then(|| more.get(..3)).flatten();
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = number.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &more[3..] } else { more };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /my\\040store rw,nosuid shared:3 - vfat /dev/sdb1 rw,uid=1000,umask=0002\n\
        3 1 0:44 / /net rw - nfs4 server:/x rw,vers=4.2\n\
        4 1 8:1 /x /mapped rw,idmapped - ext4 /dev/sda1 rw\n";

    #[test]
    fn the_mount_and_its_option_are_named() {
        let cause = |path: &str| Mount::of(Path::new(path), MOUNTS).unwrap().cause();
        assert_eq!(cause("/some/where"), None);
        assert_eq!(
            cause("/my store/nix/store").unwrap(),
            "the file system '/my store' (vfat) is mounted with the option 'uid=1000'"
        );
        assert!(cause("/net/store").unwrap().contains("root_squash"));
        assert!(cause("/mapped").unwrap().contains("'idmapped'"));
    }
}
