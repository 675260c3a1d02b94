//! What windrow's own database says of the last uses of paths: read before a collection, and
//! brought up to date after it.

use hashbrown::HashSet;

use super::by_use::{ByUse, Queue};
use super::liveness::Liveness;
use super::{Action, GcOptions};
use crate::Layout;
use crate::db::{Keep, StoreGraph};
use crate::error::Result;
use crate::own::uses::{self, LastUses};
use crate::own::{self, OwnDatabase};

/// The last uses as they were noted when a collection began.
pub(super) struct Noted {
    uses: LastUses,
    began: i64,
}

impl Noted {
    /// Reads them. Where they don't decide what goes, it is no error if that fails.
    ///
    /// # Errors
    /// When they decide and can't be read: more would go than is meant to.
    pub(super) fn read(layout: &Layout, options: &GcOptions) -> Result<Self> {
        let decide = options.by_use.is_some_and(|it| it != ByUse::default());
        let uses = match uses::all(layout) {
            Err(error) if decide => return Err(error),
            read => read.unwrap_or_default(),
        };
        Ok(Self {
            uses,
            began: uses::now(),
        })
    }

    /// When each path was last used for itself, by place: at its registration, if not later.
    pub(super) fn own_uses(&self, whole: &StoreGraph) -> Vec<i64> {
        let own = whole.facts.iter().zip(0..).map(|(facts, at)| {
            let noted = self.uses.get(whole.graph.path(at));
            noted.map_or(facts.registered, |&noted| noted.max(facts.registered))
        });
        own.collect()
    }

    /// Notes after a deletion that what roots lead to is used until now, and forgets what is gone,
    /// whoever deleted it. Something that stays keeps the last use that it had by what is `gone`.
    ///
    /// # Errors
    /// When the database can't be written.
    pub(super) fn write(
        &self,
        layout: &Layout,
        options: &GcOptions,
        (live, whole, keep): (&Liveness<'_>, &StoreGraph, Keep),
        (gone, queue): (&[u32], Option<&Queue>),
    ) -> Result<()> {
        // Only what goes by uses has a reason to begin to note them.
        if options.by_use.is_none() && !own::exists(layout) {
            return Ok(());
        }
        let path = |at: u32| whole.graph.path(at);
        let mut noted: Vec<(&str, i64)> = Vec::new();
        if options.action == Action::DeleteDead {
            noted.extend(live.roots().iter().map(|&at| (path(at), self.began)));
        }
        if let Some(queue) = queue {
            let gone: HashSet<u32> = gone.iter().copied().collect();
            let own = self.own_uses(whole);
            let needed = gone.iter().flat_map(|&at| {
                let references = whole.graph.references(at).iter().copied();
                references.chain(whole.kept_by(at, keep))
            });
            let left = needed.filter(|at| !gone.contains(at) && !live.alive()[*at as usize]);
            let left = left.filter(|&at| queue.last_use(at) > own[at as usize]);
            noted.extend(left.map(|at| (path(at), queue.last_use(at))));
        }
        let unknown = self.uses.keys().map(|path| &**path);
        let unknown = unknown.filter(|path| whole.graph.find(path).is_none());
        let mut forgotten: Vec<&str> = unknown.collect();
        if !self.uses.is_empty() {
            forgotten.extend(gone.iter().map(|&at| path(at)));
        }
        if noted.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let database = OwnDatabase::open(layout, &options.database)?;
        database.write("note when paths were last used", |connection| {
            uses::forget(connection, forgotten.iter().copied())?;
            uses::note(connection, noted.iter().copied())
        })
    }
}
