//! `builtin:fetchurl`: one file from an address, plain, executable, or unpacked from a NAR.
//! Checks no hash: what it makes is a fixed output, as any other.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use windrow_components::derivation::Derivation;
use windrow_components::store_path::HashMode;
use windrow_net::address::local_file;

use super::request::{Mirror, Request};
use super::{decompress, http};
use windrow_store::nar::restore;

pub(super) fn run(request: &Request) -> Result<(), String> {
    let url = request.attr("url")?;
    let out = request.out()?;
    for Mirror { address, file } in &request.network.mirrors {
        match fetch(request, address, file.as_deref(), url, &out) {
            Ok(()) => return Ok(()),
            Err(problem) => eprintln!("not from a mirror: {problem}"),
        }
        // Half a file is no beginning for the next attempt.
        let _ = windrow_sys::tree::delete_path(&out);
    }
    fetch(request, url, None, url, &out)
}

/// Where mirrors have the file, if its own hash is known: `MIRROR/ALGO/HEX`.
pub(super) fn on_mirrors(drv: &Derivation<'_>, mirrors: &[String]) -> Vec<Mirror> {
    let fixed = drv.outputs.first().and_then(|output| output.fixed().ok()?);
    let Some(fixed) = fixed.filter(|fixed| fixed.mode == HashMode::Flat) else {
        return Vec::new();
    };
    let name = format!("{}/{}", fixed.hash.algo().name(), fixed.hash.base16());
    let on = |mirror: &String| {
        let address = format!("{}/{name}", mirror.strip_suffix('/').unwrap_or(mirror));
        let file = local_file(&address).ok().flatten();
        Mirror { address, file }
    };
    mirrors.iter().map(on).collect()
}

/// Fetches from `address`, which may be that of a mirror for `url`; `file` is where a file that it
/// names can be seen.
fn fetch(
    request: &Request,
    address: &str,
    file: Option<&Path>,
    url: &str,
    out: &Path,
) -> Result<(), String> {
    let about = |problem: String| format!("cannot fetch '{address}': {problem}");
    let local = match file {
        Some(file) => Some(file.to_owned()),
        None => local_file(address)?,
    };
    let download = |to: &Path| http::download(address, to, &request.network).map_err(about);
    let open = |file: &Path| {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        File::open(file).map_err(|error| {
            let inside = request.sandbox && is_missing(&error);
            let hint = if inside { NOT_IN_SANDBOX } else { "" };
            about(format!("{error}{hint}"))
        })
    };
    if !request.flag("unpack") {
        match local {
            Some(file) => {
                // Not `fs::copy`, which would take the mode along.
                io::copy(&mut open(&file)?, &mut create(out)?)
                    .map_err(|error| about(error.to_string()))?;
            }
            None => download(out)?,
        }
        if request.flag("executable") {
            std::fs::set_permissions(out, std::fs::Permissions::from_mode(0o755))
                .map_err(|error| format!("cannot make '{}' executable: {error}", out.display()))?;
        }
        return Ok(());
    }
    let file = match local {
        Some(file) => file,
        None => {
            let file = PathBuf::from("download");
            download(&file)?;
            file
        }
    };
    let packed = BufReader::new(open(&file)?);
    // The address says how it is packed even if a mirror has it under its hash.
    if url.ends_with(".xz") {
        let archive = decompress::xz(packed).map_err(|error| about(error.to_string()))?;
        unpack(BufReader::new(archive), address, out)
    } else {
        unpack(packed, address, out)
    }
}

const NOT_IN_SANDBOX: &str = "; in the sandbox there are only the derivation's inputs and what the setting \
                              'sandbox-paths' names";

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("cannot make '{}': {error}", path.display()))
}

fn unpack(mut archive: impl Read, address: &str, out: &Path) -> Result<(), String> {
    restore(&mut archive, out).map_err(|error| format!("cannot unpack '{address}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::derivation::Output;

    #[test]
    fn mirrors_have_flat_files_under_their_hash() {
        let hex = "d41d8cd98f00b204e9800998ecf8427e";
        let of = |algo: &'static str, hash: &'static str| {
            let drv = Derivation {
                outputs: vec![Output {
                    name: "out".into(),
                    path: "/nix/store/o".into(),
                    hash_algo: algo.into(),
                    hash: hash.into(),
                }],
                ..Derivation::default()
            };
            on_mirrors(&drv, &["http://m/".to_owned(), "file:///m".to_owned()])
        };
        let expected = [
            Mirror {
                address: format!("http://m/md5/{hex}"),
                file: None,
            },
            Mirror {
                address: format!("file:///m/md5/{hex}"),
                file: Some(format!("/m/md5/{hex}").into()),
            },
        ];
        assert_eq!(of("md5", "d41d8cd98f00b204e9800998ecf8427e"), expected);
        assert!(of("r:md5", "d41d8cd98f00b204e9800998ecf8427e").is_empty());
        assert!(of("", "").is_empty());
    }
}
