//! What is said to the program of a policy and what it answers, a line of JSON each; see
//! docs/SCHEDULING.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windrow_components::machine::{Machine, Role};

/// The version of what is said.
pub(super) const VERSION: u32 = 1;

/// A task.
#[derive(Debug, Serialize)]
pub(super) struct Task<'a> {
    pub(super) id: u32,
    pub(super) name: &'a str,
    /// In seconds, or units.
    pub(super) estimate: Option<f64>,
    pub(super) after: Vec<u32>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) needs: Option<Needs<'a>>,
}

/// What a task needs of a machine.
#[derive(Debug, Serialize)]
pub(super) struct Needs<'a> {
    pub(super) cores: [u32; 2],
    pub(super) memory: u64,
    pub(super) inputs: &'a [u32],
    pub(super) outputs: &'a [u32],
}

/// A machine; one that does not compute has no cores.
#[derive(Debug, Serialize)]
pub(super) struct MachineInfo<'a> {
    pub(super) name: &'a str,
    pub(super) speed: f64,
    pub(super) cores: u32,
    pub(super) memory: Option<u64>,
}

impl<'a> MachineInfo<'a> {
    pub(super) fn of(machine: &'a Machine) -> Self {
        let computes = machine.role == Role::Compute;
        Self {
            name: &machine.name,
            speed: machine.speed,
            cores: if computes { machine.cores } else { 0 },
            memory: machine.memory,
        }
    }
}

/// What a machine has for tasks that are placed now.
#[derive(Debug, Serialize)]
pub(super) struct Free {
    pub(super) cores: i64,
    pub(super) memory: Option<i64>,
    pub(super) disk: Option<i64>,
}

/// Something that is said.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Message<'a> {
    /// Once, at the beginning.
    Start {
        version: u32,
        seed: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        slots: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        machines: Vec<MachineInfo<'a>>,
        /// The sizes of all data, in bytes.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        data: Vec<u64>,
    },
    /// Tasks that have come to be known.
    Tasks { tasks: Vec<Task<'a>> },
    /// A question: which of the tasks that have become ready comes first?
    Rank {
        time: f64,
        ready: &'a [u32],
        ended: &'a [u32],
        free: u32,
    },
    /// A question: which of the tasks that are ready goes where?
    Place {
        time: f64,
        ready: &'a [u32],
        ended: &'a [u32],
        machines: Vec<Free>,
    },
}

impl Message<'_> {
    /// Adds it as a line.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        // Vectors take all that is written, and the keys are texts.
        if serde_json::to_writer(&mut *to, self).is_ok() {
            to.push(b'\n');
        }
    }
}

/// The answer to a question about order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ranks {
    /// By task; the smallest comes first.
    pub(super) ranks: BTreeMap<u32, f64>,
}

/// The answer to a question about places.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Places {
    pub(super) place: Vec<Place>,
}

/// Where a task goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) task: u32,
    pub(super) machine: usize,
    /// The fewest that it takes, if nothing is said.
    pub(super) cores: Option<u32>,
}
