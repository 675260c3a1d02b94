//! What a report of a build needs to know: all that ran, what needed what, what failed and why.

use hashbrown::HashMap;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_systems::report::Event;

use super::failures::FailedBuild;
use super::spans::{Begun, End, Ended, Place, Spans};
use super::summary::Tally;

/// A record of a run.
#[derive(Default)]
pub(crate) struct Record {
    spans: Spans,
    /// Whether what has ended is kept: a trace alone needs nothing of it.
    keeps: bool,
    tally: Tally,
    ended: Vec<Ended>,
    /// The place of the last span of each build or fetch.
    places: HashMap<u64, usize>,
    /// Which build needed which build or fetch, by their numbers.
    needs: Vec<(u64, u64)>,
}

impl Record {
    /// A record that keeps what a report needs.
    pub(crate) fn for_report() -> Self {
        Self {
            keeps: true,
            ..Self::default()
        }
    }

    /// Takes in an event; tells what has ended with it.
    pub(super) fn note(&mut self, event: &Event<'_>) -> Option<Ended> {
        if matches!(event, Event::Output { .. } | Event::SecondPassed) {
            return None;
        }
        let ended = self.spans.note(event);
        if self.keeps {
            self.keep(event, ended.as_ref());
        }
        ended
    }

    fn keep(&mut self, event: &Event<'_>, ended: Option<&Ended>) {
        self.tally.note(event);
        if let Some(ended) = ended {
            self.add(ended.clone());
        }
        let Event::Failed { build, kind, .. } = event else {
            return;
        };
        // A builder may have ended well, and what it made be refused.
        if let Some(&place) = self.places.get(&build.id) {
            self.ended[place].how = End::Failed;
        }
        if *kind != windrow_systems::failure::FailureKind::Dependency {
            self.tally.failures.extend(FailedBuild::of(event));
        }
    }

    fn add(&mut self, ended: Ended) {
        self.places.insert(ended.begun.id, self.ended.len());
        self.ended.push(ended);
    }

    /// Ends what runs; tells what that was.
    pub(super) fn end_all(&mut self) -> Vec<Ended> {
        let killed = self.spans.end_all();
        if self.keeps {
            for ended in &killed {
                self.add(ended.clone());
            }
        }
        killed
    }

    /// Takes from the graph which of what ran or runs needed which.
    pub(crate) fn note_needs(&mut self, graph: &mut BuildGraph) {
        let begun = self.ended.iter().map(|ended| &ended.begun);
        // A path that was reported is one of this store.
        let known = |begun: &Begun| Some((graph.path(&begun.path).ok()?, begun.id, begun.place));
        let all: Vec<(PathId, u64, Place)> = begun
            .chain(self.spans.running())
            .filter_map(known)
            .collect();
        let ids: HashMap<PathId, u64> = all.iter().map(|&(path, id, _)| (path, id)).collect();
        for (path, id, place) in all {
            if place == Place::Fetch {
                continue;
            }
            let drv = graph.drv(path);
            if !graph.is_loaded(drv) {
                continue;
            }
            for input in graph.inputs(drv) {
                let built = ids.get(&graph.drv_path(input.drv));
                let outputs = graph.outputs(input.drv).iter();
                let fetched = outputs.filter_map(|output| ids.get(&output.path));
                self.needs
                    .extend(built.into_iter().chain(fetched).map(|&it| (id, it)));
            }
        }
    }

    /// What ran, in the order of the ends.
    pub(crate) fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// Which span needed which, by their places in [`ended`](Self::ended).
    pub(crate) fn needs(&self) -> Vec<(u32, u32)> {
        let place = |id: &u64| self.places.get(id).map(|&place| place as u32);
        let needs = self.needs.iter();
        needs
            .filter_map(|(needing, needed)| Some((place(needing)?, place(needed)?)))
            .collect()
    }

    /// Counts and failures.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}
