//! Paths from binary caches wait for their archives before they take a lock and a slot: nobody
//! holds anything while all it waits for is the network.

use bevy_ecs::prelude::{Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::helpers::downloads::Downloads;
use crate::helpers::{Kind, Substituters};
use crate::report::{BuildRef, Event, Transfer};
use crate::world::{Parts, ReadyFetch, Reporters, Scheduler};

/// What is known of archives.
#[derive(SystemParam)]
pub struct Archives<'w, 's> {
    has: Res<'w, Parts>,
    substituters: Option<Res<'w, Substituters>>,
    downloads: ResMut<'w, Downloads>,
    substitutions: Query<'w, 's, &'static Substitution>,
}

impl Archives<'_, '_> {
    /// The binary cache that is to deliver a path, unless that is a program.
    fn cache_of(&self, fetch: ReadyFetch) -> Option<usize> {
        if !self.has.caches && !self.has.simulated_caches {
            return None;
        }
        let substituters = self.substituters.as_ref()?;
        let sub = self.substitutions.get(fetch.goal).ok()?.sub;
        matches!(substituters.kind(sub), Kind::Cache(_)).then_some(sub)
    }

    /// Lets those wait whose archives are not here; gives the others.
    pub(super) fn set_aside(
        &mut self,
        mut fetches: Vec<ReadyFetch>,
        scheduler: &mut Scheduler,
        (graph, reporter): (&BuildGraph, &mut Reporters),
    ) -> Vec<ReadyFetch> {
        fetches.retain(|&fetch| {
            let cache = self.cache_of(fetch);
            let Some(sub) = cache.filter(|_| !self.downloads.is_here(fetch.path)) else {
                return true;
            };
            scheduler.await_archive(fetch);
            let nar = self.substituters.as_ref().and_then(|known| {
                let offer = known.offer(sub, fetch.path)?;
                offer.nar.clone()
            });
            if let Some(info) = nar {
                self.downloads.wait(fetch, sub, &info);
            }
            if self.downloads.announce(fetch.path) {
                let transfer = self.downloads.transfer(fetch.path);
                let program = self
                    .substituters
                    .as_ref()
                    .map_or("", |known| known.name(sub));
                let from = (program, transfer.as_ref());
                report_start(fetch, (graph, reporter), from, scheduler.now);
            }
            false
        });
        fetches
    }

    /// A path need not be fetched any more, which is told of if its fetch was.
    pub(super) fn leave(
        &mut self,
        fetch: ReadyFetch,
        scheduler: &Scheduler,
        (graph, reporter): (&BuildGraph, &mut Reporters),
    ) {
        let is_told = self.cache_of(fetch).is_some() && !self.downloads.announce(fetch.path);
        if is_told && reporter.wants_builds() {
            reporter.report(&Event::Cancelled {
                build: BuildRef {
                    id: fetch.goal.to_bits(),
                    drv_path: &graph.full_path(fetch.path),
                    name: graph.paths.name(fetch.path),
                },
                at: scheduler.now,
            });
        }
    }
}

/// Reports that a path is being fetched.
pub(crate) fn report_start(
    fetch: ReadyFetch,
    (graph, reporter): (&BuildGraph, &mut Reporters),
    (program, transfer): (&str, Option<&Transfer>),
    at: std::time::Duration,
) {
    if !reporter.wants_builds() {
        return;
    }
    reporter.report(&Event::FetchStarted {
        build: BuildRef {
            id: fetch.goal.to_bits(),
            drv_path: &graph.full_path(fetch.path),
            name: graph.paths.name(fetch.path),
        },
        program,
        transfer,
        at,
    });
}
