//! From what was asked for to what is in the store: the engine, put together for the real world.

use windrow_components::goal::{BuildMode, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::outputs::OutputSet;
use windrow_components::request::Request;
use windrow_components::settings::PreferBuild;
use windrow_store::local::LocalStore;
use windrow_store::own::history::History;
use windrow_store::own::recorder::Recorder;
use windrow_store::roots::temporary::TempRoots;
use windrow_sys::interrupt::{Owing, Patient};
use windrow_systems::engine::{Engine, Summary};
use windrow_systems::helpers::HelperConfig;
use windrow_systems::helpers::choice::BuildTimes;
use windrow_systems::plan::{Learnt, Plan, Substitutes, plan};
use windrow_systems::policy::forecast;
use windrow_systems::real;
use windrow_systems::real_store::RealStore;
use windrow_systems::report::{Event, Level, Reporter};
use windrow_systems::world::Services;

use crate::announcing::Announcer;
use crate::error::{Error, Result};
use crate::pushing;
use crate::recording::Recording;
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
    /// A path in place of one that may be corrupt.
    Repair(String),
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
            Wanted::Path(path) | Wanted::Repair(path) => paths.push(path.clone()),
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

/// The output paths of each target if all of them are valid, so that a store that can't be written
/// has them as well.
///
/// # Errors
/// When the store or a derivation can't be read.
pub fn already_valid(
    session: &Session,
    store: &LocalStore,
    wanted: &[Wanted],
) -> Result<Option<Outputs>> {
    if session.mode != BuildMode::Normal {
        return Ok(None);
    }
    let mut outputs = Vec::new();
    for wanted in wanted {
        let Some(rows) = known_outputs(store, wanted)? else {
            return Ok(None);
        };
        for (_, path) in &rows {
            if !store.database.is_valid(path)? {
                return Ok(None);
            }
        }
        outputs.push(rows);
    }
    Ok(Some(outputs))
}

/// The output paths of a target, by output name, valid or not; none if its derivation is not there
/// to be asked, or it is to be repaired.
///
/// # Errors
/// When the store or the derivation can't be read.
pub fn known_outputs(store: &LocalStore, wanted: &Wanted) -> Result<Option<Vec<(String, String)>>> {
    Ok(Some(match wanted {
        Wanted::Repair(_) => return Ok(None),
        Wanted::Path(path) => vec![("out".to_owned(), path.clone())],
        Wanted::Derivation { path, .. } if !store.has(path)? => return Ok(None),
        Wanted::Derivation { path, outputs } => store.with_derivation(path, |drv| {
            let rows = drv.outputs.iter();
            let rows = rows.map(|output| (output.name.to_string(), output.path.to_string()));
            let wanted = |name: &String| outputs.is_empty() || outputs.contains(name);
            Ok(rows.filter(|(name, _)| wanted(name)).collect())
        })?,
    }))
}

/// How much of the database a run keeps in memory, in KiB. A build touches a dozen pages; those
/// that are not kept are a copy away, in the system's own cache.
const CACHE_KIB: u32 = 2 << 10;

/// The programs and caches that a session may use.
fn helpers_of(session: &Session) -> HelperConfig {
    let mut helpers = crate::helpers::helper_config(&session.settings, &session.layout);
    if !session.substituter_programs {
        helpers.substituters.clear();
    }
    helpers
}

/// What builds took before. Where that can't be read nothing is known, and there is something to
/// say.
fn load_history(session: &Session) -> (History, Option<String>) {
    match History::load(&session.layout) {
        Ok(history) => (history, None),
        Err(error) => {
            let text = format!("it is not known what builds took before: {error}");
            (History::default(), Some(text))
        }
    }
}

/// An engine in the real world, whose reporter hears of all that happens; for requests that repair
/// only if it `may_repair`, and for what was planned, if something was. Others are told that it is
/// to make `targets`.
///
/// # Errors
/// When there can be no sandbox although there must be one, or the system has no descriptors left.
pub fn assemble(
    session: &Session,
    mut store: LocalStore,
    mut reporter: Box<dyn Reporter>,
    targets: Vec<String>,
    (may_repair, planned): (bool, Option<Planned>),
) -> Result<Engine> {
    store.database.limit_cache(CACHE_KIB)?;
    let (graph, learnt) = match planned {
        Some(planned) => (planned.graph, planned.learnt),
        None => (BuildGraph::new(session.store_dir()), None),
    };
    let options = session.engine_options();
    let config = session.builder_config(&mut store, true)?;
    let policy = session.policy.clone();
    let prefers_builds = session.settings.prefer_build == PreferBuild::Auto;
    let tells_outlook = reporter.wants_outlook();
    let ranks = policy.uses_estimates();
    let history = (ranks || prefers_builds || tells_outlook).then(|| {
        let (history, problem) = load_history(session);
        if let Some(text) = problem {
            let level = Level::Warn;
            reporter.report(&Event::Message { level, text: &text });
        }
        history
    });
    let recorder = Recorder::new(&session.layout, session.database_options());
    let reporter = pushing::while_building(session, &mut store, reporter);
    let reporter = Box::new(Recording::new(reporter, recorder));
    let reporter = Box::new(Announcer::new(reporter, session.layout.clone(), targets));
    let store = Box::new(RealStore::from(store));
    let mut engine = Engine::new(graph, store, reporter, options, policy);
    real::plug_in(&mut engine.world, config, may_repair)?;
    let mut helpers = helpers_of(session);
    helpers.hook.take_if(|_| !session.build_hook);
    real::helpers::plug_in(&mut engine.world, helpers, learnt)?;
    if let Some(history) = history {
        if prefers_builds {
            let times = BuildTimes::of_history(history.clone());
            engine.world.insert_resource(times);
        }
        if ranks || tells_outlook {
            let system = &session.settings.system;
            forecast::plug_in(&mut engine.world, history, system);
        }
        if tells_outlook {
            forecast::tell_outlook(&mut engine.world);
        }
    }
    Ok(engine)
}

/// What the engine is to realise for `wanted`.
///
/// # Errors
/// When a path lies outside this store.
pub fn target(graph: &mut BuildGraph, wanted: &Wanted) -> Result<(Target, OutputSet)> {
    Ok(match wanted {
        Wanted::Derivation { path, outputs } => {
            let (drv, set) = intern(graph, path, outputs)?;
            (Target::Derivation(drv), set)
        }
        Wanted::Path(path) => (Target::Path(graph.path(path)?), OutputSet::ALL),
        Wanted::Repair(path) => (Target::Repair(graph.path(path)?), OutputSet::ALL),
    })
}

/// Realises everything wanted in the real world; returns how it went, and the wanted output paths.
///
/// # Errors
/// What ends a run as a whole. That something could not be built is said in the summary.
///
/// Nix 1.8: `LocalStore::buildPaths`, `LocalStore::ensurePath`.
pub fn realise(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
    reporter: Box<dyn Reporter>,
) -> Result<(Summary, Outputs)> {
    realise_planned(session, store, (wanted, None), reporter)
}

/// As [`realise`]; `look` sees the graph at the end of the run, however that ended.
///
/// # Errors
/// As [`realise`].
pub(crate) fn realise_and_look(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
    reporter: Box<dyn Reporter>,
    look: impl FnOnce(&mut BuildGraph),
) -> Result<(Summary, Outputs)> {
    run(session, store, (wanted, None), reporter, look)
}

/// As [`realise`], after what is wanted was planned.
///
/// # Errors
/// As [`realise`].
pub fn realise_planned(
    session: &Session,
    store: LocalStore,
    (wanted, planned): (&[Wanted], Option<Planned>),
    reporter: Box<dyn Reporter>,
) -> Result<(Summary, Outputs)> {
    run(session, store, (wanted, planned), reporter, |_| {})
}

fn run(
    session: &Session,
    store: LocalStore,
    (wanted, planned): (&[Wanted], Option<Planned>),
    reporter: Box<dyn Reporter>,
    look: impl FnOnce(&mut BuildGraph),
) -> Result<(Summary, Outputs)> {
    let _owing = Owing::new();
    let _patient = session.finish_running.then(Patient::new);
    let is_repair = session.mode == BuildMode::Repair;
    let to_do = match is_repair {
        true => to_repair(&store, wanted)?,
        false => wanted.to_vec(),
    };
    let targets = to_do.iter().map(|wanted| match wanted {
        Wanted::Derivation { path, .. } | Wanted::Path(path) | Wanted::Repair(path) => path.clone(),
    });
    let targets = targets.collect();
    let mut engine = assemble(session, store, reporter, targets, (is_repair, planned))?;
    let mut graph = engine.world.resource_mut::<BuildGraph>();
    let targets = to_do.iter().map(|wanted| target(&mut graph, wanted));
    let targets = targets.collect::<Result<Vec<_>>>()?;
    let request = Request {
        mode: session.mode,
        keep_going: session.settings.keep_going,
        ..Request::new(targets.iter().copied())
    };
    let request = engine.submit(request, None);
    let watcher = crate::auto_gc::watch(session, crate::terminal::complain);
    let ended = engine.run();
    drop(watcher);
    real::clean_up(&mut engine.world);
    look(&mut engine.world.resource_mut::<BuildGraph>());
    ended?;
    let summary = engine.summary(request);
    let outputs = output_paths(&mut engine, &targets);
    // The reporter leaves the terminal as it found it before anything else is printed.
    drop(engine);
    Ok((summary, outputs))
}

/// What repairs each path: the derivation that it is an output of, if that is there, for it can be
/// built; else whatever substituter has it (`repairPath`).
///
/// # Errors
/// When the database can't be read.
///
/// Nix 1.8: `LocalStore::repairPath`.
pub fn to_repair(store: &LocalStore, wanted: &[Wanted]) -> Result<Vec<Wanted>> {
    let repair = |wanted: &Wanted| {
        let Wanted::Path(path) = wanted else {
            return Ok(wanted.clone());
        };
        for deriver in store.database.valid_derivers(path)? {
            let outputs = store.database.derivation_outputs(&deriver)?;
            if let Some((name, _)) = outputs.into_iter().find(|(_, output)| output == path) {
                return Ok(Wanted::Derivation {
                    path: deriver,
                    outputs: vec![name],
                });
            }
        }
        Ok(Wanted::Repair(path.clone()))
    };
    wanted.iter().map(repair).collect()
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

/// What `plan` and a dry run need.
pub struct Planned {
    /// The graph that the plan is about.
    pub graph: BuildGraph,
    /// What would be done.
    pub plan: Plan,
    /// What went wrong with substituters.
    pub complaints: Vec<String>,
    /// What binary caches have said.
    learnt: Option<Learnt>,
}

/// Works out what it takes to realise everything wanted.
///
/// # Errors
/// When the store or a derivation can't be read.
pub fn make_plan(session: &Session, store: LocalStore, wanted: &[Wanted]) -> Result<Planned> {
    let mut store = RealStore::from(store);
    let mut graph = BuildGraph::new(session.store_dir());
    let mut targets = Vec::new();
    let mut paths = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Derivation { path, outputs } => {
                targets.push(intern(&mut graph, path, outputs)?);
            }
            Wanted::Path(path) | Wanted::Repair(path) => paths.push(graph.path(path)?),
        }
    }
    let mut substitutes = Substitutes::new(&helpers_of(session), session.engine_options());
    if session.settings.prefer_build == PreferBuild::Auto {
        let (history, problem) = load_history(session);
        let problem = problem.map(|text| format!("warning: {text}"));
        substitutes.complaints.extend(problem);
        substitutes = substitutes.or_build(BuildTimes::of_history(history));
    }
    let mut plan = plan(&mut graph, &mut store, &targets, &mut substitutes)?;
    substitutes.fetch((&mut graph, &mut store), paths, &mut plan)?;
    plan.unknown.sort_unstable();
    plan.unknown.dedup();
    if let Some(signal) = substitutes.interrupted {
        return Err(Error::Interrupted { signal });
    }
    let complaints = std::mem::take(&mut substitutes.complaints);
    Ok(Planned {
        graph,
        plan,
        complaints,
        learnt: substitutes.into_learnt(),
    })
}
