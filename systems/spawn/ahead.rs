//! Executes the program of a builder before its inputs are valid, where nothing of what it finds
//! hangs on them, and holds it up before its first instruction until it is its turn.

use std::path::{Path, PathBuf};

use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::process::launch::Lost;

use crate::process::ahead::{HeldBuilder, NextBuild, NextBuilds, ReleasedBuilder};
use crate::process::spare::{Spare, SpareProcess};
use crate::spawn::builder::{BuilderInputs, Prepared, clear_leftovers, prepare};
use crate::spawn::launch::Origin;
use crate::world::BuilderConfig;

/// Where a builder is executed before its turn.
pub struct Place<'a> {
    /// The run's graph.
    pub graph: &'a BuildGraph,
    /// What builders need to know of this machine.
    pub config: &'a BuilderConfig,
    /// Where its build directory is from.
    pub dirs: &'a SpareDirs,
    /// Where its process is from.
    pub spare: &'a mut Spare,
}

/// Executes the builder of a build that waits for nothing but what `awaited` makes. What is known
/// of the build comes back, with its builder if that was executed; what goes wrong is told when the
/// build is to begin.
pub fn execute_ahead(place: Place<'_>, awaited: DrvId, next: NextBuild) -> Option<NextBuild> {
    let Place {
        graph,
        config,
        dirs,
        spare,
    } = place;
    let plain = config.sandbox.is_none() && config.users.is_none() && config.store_mount.is_none();
    if !plain || !spare.is_there() || next.dir.is_none() {
        return Some(next);
    }
    let (drv, text) = (next.drv, next.text.clone());
    let missing: Vec<PathId> = graph.outputs(drv).iter().map(|row| row.path).collect();
    let mut inputs = BuilderInputs {
        graph,
        config,
        pool: None,
        drv,
        missing: &missing,
        rewrites: None,
        user: None,
        closure: &[],
        shown: &[],
        spare,
        leftovers: Vec::new(),
        next: Some(next),
        by_hand: None,
    };
    let Prepared {
        launch,
        origin,
        log,
        dir,
        warning,
    } = prepare(&mut inputs, dirs).ok()?;
    let program = launch.program().to_owned();
    // Its file may be there and not yet be what it will be.
    let mut made_now = graph.outputs(awaited).iter();
    let exists = !made_now.any(|row| Path::new(&program).starts_with(graph.full_path(row.path)));
    let mut held = None;
    match origin {
        Origin::Spare(standby, cgroup) if exists && warning.is_none() && launch.may_be_held() => {
            let (process, pending) = launch.execute_and_hold(standby);
            held = Some(HeldBuilder {
                process,
                cgroup,
                pending,
                log,
                program,
            });
        }
        Origin::Spare(standby, cgroup) => spare.put_back(SpareProcess {
            standby,
            cgroup,
            log,
        }),
        Origin::New(_) => {}
    }
    Some(NextBuild {
        drv,
        text,
        dir,
        held,
    })
}

/// Lets the builder go that was executed for a build, if there is one and it finds all as it was
/// found then; with its build directory. The places of its outputs are cleared before.
pub(super) fn release(
    inputs: &mut BuilderInputs<'_>,
    dirs: &SpareDirs,
    builds: &mut NextBuilds,
) -> Option<(ReleasedBuilder, PathBuf)> {
    let next = inputs.next.as_mut()?;
    let held = next.held.take()?;
    let dir = next.dir.clone().filter(|dir| dirs.is_untouched(dir))?;
    let all = inputs.missing.len() == inputs.graph.outputs(inputs.drv).len();
    let renamed = inputs
        .rewrites
        .is_some_and(|rewrites| !rewrites.scratch.is_empty());
    // What can't be moved away is for another thread to delete.
    if !all || renamed || inputs.user.is_some() || !clear_leftovers(inputs).is_empty() {
        return None;
    }
    match held.release() {
        Ok(released) => {
            inputs.next = None;
            Some((released, dir))
        }
        Err(Lost::Ended) => {
            builds.note_lost();
            None
        }
        Err(Lost::Late) => None,
    }
}
