//! `windrow import`: what another tool's file says is to be built, as a graph in JSON.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use windrow_formats::import::{Manifest, Roots, import, read_compile_commands, read_ninja};
use windrow_sys::interrupt;

use super::print_lines;
use crate::error::{Error, Result};
use crate::terminal::complain;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// build.ninja or compile_commands.json, in the directory that its commands run in
    file: PathBuf,

    /// What to build, as the file calls it [default: what the file builds by itself]
    targets: Vec<String>,

    /// The directory of the sources [default: the one that holds all that commands read]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,

    /// Write to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ImportArgs) -> Result<()> {
    let file = &args.file;
    let wrong = |reason: String| Error::Import {
        file: file.clone(),
        reason,
    };
    let directory = absolute(file.parent().unwrap_or(Path::new(".")))?;
    let manifest = read(file, &directory)?;
    let source = args.source.as_deref().map(absolute).transpose()?;
    let directory = text(&directory).map_err(wrong)?;
    let roots = Roots {
        source: source.as_deref().map(text).transpose().map_err(wrong)?,
        path: search_path(&manifest),
        is_file: &|path| Path::new(path).is_file(),
        is_directory: &|path| Path::new(path).is_dir(),
        files: windrow_systems::instantiate::files_below(Path::new(&directory)).map_err(wrong)?,
        directory,
    };
    let imported = import(&manifest, &args.targets, &roots);
    let imported = imported.map_err(|error| wrong(error.to_string()))?;
    for warning in &imported.warnings {
        complain(&format!("warning: {warning}"));
    }
    let graph = format!("{:#}\n", imported.graph);
    match &args.output {
        Some(output) => {
            let mut written = std::fs::File::create(output).map_err(Error::io("create", output))?;
            let done = written.write_all(graph.as_bytes());
            done.map_err(Error::io("write to", output))
        }
        None => print_lines([graph.trim_end()]),
    }
}

/// What the file says is to be run.
fn read(file: &Path, directory: &Path) -> Result<Manifest> {
    let bytes = interrupt::read(file).map_err(Error::io("read", file))?;
    let is_ninja = match file.extension().and_then(|end| end.to_str()) {
        Some("json") => false,
        Some("ninja") => true,
        _ => bytes.trim_ascii_start().first() != Some(&b'['),
    };
    let wrong = |reason: String| Error::Import {
        file: file.to_owned(),
        reason,
    };
    if is_ninja {
        let mut read = |path: &Path| interrupt::read(&directory.join(path));
        let name = file.display().to_string();
        return Ok(read_ninja(&name, &bytes, &mut read)?);
    }
    let text = str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
    read_compile_commands(text).map_err(wrong)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    path.canonicalize().map_err(Error::io("read", path))
}

fn text(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| format!("the path '{}' is not UTF-8", path.display()))
}

/// The directories of PATH in which the programs are that the commands name, and those that every
/// derivation needs: builders see no other.
fn search_path(manifest: &Manifest) -> String {
    let mut programs: BTreeSet<&str> = [
        "sh", "mkdir", "cp", "cat", "dirname", "mv", "ln", "readlink",
    ]
    .into();
    for step in &manifest.steps {
        let command = step.command.as_deref().unwrap_or_default();
        let parts = command.split(['&', '|', ';', '(']);
        programs.extend(parts.filter_map(|part| part.split_whitespace().next()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<String> = Vec::new();
    let all: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for program in programs
        .into_iter()
        .filter(|program| !program.contains('/'))
    {
        let directory = all
            .iter()
            .find(|directory| directory.join(program).is_file());
        let directory = directory.and_then(|directory| directory.to_str());
        if let Some(directory) = directory.filter(|it| !directories.iter().any(|known| known == it))
        {
            directories.push(directory.to_owned());
        }
    }
    directories.join(":")
}
