//! A live region on a terminal: how far the run is, what runs, waits and comes next; what has ended
//! scrolls by above it.

use std::sync::{Arc, Mutex};

use windrow_sys::mutex;
use windrow_systems::report::{Event, Reporter};

use super::Style;
use super::board::Board;
use super::wording::{Form, Wording};
use crate::terminal::{Line, Live, is_behind};

pub(super) struct Bar {
    text: Wording,
    board: Arc<Mutex<Board>>,
    live: Option<Live>,
}

impl Bar {
    /// `None` where there can be no such region.
    pub(super) fn begin(style: Style) -> Option<Self> {
        let board = Arc::new(Mutex::new(Board::new(style.copying)));
        let seen = Arc::clone(&board);
        let live = Live::begin(move |size| mutex::lock(&seen).lines(size))?;
        Some(Self {
            text: Wording::new(style, Form::Live),
            board,
            live: Some(live),
        })
    }

    /// What an event changes in the region; tells whether it does.
    fn show(&mut self, event: &Event<'_>) -> bool {
        let news = self.text.take_news();
        let mut board = mutex::lock(&self.board);
        let mut changed = !news.is_empty();
        for (id, said) in news {
            board.say(id, &said);
        }
        if let Some((id, phase)) = self.text.take_phase() {
            board.set_phase(id, &phase);
            changed = true;
        }
        match *event {
            Event::Progress(counts) => board.counts = counts,
            Event::Started { build, outlook, .. } => board.start(build, outlook),
            Event::FetchStarted {
                build, transfer, ..
            } => board.fetch(build, transfer),
            Event::LockAwaited { build, what } => board.wait(build, what),
            Event::Succeeded { build, .. } => board.end(build.id, true),
            Event::Failed { build, .. }
            | Event::Cancelled { build, .. }
            | Event::FetchSucceeded { build, .. }
            | Event::FetchFailed { build, .. } => board.end(build.id, false),
            Event::Exited { build, .. } => board.exit(build.id),
            Event::Message { .. }
            | Event::Output { .. }
            | Event::HelperOutput { .. }
            | Event::SecondPassed
            | Event::Used { .. }
            | Event::Over => return changed,
        }
        true
    }
}

impl Reporter for Bar {
    fn wants_outlook(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        is_behind()
    }

    fn report(&mut self, event: &Event<'_>) {
        self.text.lines(event).into_iter().for_each(Line::write);
        if self.show(event)
            && let Some(live) = &self.live
        {
            live.touch();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(mut live) = self.live.take() {
            // What ran when it was interrupted is worth a look.
            if windrow_sys::interrupt::is_signalled() {
                live.stay();
            }
        }
        self.text.end().into_iter().for_each(Line::write);
    }
}
