//! Compares what a second build made with what is valid (Nix 1.8: `bmCheck`), in the pool.

use std::ffi::OsString;
use std::path::PathBuf;

use windrow_store::files::replace::move_tree;
use windrow_sys::tree::delete_path;

use super::Expected;
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::world::BuiltOutput;

/// The full path of an output that came out different, and where the other one lies.
pub type Differing = (String, PathBuf);

/// What the outputs of a build are compared with.
#[derive(Debug)]
pub struct Check {
    /// The hash each was registered with, in the order of the outputs; `None` if it is not valid
    /// any more.
    pub registered: Vec<Option<[u8; 32]>>,
    /// Whether an output that differs is kept, as `PATH.check`.
    pub keep: bool,
}

impl Check {
    /// Nothing to register if all outputs are the same. Those that differ and are kept are added to
    /// `all_kept`.
    ///
    /// # Errors
    /// The failure that names those that differ.
    pub(super) fn compare(
        &self,
        drv_path: &str,
        outputs: &[Expected],
        built: &[BuiltOutput],
        all_kept: &mut Vec<Differing>,
    ) -> Result<Vec<BuiltOutput>, Failure> {
        let mut differing = Vec::new();
        for ((output, built), registered) in outputs.iter().zip(built).zip(&self.registered) {
            if *registered == Some(built.nar_hash) {
                continue;
            }
            let path = &output.store_path;
            differing.push(match self.keep(output) {
                Ok(None) => format!("output '{path}' differs"),
                Ok(Some(kept)) => {
                    let text = format!("output '{path}' differs from '{}'", kept.display());
                    all_kept.push((path.clone(), kept));
                    text
                }
                Err(error) => format!("output '{path}' differs ({error})"),
            });
        }
        if differing.is_empty() {
            return Ok(Vec::new());
        }
        Err(Failure::new(
            FailureKind::NotDeterministic,
            format!(
                "derivation '{drv_path}' may not be deterministic: {}",
                differing.join(", ")
            ),
        ))
    }

    /// Moves an output that differs beside the valid one, if it is to be kept.
    fn keep(&self, output: &Expected) -> Result<Option<PathBuf>, Error> {
        let (true, Some(place)) = (self.keep, &output.place) else {
            return Ok(None);
        };
        let mut kept = OsString::from(place);
        kept.push(".check");
        let kept = PathBuf::from(kept);
        delete_path(&kept)?;
        move_tree(&output.real_path, &kept)?;
        Ok(Some(kept))
    }
}
