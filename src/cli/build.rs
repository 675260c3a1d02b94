//! `windrow build`: realises what is asked for and prints the output paths.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use windrow_components::goal::Target as GoalTarget;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::outputs::OutputSet;
use windrow_systems::engine::{Engine, Summary};
use windrow_systems::instantiate::instantiate_file;
use windrow_systems::plan::plan;
use windrow_systems::real;
use windrow_systems::report::Reporter;
use windrow_systems::store::gc_roots::add_indirect_root;
use windrow_systems::store::local::LocalStore;
use windrow_systems::world::{Store as _, StoreHandle};

use super::{BuildOptions, CommonArgs, LogFormat, complain, print_lines};
use crate::error::{Error, Result};
use crate::progress::{self, Style};
use crate::session::Session;
use crate::target::Target;

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// x.drv, x.drv^out,dev, a store path, a graph (x.json), or - for a list on standard input
    #[arg(required = true)]
    what: Vec<String>,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    #[command(flatten)]
    pub(super) options: BuildOptions,

    /// Only say what would be built
    #[arg(long)]
    dry_run: bool,

    /// Link the results from here, so that they are not collected as garbage
    #[arg(long, value_name = "LINK")]
    add_root: Option<PathBuf>,

    /// Print a line for every start and end of a build, for programs to read
    #[arg(long)]
    print_build_trace: bool,

    /// Print what builders write
    #[arg(short = 'L', long)]
    print_build_logs: bool,
}

/// Something to build, with the output paths to print in the end.
pub(super) enum Wanted {
    /// Outputs of a derivation.
    Derivation { path: String, outputs: Vec<String> },
    /// A path.
    Path(String),
}

pub(super) fn run(args: &BuildArgs) -> Result<()> {
    let session = args.common.session(Some(&args.options))?;
    if args.dry_run && !names_a_graph(&args.what) {
        return dry_run(args, &session);
    }
    let mut store = session.open()?;
    let wanted = understand(&args.what, &session, &mut store)?;
    if args.dry_run {
        return super::plan::describe(&session, store, &wanted, false);
    }
    let style = style(args, &session);
    let reporter = progress::reporter(style);
    let (summary, outputs) = realise(&session, store, &wanted, reporter, style)?;
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    if !summary.failed.is_empty() || !summary.missing.is_empty() {
        return Err(failure(&summary));
    }
    match &args.add_root {
        None => print_lines(outputs.iter().flatten().map(|(_, path)| path)),
        Some(link) => {
            let mut links = Vec::new();
            for (index, outputs) in outputs.iter().enumerate() {
                for (name, path) in outputs {
                    let link = root_name(link, index, name);
                    links.push(add_indirect_root(&session.layout, &link, path)?);
                }
            }
            print_lines(links.iter().map(|link| link.to_string_lossy().into_owned()))
        }
    }
}

fn names_a_graph(what: &[String]) -> bool {
    what.iter()
        .any(|what| what == "-" || what.ends_with(".json"))
}

fn dry_run(args: &BuildArgs, session: &Session) -> Result<()> {
    let mut store = session.open_read_only()?;
    let wanted = understand(&args.what, session, &mut store)?;
    super::plan::describe(session, store, &wanted, false)
}

/// As nix-store names roots: LINK for the first target, LINK-2 for the second; outputs but `out` add their name.
fn root_name(link: &Path, index: usize, output: &str) -> PathBuf {
    let mut name = link.as_os_str().to_owned();
    if index > 0 {
        name.push(format!("-{}", index + 1));
    }
    if output != "out" {
        name.push(format!("-{output}"));
    }
    name.into()
}

/// Understands all arguments; those of a list on standard input stand where the `-` stands. Graphs are added to
/// the store.
pub(super) fn understand(
    what: &[String],
    session: &Session,
    store: &mut LocalStore,
) -> Result<Vec<Wanted>> {
    let mut texts = Vec::new();
    for what in what {
        if what == "-" {
            let mut list = String::new();
            std::io::stdin()
                .read_to_string(&mut list)
                .map_err(Error::io("read", "standard input"))?;
            texts.extend(
                list.lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty())
                    .map(str::to_owned),
            );
        } else {
            texts.push(what.clone());
        }
    }
    let mut wanted = Vec::new();
    for text in texts {
        match Target::parse(&text, &session.store_dir(), &session.layout.real_store_dir)? {
            Target::Derivation { path, outputs } => {
                wanted.push(Wanted::Derivation { path, outputs });
            }
            Target::Path(path) => wanted.push(Wanted::Path(path)),
            Target::Graph(file) => {
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

/// Interns a wanted derivation with its outputs.
pub(super) fn intern(
    graph: &mut BuildGraph,
    path: &str,
    outputs: &[String],
) -> Result<(DrvId, OutputSet)> {
    let path = graph.path(path)?;
    let drv = graph.drv(path);
    let mut names = outputs.iter().map(|name| graph.name(name)).collect();
    Ok((drv, graph.output_sets.intern(&mut names)))
}

type Outputs = Vec<Vec<(String, String)>>;

fn realise(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
    reporter: Box<dyn Reporter>,
    style: Style,
) -> Result<(Summary, Outputs)> {
    let mut graph = BuildGraph::new(session.store_dir());
    let mut targets = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        targets.push(match wanted {
            Wanted::Derivation { path, outputs } => {
                let (drv, set) = intern(&mut graph, path, outputs)?;
                (GoalTarget::Derivation(drv), set)
            }
            Wanted::Path(path) => (GoalTarget::Path(graph.path(path)?), OutputSet::ALL),
        });
    }
    let options = session.engine_options();
    let config = session.builder_config(style.shows_output())?;
    let mut engine = Engine::new(graph, Box::new(store), reporter, options);
    real::plug_in(&mut engine.world, &mut engine.schedule, config)?;
    for &(target, set) in &targets {
        engine.want(target, set);
    }
    let summary = engine.run();
    real::clean_up(&mut engine.world);
    let summary = summary?;

    let outputs = output_paths(&mut engine, &targets);
    // The reporter leaves the terminal as it found it before anything else is printed.
    drop(engine);
    Ok((summary, outputs))
}

/// The wanted output paths of each target, by output name.
fn output_paths(engine: &mut Engine, targets: &[(GoalTarget, OutputSet)]) -> Outputs {
    let world = &mut engine.world;
    world.resource_scope::<BuildGraph, _>(|world, mut graph| {
        let outputs = targets.iter().map(|&(target, set)| match target {
            GoalTarget::Path(path) => vec![("out".to_owned(), graph.full_path(path))],
            GoalTarget::Derivation(drv) => {
                if !graph.is_loaded(drv) {
                    // A goal that failed before its derivation was read has nothing to print.
                    let mut store = world.non_send_mut::<StoreHandle>();
                    if store.0.load(&mut graph, drv).is_err() {
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

fn failure(summary: &Summary) -> Error {
    let quoted = |paths: &[String]| {
        paths
            .iter()
            .map(|path| format!("'{path}'"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut parts = Vec::new();
    if !summary.failed.is_empty() {
        parts.push(format!("build of {} failed", quoted(&summary.failed)));
    }
    if !summary.missing.is_empty() {
        parts.push(format!(
            "{} not in the store, and no substituter has {}",
            if summary.missing.len() == 1 {
                format!("path {} is", quoted(&summary.missing))
            } else {
                format!("paths {} are", quoted(&summary.missing))
            },
            if summary.missing.len() == 1 {
                "it"
            } else {
                "them"
            },
        ));
    }
    Error::BuildFailed {
        message: parts.join("; "),
        status: summary.failures.exit_status(),
    }
}

fn style(args: &BuildArgs, session: &Session) -> Style {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = args.common.log_format.unwrap_or(match terminal {
        true => LogFormat::Bar,
        false => LogFormat::Raw,
    });
    Style {
        format,
        verbosity: i16::from(args.common.verbose) - i16::from(args.common.quiet),
        build_logs: args.print_build_logs || format == LogFormat::BarWithLogs,
        trace: args.print_build_trace || session.settings.print_build_trace,
    }
}

/// What `plan` and a dry run need: the plan and the graph it is about.
pub(super) fn make_plan(
    session: &Session,
    mut store: LocalStore,
    wanted: &[Wanted],
) -> Result<(BuildGraph, windrow_systems::plan::Plan)> {
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
    let mut plan = plan(&mut graph, &mut store, &targets)?;
    let valid = store.valid(&graph, &paths)?;
    plan.unknown.extend(
        paths
            .iter()
            .zip(valid)
            .filter(|(_, valid)| !valid)
            .map(|(p, _)| *p),
    );
    for &path in &plan.unknown {
        complain(&format!(
            "don't know how to build or get '{}'",
            graph.full_path(path)
        ));
    }
    Ok((graph, plan))
}
