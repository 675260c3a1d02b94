//! Gives up a hook that does not answer.

use crate::helpers::hook::instance::HookError;
use crate::helpers::hook::talk::{Talking, patience};

/// Gives up a hook that does not answer.
pub fn hurry_hook(mut params: Talking<'_>) {
    let due = params.hook.deadline(&params.scheduler.options);
    if due.is_some_and(|due| due <= params.scheduler.now) {
        let seconds = patience(&params.scheduler.options).as_secs();
        params.broken(HookError::Silent { seconds });
    }
}
