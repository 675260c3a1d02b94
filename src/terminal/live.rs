//! A region at the bottom of a terminal that is drawn anew as things change, below the lines that
//! stay. All text for standard error goes through it while it lasts, so that nothing tears it.
//!
//! It asks the terminal for nothing but its size, and reads no input. It is drawn by a thread of
//! its own, from what others have left behind; they never wait for a frame.

use std::fmt::Write as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Term, measure_text_width, truncate_str};
use windrow_sys::threads::spawn_some;
use windrow_sys::{mutex, resumed};

use super::{Line, stderr};

/// The shortest time from one frame to the next.
const FRAME: Duration = Duration::from_millis(100);

/// How often it is drawn although nothing has changed, for the clocks and the terminal's size.
const IDLE: Duration = Duration::from_millis(250);

/// So many bytes of lines wait for a frame; more are written at once.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// How much of a terminal there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many lines a region may have.
    pub rows: usize,
    /// How wide they may be.
    pub columns: usize,
}

/// What makes the lines of a region for that size.
type Picture = Box<dyn FnMut(Size) -> Vec<Line> + Send>;

struct State {
    picture: Picture,
    /// Whole lines that are to be written above the region.
    waiting: String,
    /// What is on the screen.
    drawn: Vec<Line>,
    /// Its width when that was drawn.
    columns: usize,
    /// How often the program had been stopped by then.
    resumed: u32,
    last_frame: Instant,
    over: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Whether there is something new to draw.
    changed: AtomicBool,
    wake: Condvar,
}

/// The region that there is.
static LIVE: Mutex<Option<Arc<Shared>>> = Mutex::new(None);

/// A region, until it is dropped.
pub struct Live {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    stays: bool,
}

impl Live {
    /// A region that looks like `picture`. `None` where there can't be one: standard error is no
    /// terminal that can be drawn on, there is a region, or no thread is left.
    pub fn begin(picture: impl FnMut(Size) -> Vec<Line> + Send + 'static) -> Option<Self> {
        if !can_draw() {
            return None;
        }
        let mut live = mutex::lock(&LIVE);
        if live.is_some() {
            return None;
        }
        resumed::count_from_now_on();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                picture: Box::new(picture),
                waiting: String::new(),
                drawn: Vec::new(),
                columns: 0,
                resumed: resumed::count(),
                last_frame: Instant::now(),
                over: false,
            }),
            changed: AtomicBool::new(true),
            wake: Condvar::new(),
        });
        let run = Arc::clone(&shared);
        let threads = spawn_some("live region", 1, || {
            let run = Arc::clone(&run);
            move || run.run()
        });
        let thread = threads.ok()?.pop();
        *live = Some(Arc::clone(&shared));
        Some(Self {
            shared,
            thread,
            stays: false,
        })
    }

    /// The picture has changed. Costs next to nothing.
    pub fn touch(&self) {
        if !self.shared.changed.swap(true, Ordering::Relaxed) {
            self.shared.wake.notify_one();
        }
    }

    /// Has the last frame stay on the screen when it is dropped.
    pub fn stay(&mut self) {
        self.stays = true;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        end(&self.shared, self.stays);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether standard error is a terminal on which lines can be drawn anew.
fn can_draw() -> bool {
    let term = std::env::var_os("TERM");
    super::stderr_is_terminal() && term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn current() -> Option<Arc<Shared>> {
    mutex::lock(&LIVE).clone()
}

/// Writes whole lines, above the region if there is one.
pub(super) fn write(lines: &str) {
    if let Some(shared) = current() {
        let mut state = shared.lock();
        if !state.over {
            state.waiting.push_str(lines);
            if state.waiting.len() > WAITING_BYTES_MAX {
                state.frame();
            }
            drop(state);
            if !shared.changed.swap(true, Ordering::Relaxed) {
                shared.wake.notify_one();
            }
            return;
        }
    }
    stderr::write(lines.as_bytes());
}

/// Writes the lines that wait for a frame.
pub(super) fn flush() {
    if let Some(shared) = current() {
        let mut state = shared.lock();
        if !state.over && !state.waiting.is_empty() {
            state.frame();
        }
    }
}

/// Ends the region that there is, and leaves its last frame on the screen.
pub(super) fn leave() {
    if let Some(shared) = current() {
        end(&shared, true);
    }
}

fn end(shared: &Arc<Shared>, stays: bool) {
    let mut live = mutex::lock(&LIVE);
    if live.as_ref().is_some_and(|it| Arc::ptr_eq(it, shared)) {
        *live = None;
    }
    drop(live);
    let mut state = shared.lock();
    if !state.over {
        if !stays {
            state.picture = Box::new(|_| Vec::new());
        }
        state.frame();
        state.over = true;
    }
    drop(state);
    shared.wake.notify_all();
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        mutex::lock(&self.state)
    }

    /// The thread.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            let next = match self.changed.load(Ordering::Relaxed) {
                true => FRAME,
                false => IDLE,
            };
            let wait = next.saturating_sub(state.last_frame.elapsed());
            if state.over {
                return;
            }
            if wait.is_zero() {
                self.changed.store(false, Ordering::Relaxed);
                state.frame();
                continue;
            }
            let woken = self.wake.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Writes what waits, and the region below it.
    fn frame(&mut self) {
        self.last_frame = Instant::now();
        let (rows, columns) = Term::stderr().size();
        let columns = usize::from(columns).max(2);
        let resumed = resumed::count();
        if std::mem::replace(&mut self.resumed, resumed) != resumed {
            // A shell has written below it meanwhile. What was drawn stays where it is.
            self.drawn.clear();
        }
        let size = Size {
            rows: usize::from(rows).saturating_sub(2).max(1),
            columns: columns - 1,
        };
        let is_in_background = is_in_background();
        if is_in_background {
            // The screen belongs to others now.
            self.drawn.clear();
        }
        let hidden = is_in_background || stderr::is_behind();
        let mut lines = match hidden {
            true => Vec::new(),
            false => (self.picture)(size),
        };
        lines.truncate(size.rows);
        for line in &mut lines {
            line.fit(size.columns);
        }
        let is_same = lines == self.drawn && columns == self.columns;
        if self.waiting.is_empty() && is_same {
            return;
        }
        let text = self.text(&lines, columns);
        stderr::write(text.as_bytes());
        self.waiting.clear();
        self.waiting.shrink_to(WAITING_BYTES_MAX);
        (self.drawn, self.columns) = (lines, columns);
    }

    /// What has a terminal of that width show the lines in place of those that it shows. The cursor
    /// stands below the region before and after.
    fn text(&self, lines: &[Line], columns: usize) -> String {
        let mut text = String::new();
        // Terminals break lines that have become too long for them, and join what they broke.
        let rows: usize = (self.drawn.iter())
            .map(|line| measure_text_width(line.as_str()).div_ceil(columns).max(1))
            .sum();
        let is_moved = !self.waiting.is_empty() || columns != self.columns || lines.is_empty();
        if rows > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, "\r\x1b[{rows}A");
            if is_moved {
                // Not all at once: what a terminal clears from its first line on, some keep among
                // what has scrolled away.
                text.push_str(&"\x1b[2K\x1b[B".repeat(rows));
                let _ = write!(text, "\x1b[{rows}A");
            }
        }
        text.push_str(&self.waiting);
        for line in lines {
            text.push_str(line.as_str());
            text.push_str("\x1b[K\n");
        }
        if !is_moved && lines.len() < rows {
            text.push_str("\x1b[J");
        }
        text
    }
}

impl Line {
    /// Cuts it to that width, with a mark where something was cut off.
    fn fit(&mut self, columns: usize) {
        if measure_text_width(&self.0) > columns {
            self.0 = truncate_str(&self.0, columns, "…").into_owned();
        }
    }
}

/// Whether a shell has given the terminal to others.
fn is_in_background() -> bool {
    let stderr = super::stderr();
    let front = nix::unistd::tcgetpgrp(stderr.as_fd());
    front.is_ok_and(|front| front != nix::unistd::getpgrp())
}
