//! Paths on their way into a binary cache: packed by threads, the largest first, uploaded many at a
//! time, and told of in the order of their references. One thread, the caller's, has all the state.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use windrow_store::{Layout, PathInfo};
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::{limits, threads};

use super::pack::{Packed, Packing};
use super::state::Waiting;
use super::{CopyError, Event, Outcome, debug_info};
use crate::client::Ticket;
use crate::content_type::{JSON, NAR, NARINFO};
use crate::error::NetError;
use crate::listing::Listing;
use crate::narinfo::NarInfo;
use crate::remote::{Found, Remote, Source};

/// How many threads pack at most.
const THREADS_MAX: usize = 8;
/// How many threads compress at most, of all archives together.
const COMPRESSING_MAX: usize = 16;
/// How many archives are packed or uploaded at a time.
const UNDER_WAY_MAX: usize = 32;
/// How large these may be together before they are compressed, unless it is one: they take room on
/// a disk, in bytes.
const UNDER_WAY_SIZE: u64 = 4 << 30;

/// How often in a row the cache fails before nothing more is tried.
const FAILURES_MAX: usize = 3;

/// How long is waited at the end for requests that are called off.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is written beside archives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    pub(super) listings: bool,
    pub(super) debug_info: bool,
}

/// Something that has come to its end.
enum Step {
    Packed(usize, Result<Box<Packed>, CopyError>),
    Looked(usize, Result<Option<Found>, NetError>),
    Put(usize, Result<(), NetError>),
}

impl Step {
    /// Whether it is the answer to a request.
    fn is_answer(&self) -> bool {
        !matches!(self, Self::Packed(..))
    }
}

/// What is to be done for a path, in order. What was looked for and is there is not put.
enum Todo {
    LookForArchive,
    PutArchive,
    LookFor(String),
    Put(String, String),
    PutInfo,
}

/// A path that is packed.
struct Job {
    packed: Packed,
    todo: VecDeque<Todo>,
    /// How many bytes of archive were sent.
    sent: u64,
    told: bool,
    /// Whether its archive takes room.
    has_room: bool,
    /// Dropped, it cancels.
    _ticket: Option<Ticket>,
}

/// All that is under way.
pub(super) struct Uploads<'u> {
    pub(super) remote: &'u Remote,
    pub(super) packing: &'u Packing,
    pub(super) beside: Beside,
    pub(super) paths: &'u [PathInfo],
    pub(super) from: &'u Layout,
    /// Paths that refer to what is not there, by their places, with one such reference.
    pub(super) lacking: Vec<(usize, String)>,
    /// Hears of every path that the cache has been told of.
    pub(super) told: &'u mut dyn FnMut(&NarInfo),
    pub(super) tell: &'u mut dyn FnMut(Event<'_>),
}

struct Desk<'d, 'u> {
    uploads: &'d mut Uploads<'u>,
    outcome: &'d mut Outcome,
    waiting: Waiting,
    jobs: HashMap<usize, Job>,
    /// What is still to be packed, the largest last.
    order: Vec<usize>,
    to_pack: Sender<usize>,
    /// How many are being packed, and how many more take room, with their sizes together.
    packing: usize,
    under_way: usize,
    size: u64,
    threads: usize,
    /// How many requests have failed since the last that did not.
    failures: usize,
    /// How many requests have had no answer.
    asked: usize,
    steps: Sender<Step>,
}

impl Uploads<'_> {
    /// Uploads all paths that can be uploaded.
    pub(super) fn run(mut self, outcome: &mut Outcome) {
        let stop = Stop::default();
        let (to_pack, wanted) = unbounded();
        let (steps, taken) = unbounded();
        let (packing, paths, from) = (self.packing, self.paths, self.from);
        let count = limits::processors(THREADS_MAX).min(paths.len());
        // What compresses on several threads has those that this leaves.
        let each = limits::processors(COMPRESSING_MAX) / count.max(1);
        let pack = |at: usize| {
            let info = &paths[at];
            let real = from.real_path(&info.path);
            Step::Packed(at, or_panicked(|| packing.pack(info, &real, each)))
        };
        std::thread::scope(|scope| {
            let entered = stop.enter();
            let threads = threads::share_work(scope, count, || {
                let (wanted, steps) = (Receiver::clone(&wanted), Sender::clone(&steps));
                move || {
                    while let Ok(at) = wanted.recv()
                        && steps.send(pack(at)).is_ok()
                    {}
                }
            });
            // This thread ends for what its caller works under.
            drop(entered);
            let mut order: Vec<usize> = (0..paths.len()).collect();
            order.sort_by_key(|&at| (paths[at].nar_size, &paths[at].path));
            let mut desk = Desk {
                waiting: Waiting::new(paths),
                jobs: HashMap::new(),
                order,
                to_pack,
                packing: 0,
                under_way: 0,
                size: 0,
                threads,
                failures: 0,
                asked: 0,
                steps: steps.clone(),
                outcome,
                uploads: &mut self,
            };
            let by_itself = || {
                (threads == 0)
                    .then(|| wanted.try_recv().ok().map(pack))
                    .flatten()
            };
            desk.outcome.ended_by = desk.run(&taken, by_itself).err();
            stop.set();
            desk.end(&taken);
        });
    }
}

/// What was packed, or why not; a thread that panicked would be waited for without an end.
fn or_panicked(pack: impl FnOnce() -> Result<Packed, CopyError>) -> Result<Box<Packed>, CopyError> {
    let packed = catch_unwind(AssertUnwindSafe(pack)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(CopyError::Panicked(text.unwrap_or("a panic").to_owned()))
    });
    packed.map(Box::new)
}

impl Desk<'_, '_> {
    /// Works until all has come to its end. Without threads `pack` packs what is to be packed.
    ///
    /// # Errors
    /// What keeps everything from being copied.
    fn run(
        &mut self,
        steps: &Receiver<Step>,
        pack: impl Fn() -> Option<Step>,
    ) -> Result<(), CopyError> {
        for (at, reference) in std::mem::take(&mut self.uploads.lacking) {
            self.failed(at, CopyError::Reference(reference))?;
        }
        loop {
            self.pack_more();
            if self.waiting.have_all_ended() {
                return Ok(());
            }
            if let Some(step) = pack() {
                self.take(step)?;
            }
            match steps.recv_timeout(interrupt::SLICE) {
                Ok(step) => self.take(step)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            interrupt::check().map_err(CopyError::Interrupted)?;
        }
    }

    /// Has more packed, if there is room.
    fn pack_more(&mut self) {
        while self.packing <= self.threads
            && let Some(&at) = self.order.last()
        {
            let info = &self.uploads.paths[at];
            if !self.waiting.has_ended(at) {
                let is_room = self.under_way < UNDER_WAY_MAX
                    && self.size.saturating_add(info.nar_size) <= UNDER_WAY_SIZE;
                if self.under_way > 0 && !is_room {
                    return;
                }
                (self.uploads.tell)(Event::Begun(info));
                self.packing += 1;
                self.under_way += 1;
                self.size += info.nar_size;
                // Who takes it lives as long as this.
                let _ = self.to_pack.send(at);
            }
            self.order.pop();
        }
    }

    fn take(&mut self, step: Step) -> Result<(), CopyError> {
        if step.is_answer() {
            self.asked -= 1;
        }
        match step {
            Step::Packed(at, packed) => {
                self.packing -= 1;
                match packed {
                    _ if self.waiting.has_ended(at) => self.make_room(at),
                    Ok(packed) => self.upload(at, *packed)?,
                    Err(error) => {
                        self.make_room(at);
                        self.failed(at, error)?;
                    }
                }
                Ok(())
            }
            Step::Looked(at, found) => match found {
                Ok(found) => {
                    self.looked(at, found);
                    self.go_on(at)
                }
                Err(error) => self.failed(at, error.into()),
            },
            Step::Put(at, Ok(())) => {
                self.failures = 0;
                self.go_on(at)
            }
            Step::Put(at, Err(error)) => self.failed(at, error.into()),
        }
    }

    /// A path is packed.
    fn upload(&mut self, at: usize, packed: Packed) -> Result<(), CopyError> {
        let todo = match self.todo(&packed) {
            Ok(todo) => todo,
            Err(error) => {
                self.make_room(at);
                return self.failed(at, error);
            }
        };
        let job = Job {
            sent: packed.placed,
            packed,
            todo,
            told: false,
            has_room: true,
            _ticket: None,
        };
        self.jobs.insert(at, job);
        self.go_on(at)
    }

    /// What is to be done before the cache can be told of a path.
    fn todo(&self, packed: &Packed) -> Result<VecDeque<Todo>, CopyError> {
        let mut todo = VecDeque::new();
        if packed.archive.is_some() {
            todo.extend([Todo::LookForArchive, Todo::PutArchive]);
        }
        let beside = self.uploads.beside;
        if let Some(listing) = packed.listing.as_ref().filter(|_| beside.listings) {
            let name = packed.info.store_path.hash_part().to_owned() + Listing::EXTENSION;
            todo.push_back(Todo::Put(name, listing.to_json()?));
        }
        if let Some(listing) = packed.listing.as_ref().filter(|_| beside.debug_info) {
            for (name, text) in debug_info::entries(listing, &packed.info.url) {
                todo.extend([Todo::LookFor(name.clone()), Todo::Put(name, text)]);
            }
        }
        Ok(todo)
    }

    /// Does the next thing that is to be done for a path.
    fn go_on(&mut self, at: usize) -> Result<(), CopyError> {
        let Some(job) = self.jobs.get_mut(&at) else {
            // It was given up, and this is the end of what was under way.
            return Ok(());
        };
        if let Some(todo) = job.todo.pop_front() {
            let ticket = self.begin(at, todo);
            if let Some(job) = self.jobs.get_mut(&at) {
                job._ticket = ticket;
            }
            return Ok(());
        }
        if job.told {
            return self.copied(at);
        }
        job.packed.archive = None;
        job.packed.listing = None;
        job.has_room = false;
        self.make_room(at);
        if self.waiting.arrived(at) {
            self.tell_of(at)?;
        }
        Ok(())
    }

    /// Begins something; none if there is nothing to be done any more.
    fn begin(&mut self, at: usize, todo: Todo) -> Option<Ticket> {
        let job = self.jobs.get_mut(&at)?;
        let (remote, info) = (self.uploads.remote, &job.packed.info);
        let steps = self.steps.clone();
        // Nobody takes it any more when all has ended.
        let looked = move |found| drop(steps.send(Step::Looked(at, found)));
        let steps = self.steps.clone();
        let put = move |done| drop(steps.send(Step::Put(at, done)));
        let text = |text: String| Source::Bytes(text.into());
        let ticket = match todo {
            Todo::LookForArchive => remote.find(&info.url, looked),
            Todo::LookFor(name) => remote.find(&name, looked),
            Todo::PutArchive => {
                job.sent = info.file_size.unwrap_or_default();
                remote.put(&info.url, job.packed.source()?, NAR, put)
            }
            Todo::Put(name, json) => remote.put(&name, text(json), JSON, put),
            Todo::PutInfo => {
                let name = format!("{}.narinfo", info.store_path.hash_part());
                let info = info.to_text(&self.uploads.packing.store_dir);
                remote.put(&name, text(info), NARINFO, put)
            }
        };
        self.asked += 1;
        Some(ticket)
    }

    /// What is next to be put was looked for: it is left out if it is there.
    fn looked(&mut self, at: usize, found: Option<Found>) {
        if let (Some(job), Some(found)) = (self.jobs.get_mut(&at), found) {
            let is_archive = matches!(job.todo.front(), Some(Todo::PutArchive));
            if !is_archive || job.packed.may_be(found) {
                job.todo.pop_front();
            }
        }
    }

    /// Tells the cache of a path, since all that it refers to is there.
    fn tell_of(&mut self, at: usize) -> Result<(), CopyError> {
        if let Some(job) = self.jobs.get_mut(&at) {
            job.told = true;
            job.todo.push_back(Todo::PutInfo);
        }
        self.go_on(at)
    }

    /// The cache has been told of a path.
    fn copied(&mut self, at: usize) -> Result<(), CopyError> {
        if let Some(job) = self.jobs.remove(&at) {
            self.outcome.copied += 1;
            self.outcome.sent += job.sent;
            (self.uploads.told)(&job.packed.info);
            (self.uploads.tell)(Event::Copied {
                path: &self.uploads.paths[at],
                sent: job.sent,
            });
        }
        for ready in self.waiting.told(at) {
            self.tell_of(ready)?;
        }
        Ok(())
    }

    /// A path can't be copied, nor what refers to it.
    ///
    /// # Errors
    /// The error, if it is not that of this path alone.
    fn failed(&mut self, at: usize, error: CopyError) -> Result<(), CopyError> {
        if self.waiting.has_ended(at) {
            return Ok(());
        }
        // What fails now may fail because of that.
        interrupt::check().map_err(CopyError::Interrupted)?;
        if error.is_of_the_cache() {
            self.failures += 1;
        }
        if error.concerns_all() || self.failures >= FAILURES_MAX {
            return Err(error);
        }
        (self.uploads.tell)(Event::Failed {
            path: &self.uploads.paths[at],
            error: &error,
        });
        self.give_up(at);
        Ok(())
    }

    /// Gives up a path and all that refers to it.
    fn give_up(&mut self, at: usize) {
        for at in self.waiting.give_up(at) {
            self.outcome.left.push(self.uploads.paths[at].path.clone());
            if let Some(job) = self.jobs.remove(&at)
                && job.has_room
            {
                self.make_room(at);
            }
        }
    }

    fn make_room(&mut self, at: usize) {
        self.under_way -= 1;
        self.size -= self.uploads.paths[at].nar_size;
    }

    /// Calls off what is under way, and waits a moment for that: what has come to a bucket in parts
    /// is given up there.
    fn end(&mut self, steps: &Receiver<Step>) {
        self.jobs.clear();
        let deadline = Instant::now() + FAREWELL;
        while self.asked > 0
            && let Ok(step) = steps.recv_deadline(deadline)
        {
            self.asked -= usize::from(step.is_answer());
        }
        for at in 0..self.uploads.paths.len() {
            if !self.waiting.has_ended(at) {
                self.give_up(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_why_a_path_is_not_copied() {
        let panicked = |text: &str| {
            let packed = or_panicked(|| panic!("{text}"));
            packed.err().expect("an error").to_string()
        };
        assert!(panicked("it is broken").contains("'it is broken'"));
        let packed = or_panicked(|| std::panic::resume_unwind(Box::new(1)));
        assert!(matches!(packed, Err(CopyError::Panicked(_))));
    }
}
