//! What of a plan would be fetched: asks the same substituters as a build would, one question for a
//! whole wave, and waits for the answers, for a plan has nothing else to do (`queryMissing`).

use std::path::PathBuf;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::SubstituteInfo;
use windrow_sys::interrupt;

use crate::error::Result;
use crate::helpers::caches::{Caches, note_time};
use crate::helpers::choice::{BuildTimes, Choice, Choosing};
use crate::helpers::query::{Around, QueryError, QueryProcess};
use crate::helpers::understand;
use crate::helpers::{CacheConfig, Find, HelperConfig, Kind, Speeds, Substituters};
use crate::lock::stays_here;
use crate::plan::Plan;
use crate::process::helper::HelperEnv;
use crate::world::{Options, Store};

/// The substituters that a plan asks.
pub struct Substitutes {
    programs: Vec<PathBuf>,
    env: HelperEnv,
    patience_s: u64,
    options: Options,
    processes: Vec<Option<QueryProcess>>,
    known: Substituters,
    config: CacheConfig,
    /// Binary caches, once one has been asked.
    caches: Option<Caches>,
    speeds: Speeds,
    times: Option<BuildTimes>,
    began: Instant,
    fetched: HashSet<PathId>,
    /// What went wrong, and what substituters said, a line each, up to a bound.
    pub complaints: Vec<String>,
    /// The signal that ended the asking, if one has. The plan then lacks what was not answered.
    pub interrupted: Option<i32>,
}

/// What binary caches have said to a plan, for a run that does what was planned, with the same
/// graph and configuration.
pub struct Learnt {
    known: Substituters,
    caches: Caches,
    speeds: Speeds,
}

impl Learnt {
    /// What is known, who may owe answers, and how fast they are.
    pub(crate) fn take(self) -> (Substituters, Caches, Speeds) {
        (self.known, self.caches, self.speeds)
    }
}

/// How many lines of complaints are kept. Those after them are left out.
const COMPLAINTS_MAX: usize = 1000;

impl Substitutes {
    /// The substituters of a run with that configuration and those options.
    pub fn new(config: &HelperConfig, options: Options) -> Self {
        Self {
            programs: config.substituters.clone(),
            env: config.env.clone(),
            patience_s: config.patience_s,
            options,
            processes: config.substituters.iter().map(|_| None).collect(),
            known: Substituters::of_config(config),
            config: config.caches.clone(),
            caches: None,
            speeds: Speeds::of_config(config),
            times: None,
            began: Instant::now(),
            fetched: HashSet::new(),
            complaints: Vec::new(),
            interrupted: None,
        }
    }

    /// The same where builds that are much quicker than downloads are preferred to these.
    #[must_use]
    pub fn or_build(mut self, times: BuildTimes) -> Self {
        self.times = Some(times);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What binary caches have said, if any were asked.
    pub fn into_learnt(self) -> Option<Learnt> {
        Some(Learnt {
            caches: self.caches?,
            known: self.known.for_run_from(self.began.elapsed()),
            speeds: self.speeds.for_run(),
        })
    }

    /// What is known of each of the paths, asked for where it is not known yet.
    fn infos(&mut self, graph: &mut BuildGraph, paths: &[PathId]) -> Vec<Option<SubstituteInfo>> {
        loop {
            let now = self.began.elapsed();
            let found = paths.iter().map(|&path| self.known.find(path, now));
            let found: Vec<Find> = found.collect();
            let waits = found.iter().zip(paths);
            let waits = waits.filter(|(find, _)| **find == Find::Asked);
            let mut open: HashSet<PathId> = waits.map(|(_, &path)| path).collect();
            let questions = self.known.take_questions();
            if open.is_empty() && questions.is_empty() {
                let info = |(find, &path): (Find, &PathId)| match find {
                    Find::At(sub) => self.known.info(sub, path).cloned(),
                    Find::Asked | Find::Nobody | Find::Failed { .. } => None,
                };
                return found.into_iter().zip(paths).map(info).collect();
            }
            if self.put(graph, questions) {
                continue;
            }
            // All are looked at again where nothing was heard of any.
            while !open.is_empty() {
                let heard_of = self.hear(graph).unwrap_or_default();
                if heard_of.is_empty() {
                    break;
                }
                let now = self.began.elapsed();
                // Others stand as they stood: to look at all of them each time would take longer
                // than all else.
                for path in heard_of {
                    if open.contains(&path) && self.known.find(path, now) != Find::Asked {
                        open.remove(&path);
                    }
                }
                let questions = self.known.take_questions();
                if self.put(graph, questions) {
                    break;
                }
            }
        }
    }

    /// Asks substituters; whether one of them was a program, which has answered by now.
    fn put(&mut self, graph: &mut BuildGraph, questions: Vec<(usize, Vec<PathId>)>) -> bool {
        let now = self.began.elapsed();
        let mut any_program = false;
        for (sub, asked) in questions {
            if let Kind::Cache(cache) = self.known.kind(sub) {
                self.speeds.ask(sub, &asked, now);
                self.ask_cache(graph, cache, &asked);
                continue;
            }
            any_program = true;
            match self.ask(graph, sub, &asked) {
                Ok(Some(infos)) => self.known.answer(sub, &asked, infos, now),
                Ok(None) => drop(self.known.disable(sub)),
                Err(QueryError::Stopped) => {
                    self.interrupted = interrupt::signal();
                    self.known.disable_all();
                }
                Err(error) => {
                    let program = self.programs[sub].display();
                    self.complaints
                        .push(format!("substituter '{program}': {error}"));
                    self.known.disable(sub);
                }
            }
        }
        any_program
    }

    /// Asks a binary cache, through the thread that asks all of them.
    fn ask_cache(&mut self, graph: &BuildGraph, cache: usize, asked: &[PathId]) {
        if self.caches.is_none() {
            match Caches::new(&self.config, || {}) {
                Ok(caches) => self.caches = Some(caches),
                Err(error) => {
                    let text = format!("binary caches can't be asked: {error}");
                    self.complaints.push(text);
                    self.known.disable_all();
                }
            }
        }
        if let Some(caches) = &self.caches {
            caches.ask(cache, graph, asked);
        }
    }

    /// Waits for what caches say, for as long as that may change anything; the paths that it is
    /// about. Nothing, once nobody is asked any more.
    fn hear(&mut self, graph: &mut BuildGraph) -> Option<Vec<PathId>> {
        let Some(caches) = &mut self.caches else {
            self.known.disable_all();
            return None;
        };
        let now = self.began.elapsed();
        let grace = self.known.next_end_of_grace();
        let time = grace.map_or(interrupt::SLICE, |at| at.saturating_sub(now));
        let mut answer = caches.asker().wait(time.min(interrupt::SLICE));
        let now = self.began.elapsed();
        let mut paths = Vec::new();
        while let Some(heard) = answer {
            note_time(&heard, (&self.known, &mut self.speeds), now);
            let news = caches.hear(heard, (&mut self.known, graph), now);
            paths.extend(news.wake);
            if self.complaints.len() < COMPLAINTS_MAX {
                let warning = news.warning.map(|text| format!("warning: {text}"));
                self.complaints.extend(warning);
            }
            answer = caches.asker().take();
        }
        paths.extend(std::iter::from_fn(|| self.known.pop_end_of_grace(now)));
        if interrupt::has_come() {
            self.interrupted = interrupt::signal();
            self.known.disable_all();
            return None;
        }
        Some(paths)
    }

    fn ask(
        &mut self,
        graph: &mut BuildGraph,
        sub: usize,
        asked: &[PathId],
    ) -> Result<Option<Vec<(PathId, SubstituteInfo)>>, QueryError> {
        let program = &self.programs[sub];
        let complaints = &mut self.complaints;
        let mut say = |line: &str| {
            if complaints.len() < COMPLAINTS_MAX {
                complaints.push(format!("{}: {line}", program.display()));
            }
        };
        let mut around = Around {
            env: &self.env,
            patience_s: self.patience_s,
            stop: interrupt::event(),
            say: &mut say,
        };
        let process = &mut self.processes[sub];
        if process.is_none() {
            *process = QueryProcess::start(program, &mut around)?;
        }
        let Some(process) = process else {
            return Ok(None);
        };
        let paths: Vec<String> = asked.iter().map(|&path| graph.full_path(path)).collect();
        let infos = process.infos(&paths, &mut around)?;
        let ids: HashMap<&str, PathId> = paths
            .iter()
            .map(|p| &**p)
            .zip(asked.iter().copied())
            .collect();
        // What can't be understood is told of in a build; a plan leaves it out.
        let known = infos.iter().filter_map(|info| {
            let id = *ids.get(info.path.as_str())?;
            Some((id, understand(graph, info).ok()?))
        });
        Ok(Some(known.collect()))
    }

    /// Takes out of `missing` the derivations whose missing outputs can all be fetched, and plans
    /// for that.
    pub(super) fn prefer(
        &mut self,
        (graph, store): (&mut BuildGraph, &mut dyn Store),
        missing: &mut Vec<(DrvId, OutputSet)>,
        plan: &mut Plan,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut outputs = Vec::new();
        let mut ends = Vec::with_capacity(missing.len());
        for &(drv, wanted) in &*missing {
            let allowed =
                graph.traits(drv).allow_substitutes && !stays_here(graph, &self.options, drv);
            if allowed || self.options.always_allow_substitutes {
                let rows = graph.outputs(drv).iter();
                let rows = rows.filter(|row| graph.output_sets.wants(wanted, row.name));
                outputs.extend(rows.map(|row| row.path));
            }
            ends.push(outputs.len());
        }
        let valid = store.valid(graph, &outputs)?;
        let asked: Vec<PathId> = outputs
            .iter()
            .zip(&valid)
            .filter(|(_, valid)| !**valid)
            .map(|(p, _)| *p)
            .collect();
        let infos: HashMap<PathId, bool> = {
            let infos = self.infos(graph, &asked);
            asked
                .into_iter()
                .zip(infos)
                .map(|(path, info)| (path, info.is_some()))
                .collect()
        };
        let mut start = 0;
        let mut fetch = Vec::new();
        for ((drv, wanted), end) in std::mem::take(missing).into_iter().zip(ends) {
            let own = &outputs[start..end];
            start = end;
            let needed = own.iter().filter(|path| infos.contains_key(*path));
            let needed: Vec<PathId> = needed.copied().collect();
            let can_be = !own.is_empty() && needed.iter().all(|path| infos[path]);
            if can_be && !self.is_rather_built((&mut *graph, &mut *store), (drv, &needed))? {
                fetch.extend(needed);
            } else {
                missing.push((drv, wanted));
            }
        }
        self.fetch((graph, store), fetch, plan)
    }

    /// Whether a derivation is built although all that it lacks can be fetched.
    fn is_rather_built(
        &mut self,
        world: (&mut BuildGraph, &mut dyn Store),
        lacks: (DrvId, &[PathId]),
    ) -> Result<bool> {
        let Some(times) = &self.times else {
            return Ok(false);
        };
        let choosing = Choosing {
            times,
            speeds: &self.speeds,
            options: &self.options,
            now: self.began.elapsed(),
        };
        let choice = choosing.choose(world, lacks, &mut self.known)?;
        Ok(matches!(choice, Choice::Build { .. }))
    }

    /// Plans to fetch paths with all that they refer to; what nobody has is unknown.
    pub fn fetch(
        &mut self,
        (graph, store): (&mut BuildGraph, &mut dyn Store),
        mut wave: Vec<PathId>,
        plan: &mut Plan,
    ) -> Result<()> {
        while !wave.is_empty() {
            wave.sort_unstable();
            wave.dedup();
            wave.retain(|path| !self.fetched.contains(path));
            let valid = store.valid(graph, &wave)?;
            let mut valid = valid.into_iter();
            wave.retain(|_| valid.next() == Some(false));
            let infos = self.infos(graph, &wave);
            let mut next = Vec::new();
            for (&path, info) in wave.iter().zip(infos) {
                self.fetched.insert(path);
                match info {
                    Some(info) => {
                        plan.fetches.push(path);
                        plan.download_size += info.download_size;
                        plan.nar_size += info.nar_size;
                        next.extend_from_slice(&info.references);
                    }
                    None => plan.unknown.push(path),
                }
            }
            wave = next;
        }
        Ok(())
    }
}
