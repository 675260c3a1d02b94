//! Follows the log of a build that another process makes, from what there is of it to its end.

use std::path::Path;
use std::time::{Duration, Instant};

use windrow_components::run_record::{Activity, Ended, RunRecord, RunState, Work};
use windrow_store::local::LocalStore;
use windrow_store::runs::{RunReader, living};

use super::tail::{Tail, live_path};
use super::watch::{Watch, Woken};
use crate::error::{Error, Result, print_failed};
use crate::realise::{Wanted, known_outputs};
use crate::session::Session;
use crate::terminal::{Out, complain};

/// How long a log may take to be whole after its build has ended, while the run goes on: one that
/// could not be written never is.
const CLOSING: Duration = Duration::from_secs(10);

/// How following ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The build has ended well, and all of its log was printed.
    ToItsEnd,
    /// Nobody builds it: what log there is has been printed by nobody yet.
    NotRunning,
}

/// A run that is listened to.
struct Run {
    reader: RunReader,
    state: RunState,
    /// What ended in it of what is looked for.
    ended: Option<Ended>,
    is_over: bool,
    /// Whether it was asked for something that needs what is looked for, if that was found out.
    needs: Option<bool>,
}

impl Run {
    fn new(reader: RunReader) -> Self {
        Self {
            reader,
            state: RunState::default(),
            ended: None,
            is_over: false,
            needs: None,
        }
    }

    /// Takes in what the run has told, about the derivation `drv` in particular.
    fn listen(&mut self, drv: &str) -> Result<()> {
        let news = self.reader.news();
        let news = news.map_err(Error::io("read", self.reader.path()))?;
        self.is_over = news.is_none();
        for record in news.into_iter().flatten() {
            match &record {
                RunRecord::End { id, path, ended } if self.is_of(*id, path, drv) => {
                    self.ended = Some(ended.clone());
                }
                RunRecord::Start(activity) if activity.path == drv => self.ended = None,
                _ => {}
            }
            self.state.take(&record);
        }
        Ok(())
    }

    fn is_of(&self, id: u64, path: &str, drv: &str) -> bool {
        let begun = self.state.activities.get(&id);
        path == drv || begun.is_some_and(|it| it.path == drv)
    }

    fn activity(&self, drv: &str) -> Option<&Activity> {
        self.state.activities.values().find(|it| it.path == drv)
    }

    fn pid(&self) -> u32 {
        self.state.run.as_ref().map_or(0, |run| run.pid)
    }

    /// Whether it was asked for something that needs `drv`, as the store knows it.
    fn needs(&mut self, drv: &str, store: &LocalStore) -> Result<bool> {
        let Some(run) = &self.state.run else {
            return Ok(false);
        };
        if self.needs.is_none() {
            let targets = run.targets.iter().map(String::as_str);
            let closure = store.database.closure(targets)?;
            self.needs = Some(closure.iter().any(|info| info.path == drv));
        }
        Ok(self.needs == Some(true))
    }
}

/// Follows the log of a derivation's build.
struct Follower<'a> {
    session: &'a Session,
    drv: &'a str,
    watch: Watch,
    runs: Vec<Run>,
}

/// What is to be done about a derivation that is looked for.
enum Found {
    /// It is built, with its log at that path, in the run of that number.
    Building(usize, String),
    /// It will be, as far as can be seen, by that process.
    Queued(u32),
    /// It was, and failed.
    Ended(Ended),
    /// Its outputs are there.
    Valid,
    /// Nobody builds it.
    Nowhere,
}

/// Prints the log of a derivation's build while another process makes it, until it has ended.
///
/// # Errors
/// When the build fails, with its status; when its run is killed; when a signal asks for an end.
pub(crate) fn follow(session: &Session, drv: &str, out: &mut Out) -> Result<Followed> {
    let mut follower = Follower {
        session,
        drv,
        watch: Watch::new(),
        runs: Vec::new(),
    };
    follower.watch.add(&session.layout.runs_dir());
    let mut waits = false;
    loop {
        follower.listen()?;
        match follower.find()? {
            Found::Building(at, log) => return follower.follow(at, &log, out),
            Found::Ended(ended) if waits => return verdict(drv, ended),
            Found::Nowhere if waits => return Err(not_ended(drv, "its run has ended without it")),
            Found::Ended(_) | Found::Valid | Found::Nowhere => return Ok(Followed::NotRunning),
            Found::Queued(pid) if !waits => {
                waits = true;
                complain(&format!("waiting until process {pid} builds '{drv}'..."));
            }
            Found::Queued(_) => {}
        }
        if follower.watch.wait(out)? == Woken::Unread {
            return Ok(Followed::ToItsEnd);
        }
    }
}

impl Follower<'_> {
    /// Takes in what all runs have told, new ones among them.
    fn listen(&mut self) -> Result<()> {
        let dir = self.session.layout.runs_dir();
        let found = living(&self.session.layout).map_err(Error::io("read", dir))?;
        for reader in found {
            let is_known = |run: &Run| !run.is_over && run.reader.path() == reader.path();
            if !self.runs.iter().any(is_known) {
                self.runs.push(Run::new(reader));
            }
        }
        self.runs
            .iter_mut()
            .try_for_each(|run| run.listen(self.drv))
    }

    fn find(&mut self) -> Result<Found> {
        for (at, run) in self.runs.iter().enumerate() {
            if let Some(Work::Build { log, .. }) = run.activity(self.drv).map(|it| &it.work)
                && !run.is_over
            {
                return Ok(Found::Building(at, log.clone()));
            }
        }
        if let Some(ended) = self.runs.iter().rev().find_map(|run| run.ended.clone()) {
            return Ok(Found::Ended(ended));
        }
        if self.runs.is_empty() {
            return Ok(Found::Nowhere);
        }
        let store = self.session.open_read_only()?;
        if self.is_valid(&store)? {
            return Ok(Found::Valid);
        }
        for run in self.runs.iter_mut().filter(|run| !run.is_over) {
            if run.activity(self.drv).is_some() || run.needs(self.drv, &store)? {
                return Ok(Found::Queued(run.pid()));
            }
        }
        Ok(Found::Nowhere)
    }

    /// Whether there is nothing to build.
    fn is_valid(&self, store: &LocalStore) -> Result<bool> {
        let wanted = Wanted::Derivation {
            path: self.drv.to_owned(),
            outputs: Vec::new(),
        };
        let Some(outputs) = known_outputs(store, &wanted)? else {
            return Ok(false);
        };
        let mut outputs = outputs.iter();
        Ok(outputs.try_fold(true, |all, (_, path)| {
            Ok::<_, windrow_store::Error>(all && store.database.is_valid(path)?)
        })?)
    }

    /// Follows the build that a run makes.
    fn follow(mut self, at: usize, log: &str, out: &mut Out) -> Result<Followed> {
        let mut run = self.runs.swap_remove(at);
        let log = Path::new(log);
        if let Some(dir) = live_path(log)
            .parent()
            .filter(|_| !log.as_os_str().is_empty())
        {
            self.watch.add(dir);
        }
        let mut tail = Tail::new(log.to_owned());
        while run.ended.is_none() && !run.is_over {
            tail.news(&mut |bytes| out.write_log(bytes).map_err(print_failed))?;
            flush(out)?;
            if self.watch.wait(out)? == Woken::Unread {
                return Ok(Followed::ToItsEnd);
            }
            run.listen(self.drv)?;
        }
        let ended = run.ended.clone();
        let since = Instant::now();
        loop {
            let must = run.is_over || since.elapsed() >= CLOSING;
            let mut print = |bytes: &[u8]| out.write_log(bytes).map_err(print_failed);
            if tail.rest(must, &mut print)? || must {
                break;
            }
            flush(out)?;
            if self.watch.wait(out)? == Woken::Unread {
                return Ok(Followed::ToItsEnd);
            }
            run.listen(self.drv)?;
        }
        out.end_log().map_err(print_failed)?;
        flush(out)?;
        match ended {
            Some(ended) => verdict(self.drv, ended),
            None => {
                let reason = format!("process {}, which built it, was killed", run.pid());
                Err(not_ended(self.drv, &reason))
            }
        }
    }
}

fn flush(out: &mut Out) -> Result<()> {
    use std::io::Write as _;
    out.flush().map_err(print_failed)
}

/// What it means for whoever follows a build how that has ended.
fn verdict(drv: &str, ended: Ended) -> Result<Followed> {
    match ended {
        Ended::Succeeded => Ok(Followed::ToItsEnd),
        Ended::Failed { status, message } => Err(Error::BuildFailed {
            message,
            status: status.max(1),
        }),
        Ended::Cancelled => {
            let reason = "its run was interrupted, or nobody wanted it any more";
            Err(not_ended(drv, reason))
        }
    }
}

fn not_ended(drv: &str, reason: &str) -> Error {
    Error::NotEnded {
        path: drv.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The derivation that is being built and has that output, if there is one.
///
/// # Errors
/// When the store or the state of its runs can't be read.
pub(crate) fn builder_of(session: &Session, output: &str) -> Result<Option<String>> {
    let dir = session.layout.runs_dir();
    for mut reader in living(&session.layout).map_err(Error::io("read", dir))? {
        let mut state = RunState::default();
        let news = reader.news();
        let news = news.map_err(Error::io("read", reader.path()))?;
        news.iter().flatten().for_each(|record| state.take(record));
        for Activity { path, work, .. } in state.activities.into_values() {
            if matches!(work, Work::Fetch) {
                continue;
            }
            let outputs = Vec::new();
            let wanted = Wanted::Derivation { path, outputs };
            let known = known_outputs(&session.open_read_only()?, &wanted)?;
            let has = known.is_some_and(|all| all.iter().any(|(_, path)| path == output));
            if let (true, Wanted::Derivation { path, .. }) = (has, wanted) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}
