//! Plain lines on standard error: what is built, what failed and why.

use windrow_components::goal::BuildMode;
use windrow_systems::report::{BuildRef, Event, Reporter};

use super::Style;
use super::wording::{Form, Wording};
use crate::terminal::{Line, is_behind};

/// Writes each event as it comes.
pub(super) struct Lines(Wording);

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        let form = match style.names {
            true => Form::Numbered,
            false => Form::Plain,
        };
        Self(Wording::new(style, form))
    }
}

impl Reporter for Lines {
    fn is_behind(&self) -> bool {
        is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        self.0.lines(event).into_iter().for_each(Line::write);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.end().into_iter().for_each(Line::write);
    }
}

/// What is being done, as Nix says it.
pub(super) fn started(build: BuildRef<'_>, mode: BuildMode) -> String {
    let path = build.drv_path;
    match mode {
        BuildMode::Normal => format!("building '{path}'..."),
        BuildMode::Check => format!("checking outputs of '{path}'..."),
        BuildMode::Repair => format!("repairing outputs of '{path}'..."),
    }
}
