//! What the world tells policies: where goals were placed, and where data is.

use bevy_ecs::prelude::Resource;
use hashbrown::HashMap;
use windrow_components::ids::DrvId;

/// How far a piece of data is on its way to a machine to which it is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataAt {
    /// It was made elsewhere, or not at all yet, and nobody needs it there.
    Elsewhere,
    /// A goal placed there needs it.
    Wanted,
    /// It is there.
    Here,
}

const NOWHERE: u32 = u32::MAX;

/// Where goals and data are.
#[derive(Debug, Default, Resource)]
pub struct Board {
    /// The time in seconds, or units.
    pub now: f64,
    /// Whether what happened last is that a goal ended, or the run began.
    pub has_news: bool,
    /// Whether that has happened at this instant.
    pub has_news_now: bool,
    /// Whether nothing more is known to happen at this instant.
    pub is_settled: bool,
    machines: Vec<u32>,
    /// By data and machine: whether it is there, or else wanted.
    data: HashMap<(u32, u32), bool>,
}

impl Board {
    /// A board for that many goals at the beginning of a run.
    pub fn new(goals: usize) -> Self {
        Self {
            has_news: true,
            has_news_now: true,
            is_settled: true,
            machines: vec![NOWHERE; goals],
            ..Self::default()
        }
    }

    /// Whether cores may have become free at this instant, at which nothing more is known to
    /// happen: the time to place goals for policies that look at all that happens at an instant
    /// together.
    pub fn is_time_to_place(&self) -> bool {
        self.has_news_now && self.is_settled
    }

    /// The machine that a goal was placed on.
    pub fn machine_of(&self, drv: DrvId) -> Option<usize> {
        let machine = self.machines.get(drv.index()).copied();
        machine
            .filter(|&machine| machine != NOWHERE)
            .map(|machine| machine as usize)
    }

    /// A goal is placed, or not placed any more.
    pub fn place(&mut self, drv: DrvId, machine: Option<usize>) {
        self.machines[drv.index()] = machine.map_or(NOWHERE, |machine| machine as u32);
    }

    /// Whether data is at a machine.
    pub fn data_at(&self, data: u32, machine: usize) -> DataAt {
        match self.data.get(&(data, machine as u32)) {
            None => DataAt::Elsewhere,
            Some(false) => DataAt::Wanted,
            Some(true) => DataAt::Here,
        }
    }

    /// A goal placed there needs it.
    pub fn want_data(&mut self, data: u32, machine: usize) {
        self.data.entry((data, machine as u32)).or_insert(false);
    }

    /// It is there; tells whether it was not before.
    pub fn add_data(&mut self, data: u32, machine: usize) -> bool {
        self.data.insert((data, machine as u32), true) != Some(true)
    }
}
