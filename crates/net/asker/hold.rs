//! What is held as long as something is wanted that was begun.

use windrow_sys::interrupt::Stop;

use crate::client::Ticket;

/// Dropped, it ends what was begun.
#[derive(Debug)]
pub(super) enum Hold {
    /// Work on the thread of the network.
    Ticket(#[expect(dead_code, reason = "dropped, it cancels")] Ticket),
    /// Work on a thread of its own.
    Stop(#[expect(dead_code, reason = "dropped, it cancels")] StopOnDrop),
    /// What is ended with its cache.
    Nothing,
}

impl Hold {
    /// Work that is done under `stop`.
    pub(super) fn of(stop: &Stop) -> Self {
        Self::Stop(StopOnDrop(stop.clone()))
    }
}

/// Ends work.
#[derive(Debug)]
pub(super) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
