//! A path that was fetched, by a program or from a binary cache, on its way into the store: what is
//! done with it whoever brought it. Runs in the pool, on plain values.

use std::path::PathBuf;

use windrow_components::derivation::Derivation;
use windrow_components::hash::{HashAlgo, sha256};
use windrow_components::ids::PathId;
use windrow_components::store_path::StoreDir;
use windrow_components::substitution::SubstituteInfo;
use windrow_store::files::canonical::{InodesSeen, canonicalise};
use windrow_store::files::durable::Durability;
use windrow_sys::bounded;
use windrow_sys::interrupt::Grace;
use windrow_sys::tree::delete_path;

use crate::world::BuiltOutput;

/// A path that is fetched.
#[derive(Debug)]
pub struct FetchedPath {
    /// The path.
    pub path: PathId,
    /// The path in full.
    pub store_path: String,
    /// Where it lies now, or is to.
    pub real_path: PathBuf,
    /// What it is to take the place of, if that is not where it lies.
    pub replaces: Option<PathBuf>,
    /// What is written to disk when all is well.
    pub durability: Durability,
    /// The store it belongs to.
    pub store_dir: StoreDir,
    /// What its substituter says of it.
    pub info: SubstituteInfo,
    /// The references in full, for a derivation's own check.
    pub references: Vec<String>,
}

/// What is known of the contents of a fetched path.
pub(super) struct Contents {
    pub(super) nar_hash: [u8; 32],
    pub(super) nar_size: u64,
    pub(super) content_address: Option<String>,
    pub(super) sigs: Vec<String>,
}

/// Why a fetched path is not taken in.
#[derive(Debug)]
pub struct NotTaken {
    /// One message.
    pub message: String,
    /// Whether that is for something on this machine, such as a full disk, and whoever sent the
    /// path has done nothing wrong.
    pub is_local: bool,
}

impl From<String> for NotTaken {
    /// What was fetched is wrong.
    fn from(message: String) -> Self {
        Self {
            message,
            is_local: false,
        }
    }
}

impl NotTaken {
    /// Something on this machine fails.
    pub(super) fn local(message: String) -> Self {
        Self {
            message,
            is_local: true,
        }
    }
}

/// Outputs by name and full path.
type Outputs = Vec<(String, String)>;

impl FetchedPath {
    /// Where it will lie.
    pub fn place(&self) -> &PathBuf {
        self.replaces.as_ref().unwrap_or(&self.real_path)
    }

    /// Makes it part of the store, up to its registration.
    ///
    /// # Errors
    /// What is wrong, and, where the store is at fault, that windrow `could not` do it.
    pub(super) fn take_in(
        &self,
        contents: Contents,
        could_not: &str,
    ) -> Result<BuiltOutput, NotTaken> {
        let path = &self.store_path;
        let about =
            |error: windrow_store::Error| NotTaken::local(format!("{could_not} '{path}': {error}"));
        let (content_address, drv_outputs) = if path.ends_with(".drv") {
            self.check_derivation()?
        } else {
            (contents.content_address, Vec::new())
        };
        canonicalise(&self.real_path, None, &mut InodesSeen::default())
            .map_err(|error| about(error.into()))?;
        if let Some(place) = &self.replaces {
            let replaced = self.durability.replace(place, &self.real_path);
            replaced.map_err(about)?;
        }
        let written = self.durability.write_out(&[self.place()]);
        written.map_err(|error| about(error.into()))?;
        Ok(BuiltOutput {
            path: self.path,
            deriver: self.info.deriver,
            nar_hash: contents.nar_hash,
            nar_size: contents.nar_size,
            references: self.info.references.to_vec(),
            ultimate: false,
            content_address,
            sigs: contents.sigs,
            drv_outputs,
        })
    }

    /// Deletes it, if that was not to be taken in.
    pub(super) fn delete_if_bad<T>(&self, taken: Result<T, NotTaken>) -> Result<T, NotTaken> {
        if taken.is_err() {
            let _grace = Grace::new();
            // Should it stay, the next who wants to put something there moves it away.
            let _ = delete_path(&self.real_path);
        }
        taken
    }

    /// A derivation's path says what its contents and references are, whatever the substituter
    /// says.
    fn check_derivation(&self) -> Result<(Option<String>, Outputs), String> {
        let (path, store_dir) = (&self.store_path, &self.store_dir);
        let wrong =
            |reason: String| format!("the derivation fetched as '{path}' can't be: {reason}");
        let text = bounded::read_derivation(&self.real_path);
        let text = text.map_err(|error| wrong(error.to_string()))?;
        let drv = Derivation::parse(&text).map_err(|error| wrong(error.to_string()))?;
        let own = store_dir
            .parse(path)
            .map_err(|error| wrong(error.to_string()))?;
        let references = self.references.iter().map(String::as_str);
        let expected = store_dir
            .text_path(own.name(), &sha256(&text), references)
            .map_err(|error| wrong(error.to_string()))?;
        if expected != own {
            let expected = store_dir.display(&expected);
            return Err(wrong(format!(
                "contents and references of it have the path '{expected}'"
            )));
        }
        let outputs = drv
            .outputs
            .iter()
            .map(|output| (output.name.to_string(), output.path.to_string()))
            .collect();
        let content = HashAlgo::Sha256.hash(&text).prefixed_base32();
        Ok((Some(format!("text:{content}")), outputs))
    }
}
