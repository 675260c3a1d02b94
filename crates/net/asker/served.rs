//! What becomes of the answers of stores that a Nix serves: the part of the desk that is about
//! them.

use std::time::Instant;

use super::Answer;
use super::cache::{Open, Reach, State};
use super::desk::Desk;
use super::hold::Hold;
use super::peers::Peers;
use super::{Config, Failing, Left, Question};
use crate::cache_info::CacheInfo;
use crate::error::{Kind, NetError};
use crate::narinfo::NarInfo;
use crate::peer::Options;

/// How a store is connected to.
pub(super) fn options(config: &Config) -> Options {
    Options {
        store_dir: config.trust.store_dir.clone(),
        write: false,
        may_ask: false,
        limits: config.client.limits.clone(),
    }
}

impl<T: Fn(Answer)> Desk<T> {
    /// Begins to connect.
    pub(super) fn connect(&mut self, nth: usize) {
        let cache = &mut self.caches[nth];
        let Some(Reach::Served(peers)) = &mut cache.reach else {
            return;
        };
        if let Err(error) = peers.open() {
            return self.give_up(nth, error.to_string(), Failing::Dead);
        }
        if !cache.owes() {
            cache.heard = Instant::now();
        }
        cache.state = State::Opening(Hold::Nothing);
    }

    /// There is a connection, or can't be one.
    pub(super) fn reached(&mut self, nth: usize, result: Result<(), NetError>) {
        let cache = &mut self.caches[nth];
        if !matches!(cache.state, State::Opening(_)) {
            return;
        }
        cache.heard = Instant::now();
        match result {
            Ok(()) => self.is_open(nth, &CacheInfo::default(), None),
            Err(error) if error.kind() == Kind::Cancelled => {}
            Err(error) if error.is_transient() => {
                self.give_up(nth, error.to_string(), Failing::Dead)
            }
            // It won't become another one.
            Err(error) => self.useless(nth, error.to_string()),
        }
    }

    /// Asks for all of these at once.
    pub(super) fn ask_served(&mut self, nth: usize, questions: Vec<Question>) {
        let cache = &mut self.caches[nth];
        for Question { token, path } in &questions {
            cache.asked(*token, path.clone(), Hold::Nothing);
        }
        if let Some(Reach::Served(peers)) = &mut cache.reach
            && let Err(error) = peers.ask(questions)
        {
            self.give_up(nth, error.to_string(), Failing::Dead);
        }
    }

    /// What a store says of a path has come.
    pub(super) fn heard_told(
        &mut self,
        nth: usize,
        token: u32,
        info: Result<Option<NarInfo>, NetError>,
    ) {
        let cache = &mut self.caches[nth];
        let Some(Open { path, .. }) = cache.open.remove(&token) else {
            return;
        };
        cache.heard = Instant::now();
        let info = info.map_err(|error| (error.to_string(), Failing::Once));
        self.told(nth, (token, &path), info);
    }

    /// A connection has failed.
    pub(super) fn lost(&mut self, nth: usize, mut tokens: Vec<u32>, error: &NetError) {
        let cache = &mut self.caches[nth];
        // What was given up may have been asked for again.
        if error.kind() == Kind::Cancelled {
            return;
        }
        tokens.retain(|token| cache.open.remove(token).is_some());
        if !tokens.is_empty() {
            (self.tell)(Answer::Failed {
                cache: nth,
                tokens,
                reason: error.to_string(),
                failing: Failing::Dead,
            });
        }
    }

    /// Nobody wants a download any more.
    pub(super) fn cancel(&mut self, token: u32, left: Left) {
        self.transfers.cancel(token, left);
        for cache in &self.caches {
            if let Some(Reach::Served(peers)) = &cache.reach {
                peers.forget_cancelled();
            }
        }
    }

    /// A store that a Nix serves.
    pub(super) fn served(&mut self, nth: usize) -> Result<Peers, String> {
        let client = match self.config.client.speed {
            0 => None,
            _ => Some(self.client()?),
        };
        let url = self.caches[nth].url.clone();
        let own = self.own.clone();
        Ok(Peers::new((nth, url), options(&self.config), client, own))
    }
}
