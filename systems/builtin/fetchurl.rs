//! `builtin:fetchurl`: one file from an address, plain, executable, or unpacked from a NAR.
//! Checks no hash: what it makes is a fixed output, as any other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use windrow_components::hash::{Hash, HashAlgo};

use super::{Task, succeed};
use crate::store::nar::restore;

/// How often a transfer is tried again after one that failed for a reason that may pass.
const RETRIES: u32 = 4;

pub(super) fn run(task: &Task<'_>, mirrors: &[OsString]) -> Result<(), String> {
    let url = task.attr("url")?;
    let out = task.out()?;
    for mirror in mirrors {
        let Some(address) = by_hash(task, &mirror.to_string_lossy()) else {
            break;
        };
        match fetch(task, &address, &url, &out) {
            Ok(()) => return Ok(()),
            Err(problem) => eprintln!("not from a mirror: {problem}"),
        }
        // Half a file is no beginning for the next attempt.
        let _ = std::fs::remove_file(&out);
    }
    fetch(task, &url, &url, &out)
}

/// Where a mirror has the file, if its own hash is known: `MIRROR/ALGO/HEX`.
fn by_hash(task: &Task<'_>, mirror: &str) -> Option<String> {
    if task
        .optional("outputHashMode")
        .is_some_and(|mode| mode != "flat")
    {
        return None;
    }
    let algo = task.optional("outputHashAlgo").unwrap_or_default();
    let hash = Hash::parse(&task.optional("outputHash")?, HashAlgo::from_name(&algo)).ok()?;
    let mirror = mirror.strip_suffix('/').unwrap_or(mirror);
    Some(format!("{mirror}/{}/{}", hash.algo().name(), hash.base16()))
}

fn fetch(task: &Task<'_>, address: &str, url: &str, out: &Path) -> Result<(), String> {
    if !task.flag("unpack") {
        match local_file(address)? {
            Some(file) => {
                copy(&file, out).map_err(|error| format!("cannot fetch '{address}': {error}"))?;
            }
            None => download(task, address, out)?,
        }
        if task.flag("executable") {
            std::fs::set_permissions(out, std::fs::Permissions::from_mode(0o755))
                .map_err(|error| format!("cannot make '{}' executable: {error}", out.display()))?;
        }
        return Ok(());
    }
    let file = match local_file(address)? {
        Some(file) => file,
        None => {
            let file = PathBuf::from("download");
            download(task, address, &file)?;
            file
        }
    };
    let open = File::open(&file).map_err(|error| format!("cannot fetch '{address}': {error}"))?;
    // The address says how it is packed even if a mirror has it under its hash.
    if !url.ends_with(".xz") {
        return unpack(BufReader::new(open), address, out);
    }
    let mut xz = task.program("xz");
    let child = xz.arg("-dc").stdin(open).stdout(Stdio::piped()).spawn();
    let mut child =
        child.map_err(|error| format!("cannot run 'xz' to unpack '{address}': {error}"))?;
    let packed = child.stdout.take().expect("a pipe");
    unpack(BufReader::new(packed), address, out)?;
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("'xz' failed to unpack '{address}': {other:?}")),
    }
}

fn unpack(mut archive: impl Read, address: &str, out: &Path) -> Result<(), String> {
    restore(&mut archive, out).map_err(|error| format!("cannot unpack '{address}': {error}"))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // Not `fs::copy`, which would take the mode along.
    io::copy(&mut File::open(from)?, &mut File::create(to)?).map(drop)
}

/// The file that a `file:` address names; `None` for an address on the network.
fn local_file(address: &str) -> Result<Option<PathBuf>, String> {
    let Some((scheme, rest)) = address.split_once(':') else {
        return Err(format!(
            "'{address}' is no address: it does not begin with 'http:', 'file:' or the like"
        ));
    };
    match scheme {
        "http" | "https" | "ftp" | "ftps" => Ok(None),
        "file" => {
            let path = rest
                .strip_prefix("//localhost/")
                .map(|path| format!("/{path}"));
            let path = path.or_else(|| rest.strip_prefix("//").map(str::to_owned));
            let path = path.unwrap_or_else(|| rest.to_owned());
            if !path.starts_with('/') {
                return Err(format!("'{address}' names no absolute path"));
            }
            percent_decode(&path)
                .map(Some)
                .ok_or_else(|| format!("'{address}' has a broken '%' escape"))
        }
        other => Err(format!(
            "addresses that begin with '{other}:' can't be fetched ('{address}')"
        )),
    }
}

fn percent_decode(text: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?);
        rest = tail;
    }
    Some(OsString::from_vec(bytes).into())
}

/// Fetches from the network with the program curl, which knows proxies, certificates and redirections.
fn download(task: &Task<'_>, address: &str, to: &Path) -> Result<(), String> {
    let mut curl = task.program("curl");
    curl.args([
        "--disable",
        "--fail",
        "--location",
        "--silent",
        "--show-error",
    ])
    .args([
        "--proto",
        "=http,https,ftp,ftps",
        "--retry",
        &RETRIES.to_string(),
    ])
    .arg("--output")
    .arg(to)
    .args(["--url", address])
    .stdin(Stdio::null());
    succeed(curl).map_err(|problem| format!("cannot fetch '{address}': {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_addresses_become_paths_and_others_do_not() {
        let path =
            |address| local_file(address).map(|path| path.map(|path| path.display().to_string()));
        for (address, expected) in [
            ("file:///a/b", Some("/a/b")),
            ("file:/a/b", Some("/a/b")),
            ("file://localhost/a", Some("/a")),
            ("file:///a%20b%2fc", Some("/a b/c")),
            ("http://x/y", None),
            ("https://x/y", None),
        ] {
            assert_eq!(path(address), Ok(expected.map(str::to_owned)), "{address}");
        }
        for bad in [
            "",
            "/a/b",
            "file:a",
            "file://host/a",
            "file:///a%2",
            "file:///a%zz",
            "ssh://x",
            "-o:x",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mirrors_have_flat_files_under_their_hash() {
        let of = |mode: &'static str, algo: &'static str, hash: &'static str| {
            let env = move |name: &str| {
                let value = match name {
                    "outputHashMode" => mode,
                    "outputHashAlgo" => algo,
                    "outputHash" => hash,
                    _ => return None,
                };
                Some(OsString::from(value))
            };
            let task = Task {
                env: &env,
                path: "".as_ref(),
            };
            by_hash(&task, "http://m/")
        };
        let hex = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(
            of("flat", "md5", hex).unwrap(),
            format!("http://m/md5/{hex}")
        );
        let sri = "md5-1B2M2Y8AsgTpgAmY7PhCfg==";
        assert_eq!(of("flat", "", sri).unwrap(), format!("http://m/md5/{hex}"));
        assert_eq!(of("recursive", "md5", hex), None);
        assert_eq!(of("flat", "md5", "nonsense"), None);
    }
}
