//! What derivations need of a machine, each kind once.

use hashbrown::HashMap;

use super::BuildFlags;
use crate::ids::NameId;

/// What a derivation needs of a machine and how it is to be treated. A graph has a handful of
/// different ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Requirements {
    pub(super) system: Option<NameId>,
    /// Of `requiredSystemFeatures`, joined by commas.
    pub(super) features: Option<NameId>,
    pub(super) flags: BuildFlags,
}

/// The requirements that a graph's derivations have, each once.
#[derive(Debug, Default)]
pub(super) struct RequirementTable {
    pub(super) rows: Vec<Requirements>,
    known: HashMap<Requirements, u32>,
}

impl RequirementTable {
    pub(super) fn intern(&mut self, requirements: Requirements) -> u32 {
        *self.known.entry(requirements).or_insert_with(|| {
            self.rows.push(requirements);
            self.rows.len() as u32 - 1
        })
    }
}
