//! Where this process is in the tree of cgroups, and which cgroup is delegated to it. From what
//! /proc says of mounts and of the process.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::Unavailable;

/// The cgroup that this process may make others in, if any: the one that it is in, or, where a
/// service manager keeps the service's processes in one below what is delegated, that.
pub(super) fn home() -> Result<PathBuf, Unavailable> {
    let read = |file: &str| fs::read(file).unwrap_or_default();
    let own = locate(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))?;
    let above = own.parent().filter(|above| is_delegated(above));
    Ok(match above {
        Some(above) if !is_delegated(&own) => above.to_owned(),
        _ => own,
    })
}

/// Whether systemd has marked a cgroup as somebody else's to manage.
fn is_delegated(path: &Path) -> bool {
    let mut value = [0; 1];
    ["user.delegate", "trusted.delegate"]
        .iter()
        .any(|name| rustix::fs::getxattr(path, *name, &mut value) == Ok(1) && value == *b"1")
}

/// The directory of this process's cgroup, by what the files of these names in /proc/self say.
fn locate(mountinfo: &[u8], cgroup: &[u8]) -> Result<PathBuf, Unavailable> {
    let lines = |text| <[u8]>::split(text, |&byte| byte == b'\n');
    let mounts: Vec<Mount> = lines(mountinfo).filter_map(Mount::of).collect();
    if mounts.is_empty() {
        return Err(Unavailable::NotMounted);
    }
    let own = lines(cgroup).find_map(|line| line.strip_prefix(b"0::"));
    let own = Path::new(OsStr::from_bytes(own.ok_or(Unavailable::NotMounted)?));
    let shown = mounts.iter().filter_map(|mount| {
        let below = own.strip_prefix(&mount.root).ok()?;
        Some((mount.is_writable, mount.target.join(below)))
    });
    // The last of them lies on top; one that can be written is worth more.
    let best = shown.max_by_key(|(is_writable, _)| *is_writable);
    let best = best.map(|(_, path)| path.components().collect());
    best.ok_or_else(|| Unavailable::NotVisible(own.display().to_string()))
}

/// A mount of the file system of cgroups.
struct Mount {
    root: PathBuf,
    target: PathBuf,
    is_writable: bool,
}

impl Mount {
    /// The mount that a line of mountinfo tells of, if it is one of these.
    fn of(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let (root, target, options) = (fields.nth(3)?, fields.next()?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-");
        rest.next();
        if rest.next()? != b"cgroup2" {
            return None;
        }
        let super_options = rest.nth(1).unwrap_or_default();
        let is_read_only =
            |options: &[u8]| options.split(|&byte| byte == b',').any(|it| it == b"ro");
        Some(Self {
            root: unescape(root),
            target: unescape(target),
            is_writable: !is_read_only(options) && !is_read_only(super_options),
        })
    }
}

/// A path in mountinfo, where blanks and backslashes are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            (&byte, _) => path.push(byte),
        }
    }
    std::ffi::OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
        31 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(mountinfo: &str, cgroup: &str) -> Result<String, String> {
        match locate(mountinfo.as_bytes(), cgroup.as_bytes()) {
            Ok(path) => Ok(path.display().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_own_cgroup_is_found_below_the_mount() {
        let found_in_unified = found(UNIFIED, "0::/user.slice/a.scope\n");
        assert_eq!(
            found_in_unified.unwrap(),
            "/sys/fs/cgroup/user.slice/a.scope"
        );
        assert_eq!(found(UNIFIED, "0::/\n").unwrap(), "/sys/fs/cgroup");
        // Version 1 beside version 2, a mount of a part, and one with a blank in its path.
        let mixed = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            41 31 0:38 /a /sys/fs/a\\040b ro - cgroup2 none rw\n";
        let own = "9:name=systemd:/x\n4:memory:/y\n0::/a/c\n";
        assert_eq!(found(mixed, own).unwrap(), "/sys/fs/a b/c");
        let both = format!("{mixed}42 31 0:38 / /run/all rw - cgroup2 none rw\n");
        assert_eq!(found(&both, own).unwrap(), "/run/all/a/c");
    }

    #[test]
    fn why_there_is_none_is_told() {
        let none = found("25 30 0:23 / /sys rw - sysfs sysfs rw\n", "0::/\n");
        assert_eq!(none.unwrap_err(), "no cgroup2 file system is mounted");
        assert!(found(UNIFIED, "4:memory:/y\n").is_err());
        let part = "41 31 0:38 /a /mnt rw - cgroup2 none rw\n";
        let hidden = found(part, "0::/b\n").unwrap_err();
        assert!(hidden.contains("'/b'"), "{hidden}");
        assert!(found(part, "0::/ab\n").is_err());
        assert!(found("\n- - -\n1 2 3\n", "").is_err());
    }
}
