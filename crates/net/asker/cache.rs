//! One cache as it is asked: not open yet, being opened, open, or of no use.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use std::collections::HashMap;
use windrow_components::store_path::StorePath;

use super::Question;
use super::hold::Hold;
use super::local::Local;
use super::peers::Peers;
use crate::cache_info::CacheInfo;
use crate::error::NetError;
use crate::lookup::CacheRow;
use crate::narinfo::NarInfo;
use crate::remote::Remote;
use crate::store_url::{Kind, StoreUrl};

/// How far a cache is.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing has been asked yet, or it could not be opened.
    Closed,
    /// What it says of itself is on its way.
    Opening(#[expect(dead_code, reason = "dropped, it cancels")] Hold),
    /// It can be asked. What it says of itself is in the file of answers, if there is one.
    Open(Option<CacheRow>),
    /// It is of no use.
    Useless,
}

/// How a cache is reached.
#[derive(Debug)]
pub(super) enum Reach {
    /// Through the client.
    Remote(Remote),
    /// It is another store on this machine.
    Local(Box<Local>),
    /// A Nix serves it.
    Served(Peers),
}

/// A question that the cache has not answered.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) path: StorePath,
    /// Dropped, it cancels.
    _hold: Hold,
}

/// A cache.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) url: StoreUrl,
    pub(super) state: State,
    /// How it is reached, once that is known.
    pub(super) reach: Option<Reach>,
    /// What it is to be asked when it is open.
    pub(super) waiting: Vec<Question>,
    /// What it has been asked.
    pub(super) open: HashMap<u32, Open>,
    /// When it said something last, or was asked when it owed nothing.
    pub(super) heard: Instant,
    /// What it has said and has not been written down.
    pub(super) unwritten: Vec<Arc<NarInfo>>,
}

impl Cache {
    pub(super) fn new(url: StoreUrl) -> Self {
        Self {
            url,
            state: State::Closed,
            reach: None,
            waiting: Vec::new(),
            open: HashMap::new(),
            heard: Instant::now(),
            unwritten: Vec::new(),
        }
    }

    /// Whether what it says is kept for later runs: of what is on this machine it is asked as
    /// quickly as a file of answers, and stores, which lose paths at any time, are asked for many
    /// at once.
    pub(super) fn is_remembered(&self) -> bool {
        matches!(self.url.kind, Kind::Http(_) | Kind::S3 { .. })
    }

    /// Whether it owes answers.
    pub(super) fn owes(&self) -> bool {
        !self.open.is_empty() || matches!(self.state, State::Opening(_))
    }

    /// Since when it has said nothing though it could have: it has sent nothing of a download
    /// either, behind which its answers may wait for a connection, and does not want to be left
    /// alone.
    pub(super) fn silent_since(&self) -> Instant {
        let excused = match &self.reach {
            Some(Reach::Remote(remote)) => remote.excused_until(),
            Some(Reach::Served(peers)) => peers.excused_until(),
            Some(Reach::Local(_)) | None => None,
        };
        excused.map_or(self.heard, |until| until.max(self.heard))
    }

    /// It is asked for something.
    pub(super) fn asked(&mut self, token: u32, path: StorePath, hold: Hold) {
        if !self.owes() {
            self.heard = Instant::now();
        }
        let open = Open { path, _hold: hold };
        self.open.insert(token, open);
    }

    /// Waits for none of its answers any more; the numbers of the questions.
    pub(super) fn give_up(&mut self) -> Vec<u32> {
        if matches!(self.state, State::Opening(_)) {
            self.state = State::Closed;
        }
        if let Some(Reach::Served(peers)) = &self.reach {
            peers.give_up();
        }
        let waiting = self.waiting.drain(..).map(|question| question.token);
        let mut tokens: Vec<u32> = waiting.collect();
        tokens.extend(self.open.drain().map(|(token, _)| token));
        tokens.sort_unstable();
        tokens
    }

    /// What the file that a cache has about itself says, or that it has none; `Err` is why it can't
    /// be used at all.
    ///
    /// # Errors
    /// The outer one if it could not be read.
    pub(super) fn understand(
        &self,
        file: Result<Option<Vec<u8>>, NetError>,
        store_dir: &str,
    ) -> Result<Result<CacheInfo, String>, String> {
        let info = match (file.map_err(|error| error.to_string())?, &self.url.kind) {
            (Some(bytes), _) => CacheInfo::parse(&bytes)
                .map_err(|error| format!("its file {}: {error}", CacheInfo::NAME))?,
            // Nix writes one there when it first asks.
            (None, Kind::File(path)) if path.is_dir() => CacheInfo::default(),
            (None, Kind::File(path)) => return Ok(Err(no_directory(path))),
            (None, _) => {
                let mut text = format!(
                    "no binary cache is there, for it has no {}",
                    CacheInfo::NAME
                );
                // A bucket hides what it has from who may not read it.
                if let Some(Reach::Remote(remote)) = &self.reach
                    && let Some(looked_for) = remote.looked_for()
                {
                    text.push_str("; if it wants a login: ");
                    text.push_str(looked_for);
                }
                return Ok(Err(text));
            }
        };
        Ok(is_for(&info, store_dir).map(|()| info))
    }

    /// Its priority: what its URL says, or else itself.
    pub(super) fn priority(&self, info: &CacheInfo) -> i64 {
        self.url.params.priority.unwrap_or(info.priority)
    }
}

fn no_directory(path: &Path) -> String {
    format!("there is no directory '{}'", path.display())
}

/// Whether a cache has paths of this store.
pub(super) fn is_for(info: &CacheInfo, store_dir: &str) -> Result<(), String> {
    match &info.store_dir {
        Some(dir) if dir != store_dir => Err(format!(
            "it has paths of the store '{dir}', and this one is '{store_dir}'"
        )),
        _ => Ok(()),
    }
}
