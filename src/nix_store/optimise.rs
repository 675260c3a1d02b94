//! `--optimise`: equal files of the whole store become one; also those of paths that are added, if
//! settings ask for it.

use windrow_store::files::optimise::{Optimiser, optimise_store};
use windrow_store::local::LocalStore;

use super::args::Level;
use super::{Call, verify};
use crate::error::Result;

pub(super) fn optimise(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    call.no_args()?;
    let mut store = call.session.open()?;
    let bar = verify::bar(call);
    let optimised = optimise_store(&mut store, false, |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let optimised = optimised?;
    for warning in &optimised.warnings {
        call.say(Level::Warn, &format!("warning: {warning}"));
    }
    let (freed, files) = (optimised.saved.bytes, optimised.saved.files);
    let freed = freed as f64 / f64::from(1 << 20);
    call.say(
        Level::Info,
        &format!("{freed:.2} MiB freed by hard-linking {files} files"),
    );
    Ok(())
}

/// Links the files of a path that was just added, with `auto-optimise-store`.
pub(super) fn added(call: &Call, store: &LocalStore, path: &str) -> Result<()> {
    if call.session.settings.auto_optimise_store {
        let optimiser = Optimiser::open(store.layout())?;
        for warning in optimiser.optimise_new(&[store.layout().real_path(path)]) {
            call.say(Level::Warn, &format!("warning: {warning}"));
        }
    }
    Ok(())
}
