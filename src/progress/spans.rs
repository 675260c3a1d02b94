//! From events to spans: what ran in which slot from when to when, and what it took. Traces and
//! reports are made of these.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use windrow_systems::report::{BuildRef, Event, Usage};

/// Where something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a slot of this machine.
    Here,
    /// Where a hook has it built.
    Hook,
    /// Between a substituter and this machine.
    Fetch,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Failed,
    Cancelled,
}

/// Something that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The number of the build or fetch.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The derivation, or the path that is fetched.
    pub(crate) path: String,
    pub(crate) place: Place,
    /// From 0; those of fetches are counted for themselves.
    pub(crate) slot: u32,
    /// Since the run began.
    pub(crate) start: Duration,
}

/// Something that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) begun: Begun,
    /// Since the run began.
    pub(crate) end: Duration,
    pub(crate) how: End,
    /// What it took, if it ran where that can be seen.
    pub(crate) usage: Option<Usage>,
}

/// Slots that are taken and given back, always the first that is free.
#[derive(Debug, Default)]
struct Slots {
    /// The first of them last.
    free: Vec<u32>,
    count: u32,
}

impl Slots {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    fn give_back(&mut self, slot: u32) {
        let place = self.free.partition_point(|&it| it > slot);
        self.free.insert(place, slot);
    }
}

/// What runs.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    running: HashMap<u64, Begun>,
    builds: Slots,
    fetches: Slots,
    /// When the run began, as far as what was told of it says: it is told afterwards.
    began: Option<Instant>,
}

impl Spans {
    /// Takes in an event; tells what has ended with it.
    pub(crate) fn note(&mut self, event: &Event<'_>) -> Option<Ended> {
        match *event {
            Event::Started {
                build, at, by_hook, ..
            } => {
                let place = if by_hook { Place::Hook } else { Place::Here };
                self.begin(build, place, at);
                None
            }
            Event::FetchStarted { build, at, .. } => {
                self.begin(build, Place::Fetch, at);
                None
            }
            Event::Exited {
                build,
                usage,
                good,
                at,
                ..
            } => {
                let how = if good { End::Good } else { End::Failed };
                self.end(build.id, at, how, Some(usage))
            }
            // What ran elsewhere has no exit that could be seen here.
            Event::Succeeded { build, at } | Event::FetchSucceeded { build, at } => {
                self.end(build.id, at, End::Good, None)
            }
            Event::Failed { build, at, .. } | Event::FetchFailed { build, at, .. } => {
                self.end(build.id, at, End::Failed, None)
            }
            Event::Cancelled { build, at } => self.end(build.id, at, End::Cancelled, None),
            _ => None,
        }
    }

    fn note_time(&mut self, at: Duration) {
        let began = Instant::now().checked_sub(at);
        self.began = [self.began, began].into_iter().flatten().min();
    }

    fn begin(&mut self, build: BuildRef<'_>, place: Place, at: Duration) {
        self.note_time(at);
        let begun = Begun {
            id: build.id,
            name: build.name.to_owned(),
            path: build.drv_path.to_owned(),
            place,
            slot: self.slots(place).take(),
            start: at,
        };
        if let Some(before) = self.running.insert(build.id, begun) {
            self.slots(before.place).give_back(before.slot);
        }
    }

    const fn slots(&mut self, place: Place) -> &mut Slots {
        match place {
            Place::Here | Place::Hook => &mut self.builds,
            Place::Fetch => &mut self.fetches,
        }
    }

    /// Ends what has not ended before.
    fn end(&mut self, id: u64, at: Duration, how: End, usage: Option<Usage>) -> Option<Ended> {
        self.note_time(at);
        let begun = self.running.remove(&id)?;
        self.slots(begun.place).give_back(begun.slot);
        let end = at.max(begun.start);
        Some(Ended {
            begun,
            end,
            how,
            usage,
        })
    }

    /// What runs now, in no order.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Begun> {
        self.running.values()
    }

    /// Ends all that runs: it was killed just now, because the run ended early. In the order of
    /// slots.
    pub(crate) fn end_all(&mut self) -> Vec<Ended> {
        let now = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        let mut killed: Vec<Begun> = self.running.drain().map(|(_, begun)| begun).collect();
        killed.sort_by_key(|begun| (begun.place == Place::Fetch, begun.slot));
        let ended = killed.into_iter().map(|begun| Ended {
            end: now.max(begun.start),
            begun,
            how: End::Cancelled,
            usage: None,
        });
        ended.collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["seen", "elsewhere", "next", "killed", "fetched"];

    pub(in crate::progress) const fn build(id: usize) -> BuildRef<'static> {
        BuildRef {
            id: id as u64,
            drv_path: NAMES[id],
            name: NAMES[id],
        }
    }

    pub(in crate::progress) fn started(id: usize, by_hook: bool, at: u64) -> Event<'static> {
        Event::Started {
            build: build(id),
            system: "",
            log_file: "",
            outputs: &[],
            mode: windrow_components::goal::BuildMode::Normal,
            outlook: windrow_systems::report::Outlook::default(),
            by_hook,
            at: Duration::from_secs(at),
        }
    }

    pub(in crate::progress) fn exited(id: usize, good: bool, at: u64) -> Event<'static> {
        Event::Exited {
            build: build(id),
            system: "",
            usage: Usage::default(),
            good,
            at: Duration::from_secs(at),
        }
    }

    #[test]
    fn every_start_has_an_end_and_slots_are_used_again() {
        let mut spans = Spans::default();
        let second = Duration::from_secs;
        let mut ended = Vec::new();
        let events = [
            started(0, false, 0),
            started(1, true, 0),
            Event::FetchStarted {
                build: build(4),
                program: "",
                transfer: None,
                at: second(0),
            },
            exited(0, true, 1),
            started(2, false, 2),
        ];
        ended.extend(events.iter().filter_map(|event| spans.note(event)));
        for id in [0, 1, 2] {
            let event = Event::Succeeded {
                build: build(id),
                at: second(3),
            };
            ended.extend(spans.note(&event));
        }
        let event = Event::FetchSucceeded {
            build: build(4),
            at: second(3),
        };
        ended.extend(spans.note(&event));
        spans.note(&started(3, false, 3));
        // It was told of the last start just then.
        spans.began = spans.began.map(|began| began - second(2));
        ended.extend(spans.end_all());
        let rows: Vec<_> = ended
            .iter()
            .map(|it| {
                let length = (it.end - it.begun.start).as_secs();
                (
                    it.begun.name.as_str(),
                    it.begun.place,
                    it.begun.slot,
                    length,
                    it.how,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("seen", Place::Here, 0, 1, End::Good),
                ("elsewhere", Place::Hook, 1, 3, End::Good),
                ("next", Place::Here, 0, 1, End::Good),
                ("fetched", Place::Fetch, 0, 3, End::Good),
                ("killed", Place::Here, 0, 2, End::Cancelled),
            ]
        );
    }
}
