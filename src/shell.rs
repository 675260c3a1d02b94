//! A shell where a derivation is built: what it needs is realised, and a program of the user's runs
//! in the builder's place.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use windrow_components::derivation::Derivation;
use windrow_components::goal::BuildMode;
use windrow_components::graph::BuildGraph;
use windrow_store::local::LocalStore;
use windrow_store::roots::temporary::TempRoots;
use windrow_sys::interrupt::{self, Owing};
use windrow_systems::real_store::RealStore;
use windrow_systems::report::Level;
use windrow_systems::spawn::shell::{Ended, Run, Shell, ShellInputs, call_pre_build};
use windrow_systems::world::Store as _;

use crate::error::{Error, Result};
use crate::outcome::failure;
use crate::progress::{self, Style};
use crate::realise::{Wanted, hold, intern, known_outputs, realise};
use crate::session::Session;
use crate::terminal::{Line, complain, flush};

/// What is asked for.
pub(crate) struct Request {
    /// The derivation's full path.
    pub(crate) drv: String,
    /// What to run.
    pub(crate) run: Run,
    /// The directory of a build that was kept.
    pub(crate) kept: Option<PathBuf>,
    /// Whether a new directory stays.
    pub(crate) keep: bool,
}

/// Realises what the derivation needs, and runs the program; the exit status to end with.
///
/// # Errors
/// When something that is needed can't be had, or the program can't be started.
pub(crate) fn open(
    session: &Session,
    store: LocalStore,
    request: Request,
    style: &Style,
) -> Result<u8> {
    let kept = request.kept.as_deref().map(directory).transpose()?;
    let Ready {
        mut store,
        _held,
        is_told,
    } = get_ready(session, store, &request.drv, style)?;
    let _owing = Owing::new();
    let config = session.builder_config(&mut store, false)?;
    for notice in config.notices.iter().filter(|_| !is_told) {
        progress::say(style, Level::Warn, &format!("warning: {notice}"));
    }
    let mut store = RealStore::from(store);
    let mut graph = BuildGraph::new(session.store_dir());
    let (drv, _) = intern(&mut graph, &request.drv, &[])?;
    store.load(&mut graph, drv)?;
    let inputs: Vec<_> = graph.inputs(drv).map(|input| input.drv).collect();
    for input in inputs {
        if !graph.is_loaded(input) {
            store.load(&mut graph, input)?;
        }
    }
    let tell = |errors: &str| {
        for line in errors.lines() {
            Line::log("pre-build-hook: ", line).write();
        }
    };
    let pre_built = call_pre_build(&mut graph, &mut store, &config, (drv, tell));
    let pre_built = pre_built.map_err(|failure| Error::Shell(failure.message))?;
    let mut closure = match &config.sandbox {
        Some(_) => store.input_closure(&mut graph, drv)?,
        None => Vec::new(),
    };
    closure.extend(&pre_built.inputs);
    closure.sort_unstable();
    closure.dedup();
    let rewrites = store.outputs_to_throw_away(&graph, drv, random()?)?;
    let shell = Shell::prepare(&ShellInputs {
        graph: &graph,
        config: &config,
        drv,
        closure: &closure,
        shown: &pre_built.shown,
        rewrites: &rewrites,
        kept: kept.as_deref(),
        run: request.run.clone(),
    });
    let shell = shell.map_err(|failure| Error::Shell(failure.message))?;
    if let Some(signal) = interrupt::signal() {
        shell.abandon();
        return Err(Error::Interrupted { signal });
    }
    if let Some(text) = &shell.warning {
        progress::say(style, Level::Warn, &format!("warning: {text}"));
    }
    if shell.is_interactive() {
        introduce(&shell, &request, style);
    }
    flush();
    let ended = shell.run(request.keep);
    let ended = ended.map_err(|failure| Error::Shell(failure.message))?;
    conclude(&ended, kept.is_some(), style)
}

/// A directory by its real path.
fn directory(path: &Path) -> Result<PathBuf> {
    let about = |reason: String| Error::BadArgument {
        what: path.display().to_string(),
        reason,
    };
    let real = std::fs::canonicalize(path);
    let real =
        real.map_err(|error| about(format!("'--in' wants the directory of a build: {error}")))?;
    match real.is_dir() {
        true => Ok(real),
        false => Err(about(
            "it is no directory, and '--in' wants that of a build".to_owned(),
        )),
    }
}

/// The store when all is valid that a derivation needs.
struct Ready {
    store: LocalStore,
    /// Keeps that from collection.
    _held: TempRoots,
    /// Whether a run has told what is to be told of the machine.
    is_told: bool,
}

/// Makes valid what the derivation needs.
fn get_ready(session: &Session, mut store: LocalStore, drv: &str, style: &Style) -> Result<Ready> {
    let own = Wanted::Path(drv.to_owned());
    let mut held = hold(session, &store, std::slice::from_ref(&own))?;
    let mut is_told = false;
    if !store.database.is_valid(drv)? {
        is_told = true;
        realise_all(session, store, &[own], style)?;
        store = session.open()?;
    }
    let inputs = store.with_derivation(drv, |contents| Ok(inputs_of(contents)))?;
    let inputs = inputs
        .map_err(|reason| Error::Shell(format!("cannot open a shell for '{drv}': {reason}")))?;
    if inputs.is_empty() {
        return Ok(Ready {
            store,
            _held: held,
            is_told,
        });
    }
    let mut known = Vec::new();
    for input in &inputs {
        known.extend(known_outputs(&store, input)?.unwrap_or_default());
    }
    held.add(
        &known
            .iter()
            .map(|(_, path)| path.as_str())
            .collect::<Vec<_>>(),
    )?;
    let made = realise_all(session, store, &inputs, style)?;
    let mut store = session.open()?;
    store.keep(&made.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Ready {
        store,
        _held: held,
        is_told: true,
    })
}

/// What a derivation needs; a text if no person can be in its builder's place.
fn inputs_of(contents: &Derivation<'_>) -> std::result::Result<Vec<Wanted>, String> {
    if contents.builder.starts_with(b"builtin:") {
        return Err(format!(
            "its builder '{}' comes with windrow and is no program that could be run by hand",
            String::from_utf8_lossy(&contents.builder)
        ));
    }
    let drvs = contents.input_drvs.iter().map(|input| Wanted::Derivation {
        path: input.path.to_string(),
        outputs: input.outputs.iter().map(ToString::to_string).collect(),
    });
    let sources = contents.input_srcs.iter();
    let sources = sources.map(|source| Wanted::Path(source.to_string()));
    Ok(drvs.chain(sources).collect())
}

/// Realises all of that; its paths.
fn realise_all(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
    style: &Style,
) -> Result<Vec<String>> {
    let reporter = progress::reporter(style.clone());
    let (summary, outputs) = realise(session, store, wanted, reporter)?;
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    match summary.lacks_something() {
        true => Err(failure(&summary, BuildMode::Normal)),
        false => Ok(outputs
            .into_iter()
            .flatten()
            .map(|(_, path)| path)
            .collect()),
    }
}

/// A number that nobody else has.
fn random() -> Result<[u8; 32]> {
    let source = "/dev/urandom";
    let mut bytes = [0; 32];
    let read = File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::io("read", source))?;
    Ok(bytes)
}

/// Says where somebody is who will type.
fn introduce(shell: &Shell, request: &Request, style: &Style) {
    let place = match shell.is_sandboxed() {
        true => " in the sandbox",
        false => "",
    };
    let stays = match (&request.kept, request.keep) {
        (Some(_), _) => "it is the one that was named, and stays",
        (None, true) => "it stays",
        (None, false) => "it is deleted at the end, unless --keep is given",
    };
    let build = match shell.has_command_line() {
        true => "the build itself: eval \"$WINDROW_BUILD\"",
        false => {
            "the command line of the builder is too long for a variable; 'windrow show' prints it"
        }
    };
    for line in [
        format!("shell for '{}'{place}", request.drv),
        format!("directory: {} ({stays})", shell.directory().display()),
        format!("{build}; what it makes of outputs is thrown away"),
    ] {
        progress::say(style, Level::Info, &line);
    }
}

/// Says what is left, and makes the program's end the command's.
fn conclude(ended: &Ended, was_named: bool, style: &Style) -> Result<u8> {
    for text in &ended.warnings {
        complain(&format!("warning: {text}"));
    }
    if let (Some(kept), false) = (&ended.kept, was_named) {
        let text = format!("note: keeping build directory '{}'", kept.display());
        progress::say(style, Level::Error, &text);
    }
    let status = ExitStatus::from_raw(ended.status);
    let signal = ended.ended_by.or_else(|| status.signal());
    let code = match signal {
        Some(signal) => 128 + signal,
        None => status.code().unwrap_or(1),
    };
    Ok(u8::try_from(code).unwrap_or(1))
}
