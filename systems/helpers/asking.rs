//! Asking substituters and taking in what they say: shared by the systems that ask and those that
//! hear.

use bevy_ecs::prelude::{NonSendMut, ResMut};
use bevy_ecs::system::SystemParam;
use hashbrown::HashMap;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_components::substitution::SubstituteInfo;

use crate::helpers::Substituters;
use crate::helpers::querier::{Queriers, Question};
use crate::helpers::query::RawInfo;
use crate::process::lines::quotable;
use crate::report::{Event, Level};
use crate::world::{Scheduler, Services};

/// What asking and hearing substituters touches.
#[derive(SystemParam)]
pub struct Asking<'w> {
    pub(crate) substituters: ResMut<'w, Substituters>,
    pub(crate) queriers: NonSendMut<'w, Queriers>,
    pub(crate) graph: ResMut<'w, BuildGraph>,
    pub(crate) scheduler: ResMut<'w, Scheduler>,
    pub(crate) services: NonSendMut<'w, Services>,
}

impl Asking<'_> {
    pub(crate) fn known(&mut self, sub: usize, asked: &[Question], infos: Vec<RawInfo>) {
        let ids: HashMap<&str, PathId> = asked.iter().map(|(id, path)| (&**path, *id)).collect();
        let mut known = Vec::with_capacity(infos.len());
        for info in infos {
            let Some(&id) = ids.get(info.path.as_str()) else {
                let program = self.substituters.name(sub);
                let text = format!(
                    "error: substituter '{program}' answers for '{}', which it was not asked for",
                    quotable(info.path)
                );
                self.complain(&text);
                continue;
            };
            match understand(&mut self.graph, &info) {
                Ok(info) => known.push((id, info)),
                Err(error) => {
                    let program = self.substituters.name(sub);
                    let text = format!(
                        "error: what substituter '{program}' says of '{}' can't be: {error}",
                        info.path
                    );
                    self.complain(&text);
                }
            }
        }
        let asked: Vec<PathId> = asked.iter().map(|(id, _)| *id).collect();
        let now = self.scheduler.now;
        self.substituters.answer(sub, &asked, known, now);
        self.wake(&asked);
    }

    pub(crate) fn disable(&mut self, sub: usize, reason: Option<&str>) {
        if let Some(reason) = reason {
            let program = self.substituters.name(sub);
            let text =
                format!("error: substituter '{program}': {reason}; it is not asked any more");
            self.complain(&text);
        }
        let owed = self.substituters.disable(sub);
        self.wake(&owed);
    }

    pub(crate) fn wake(&mut self, paths: &[PathId]) {
        self.scheduler.wake_askers(paths.iter().copied());
    }

    pub(crate) fn complain(&mut self, text: &str) {
        let level = Level::Error;
        self.services
            .reporter
            .report(&Event::Message { level, text });
    }
}

pub(crate) fn understand(
    graph: &mut BuildGraph,
    info: &RawInfo,
) -> windrow_components::Result<SubstituteInfo> {
    let deriver = match info.deriver.as_str() {
        "" => None,
        deriver => Some(graph.path(deriver)?),
    };
    let mut references = Vec::with_capacity(info.references.len());
    for reference in &info.references {
        references.push(graph.path(reference)?);
    }
    references.sort_unstable();
    references.dedup();
    Ok(SubstituteInfo {
        deriver,
        references: references.into(),
        download_size: info.download_size,
        nar_size: info.nar_size,
    })
}
