//! Machines that tasks run on, and the network between them, as plain data. An entity that carries
//! a [`Machine`] is one.

use bevy_ecs::prelude::Component;

/// What a machine is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// It runs tasks, and keeps what they make.
    #[default]
    Compute,
    /// It runs nothing. It has what no task makes, and is sent what no task needs.
    Storage,
}

/// A time during which a machine is down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// When it begins, in seconds.
    pub at: f64,
    /// How long it lasts, in seconds.
    pub length: f64,
}

/// When a machine is down. What runs on it then is lost; what its disk has is there again
/// afterwards.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Reliability {
    /// Never.
    #[default]
    Perfect,
    /// At these times, which are in order and do not overlap.
    Listed(Vec<Outage>),
    /// By chance: the times for which it is up, and for which it is down, are exponential.
    ByChance {
        /// The mean time from a restart to the next failure, in seconds; above 0.
        up: f64,
        /// The mean time from a failure to the restart, in seconds.
        down: f64,
    },
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Component)]
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// How much work one core does in a second; above 0.
    pub speed: f64,
    /// At least 1.
    pub cores: u32,
    /// In bytes, if it is limited.
    pub memory: Option<u64>,
    /// How many bytes of outputs it can keep, if that is limited.
    pub disk: Option<u64>,
    /// When it is down.
    pub reliability: Reliability,
    /// The platforms whose tasks it runs; all, if none is named.
    pub systems: Vec<String>,
    /// What it offers to tasks that ask for it.
    pub features: Vec<String>,
    /// What it is there for.
    pub role: Role,
}

/// How transfers between machines share the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkModel {
    /// What is made anywhere is everywhere at once.
    #[default]
    None,
    /// Each transfer has the whole bandwidth, however many there are.
    Constant,
    /// Each machine has the bandwidth in each direction; pairs of machines share it max-min fairly,
    /// and the transfers between two machines share theirs equally.
    MaxMin,
    /// All transfers share one line equally.
    Shared,
}

/// The network between machines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// How transfers share it.
    pub model: NetworkModel,
    /// In bytes a second; above 0.
    pub bandwidth: f64,
    /// From the request to the first byte, in seconds.
    pub latency: f64,
    /// Whether what has been sent to a machine, or is on its way there, serves every task of that
    /// machine; else each task has its inputs sent for itself.
    pub reuse: bool,
    /// How many transfers to a machine may be under way at a time.
    pub downloads: Option<u32>,
    /// How many of them from one other machine.
    pub downloads_from_each: Option<u32>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            model: NetworkModel::None,
            bandwidth: f64::INFINITY,
            latency: 0.0,
            reuse: false,
            downloads: None,
            downloads_from_each: None,
        }
    }
}

impl Network {
    /// How long a transfer between two machines takes that has the network to itself, in seconds.
    pub fn time(&self, bytes: u64) -> f64 {
        match self.model {
            NetworkModel::None => 0.0,
            _ => self.latency + bytes as f64 / self.bandwidth,
        }
    }
}

/// All machines and their network.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// In the order of their file. At least one computes.
    pub machines: Vec<Machine>,
    /// Between them.
    pub network: Network,
}

impl Cluster {
    /// Machines that all are alike, of one core that does a unit of work a second, between which
    /// data takes no time: what slots are.
    pub fn of_slots(slots: u32) -> Self {
        let machine = |number| Machine {
            name: format!("slot {number}"),
            speed: 1.0,
            cores: 1,
            memory: None,
            disk: None,
            reliability: Reliability::Perfect,
            systems: Vec::new(),
            features: Vec::new(),
            role: Role::Compute,
        };
        Self {
            machines: (0..slots).map(machine).collect(),
            network: Network::default(),
        }
    }

    /// How many cores all machines have that compute.
    pub fn cores(&self) -> u64 {
        let computing = self.machines.iter().filter(|m| m.role == Role::Compute);
        computing.map(|machine| u64::from(machine.cores)).sum()
    }
}
