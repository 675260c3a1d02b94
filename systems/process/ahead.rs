//! What was read and made for builders that are next, before their inputs were valid.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_sandbox::cgroups::Cgroup;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::process::launch::{HeldProcess, Lost, Spawned};
use windrow_sys::bounded::read_derivation;

use crate::world::BuilderConfig;
use crate::world::children::PendingStart;

/// What is there of a build before it can begin.
#[derive(Debug)]
pub struct NextBuild {
    /// What is built.
    pub drv: DrvId,
    /// What the derivation's file says.
    pub text: Vec<u8>,
    /// Its build directory, if it is to have one without a sandbox.
    pub dir: Option<PathBuf>,
    /// Its builder, which stands still.
    pub held: Option<HeldBuilder>,
}

/// A builder that has been executed and waits for its inputs.
#[derive(Debug)]
pub struct HeldBuilder {
    /// Its process.
    pub process: HeldProcess,
    /// The cgroup that it is in. After the process, for nothing is to be in it when it goes.
    pub cgroup: Option<Cgroup>,
    /// Why it could not be executed, if so.
    pub pending: PendingStart,
    /// The read end of its log.
    pub log: OwnedFd,
    /// What is executed.
    pub program: OsString,
}

/// A builder that has been let go.
#[derive(Debug)]
pub struct ReleasedBuilder {
    /// Its process.
    pub process: Spawned,
    /// As of [`HeldBuilder`].
    pub cgroup: Option<Cgroup>,
    /// As of [`HeldBuilder`].
    pub pending: PendingStart,
    /// As of [`HeldBuilder`].
    pub log: OwnedFd,
    /// As of [`HeldBuilder`].
    pub program: OsString,
}

impl HeldBuilder {
    /// Lets it run.
    ///
    /// # Errors
    /// Why it can't; nothing of it is left then.
    pub fn release(self) -> Result<ReleasedBuilder, Lost> {
        let Self {
            process,
            cgroup,
            pending,
            log,
            program,
        } = self;
        Ok(ReleasedBuilder {
            process: process.release()?,
            cgroup,
            pending,
            log,
            program,
        })
    }
}

/// How many builds are prepared at most.
const NEXT_MAX: usize = 4;

/// The builds that are next.
#[derive(Debug, Default)]
pub struct NextBuilds {
    builds: Vec<NextBuild>,
    /// Whether builders are not executed any more before their turn: one could not be held up, so
    /// the next one can't be either.
    cannot_hold: bool,
}

impl NextBuilds {
    /// What was prepared of a build, once.
    pub fn take(&mut self, drv: DrvId) -> Option<NextBuild> {
        let place = self.builds.iter().position(|next| next.drv == drv)?;
        Some(self.builds.swap_remove(place))
    }

    /// What was prepared of a build whose builder may be executed before its turn; it is to be
    /// [put back](NextBuilds::put_back).
    pub fn take_to_execute(&mut self, drv: DrvId) -> Option<NextBuild> {
        let mut builds = self.builds.iter();
        let place = builds.position(|next| next.drv == drv && next.held.is_none())?;
        (!self.cannot_hold).then(|| self.builds.swap_remove(place))
    }

    /// Keeps what is prepared of a build.
    pub fn put_back(&mut self, next: NextBuild) {
        self.builds.push(next);
    }

    /// A builder could not be executed before its turn.
    pub fn note_lost(&mut self) {
        self.cannot_hold = true;
    }

    /// Ends all builders that have been executed, whose processes and descriptors are needed for
    /// something else.
    pub fn give_up_held(&mut self) {
        for next in &mut self.builds {
            next.held = None;
        }
    }

    /// Reads the derivation and makes its build directory. What goes wrong is told when the build
    /// is to begin.
    pub fn prepare(
        &mut self,
        graph: &BuildGraph,
        config: &BuilderConfig,
        dirs: &SpareDirs,
        drv: DrvId,
    ) {
        if self.builds.iter().any(|next| next.drv == drv) {
            return;
        }
        if self.builds.len() == NEXT_MAX {
            let NextBuild { dir, held, .. } = self.builds.remove(0);
            drop(held);
            if let Some(dir) = dir.filter(|dir| !dirs.take_back(dir)) {
                dirs.delete(&dir);
            }
        }
        let path = graph.drv_path(drv);
        let file = config.layout.real_path(&graph.full_path(path));
        let Ok(text) = read_derivation(&file) else {
            return;
        };
        let plain = config.sandbox.is_none();
        let dir = plain.then(|| dirs.create_ahead(graph.paths.name(path)));
        self.builds.push(NextBuild {
            drv,
            text,
            dir: dir.flatten(),
            held: None,
        });
    }
}
