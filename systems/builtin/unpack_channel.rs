//! `builtin:unpack-channel`: a tarball with one directory, which is given a name. The archive is
//! anybody's: nothing of it may come to lie outside its directory, or be more than a file,
//! directory or link.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tar::{Archive, Entry, EntryType};

use super::decompress;
use super::request::Request;

pub(super) fn run(request: &Request) -> Result<(), String> {
    let (out, source) = (request.out()?, request.attr("src")?);
    let name = request.attr("channelName")?;
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(format!("'{name}' can't be the name of a channel"));
    }
    let failed = |error: io::Error| format!("cannot unpack '{source}': {error}");
    std::fs::create_dir_all(&out).map_err(failed)?;
    let packed = BufReader::with_capacity(64 * 1024, File::open(source).map_err(failed)?);
    let archive = decompress::any(packed).map_err(failed)?;
    unpack(archive, &out).map_err(failed)?;
    let mut entries = std::fs::read_dir(&out).map_err(failed)?;
    let (Some(Ok(only)), None) = (entries.next(), entries.next()) else {
        return Err(format!(
            "the tarball '{source}' should hold one directory and nothing beside it"
        ));
    };
    std::fs::rename(only.path(), out.join(name)).map_err(failed)
}

/// Puts what an archive holds into the directory `out`.
pub(super) fn unpack(archive: impl Read, out: &Path) -> io::Result<()> {
    let mut archive = Archive::new(archive);
    // Times are not kept, set-user-id bits neither: the last is the default.
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(false);
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let entry = entry?;
        match entry.header().entry_type() {
            // They may be closed, which must not be in the way of what is in them.
            EntryType::Directory => directories.push(entry),
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Link
            | EntryType::Symlink => place(entry, out)?,
            EntryType::XGlobalHeader => {}
            _ => {
                let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                return Err(io::Error::other(format!(
                    "'{path}' is neither a file nor a directory nor a link"
                )));
            }
        }
    }
    // Those inside others first, for the same reason.
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for directory in directories {
        place(directory, out)?;
    }
    Ok(())
}

fn place(mut entry: Entry<'_, impl Read>, out: &Path) -> io::Result<()> {
    if entry.unpack_in(out)? {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    Err(io::Error::other(format!("'{path}' lies outside of it")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use tar::{Builder, Header};

    /// An archive of entries: path, type, mode, and contents or the target of a link.
    fn archive(entries: &[(&str, EntryType, u32, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, mode, text) in entries {
            let mut header = Header::new_gnu();
            // By hand, for the library writes no archive that is evil.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            let link = matches!(kind, EntryType::Link | EntryType::Symlink);
            if link {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            let contents = if link { "" } else { text };
            header.set_size(contents.len() as u64);
            header.set_cksum();
            builder.append(&header, contents.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpacked(entries: &[(&str, EntryType, u32, &str)]) -> (tempfile::TempDir, io::Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let result = unpack(&*archive(entries), &out);
        (dir, result)
    }

    #[test]
    fn archives_are_unpacked_without_their_privileges() {
        let (dir, result) = unpacked(&[
            ("pax_global_header", EntryType::XGlobalHeader, 0o644, ""),
            ("./", EntryType::Directory, 0o755, ""),
            ("d/", EntryType::Directory, 0o555, ""),
            ("d/e/", EntryType::Directory, 0o000, ""),
            ("d/e/f", EntryType::Regular, 0o6755, "text"),
            ("d/g", EntryType::Link, 0o644, "d/e/f"),
            ("d/l", EntryType::Symlink, 0o777, "/etc/passwd"),
        ]);
        result.unwrap();
        let at = |name: &str| dir.path().join("out/d").join(name);
        let open = |path: &Path| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        open(&at(""));
        open(&at("e"));
        assert_eq!(std::fs::read_to_string(at("g")).unwrap(), "text");
        let mode = at("e/f").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(
            std::fs::read_link(at("l")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(dir.path().join("out").read_dir().unwrap().count(), 1);
    }

    #[test]
    fn nothing_leaves_the_directory_and_devices_are_refused() {
        use EntryType as Is;
        let through = |name: &'static str| ("d/x", Is::Symlink, 0o777, name);
        for evil in [
            &[("../x", Is::Regular, 0o644, "evil")][..],
            &[("d/../../x", Is::Regular, 0o644, "evil")],
            &[("../x/", Is::Directory, 0o755, "")],
            &[through("../.."), ("d/x/x", Is::Regular, 0o644, "evil")],
            &[through("../.."), ("d/x/x", Is::Symlink, 0o777, "/")],
            &[through("../.."), ("d/x/x/", Is::Directory, 0o755, "")],
            &[("d/x", Is::Link, 0o644, "../victim")],
            &[("d/x", Is::Char, 0o666, "")],
            &[("d/x", Is::Block, 0o666, "")],
            &[("d/x", Is::Fifo, 0o666, "")],
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("victim"), "precious").unwrap();
            let out = dir.path().join("out");
            std::fs::create_dir(&out).unwrap();
            assert!(unpack(&*archive(evil), &out).is_err(), "{evil:?}");
            assert!(!dir.path().join("x").exists(), "{evil:?}");
            assert_eq!(dir.path().read_dir().unwrap().count(), 2, "{evil:?}");
        }
        // What replaces a link does not follow it.
        let (dir, _) = unpacked(&[
            ("d/x", Is::Symlink, 0o777, "../../victim"),
            ("d/x", Is::Regular, 0o644, "evil"),
        ]);
        assert!(!dir.path().join("victim").exists());
    }
}
