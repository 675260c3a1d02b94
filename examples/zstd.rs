//! Builds zstd as one graph: a derivation per object file, then two libraries and a program.
//! Each object names exactly the files it includes: a change rebuilds only what depends on it.
//!
//!     cargo run --release --example zstd
//!     cargo run --release --example zstd -- --source DIR     from a copy of zstd's lib directory
//!     cargo run --release --example zstd -- --store DIR      in another store than your own
//!     cargo run --release --example zstd -- --write FILE     only write the graph

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use std::{env, fs};

use serde_json::{Map, Value, json};
use windrow::{Engine, Event, Reporter, Request, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The directories of the library that hold C files.
const DIRECTORIES: [&str; 6] = [
    "common",
    "compress",
    "decompress",
    "dictBuilder",
    "deprecated",
    "legacy",
];

/// What every C file is compiled with: all old formats too, and no assembler.
const CFLAGS: [&str; 4] = [
    "-O2",
    "-I.",
    "-DZSTD_DISABLE_ASM",
    "-DZSTD_LEGACY_SUPPORT=1",
];

/// What the shared library's objects are compiled with on top, as in zstd's own makefile.
const SHARED_FLAGS: [&str; 4] = [
    "-fPIC",
    "-fvisibility=hidden",
    "-DZSTD_MULTITHREAD",
    "-pthread",
];

/// A C file and all files its compilation reads, relative to the library's directory.
struct Unit {
    c_file: String,
    reads: BTreeSet<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("zstd example: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let (mut source, mut write, mut store) = (None, None, "own".to_owned());
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .map(PathBuf::from)
                .ok_or("an option lacks its value")
        };
        match argument.to_str() {
            Some("--source") => source = Some(value()?),
            Some("--write") => write = Some(value()?),
            Some("--store") => store = value()?.to_string_lossy().into_owned(),
            _ => return Err("usage: zstd [--source DIR] [--store DIR] [--write FILE]".into()),
        }
    }
    let library = match source {
        Some(directory) => directory,
        None => bundled_library()?,
    };
    let library = library
        .canonicalize()
        .map_err(|error| format!("the library's directory {}: {error}", library.display()))?;

    let graph = graph(&library)?;
    let steps = graph["derivations"].as_object().map_or(0, Map::len);
    let file = write
        .clone()
        .unwrap_or_else(|| scratch_directory().join("zstd-graph.json"));
    fs::write(&file, serde_json::to_string_pretty(&graph)?)
        .map_err(|error| format!("writing {}: {error}", file.display()))?;
    println!("{}: {steps} derivations", file.display());
    if write.is_some() {
        return Ok(ExitCode::SUCCESS);
    }

    let (outputs, mut runs) = run_build(&file, &store)?;
    runs.sort_by_key(|(_, began, _)| *began);
    if runs.is_empty() {
        println!("nothing ran: all {steps} derivations were built before");
    }
    for (name, began, ended) in &runs {
        println!(
            "{:8.2} s to {:6.2} s  {name}",
            began.as_secs_f64(),
            ended.as_secs_f64()
        );
    }
    let [program, archive, shared] = &outputs[..] else {
        return Err(format!("three outputs were expected, not {outputs:?}").into());
    };
    println!("program         {}", program.display());
    println!("archive         {}", archive.display());
    println!("shared library  {}", shared.display());
    let status = Command::new(program).status()?;
    Ok(ExitCode::from(u8::from(!status.success())))
}

/// The graph: sources, objects, archive, shared library and program; the last three are its
/// targets.
fn graph(library: &Path) -> Result<Value> {
    let roundtrip = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/zstd/roundtrip.c");
    let mut graph = Graph {
        library,
        path: search_path(&["cc", "ar", "mkdir", "ln"])?,
        sources: Map::new(),
        derivations: Map::new(),
    };

    // Members of an archive are named after their files: short names keep store hashes out of it.
    let objects = graph.objects("static", &[])?;
    let members: String = objects
        .iter()
        .map(|object| link(object, &object.replace('/', "-")))
        .collect();
    graph.derivation(
        "libzstd.a",
        "libzstd.a",
        &format!("{members}ar rcsD \"$out\" *.o\n"),
    );

    let objects = graph.objects("shared", &SHARED_FLAGS)?;
    let objects: String = objects
        .iter()
        .map(|object| format!(" @{{{object}}}"))
        .collect();
    let script = format!("cc -shared -pthread -Wl,-soname,libzstd.so.1{objects} -o \"$out\"\n");
    graph.derivation("libzstd.so", "libzstd.so", &script);

    let headers = graph.lay_out(&roundtrip_headers(library, &roundtrip)?);
    graph.sources.insert("roundtrip.c".into(), json!(roundtrip));
    let script = format!("{headers}cc -O2 -I. @{{roundtrip.c}} @{{libzstd.a}} -o \"$out\"\n");
    graph.derivation("roundtrip", "roundtrip", &script);

    Ok(json!({
        "sources": graph.sources,
        "derivations": graph.derivations,
        "targets": ["roundtrip", "libzstd.a", "libzstd.so"],
    }))
}

/// A graph that is being written.
struct Graph<'l> {
    library: &'l Path,
    path: String,
    sources: Map<String, Value>,
    derivations: Map<String, Value>,
}

impl Graph<'_> {
    /// Adds a shell script that makes one output.
    fn derivation(&mut self, key: &str, name: &str, script: &str) {
        let derivation = json!({
            "name": name,
            "builder": "/bin/sh",
            "args": ["-e", "-c", script],
            "env": {"PATH": self.path},
        });
        self.derivations.insert(key.to_owned(), derivation);
    }

    /// Adds one derivation for each C file and gives their keys.
    fn objects(&mut self, variant: &str, flags: &[&str]) -> Result<Vec<String>> {
        let flags = [&CFLAGS, flags].concat();
        let mut keys = Vec::new();
        for Unit { c_file, reads } in units(self.library, &flags)? {
            let object = c_file.trim_end_matches('c').to_owned() + "o";
            let files = self.lay_out(&reads);
            let script = format!("{files}cc {} -c {c_file} -o \"$out\"\n", flags.join(" "));
            let key = format!("{variant}/{object}");
            self.derivation(&key, &object.replace('/', "-"), &script);
            keys.push(key);
        }
        Ok(keys)
    }

    /// Adds files of the library as sources. Gives the shell lines that put them under the names by
    /// which they include each other, for in the store they lie flat.
    fn lay_out(&mut self, files: &BTreeSet<String>) -> String {
        let split = files.iter().filter_map(|file| file.rsplit_once('/'));
        let directories: BTreeSet<&str> = split.map(|(directory, _)| directory).collect();
        let mut script = String::new();
        if !directories.is_empty() {
            script += &format!("mkdir -p {}\n", Vec::from_iter(directories).join(" "));
        }
        for file in files {
            self.sources
                .insert(file.clone(), json!(self.library.join(file)));
            script += &link(file, file);
        }
        script
    }
}

fn link(reference: &str, name: &str) -> String {
    format!("ln -s @{{{reference}}} {name}\n")
}

/// All C files of the library and what each reads when compiled with `flags`, as the compiler
/// tells.
fn units(library: &Path, flags: &[&str]) -> Result<Vec<Unit>> {
    let mut c_files = Vec::new();
    for directory in DIRECTORIES {
        let entries = fs::read_dir(library.join(directory))
            .map_err(|error| format!("{}/{directory}: {error}", library.display()))?;
        for entry in entries {
            let name = entry?
                .file_name()
                .into_string()
                .map_err(|_| "a file name is not UTF-8")?;
            if name.ends_with(".c") {
                c_files.push(format!("{directory}/{name}"));
            }
        }
    }
    c_files.sort();
    let rules = printed_by(
        Command::new("cc")
            .current_dir(library)
            .arg("-MM")
            .args(flags)
            .args(&c_files),
    )?;
    // One rule a C file: `NAME.o: DIRECTORY/NAME.c HEADER …`, broken into lines by a backslash.
    let rules = rules.replace("\\\n", " ");
    let units = rules
        .lines()
        .filter_map(|rule| rule.split_once(": "))
        .map(|(_, files)| Unit {
            c_file: normal(files.split_whitespace().next().unwrap_or_default()),
            reads: files.split_whitespace().map(normal).collect(),
        });
    Ok(units.collect())
}

/// The library's headers that the program includes.
fn roundtrip_headers(library: &Path, roundtrip: &Path) -> Result<BTreeSet<String>> {
    let input =
        fs::File::open(roundtrip).map_err(|error| format!("{}: {error}", roundtrip.display()))?;
    let rule = printed_by(
        Command::new("cc")
            .current_dir(library)
            .args(["-MM", "-I.", "-x", "c", "-"])
            .stdin(input),
    )?;
    let files = rule.replace("\\\n", " ");
    let (_, files) = files.split_once(": ").ok_or("cc -MM printed no rule")?;
    Ok(files
        .split_whitespace()
        .filter(|file| *file != "-")
        .map(normal)
        .collect())
}

/// `compress/../common/mem.h` as `common/mem.h`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if !parts.is_empty() => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The directories of PATH in which the tools are found: builders see no other.
fn search_path(tools: &[&str]) -> Result<String> {
    let all = env::var_os("PATH").unwrap_or_default();
    let mut needed: Vec<String> = Vec::new();
    for tool in tools {
        let directory = env::split_paths(&all)
            .find(|directory| directory.join(tool).is_file())
            .ok_or_else(|| format!("{tool} is not in PATH, and the build needs it"))?;
        let directory = directory.to_str().ok_or("PATH is not UTF-8")?.to_owned();
        if !needed.contains(&directory) {
            needed.push(directory);
        }
    }
    Ok(needed.join(":"))
}

/// The C source inside the crate zstd-sys, a development dependency that cargo has unpacked
/// already.
fn bundled_library() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Without the filter cargo would want the sources of other platforms' dependencies as well.
    let platform = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let metadata = printed_by(
        Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["metadata", "--format-version", "1", "--offline"])
            .args(["--filter-platform", &platform]),
    )?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "zstd-sys")
        .find_map(|package| package["manifest_path"].as_str())
        .ok_or("zstd-sys is not among the dependencies; give a directory with --source")?;
    Ok(Path::new(manifest).with_file_name("zstd").join("lib"))
}

/// Builds the graph's targets in `store` and gives their output paths, in the targets' order, with
/// what ran when.
fn run_build(graph: &Path, store: &str) -> Result<(Vec<PathBuf>, Vec<Run>)> {
    let store = match store {
        "own" => Store::Own,
        dir => Store::At(dir.into()),
    };
    // The compiler is this machine's, which a sandbox would not show.
    let engine = Engine::builder(store)
        .option("sandbox", "false")
        .option("max-jobs", "auto")
        .build()?;
    let (tell, told) = channel();
    let timeline = Timeline {
        started: HashMap::new(),
        ended: tell,
    };
    let request = Request::new().graph_file(graph).reporter(timeline);
    let outcome = engine.submit(request)?.wait()?;
    if let Some((result, failure)) = outcome.failures().next() {
        let log = failure.log_tail.join("\n");
        return Err(format!("{}: {}\n{log}", result.path, failure.message).into());
    }
    let paths = outcome.outputs().map(PathBuf::from).collect();
    Ok((paths, told.iter().collect()))
}

/// One builder's run: its name, and when it began and ended.
type Run = (String, Duration, Duration);

/// Says what has been built, and tells when it ran.
struct Timeline {
    started: HashMap<u64, Duration>,
    ended: Sender<Run>,
}

impl Reporter for Timeline {
    fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { build, at, .. } => {
                self.started.insert(build.id, *at);
            }
            Event::Succeeded { build, at } => {
                let began = self.started.remove(&build.id).unwrap_or(*at);
                eprintln!("built {}", build.name);
                self.ended.send((build.name.to_owned(), began, *at)).ok();
            }
            _ => {}
        }
    }
}

/// Where cargo builds, or the temporary directory if this program was moved elsewhere.
fn scratch_directory() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let target = program
        .ancestors()
        .nth(3)
        .filter(|directory| directory.ends_with("target"));
    target.map_or_else(env::temp_dir, Path::to_owned)
}

/// Runs a command to its end and gives what it printed; its errors go to the terminal.
fn printed_by(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("starting {}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", program.display(), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
