//! Garbage collection during builds, where settings ask for it: puts the store's watcher together
//! with them.

use std::time::Duration;

use windrow_store::gc::auto::{AutoGc, Limits};

use crate::session::Session;

/// Watches the free space for as long as what is returned lives; nothing if `min-free` is 0.
/// `say` gets a line when a collection starts, or when one fails.
pub(crate) fn watch(session: &Session, say: impl Fn(&str) + Send + 'static) -> Option<AutoGc> {
    let settings = &session.settings;
    if settings.min_free == 0 {
        return None;
    }
    let limits = Limits {
        min_free: settings.min_free,
        max_free: settings.max_free,
        interval: Duration::from_secs(settings.min_free_check_interval.max(1)),
        keep_outputs: settings.keep_outputs,
        keep_derivations: settings.keep_derivations,
        free_space_file: std::env::var_os("_NIX_TEST_FREE_SPACE_FILE").map(Into::into),
    };
    let (layout, options) = (session.layout.clone(), session.database_options());
    match AutoGc::start(layout, options, limits, say) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            crate::terminal::complain(&format!(
                "warning: free disk space is not watched ('min-free'): {error}"
            ));
            None
        }
    }
}
