//! `builtin:unpack-channel`: a tarball with one folder, which is given a name.
//! Unpacked by the program tar, which knows how it is compressed.

use super::{Task, succeed};

pub(super) fn run(task: &Task<'_>) -> Result<(), String> {
    let (out, name, source) = (task.out()?, task.attr("channelName")?, task.attr("src")?);
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(format!("'{name}' can't be the name of a channel"));
    }
    let failed = |error: std::io::Error| format!("cannot unpack '{source}': {error}");
    std::fs::create_dir_all(&out).map_err(failed)?;
    let mut tar = task.program("tar");
    tar.args([
        "--extract",
        "--no-same-owner",
        "--file",
        &source,
        "--directory",
    ]);
    tar.arg(&out);
    succeed(tar).map_err(|problem| format!("cannot unpack '{source}': {problem}"))?;
    let mut entries = std::fs::read_dir(&out).map_err(failed)?;
    let (Some(Ok(only)), None) = (entries.next(), entries.next()) else {
        return Err(format!(
            "the tarball '{source}' should hold one folder and nothing beside it"
        ));
    };
    std::fs::rename(only.path(), out.join(name)).map_err(failed)
}
