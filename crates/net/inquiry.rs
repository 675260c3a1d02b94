//! Asks one store for what it has, and waits for its answers: for who looks into a binary cache.
//! Nothing of it is put into another store, so signatures don't matter.

use std::collections::{HashMap, HashSet};
use std::io::{self, Cursor};
use std::sync::Arc;

use crossbeam_channel::{RecvTimeoutError, unbounded};
use windrow_components::store_path::{StoreDir, StorePath};
use windrow_sys::bounded::DERIVATION_MAX;
use windrow_sys::interrupt;

use crate::asker::{Answer, Asker, Config, Question};
use crate::client::Client;
use crate::compression::decoder;
use crate::error::NetError;
use crate::narinfo::{NarInfo, resolve};
use crate::remote::Remote;
use crate::store_url::{Kind, StoreUrl};
use crate::unpack;

/// How many archives are fetched at a time.
const FETCHED_AT_ONCE: usize = 100;

/// Why a store could not be asked. Printed, it is one line with the store's URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InquiryError {
    /// It is no store, or not one with these paths.
    #[error("the store '{url}' can't be used: {reason}")]
    Useless {
        /// Its URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// It does not answer as it should.
    #[error("cannot ask the store '{url}': {reason}")]
    Failed {
        /// Its URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// What it has of a path can't be read.
    #[error("cannot read '{path}' in the store '{url}': {reason}")]
    Unreadable {
        /// Its URL.
        url: String,
        /// The path.
        path: String,
        /// Why not.
        reason: String,
    },
    /// It was asked to end.
    #[error("{0}")]
    Interrupted(#[source] io::Error),
    /// There are no threads left.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// A store that is asked, and what it has said.
pub struct Inquiry {
    url: StoreUrl,
    config: Config,
    asker: Asker,
    /// What is known of paths, or why nothing is; those that the store lacks have nothing.
    known: HashMap<StorePath, Result<Option<Arc<NarInfo>>, String>>,
    /// The questions that have no answer yet, by their numbers.
    open: HashMap<u32, StorePath>,
    last: u32,
    warnings: Vec<String>,
    /// How files of it are read, once one was.
    remote: Option<Remote>,
}

impl Inquiry {
    /// For a store by its URL. It is not asked anything yet. What it said in earlier runs counts as
    /// `config` says.
    ///
    /// # Errors
    /// [`InquiryError::Thread`].
    pub fn new(url: StoreUrl, mut config: Config) -> Result<Self, InquiryError> {
        config.trust.require_sigs = false;
        let asker = Asker::new(config.clone(), vec![url.clone()], || {});
        Ok(Self {
            asker: asker.map_err(InquiryError::Thread)?,
            url,
            config,
            known: HashMap::new(),
            open: HashMap::new(),
            last: 0,
            warnings: Vec::new(),
            remote: None,
        })
    }

    /// The store directory of the paths.
    pub fn store_dir(&self) -> &StoreDir {
        &self.config.trust.store_dir
    }

    /// What to warn of, once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Has what the store says of all these paths be known; they are asked for at once. What it
    /// can't answer matters when that path is looked at.
    ///
    /// # Errors
    /// When it is of no use at all.
    pub fn look_up(&mut self, paths: &[StorePath]) -> Result<(), InquiryError> {
        self.ask(paths.to_vec());
        while !self.open.is_empty() {
            self.hear()?;
        }
        Ok(())
    }

    /// What the store has of a path; nothing if it lacks that.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn info(&mut self, path: &StorePath) -> Result<Option<Arc<NarInfo>>, InquiryError> {
        self.look_up(std::slice::from_ref(path))?;
        match self.known.get(path) {
            Some(Ok(info)) => Ok(info.clone()),
            Some(Err(reason)) => Err(InquiryError::Failed {
                url: self.url.to_string(),
                reason: reason.clone(),
            }),
            None => Ok(None),
        }
    }

    /// These paths and all that they refer to, whether the store has it or not. As soon as it is
    /// known what a path refers to, that is asked for.
    ///
    /// # Errors
    /// When it is of no use at all.
    pub fn closure(&mut self, roots: Vec<StorePath>) -> Result<HashSet<StorePath>, InquiryError> {
        let mut members = HashSet::new();
        let mut left = roots;
        loop {
            let mut unknown = Vec::new();
            while let Some(path) = left.pop() {
                if members.contains(&path) {
                    continue;
                }
                match self.known.contains_key(&path) {
                    true => left.extend(self.references(&path)),
                    false => unknown.push(path.clone()),
                }
                members.insert(path);
            }
            self.ask(unknown);
            if self.open.is_empty() {
                return Ok(members);
            }
            for path in self.hear()? {
                left.extend(self.references(&path));
            }
        }
    }

    /// What a path is known to be.
    fn there(&self, path: &StorePath) -> Option<&NarInfo> {
        self.known.get(path)?.as_ref().ok()?.as_deref()
    }

    fn references(&self, path: &StorePath) -> Vec<StorePath> {
        self.there(path)
            .map_or_else(Vec::new, |info| info.references.clone())
    }

    /// Asks for what is not known.
    fn ask(&mut self, mut paths: Vec<StorePath>) {
        paths.retain(|path| !self.known.contains_key(path));
        paths.sort_unstable();
        paths.dedup();
        let mut questions = Vec::with_capacity(paths.len());
        for path in paths {
            self.last += 1;
            self.open.insert(self.last, path.clone());
            let token = self.last;
            questions.push(Question { token, path });
        }
        if !questions.is_empty() {
            self.asker.ask(0, questions);
        }
    }

    /// Waits until something has been said, and takes in all that has; the paths it is about.
    fn hear(&mut self) -> Result<Vec<StorePath>, InquiryError> {
        let mut heard = Vec::new();
        let mut next = loop {
            if let Some(answer) = self.asker.wait(interrupt::SLICE) {
                break Some(answer);
            }
            interrupt::check().map_err(InquiryError::Interrupted)?;
        };
        while let Some(answer) = next {
            heard.extend(self.take_in(answer)?);
            next = self.asker.take();
        }
        Ok(heard)
    }

    fn take_in(&mut self, answer: Answer) -> Result<Vec<StorePath>, InquiryError> {
        let (tokens, info) = match answer {
            Answer::Has { token, info, .. } => (vec![token], Ok(Some(info))),
            Answer::Lacks { token, .. } => (vec![token], Ok(None)),
            Answer::Failed { tokens, reason, .. } => (tokens, Err(reason)),
            Answer::Distrusted { token, reason, .. } => (vec![token], Err(reason.to_string())),
            Answer::Useless { reason, .. } => {
                let url = self.url.to_string();
                return Err(InquiryError::Useless { url, reason });
            }
            Answer::Warning(text) => {
                self.warnings.push(text);
                return Ok(Vec::new());
            }
            Answer::Opened { .. } | Answer::Downloaded { .. } => return Ok(Vec::new()),
        };
        let answered = tokens.iter().filter_map(|token| self.open.remove(token));
        let answered: Vec<StorePath> = answered.collect();
        for path in &answered {
            self.known.insert(path.clone(), info.clone());
        }
        Ok(answered)
    }

    /// Gives `each` the texts of derivations that the store has, as they come. They are fetched
    /// several at a time, and are what their hashes say.
    ///
    /// # Errors
    /// When one is not there, can't be read, or is no file; and those of `each`.
    pub fn derivations<E: From<InquiryError>>(
        &mut self,
        paths: &[StorePath],
        mut each: impl FnMut(&StorePath, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.look_up(paths)?;
        let remote = self.remote()?;
        let (tell, told) = unbounded();
        let mut tickets = Vec::with_capacity(paths.len());
        let mut arrived = 0;
        while arrived < paths.len() {
            while tickets.len() < paths.len() && tickets.len() - arrived < FETCHED_AT_ONCE {
                let (at, tell) = (tickets.len(), tell.clone());
                let name = self.file_of(&paths[at])?;
                let done = move |file| drop(tell.send((at, file)));
                tickets.push(Some(remote.get(&name, DERIVATION_MAX, done)));
            }
            match told.recv_timeout(interrupt::SLICE) {
                Ok((at, file)) => {
                    tickets[at] = None;
                    arrived += 1;
                    each(&paths[at], self.unpacked(&paths[at], file)?)?;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            interrupt::check().map_err(InquiryError::Interrupted)?;
        }
        Ok(())
    }

    /// How files of the store are read.
    fn remote(&mut self) -> Result<Remote, InquiryError> {
        if let Some(remote) = &self.remote {
            return Ok(remote.clone());
        }
        let failed = |reason: String| InquiryError::Failed {
            url: self.url.to_string(),
            reason,
        };
        if !matches!(
            self.url.kind,
            Kind::Http(_) | Kind::File(_) | Kind::S3 { .. }
        ) {
            let reason = "it is no binary cache, and from others no derivation is read";
            return Err(failed(reason.to_owned()));
        }
        let client = Client::new(self.config.client.clone());
        let opened = client.and_then(|client| Remote::open(&self.url, &client));
        let remote = opened.map_err(|error| failed(error.to_string()))?;
        Ok(self.remote.insert(remote).clone())
    }

    /// What the archive of a path is called in the store.
    fn file_of(&self, path: &StorePath) -> Result<String, InquiryError> {
        let info = self.present(path)?;
        let base = match &self.url.kind {
            Kind::Http(base) => base.as_str(),
            _ => "",
        };
        if info.nar_size > DERIVATION_MAX {
            let reason = format!("it has {} bytes, which is too much", info.nar_size);
            return Err(self.unreadable(path, reason));
        }
        let name = resolve(base, &info.url);
        name.map_err(|error| self.unreadable(path, error.to_string()))
    }

    fn present(&self, path: &StorePath) -> Result<&NarInfo, InquiryError> {
        let info = self.there(path);
        info.ok_or_else(|| self.unreadable(path, "it is not there".to_owned()))
    }

    /// The one file that an archive consists of.
    fn unpacked(
        &self,
        path: &StorePath,
        file: Result<Option<Vec<u8>>, NetError>,
    ) -> Result<Vec<u8>, InquiryError> {
        let info = self.present(path)?;
        let unreadable = |reason: String| self.unreadable(path, reason);
        let packed = file.map_err(|error| unreadable(error.to_string()))?;
        let packed = packed.ok_or_else(|| unreadable("its archive is not there".to_owned()))?;
        let archive = decoder(info.compression, Cursor::new(packed));
        let archive = archive.map_err(|error| unreadable(error.to_string()))?;
        unpack::read_file(archive, info).map_err(|error| unreadable(error.to_string()))
    }

    fn unreadable(&self, path: &StorePath, reason: String) -> InquiryError {
        InquiryError::Unreadable {
            url: self.url.to_string(),
            path: self.store_dir().display(path),
            reason,
        }
    }
}
