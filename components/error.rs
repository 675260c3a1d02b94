//! The one error type of this crate: what was malformed, and where.

use crate::derivation::DerivationError;

/// Everything that can be wrong with the plain data of a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not a hash.
    #[error("'{text}' is not a valid hash: {reason}")]
    BadHash {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text is not a content address.
    #[error("'{text}' is not a valid content address: {reason}")]
    BadContentAddress {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text is not a store path.
    #[error("'{path}' is not a store path: {reason}")]
    BadStorePath {
        /// The text as given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that may not stand in a store path.
    #[error("'{name}' can't be the name of a store path: {reason}")]
    BadName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A derivation that can't be read or does not add up.
    #[error(transparent)]
    Derivation(#[from] DerivationError),
}

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
