//! Fixed outputs, and whether a derivation's output paths are the ones its contents give.

use super::{Derivation, DerivationError, Modulo, Output};
use crate::hash::{Hash, HashAlgo};
use crate::store_path::{HashMode, StoreDir, StorePath};

/// What a fixed output must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedOutput {
    /// What is hashed.
    pub mode: HashMode,
    /// The hash it must have.
    pub hash: Hash,
}

impl FixedOutput {
    /// The `ca` field that the store's database keeps of such a path.
    pub fn content_address(&self) -> String {
        let recursive = if self.mode == HashMode::Recursive {
            "r:"
        } else {
            ""
        };
        format!("fixed:{recursive}{}", self.hash.prefixed_base32())
    }
}

impl Output<'_> {
    /// Whether its hash is known beforehand.
    pub fn is_fixed(&self) -> bool {
        !self.hash.is_empty()
    }

    /// What it must be, if it is a fixed output.
    ///
    /// # Errors
    /// [`DerivationError::BadOutputHash`] when algorithm or hash can't be read.
    pub fn fixed(&self) -> Result<Option<FixedOutput>, DerivationError> {
        if !self.is_fixed() {
            return Ok(None);
        }
        let bad = |reason: String| DerivationError::BadOutputHash {
            output: self.name.to_string(),
            reason,
        };
        let (mode, name) = match self.hash_algo.strip_prefix("r:") {
            Some(name) => (HashMode::Recursive, name),
            None => (HashMode::Flat, &*self.hash_algo),
        };
        if name.contains(':') {
            return Err(DerivationError::Unsupported {
                feature: "git and text hashing",
            });
        }
        let algo = HashAlgo::from_name(name).ok_or_else(|| {
            bad(format!(
                "'{name}' is no hash algorithm; use {}",
                HashAlgo::NAMES
            ))
        })?;
        let hash = Hash::parse(&self.hash, Some(algo)).map_err(|error| bad(error.to_string()))?;
        Ok(Some(FixedOutput { mode, hash }))
    }
}

impl Derivation<'_> {
    /// Whether every output's hash is known beforehand, so that the build may use the network.
    pub fn is_fixed(&self) -> bool {
        self.outputs.iter().all(Output::is_fixed)
    }

    /// Checks that all output paths, and the variables named like outputs, are those that the
    /// contents give (Nix's `checkDerivationOutputs`). `name` is without `.drv`.
    ///
    /// # Errors
    /// [`DerivationError::WrongOutputPath`], [`DerivationError::WrongOutputVariable`], or what
    /// [`output_paths`] fails with.
    pub fn check_output_paths(
        &self,
        store: &StoreDir,
        name: &str,
        input: impl FnMut(&str) -> Option<Modulo>,
    ) -> Result<(), DerivationError> {
        for (output, path) in self
            .outputs
            .iter()
            .zip(output_paths(self, store, name, input)?)
        {
            let expected = store.display(&path);
            if output.path != expected {
                return Err(DerivationError::WrongOutputPath {
                    output: output.name.to_string(),
                    found: output.path.to_string(),
                    expected,
                });
            }
            let variable = self.env_value(&output.name);
            if variable.is_some_and(|value| value != expected.as_bytes()) {
                return Err(DerivationError::WrongOutputVariable {
                    output: output.name.to_string(),
                    expected,
                });
            }
        }
        Ok(())
    }
}

/// The paths of the outputs of `drv`, in their order, as its contents give them. The paths it
/// states are ignored.
///
/// # Errors
/// [`DerivationError::MissingInput`], [`DerivationError::BadOutputHash`], or a name that can't
/// stand in a path.
pub fn output_paths(
    drv: &Derivation<'_>,
    store: &StoreDir,
    name: &str,
    input: impl FnMut(&str) -> Option<Modulo>,
) -> Result<Vec<StorePath>, DerivationError> {
    let path_error = |error: crate::Error| DerivationError::Path {
        reason: error.to_string(),
    };
    let modulo = if drv.is_fixed() {
        None
    } else {
        Some(drv.masked_modulo(input)?)
    };
    let mut paths = Vec::with_capacity(drv.outputs.len());
    for output in &drv.outputs {
        let path = match (output.fixed()?, modulo) {
            (Some(fixed), _) => {
                let name = crate::store_path::output_path_name(name, &output.name);
                store.fixed_path(&name, fixed.mode, &fixed.hash)
            }
            (None, Some(modulo)) => store.output_path(&output.name, &modulo, name),
            (None, None) => unreachable!("a derivation that is not fixed has a masked hash"),
        };
        paths.push(path.map_err(path_error)?);
    }
    Ok(paths)
}
