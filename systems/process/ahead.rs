//! What was read and made for builders that are next, before their inputs were valid.

use std::path::PathBuf;

use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sys::bounded::read_derivation;

use crate::world::BuilderConfig;

/// What is there of a build before it can begin.
#[derive(Debug)]
pub struct NextBuild {
    drv: DrvId,
    /// What the derivation's file says.
    pub text: Vec<u8>,
    /// Its build directory, if it is to have one without a sandbox.
    pub dir: Option<PathBuf>,
}

/// How many builds are prepared at most.
const NEXT_MAX: usize = 4;

/// The builds that are next.
#[derive(Debug, Default)]
pub struct NextBuilds(Vec<NextBuild>);

impl NextBuilds {
    /// What was prepared of a build, once.
    pub fn take(&mut self, drv: DrvId) -> Option<NextBuild> {
        let place = self.0.iter().position(|next| next.drv == drv)?;
        Some(self.0.swap_remove(place))
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
        if self.0.iter().any(|next| next.drv == drv) {
            return;
        }
        if self.0.len() == NEXT_MAX
            && let Some(dir) = self.0.remove(0).dir
            && !dirs.take_back(&dir)
        {
            dirs.delete(&dir);
        }
        let path = graph.drv_path(drv);
        let file = config.layout.real_path(&graph.full_path(path));
        let Ok(text) = read_derivation(&file) else {
            return;
        };
        let plain = config.sandbox.is_none();
        let dir = plain.then(|| dirs.create_ahead(graph.paths.name(path)));
        self.0.push(NextBuild {
            drv,
            text,
            dir: dir.flatten(),
        });
    }
}
