//! `--verify` and `--verify-path`: is the store what its database says?

use indicatif::ProgressBar;
use windrow_store::ops::verify::{self, Finding, VerifyOptions};

use super::Call;
use super::args::Level;
use crate::error::Result;
use crate::path_bar::{self, beside};
use crate::terminal::complain;

pub(super) fn verify(call: &mut Call) -> Result<()> {
    call.no_args()?;
    let [check_contents, repair] = call.switches(["--check-contents", "--repair"])?;
    let mut store = call.open_to_verify(repair)?;
    let bar = bar(call);
    let mut errors = false;
    let mut broken = Vec::new();
    let options = VerifyOptions {
        check_contents,
        repair,
    };
    let say = |level: Level, text: String| beside(&bar, || call.say(level, &text));
    verify::verify_store(&mut store, options, &mut |finding| match finding {
        Finding::Step(text) => say(Level::Info, text.to_owned()),
        Finding::Progress { done, of } => {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
        Finding::Removed(path) => say(
            Level::Info,
            format!("path '{path}' disappeared, removing from database..."),
        ),
        Finding::Missing(path) => {
            errors |= !repair;
            say(
                Level::Error,
                format!("error: path '{path}' disappeared, but it still has valid referrers!"),
            );
            broken.push(path);
        }
        Finding::Modified { path, error } => {
            errors |= !repair;
            say(Level::Error, format!("error: {error}"));
            broken.push(path);
        }
        Finding::Unreadable { error, .. } => {
            errors = true;
            say(Level::Error, format!("error: {error}"));
        }
        Finding::LinkModified {
            link,
            expected,
            found,
            removed,
        } => {
            let link = link.display();
            say(
                Level::Error,
                format!(
                    "error: link '{link}' was modified! expected hash '{expected}', got '{found}'"
                ),
            );
            if removed {
                say(Level::Info, format!("removed link '{link}'"));
            } else {
                errors = true;
            }
        }
    })?;
    bar.finish_and_clear();
    drop(store);
    if repair && !broken.is_empty() {
        errors |= !super::realise::repair(call, broken)?;
    }
    if errors {
        call.say(Level::Warn, "warning: not all store errors were fixed");
        call.status = 1;
    }
    Ok(())
}

/// A bar on a terminal, unless little is to be said.
pub(super) fn bar(call: &Call) -> ProgressBar {
    path_bar::bar(call.command.level >= Level::Notice)
}

pub(super) fn verify_path(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let store = call.look()?;
    for path in call.store_paths()? {
        call.say(Level::Talkative, &format!("checking path '{path}'..."));
        match verify::verify_path(&store, &path) {
            Err(error @ windrow_store::Error::PathModified { .. }) => {
                complain(&format!("error: {error}"));
                call.status = 1;
            }
            other => other?,
        }
    }
    Ok(())
}
