//! From what was asked for to what is in the store: the engine, put together for the real world.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;

use windrow_components::goal::{BuildMode, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::outputs::OutputSet;
use windrow_components::request::Request;
use windrow_store::local::LocalStore;
use windrow_store::own::history::{History, Recorder};
use windrow_store::roots::temporary::TempRoots;
use windrow_sys::interrupt::Interrupts;
use windrow_systems::engine::{Engine, Summary};
use windrow_systems::instantiate::instantiate_file;
use windrow_systems::plan::{Substitutes, plan};
use windrow_systems::policy::forecast;
use windrow_systems::real;
use windrow_systems::real_store::RealStore;
use windrow_systems::report::{Event, Level, Reporter};
use windrow_systems::world::Services;

use crate::error::{Error, Result};
use crate::installable::Installable;
use crate::progress::Recording;
use crate::session::Session;

/// Something to build, with the output paths to print in the end.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Outputs of a derivation.
    Derivation {
        /// Its full path.
        path: String,
        /// The outputs' names; none means all.
        outputs: Vec<String>,
    },
    /// A path.
    Path(String),
}

/// Understands all arguments; those of a list on standard input stand where the `-` stands. Graphs
/// are added to the store.
///
/// # Errors
/// When one does not name anything to build, or a graph has a mistake.
pub fn understand(
    what: &[OsString],
    session: &Session,
    store: &mut LocalStore,
) -> Result<Vec<Wanted>> {
    let mut targets = Vec::new();
    let (store_dir, real_store) = (session.store_dir(), &session.layout.real_store_dir);
    for what in what {
        if what == "-" {
            let list = read_list()?;
            for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
                targets.push(Installable::parse(line, &store_dir, real_store)?);
            }
        } else if let Some(text) = what.to_str() {
            targets.push(Installable::parse(text, &store_dir, real_store)?);
        } else if what.as_encoded_bytes().ends_with(b".json") {
            targets.push(Installable::Graph(what.into()));
        } else {
            return Err(Error::BadTarget {
                what: what.to_string_lossy().into_owned(),
                reason: "it is not UTF-8 text, which all store paths are".to_owned(),
            });
        }
    }
    let mut wanted = Vec::new();
    for target in targets {
        match target {
            Installable::Derivation { path, outputs } => {
                wanted.push(Wanted::Derivation { path, outputs });
            }
            Installable::Path(path) => wanted.push(Wanted::Path(path)),
            Installable::Graph(file) => {
                let graph = instantiate_file(store, &file, &session.settings.system)?;
                for (index, outputs) in graph.targets {
                    let path = graph.derivations[index].drv_path.clone();
                    wanted.push(Wanted::Derivation { path, outputs });
                }
            }
        }
    }
    Ok(wanted)
}

/// All that standard input gives. Whoever writes to it may take any time for that, but a signal
/// ends the wait.
fn read_list() -> Result<String> {
    let failed = Error::io("read", "standard input");
    let read = || {
        let interrupts = Interrupts::watch()?;
        let mut stdin = std::io::stdin().lock();
        let (mut list, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            if let Some(signal) = interrupts.or_readable(stdin.as_fd())? {
                return Ok(Err(Error::Interrupted { signal }));
            }
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => list.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        String::from_utf8(list).map(Ok).map_err(|_| {
            io::Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8")
        })
    };
    read().map_err(failed)?
}

/// Interns a wanted derivation with its outputs.
///
/// # Errors
/// When the path lies outside this store.
pub fn intern(
    graph: &mut BuildGraph,
    path: &str,
    outputs: &[String],
) -> Result<(DrvId, OutputSet)> {
    let path = graph.path(path)?;
    let drv = graph.drv(path);
    let mut names = outputs.iter().map(|name| graph.name(name)).collect();
    Ok((drv, graph.output_sets.intern(&mut names)))
}

/// Keeps what is wanted from collection until what is returned is dropped: a run gives up its own
/// temporary roots when it ends, which is before anybody can link to what it made.
///
/// # Errors
/// When a derivation can't be read, or the roots not be written.
pub fn hold(session: &Session, store: &LocalStore, wanted: &[Wanted]) -> Result<TempRoots> {
    let mut paths = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Path(path) => paths.push(path.clone()),
            // What has yet to be fetched can't be asked for its outputs.
            Wanted::Derivation { path, .. } if store.database.is_valid(path)? => {
                store.with_derivation(path, |drv| {
                    paths.extend(drv.outputs.iter().map(|output| output.path.to_string()));
                    Ok(())
                })?;
            }
            Wanted::Derivation { .. } => {}
        }
    }
    let mut roots = TempRoots::open(&session.layout)?;
    roots.add(&paths.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(roots)
}

/// The output paths of each target, by output name.
pub type Outputs = Vec<Vec<(String, String)>>;

/// How much of the database a run keeps in memory, in KiB. A build touches a dozen pages; those
/// that are not kept are a copy away, in the system's own cache.
const CACHE_KIB: u32 = 2 << 10;

/// Realises everything wanted in the real world; returns how it went, and the wanted output paths.
///
/// # Errors
/// What ends a run as a whole. That something could not be built is said in the summary.
///
/// Nix 1.8: `LocalStore::buildPaths`, `LocalStore::ensurePath`.
pub fn realise(
    session: &Session,
    mut store: LocalStore,
    wanted: &[Wanted],
    mut reporter: Box<dyn Reporter>,
) -> Result<(Summary, Outputs)> {
    store.database.limit_cache(CACHE_KIB)?;
    let mut graph = BuildGraph::new(session.store_dir());
    let mut targets = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        targets.push(match wanted {
            Wanted::Derivation { path, outputs } => {
                let (drv, set) = intern(&mut graph, path, outputs)?;
                (Target::Derivation(drv), set)
            }
            Wanted::Path(path) if session.mode == BuildMode::Repair => {
                to_repair(&mut graph, &store, path)?
            }
            Wanted::Path(path) => (Target::Path(graph.path(path)?), OutputSet::ALL),
        });
    }
    let options = session.engine_options();
    let config = session.builder_config(&mut store, true)?;
    let policy = session.policy;
    let history = policy.uses_estimates().then(|| {
        History::load(&session.layout).unwrap_or_else(|error| {
            let text = format!("builds are not ranked by what they took before: {error}");
            let level = Level::Warn;
            reporter.report(&Event::Message { level, text: &text });
            History::default()
        })
    });
    let recorder = Recorder::new(&session.layout, session.database_options());
    let reporter = Box::new(Recording::new(reporter, recorder));
    let mut engine = Engine::new(
        graph,
        Box::new(RealStore::from(store)),
        reporter,
        options,
        policy,
    );
    let may_repair = session.mode == BuildMode::Repair;
    real::plug_in(&mut engine.world, config, may_repair)?;
    let mut helpers = crate::helpers::helper_config(&session.settings, &session.layout);
    helpers.hook.take_if(|_| !session.build_hook);
    real::helpers::plug_in(&mut engine.world, helpers);
    if let Some(history) = history {
        let system = &session.settings.system;
        forecast::plug_in(&mut engine.world, history, system);
    }
    let request = Request {
        mode: session.mode,
        keep_going: session.settings.keep_going,
        ..Request::new(targets.iter().copied())
    };
    let request = engine.submit(request, None);
    let watcher = crate::auto_gc::watch(session);
    let ended = engine.run();
    drop(watcher);
    real::clean_up(&mut engine.world);
    ended?;
    let summary = engine.summary(request);

    let outputs = output_paths(&mut engine, &targets);
    // The reporter leaves the terminal as it found it before anything else is printed.
    drop(engine);
    Ok((summary, outputs))
}

/// What repairs a path: the derivation that it is an output of, if that is there, for it can be
/// built; else whatever substituter has it (`repairPath`).
///
/// Nix 1.8: `LocalStore::repairPath`.
fn to_repair(
    graph: &mut BuildGraph,
    store: &LocalStore,
    path: &str,
) -> Result<(Target, OutputSet)> {
    for deriver in store.database.valid_derivers(path)? {
        let outputs = store.database.derivation_outputs(&deriver)?;
        if let Some((name, _)) = outputs.iter().find(|(_, output)| output == path) {
            let (drv, set) = intern(graph, &deriver, std::slice::from_ref(name))?;
            return Ok((Target::Derivation(drv), set));
        }
    }
    Ok((Target::Repair(graph.path(path)?), OutputSet::ALL))
}

/// The wanted output paths of each target, by output name.
fn output_paths(engine: &mut Engine, targets: &[(Target, OutputSet)]) -> Outputs {
    let world = &mut engine.world;
    world.resource_scope::<BuildGraph, _>(|world, mut graph| {
        let outputs = targets.iter().map(|&(target, set)| match target {
            Target::Path(path) | Target::Repair(path) => {
                vec![("out".to_owned(), graph.full_path(path))]
            }
            Target::Derivation(drv) => {
                if !graph.is_loaded(drv) {
                    // A goal that failed before its derivation was read has nothing to print.
                    let mut services = world.non_send_mut::<Services>();
                    if services.store.load(&mut graph, drv).is_err() {
                        return Vec::new();
                    }
                }
                let rows = graph.outputs(drv).iter();
                let rows = rows.filter(|row| graph.output_sets.wants(set, row.name));
                rows.map(|row| {
                    (
                        graph.name_text(row.name).to_owned(),
                        graph.full_path(row.path),
                    )
                })
                .collect()
            }
        });
        outputs.collect()
    })
}

/// What `plan` and a dry run need: the plan, the graph it is about, and what went wrong with
/// substituters.
///
/// # Errors
/// When the store or a derivation can't be read.
pub fn make_plan(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
) -> Result<(BuildGraph, windrow_systems::plan::Plan, Vec<String>)> {
    let mut store = RealStore::from(store);
    let mut graph = BuildGraph::new(session.store_dir());
    let mut targets = Vec::new();
    let mut paths = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Derivation { path, outputs } => {
                targets.push(intern(&mut graph, path, outputs)?);
            }
            Wanted::Path(path) => paths.push(graph.path(path)?),
        }
    }
    let helpers = crate::helpers::helper_config(&session.settings, &session.layout);
    let mut substitutes = Substitutes::new(&helpers, session.engine_options());
    let mut plan = plan(&mut graph, &mut store, &targets, &mut substitutes)?;
    substitutes.fetch((&mut graph, &mut store), paths, &mut plan)?;
    plan.unknown.sort_unstable();
    plan.unknown.dedup();
    if let Some(signal) = substitutes.interrupted {
        return Err(Error::Interrupted { signal });
    }
    Ok((graph, plan, substitutes.complaints))
}
