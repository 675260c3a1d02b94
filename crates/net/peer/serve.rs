//! The protocol of `nix-store --serve`, as a client: Nix 1.8 serves version 2.0, Nix 2.35 serves
//! 2.8. A failure there ends the program, and its standard error says why.

use std::io::Write;

use windrow_components::hash::{Hash, HashAlgo, base16};
use windrow_components::store_path::StorePath;
use windrow_store::PathInfo;
use windrow_store::text::transfer::MAGIC as EXPORT_MAGIC;
use windrow_store::wire::{push_number, push_text, push_texts};

use super::nar::{self, Outgoing};
use super::told::{Told, info_of};
use super::wire::{Wire, protocol};
use super::{Open, Tell};
use crate::error::{Fault, Kind};

/// What a client begins with.
const CLIENT_MAGIC: u64 = 0x390c_9deb;
/// What a server begins with.
const SERVER_MAGIC: u64 = 0x5452_eecb;
/// The newest version that is spoken here.
const VERSION: u64 = 2 << 8 | 8;

const QUERY_VALID_PATHS: u64 = 1;
const QUERY_PATH_INFOS: u64 = 2;
const DUMP_STORE_PATH: u64 = 3;
const IMPORT_PATHS: u64 = 4;
const ADD_TO_STORE_NAR: u64 = 9;

/// Since when infos have hashes, content addresses and signatures.
const WITH_HASHES: u64 = 4;
/// Since when paths are added with all that is known of them.
const WITH_ADD_TO_STORE_NAR: u64 = 5;

/// How many paths may be on their way whose arrival is not confirmed. Each word of that is eight
/// bytes, so that it has room however slow it is read.
const UNCONFIRMED: usize = 64;

/// What says that a command has succeeded.
const SUCCESS: u64 = 1;

/// A connection.
pub(super) struct Serve {
    pub(super) wire: Wire,
    minor: u64,
}

impl Serve {
    /// Greets.
    ///
    /// # Errors
    /// When there is no answer, or none that is understood.
    pub(super) fn greet(mut wire: Wire) -> Result<Self, Fault> {
        let version = wire.greet([CLIENT_MAGIC, SERVER_MAGIC], VERSION)?;
        if version >> 8 != VERSION >> 8 {
            let text = format!("it speaks a protocol with the unknown number {version:#x}");
            return Err(Fault::new(Kind::Unsupported, text));
        }
        let minor = version.min(VERSION) & 0xff;
        Ok(Self { wire, minor })
    }

    /// Whether something can be fetched.
    ///
    /// # Errors
    /// Why it can't.
    pub(super) fn can_tell(&self) -> Result<(), Fault> {
        if self.minor >= WITH_HASHES {
            return Ok(());
        }
        let text = "its Nix is older than 2.0 and does not say what hashes its paths have";
        Err(Fault::new(Kind::Unsupported, text))
    }

    /// Those of the paths that are valid there; they are kept until the connection ends, if it may
    /// write.
    pub(super) fn valid_paths(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, Fault> {
        let (keep, substitute) = (1, 0);
        for number in [QUERY_VALID_PATHS, keep, substitute] {
            push_number(&mut self.wire.output, number);
        }
        self.wire.push_paths(paths);
        self.wire.flush()?;
        self.wire.paths()
    }

    /// What is known there of paths; tells of each.
    pub(super) fn infos(&mut self, paths: &[StorePath], tell: Tell<'_>) -> Result<(), Fault> {
        push_number(&mut self.wire.output, QUERY_PATH_INFOS);
        self.wire.push_paths(paths);
        self.wire.flush()?;
        let mut left: Vec<&StorePath> = paths.iter().collect();
        left.sort_unstable();
        left.dedup();
        while let Some(path) = self.wire.optional_path()? {
            let Ok(at) = left.binary_search(&&path) else {
                return Err(protocol("it tells of a path that it was not asked for"));
            };
            left.remove(at);
            let told = self.info()?;
            tell(&path, info_of(&path, told).map(Some));
        }
        left.into_iter().for_each(|path| tell(path, Ok(None)));
        Ok(())
    }

    fn info(&mut self) -> Result<Told, Fault> {
        let wire = &mut self.wire;
        let deriver = wire.optional_path()?;
        let references = wire.paths()?;
        let _download_size = wire.number()?;
        let nar_size = wire.number()?;
        let nar_hash = match wire.text()? {
            text if text.is_empty() => None,
            text => Some(Hash::parse(&text, None).map_err(protocol)?),
        };
        let nar_hash = nar_hash.filter(|hash| hash.algo() == HashAlgo::Sha256);
        let ca = wire.text()?;
        let sigs = wire.texts()?;
        Ok(Told {
            deriver,
            references,
            nar_hash,
            nar_size,
            ca,
            sigs,
        })
    }

    /// Copies the archive of a path.
    pub(super) fn nar(
        &mut self,
        path: &StorePath,
        size: u64,
        into: &mut dyn Write,
    ) -> Result<(), Fault> {
        push_number(&mut self.wire.output, DUMP_STORE_PATH);
        self.wire.push_path(path);
        self.wire.flush()?;
        nar::receive(&mut self.wire, size, into).map_err(|failure| failure.fault)
    }

    /// Adds paths, in this order.
    pub(super) fn add(
        &mut self,
        infos: &[PathInfo],
        open: Open<'_>,
        done: &mut dyn FnMut(&PathInfo),
    ) -> Result<(), Fault> {
        match self.minor >= WITH_ADD_TO_STORE_NAR {
            true => self.add_one_by_one(infos, open, done),
            false => self.import(infos, open, done),
        }
    }

    fn add_one_by_one(
        &mut self,
        infos: &[PathInfo],
        open: Open<'_>,
        done: &mut dyn FnMut(&PathInfo),
    ) -> Result<(), Fault> {
        let mut confirmed = 0;
        for (sent, info) in infos.iter().enumerate() {
            while confirmed < sent && (sent - confirmed >= UNCONFIRMED || self.wire.has_input()?) {
                self.confirm(&infos[confirmed], done)?;
                confirmed += 1;
            }
            let out = &mut self.wire.output;
            push_number(out, ADD_TO_STORE_NAR);
            push_text(out, &info.path);
            push_text(out, info.deriver.as_deref().unwrap_or_default());
            push_text(out, &base16(&info.nar_hash));
            push_texts(out, &info.references);
            push_number(out, info.registration_time.max(0).unsigned_abs());
            push_number(out, info.nar_size);
            push_number(out, info.ultimate.into());
            push_texts(out, &info.sigs);
            push_text(out, info.ca.as_deref().unwrap_or_default());
            self.send(info, open)?;
        }
        self.wire.flush()?;
        for info in &infos[confirmed..] {
            self.confirm(info, done)?;
        }
        Ok(())
    }

    /// What old versions have: an export, without signatures.
    fn import(
        &mut self,
        infos: &[PathInfo],
        open: Open<'_>,
        done: &mut dyn FnMut(&PathInfo),
    ) -> Result<(), Fault> {
        push_number(&mut self.wire.output, IMPORT_PATHS);
        for info in infos {
            push_number(&mut self.wire.output, 1);
            self.send(info, open)?;
            let out = &mut self.wire.output;
            push_number(out, EXPORT_MAGIC);
            push_text(out, &info.path);
            push_texts(out, &info.references);
            push_text(out, info.deriver.as_deref().unwrap_or_default());
            push_number(out, 0);
        }
        push_number(&mut self.wire.output, 0);
        self.wire.flush()?;
        self.succeeded()?;
        infos.iter().for_each(done);
        Ok(())
    }

    /// Sends the archive of a path.
    fn send(&mut self, info: &PathInfo, open: Open<'_>) -> Result<(), Fault> {
        let source = open(info);
        let mut source =
            source.map_err(|error| Fault::io("cannot read what is to be sent", &error))?;
        let mut nar = Outgoing::new(&mut source, info.nar_size);
        while let Some(bytes) = nar.next(u64::MAX)? {
            self.wire.output.extend_from_slice(bytes);
            self.wire.flush_if_much()?;
        }
        Ok(())
    }

    fn confirm(&mut self, info: &PathInfo, done: &mut dyn FnMut(&PathInfo)) -> Result<(), Fault> {
        self.succeeded()?;
        done(info);
        Ok(())
    }

    fn succeeded(&mut self) -> Result<(), Fault> {
        match self.wire.number()? {
            SUCCESS => Ok(()),
            other => Err(protocol(format!("it answers {other} instead of success"))),
        }
    }
}
