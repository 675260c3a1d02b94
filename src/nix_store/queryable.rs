//! What is asked of a store by operations that only look, whatever kind of store that is.

use windrow_store::db::path_graph::PathGraph;
use windrow_store::local::LocalStore;
use windrow_store::{Edges, PathInfo, WalkRoot};

use crate::error::Result;

/// A store that is looked at.
pub(super) trait Queryable {
    /// Is told of paths that will be asked for, one after the other.
    fn expect(&self, _paths: &[String]) -> Result<()> {
        Ok(())
    }

    /// What is known of a path, if that is valid.
    fn info(&self, path: &str) -> Result<Option<PathInfo>>;

    /// Whether a path is valid.
    fn is_valid(&self, path: &str) -> Result<bool> {
        Ok(self.info(path)?.is_some())
    }

    /// The text of a valid derivation.
    fn derivation(&self, path: &str) -> Result<Vec<u8>>;

    /// The paths that the seeds give, with the references among them.
    fn walk(&self, seeds: &[WalkRoot<'_>], edges: Edges) -> Result<PathGraph>;

    /// The valid derivations of which a path is an output.
    fn valid_derivers(&self, path: &str) -> Result<Vec<String>>;
}

impl Queryable for LocalStore {
    fn info(&self, path: &str) -> Result<Option<PathInfo>> {
        Ok(self.database.path_info(path)?)
    }

    fn is_valid(&self, path: &str) -> Result<bool> {
        Ok(self.database.is_valid(path)?)
    }

    fn derivation(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.read_derivation(path)?)
    }

    fn walk(&self, seeds: &[WalkRoot<'_>], edges: Edges) -> Result<PathGraph> {
        Ok(self.database.walk(seeds, edges)?)
    }

    fn valid_derivers(&self, path: &str) -> Result<Vec<String>> {
        Ok(self.database.valid_derivers(path)?)
    }
}
