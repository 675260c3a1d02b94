//! A collection of garbage as its user sees it while it goes on: a bar on a terminal, else a line
//! for each path.

use indicatif::ProgressBar;
use windrow_store::gc::Event;
use windrow_systems::report::Level;

use crate::path_bar::beside;

/// Shows an event of a collection on a bar, and says what is to be said of it, if it is shown at
/// that level.
pub(crate) fn tell(
    bar: &ProgressBar,
    event: &Event<'_>,
    shows: &dyn Fn(Level) -> bool,
    say: &dyn Fn(&str),
) {
    let tell = |level, text: &dyn Fn() -> String| {
        if shows(level) {
            beside(bar, || say(&text()));
        }
    };
    match event {
        Event::Step(text) => tell(Level::Info, &|| (*text).to_owned()),
        Event::Deleting { path, done, of } => {
            bar.set_length(*of);
            bar.set_position(*done);
            // A live line is enough for a user who watches.
            let level = match bar.is_hidden() {
                true => Level::Info,
                false => Level::Talkative,
            };
            tell(level, &|| format!("deleting '{path}'"));
        }
        Event::LimitReached(limit) => tell(Level::Info, &|| {
            format!("deleted more than {limit} bytes; stopping")
        }),
        Event::LinksSave(bytes) => tell(Level::Info, &|| {
            let saved = *bytes as f64 / f64::from(1 << 20);
            format!("note: currently hard linking saves {saved:.2} MiB")
        }),
        Event::NotNoted(error) => tell(Level::Warn, &|| {
            format!("warning: when paths were last used was not noted: {error}")
        }),
    }
}
