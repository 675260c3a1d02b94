//! Derivations are worked out by a thread, while those before them are written to the store.

use std::sync::mpsc::sync_channel;
use std::thread::scope;

use windrow_store::local::LocalStore;
use windrow_store::ops::add_derivations::NewDerivation;
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::threads::spawn_scoped;

use crate::error::Result;

/// How many derivations are handed over at a time, and how many such portions may wait.
const PORTION: usize = 250;
const AHEAD: usize = 8;
/// With no more than these a thread would cost more than it saves.
const FEW: usize = 64;

/// Writes to the store what `next` works out, `count` derivations or fewer.
///
/// # Errors
/// What `next` fails with, after all that it had given has been written; what the store can't be
/// written for.
pub(super) fn write_behind(
    store: &mut LocalStore,
    count: usize,
    mut next: impl FnMut() -> Result<Option<NewDerivation>> + Send,
) -> Result<()> {
    if count > FEW && behind(store, &mut next)? {
        return Ok(());
    }
    let mut mistake = None;
    let drvs = std::iter::from_fn(|| {
        next().unwrap_or_else(|error| {
            mistake = Some(error);
            None
        })
    });
    store.add_derivations(drvs)?;
    mistake.map_or(Ok(()), Err)
}

/// The same with a thread, unless there is none to be had: false, and nothing has been done.
///
/// The thread works out and this one writes: what the database keeps in memory then takes the place
/// of the graph, which this thread has read and which is dropped bit by bit.
fn behind(
    store: &mut LocalStore,
    next: &mut (impl FnMut() -> Result<Option<NewDerivation>> + Send),
) -> Result<bool> {
    let (give, take) = sync_channel::<Vec<NewDerivation>>(AHEAD);
    let stop = interrupt::current();
    scope(|scope| {
        let work = move || {
            let _entered = stop.as_ref().map(Stop::enter);
            hand_over(next, |portion| give.send(portion).is_ok())
        };
        let Ok(worker) = spawn_scoped(scope, work) else {
            return Ok(false);
        };
        let written = store.add_derivations(take.into_iter().flatten());
        let ended = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written?;
        ended.map(|()| true)
    })
}

/// Gives away in portions what `next` works out, until nobody takes more: a writer that does not
/// has failed, and says itself why.
fn hand_over(
    next: &mut impl FnMut() -> Result<Option<NewDerivation>>,
    mut give: impl FnMut(Vec<NewDerivation>) -> bool,
) -> Result<()> {
    let mut portion = Vec::with_capacity(PORTION);
    let ended = loop {
        match next() {
            Ok(Some(drv)) => portion.push(drv),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        if portion.len() == PORTION && !give(std::mem::take(&mut portion)) {
            return Ok(());
        }
    };
    give(portion);
    ended
}
