//! Fetch or build: whether a derivation is built although binary caches have what it lacks, because
//! that is thought to be much quicker.
//!
//! Nothing is chosen that could be worse than what it replaces, as far as the estimates are right:
//! inputs that are missing count as if they were built one after the other. One of them that turns
//! out to be fetched is so because that takes less than `TIMES_QUICKER` times as long as its
//! build; so even if all are, the whole takes no longer than the download that was avoided.

use std::time::Duration;

use bevy_ecs::prelude::Resource;
use hashbrown::HashSet;
use windrow_components::graph::{BuildGraph, InputRow};
use windrow_components::ids::{DrvId, PathId};
use windrow_store::own::history::History;

use crate::error::Result;
use crate::helpers::{Find, Kind, Speeds, Substituters};
use crate::world::{Options, Store};

/// How many times quicker than the download a build must be thought to be.
const TIMES_QUICKER: u32 = 4;

/// The platform of what only needs the engine itself.
const BUILTIN: &str = "builtin";

/// How many derivations are looked at for one choice; with more to be built it is not worth it.
const MOST_BUILDS: usize = 16;

type Known = dyn Fn(&BuildGraph, DrvId) -> Option<Duration> + Send + Sync;

/// How long derivations take to build, where that is known. A world that has this compares builds
/// with downloads (`prefer-build = auto`).
#[derive(Resource)]
pub struct BuildTimes(Box<Known>);

/// What is to be done about a derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Whatever would be done if there were no choice.
    Fetch,
    /// It is to be built, which is thought to take so long.
    Build {
        /// With the inputs that are missing.
        build: Duration,
        /// What the download is thought to take.
        download: Duration,
    },
    /// Substituters have been asked, and not all have answered.
    Wait,
}

/// What a choice is made by.
pub struct Choosing<'a> {
    /// How long builds take.
    pub times: &'a BuildTimes,
    /// How fast caches are.
    pub speeds: &'a Speeds,
    /// Whether this machine builds, and what for.
    pub options: &'a Options,
    /// The time since the run began.
    pub now: Duration,
}

impl BuildTimes {
    /// As `known` says.
    pub fn new(
        known: impl Fn(&BuildGraph, DrvId) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(known))
    }

    /// What builds of the same name, or its family, took on the same platform.
    pub fn of_history(history: History) -> Self {
        Self::new(move |graph, drv| {
            let micros = history.of_family(graph.drv_name(drv), graph.system(drv)?)?;
            Some(Duration::from_micros(micros))
        })
    }

    /// How long a derivation and all inputs that it lacks take, one after the other, if that is
    /// known, not more than `most`, and nothing is needed that can't be built here.
    fn with_inputs(
        &self,
        (graph, store): (&mut BuildGraph, &mut dyn Store),
        (drv, options): (DrvId, &Options),
        most: Duration,
    ) -> Result<Option<Duration>> {
        let mut all = Duration::ZERO;
        let mut left = vec![drv];
        let mut seen: HashSet<DrvId> = left.iter().copied().collect();
        while let Some(drv) = left.pop() {
            if !is_for_here(graph, drv, options) {
                return Ok(None);
            }
            let Some(time) = (self.0)(graph, drv) else {
                return Ok(None);
            };
            all = all.saturating_add(time);
            if all > most || seen.len() > MOST_BUILDS {
                return Ok(None);
            }
            let Some(lacking) = lacking_inputs(graph, store, drv)? else {
                return Ok(None);
            };
            left.extend(lacking.into_iter().filter(|&input| seen.insert(input)));
        }
        Ok(Some(all))
    }
}

/// Whether this machine is of the platform and has the features that a derivation requires. One
/// that was not loaded is not known to require any.
fn is_for_here(graph: &BuildGraph, drv: DrvId, options: &Options) -> bool {
    let has = |known: &[String], name: &str| known.iter().any(|known| known == name);
    // What comes with the engine runs wherever the engine does.
    let runs = |system| system == BUILTIN || has(&options.platforms, system);
    let mut features = graph.required_features(drv).split(',');
    graph.system(drv).is_none_or(runs)
        && features.all(|name| name.is_empty() || has(&options.system_features, name))
}

/// The inputs of a derivation that lack an output which it needs; nothing if one is not there
/// itself, or a source is not.
fn lacking_inputs(
    graph: &mut BuildGraph,
    store: &mut dyn Store,
    drv: DrvId,
) -> Result<Option<Vec<DrvId>>> {
    let inputs: Vec<InputRow> = graph.inputs(drv).collect();
    let mut needed = graph.sources(drv).to_vec();
    let unread = inputs.iter().filter(|input| !graph.is_loaded(input.drv));
    let unread: Vec<DrvId> = unread.map(|input| input.drv).collect();
    needed.extend(unread.iter().map(|&drv| graph.drv_path(drv)));
    if store.valid(graph, &needed)?.contains(&false) {
        return Ok(None);
    }
    for drv in unread {
        // What can't be read is told of when it is needed.
        if store.load(graph, drv).is_err() {
            return Ok(None);
        }
    }
    let mut outputs = Vec::new();
    for input in &inputs {
        let rows = graph.outputs(input.drv).iter();
        let wanted = rows.filter(|row| graph.output_sets.wants(input.wanted, row.name));
        outputs.extend(wanted.map(|row| (input.drv, row.path)));
    }
    let paths: Vec<PathId> = outputs.iter().map(|&(_, path)| path).collect();
    let valid = store.valid(graph, &paths)?;
    let lacking = outputs.iter().zip(valid).filter(|(_, valid)| !valid);
    let mut lacking: Vec<DrvId> = lacking.map(|(&(drv, _), _)| drv).collect();
    lacking.dedup();
    Ok(Some(lacking))
}

impl Choosing<'_> {
    /// What is to be done about a derivation whose outputs at `missing` are to be made valid.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn choose(
        &self,
        (graph, store): (&mut BuildGraph, &mut dyn Store),
        (drv, missing): (DrvId, &[PathId]),
        substituters: &mut Substituters,
    ) -> Result<Choice> {
        // What is fixed is a download by itself, and needs a network that may be worse.
        let is_for_here = !graph.traits(drv).fixed && is_for_here(graph, drv, self.options);
        if !is_for_here || self.options.max_jobs == 0 {
            return Ok(Choice::Fetch);
        }
        let Some(own) = (self.times.0)(graph, drv) else {
            return Ok(Choice::Fetch);
        };
        let download = match self.download(missing, substituters) {
            Ok(download) => download,
            Err(instead) => return Ok(instead),
        };
        let most = download / TIMES_QUICKER;
        if own > most {
            return Ok(Choice::Fetch);
        }
        let needs = (drv, self.options);
        let build = self.times.with_inputs((graph, store), needs, most)?;
        Ok(match build {
            Some(build) => Choice::Build { build, download },
            None => Choice::Fetch,
        })
    }

    /// How long it takes to download paths from the caches that have them; what is to be done if
    /// they have not all of them.
    fn download(
        &self,
        missing: &[PathId],
        substituters: &mut Substituters,
    ) -> Result<Duration, Choice> {
        let found = missing.iter().map(|&path| {
            let found = substituters.find(path, self.now);
            (path, found)
        });
        // All are to be asked before the first is waited for.
        let found: Vec<(PathId, Find)> = found.collect();
        let (mut latency, mut transfer) = (Duration::ZERO, Duration::ZERO);
        let mut waits = false;
        for (path, found) in found {
            let sub = match found {
                Find::At(sub) if matches!(substituters.kind(sub), Kind::Cache(_)) => sub,
                Find::Asked => {
                    waits = true;
                    continue;
                }
                Find::At(_) | Find::Nobody | Find::Failed { .. } => return Err(Choice::Fetch),
            };
            let info = substituters.info(sub, path);
            let bytes = info.map_or(0, |info| match info.download_size {
                0 => info.nar_size,
                bytes => bytes,
            });
            latency = latency.max(self.speeds.latency(sub));
            transfer = transfer.saturating_add(self.speeds.transfer(sub, bytes));
        }
        match waits {
            true => Err(Choice::Wait),
            false => Ok(latency.saturating_add(transfer)),
        }
    }
}

impl Choice {
    /// What is said of a derivation at `path` that is built for that; nothing of others.
    pub fn describe(self, path: &str) -> Option<String> {
        let Self::Build { build, download } = self else {
            return None;
        };
        Some(format!(
            "building '{path}' rather than fetching its outputs: that is expected to take {:.2} s, \
             the download {:.2} s",
            build.as_secs_f64(),
            download.as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use windrow_components::derivation::Derivation;
    use windrow_components::store_path::StoreDir;
    use windrow_components::substitution::SubstituteInfo;
    use windrow_components::task_graph::{Builder, Limits, TimeUnit};

    use super::*;
    use crate::world::NewOutput;

    /// Knows which outputs are valid; derivations are.
    struct Valid(HashSet<PathId>, usize);

    impl Store for Valid {
        fn valid(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
            let is_valid = |path: &PathId| path.index() < self.1 || self.0.contains(path);
            Ok(paths.iter().map(is_valid).collect())
        }

        fn register(&mut self, _: &BuildGraph, _: &[NewOutput]) -> Result<()> {
            Ok(())
        }
    }

    /// Derivations that take a second each, of which each needs the one before.
    struct Scene {
        graph: BuildGraph,
        store: Valid,
        substituters: Substituters,
        speeds: Speeds,
        options: Options,
    }

    const LENGTH: usize = 30;

    impl Scene {
        /// A cache has all outputs, each so large.
        fn new(bytes: u64) -> Self {
            let mut builder = Builder::new("chain", TimeUnit::Units, Limits::default());
            let tasks = [(); LENGTH].map(|()| builder.add_task(None, None).unwrap());
            for (before, after) in tasks.iter().zip(&tasks[1..]) {
                builder.add_edge(*before, *after).unwrap();
            }
            let graph = BuildGraph::from_tasks(&builder.finish().unwrap());
            let cache = ["x:".to_owned()];
            let mut scene = Self {
                store: Valid(HashSet::new(), LENGTH),
                substituters: Substituters::new([], cache),
                speeds: Speeds::default(),
                options: crate::engine::default_options(),
                graph,
            };
            let all: Vec<PathId> = (0..LENGTH).map(|nth| scene.output(nth)).collect();
            let info = SubstituteInfo {
                download_size: bytes,
                ..SubstituteInfo::default()
            };
            let offers = all.iter().map(|&path| (path, info.clone()));
            let now = Duration::ZERO;
            scene.substituters.answer(0, &all, offers, now);
            scene
        }

        fn output(&self, nth: usize) -> PathId {
            self.graph.outputs(DrvId::from_index(nth))[0].path
        }

        fn choose(&mut self, nth: usize, times: &BuildTimes) -> Choice {
            let missing = [self.output(nth)];
            let choosing = Choosing {
                times,
                speeds: &self.speeds,
                options: &self.options,
                now: Duration::ZERO,
            };
            let world = (&mut self.graph, &mut self.store as &mut dyn Store);
            let lacks = (DrvId::from_index(nth), &missing[..]);
            choosing
                .choose(world, lacks, &mut self.substituters)
                .unwrap()
        }
    }

    fn a_second_each() -> BuildTimes {
        BuildTimes::new(|_, _| Some(Duration::from_secs(1)))
    }

    /// As many bytes as are supposed to come in `count` seconds.
    const fn seconds(count: u64) -> u64 {
        count * 10_000_000
    }

    #[test]
    fn only_what_takes_much_less_is_built_and_missing_inputs_count() {
        for (bytes, with_input, alone) in [
            (seconds(3), false, false),
            (seconds(5), false, true),
            (seconds(7), false, true),
            (seconds(9), true, true),
        ] {
            let mut scene = Scene::new(bytes);
            let is_build = |choice| matches!(choice, Choice::Build { .. });
            assert_eq!(is_build(scene.choose(0, &a_second_each())), alone);
            assert_eq!(is_build(scene.choose(1, &a_second_each())), with_input);
            let input = scene.output(0);
            scene.store.0.insert(input);
            assert_eq!(is_build(scene.choose(1, &a_second_each())), alone);
        }
    }

    #[test]
    fn what_was_measured_decides() {
        let mut scene = Scene::new(seconds(3));
        assert_eq!(scene.choose(0, &a_second_each()), Choice::Fetch);
        let path = scene.output(9);
        scene.speeds.begin(0, path, seconds(1), Duration::ZERO);
        scene.speeds.end(path, true, Duration::from_secs(10));
        let choice = scene.choose(0, &a_second_each());
        let Choice::Build { build, download } = choice else {
            panic!("{choice:?}")
        };
        assert_eq!(build, Duration::from_secs(1));
        assert!(download > Duration::from_secs(25), "{download:?}");
        assert!(choice.describe("/x.drv").unwrap().contains("'/x.drv'"));
        assert_eq!(Choice::Fetch.describe("/x.drv"), None);
    }

    #[test]
    fn what_is_not_known_is_fetched() {
        let mut scene = Scene::new(seconds(1000));
        let first = DrvId::from_index(0);
        let not_the_first =
            BuildTimes::new(move |_, drv| (drv != first).then_some(Duration::from_secs(1)));
        assert_eq!(scene.choose(0, &not_the_first), Choice::Fetch);
        assert_eq!(scene.choose(1, &not_the_first), Choice::Fetch);
        // Nor is it gone through a whole graph for one choice.
        let last = LENGTH - 1;
        assert_eq!(scene.choose(last, &a_second_each()), Choice::Fetch);
        let near = MOST_BUILDS - 1;
        assert!(matches!(
            scene.choose(near, &a_second_each()),
            Choice::Build { .. }
        ));
        scene.options.max_jobs = 0;
        assert_eq!(scene.choose(near, &a_second_each()), Choice::Fetch);
    }

    #[test]
    fn what_can_not_be_built_here_is_fetched() {
        let read = |system: &str, features: &str, input: &str| {
            let digit = if input.is_empty() { "1" } else { "2" };
            format!(
                r#"Derive([("out","/nix/store/{}-x","","")],[{input}],[],"{system}","/bin/sh",[],[("requiredSystemFeatures","{features}")])"#,
                digit.repeat(32),
            )
        };
        let is_built = |system: &str, features: &str, by_input: bool| {
            let mut graph = BuildGraph::new(StoreDir::new("/nix/store"));
            let [input, drv] = ["i", "d"].map(|letter| {
                let path = format!("/nix/store/{}-x.drv", letter.repeat(32));
                let path = graph.path(&path).unwrap();
                graph.drv(path)
            });
            let other = ("x86_64-linux", "");
            let needs = (system, features);
            let (first, last) = if by_input {
                (needs, other)
            } else {
                (other, needs)
            };
            let name = format!(r#"("{}",["out"])"#, graph.full_path(graph.drv_path(input)));
            for (drv, text) in [
                (input, read(first.0, first.1, "")),
                (drv, read(last.0, last.1, &name)),
            ] {
                let parsed = Derivation::parse(text.as_bytes()).unwrap();
                graph.load(drv, &parsed).unwrap();
            }
            let mut scene = Scene::new(seconds(1000));
            let missing = [graph.outputs(drv)[0].path];
            let info = SubstituteInfo {
                download_size: seconds(1000),
                ..SubstituteInfo::default()
            };
            let offers = [(missing[0], info)];
            scene
                .substituters
                .answer(0, &missing, offers, Duration::ZERO);
            scene.options.platforms = vec!["x86_64-linux".to_owned(), "i686-linux".to_owned()];
            scene.options.system_features = vec!["kvm".to_owned(), "nixos-test".to_owned()];
            let drvs = [input, drv].map(|drv| graph.drv_path(drv));
            let mut store = Valid(drvs.into_iter().collect(), 0);
            let times = a_second_each();
            let choosing = Choosing {
                times: &times,
                speeds: &scene.speeds,
                options: &scene.options,
                now: Duration::ZERO,
            };
            let world = (&mut graph, &mut store as &mut dyn Store);
            let choice = choosing.choose(world, (drv, &missing), &mut scene.substituters);
            matches!(choice.unwrap(), Choice::Build { .. })
        };
        for by_input in [false, true] {
            for (system, features, expected) in [
                ("x86_64-linux", "", true),
                ("x86_64-linux", "kvm nixos-test", true),
                ("i686-linux", "kvm", true),
                ("builtin", "", true),
                ("x86_64-linux", "kvm big-parallel", false),
                ("aarch64-linux", "", false),
            ] {
                let built = is_built(system, features, by_input);
                assert_eq!(built, expected, "{system} {features} {by_input}");
            }
        }
    }

    #[test]
    fn all_caches_are_heard_first() {
        let mut scene = Scene::new(seconds(1000));
        let path = scene.output(0);
        scene.substituters = Substituters::new([], ["x:".to_owned()]);
        assert_eq!(scene.choose(0, &a_second_each()), Choice::Wait);
        let lacks: [(PathId, SubstituteInfo); 0] = [];
        scene.substituters.answer(0, &[path], lacks, Duration::ZERO);
        assert_eq!(scene.choose(0, &a_second_each()), Choice::Fetch);
    }
}
