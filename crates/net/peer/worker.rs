//! The protocol of Nix's daemon, as a client, through its socket or `nix-daemon --stdio`: Nix 2.0
//! speaks version 1.20, Nix 2.24 and all later ones 1.38.

use std::io::Write;

use windrow_components::hash::{Hash, HashAlgo, base16};
use windrow_components::store_path::StorePath;
use windrow_store::PathInfo;
use windrow_store::wire::{push_number, push_text, push_texts};

use super::frames::Frames;
use super::messages::{self, Message};
use super::nar::{self, Outgoing};
use super::told::{Told, info_of};
use super::wire::{Wire, protocol};
use super::{Open, Signatures, Tell};
use crate::error::{Fault, Kind};

/// What a client begins with.
const CLIENT_MAGIC: u64 = 0x6e69_7863;
/// What a daemon begins with.
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// The newest version that is spoken here.
const VERSION: u64 = 1 << 8 | 38;
/// The oldest one, with which paths can be added that are known in full.
const OLDEST: u64 = 18;

const ADD_TEMP_ROOT: u64 = 11;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_VALID_PATHS: u64 = 31;
const NAR_FROM_PATH: u64 = 38;
const ADD_TO_STORE_NAR: u64 = 39;
const ADD_MULTIPLE_TO_STORE: u64 = 44;

/// Since when the daemon asks for archives piece by piece.
const WITH_REQUESTS: u64 = 21;
/// Since when archives come in frames.
const WITH_FRAMES: u64 = 23;
/// Since when it is said whether paths may be substituted there.
const WITH_SUBSTITUTE: u64 = 27;
/// Since when many paths are added at once.
const WITH_MANY: u64 = 32;
/// Since when the daemon tells its version.
const WITH_NIX_VERSION: u64 = 33;
/// Since when the daemon tells whether it trusts the client.
const WITH_TRUST: u64 = 35;
/// Since when both sides name features.
const WITH_FEATURES: u64 = 38;

/// How many questions may be on their way. Together they are shorter than what a pipe holds, so
/// that they have room however slow they are read.
const UNANSWERED: usize = 100;

/// The longest piece that a daemon may ask for, in bytes; it gets less.
const PIECE_MAX: u64 = 256 << 10;

/// A connection.
pub(super) struct Worker {
    pub(super) wire: Wire,
    minor: u64,
}

impl Worker {
    /// Greets.
    ///
    /// # Errors
    /// When there is no answer, or none that is understood, or the daemon wants nothing of this
    /// user.
    pub(super) fn greet(mut wire: Wire) -> Result<Self, Fault> {
        let version = wire.greet([CLIENT_MAGIC, DAEMON_MAGIC], VERSION)?;
        let minor = version.min(VERSION) & 0xff;
        if version >> 8 != VERSION >> 8 || minor < OLDEST {
            let text = format!(
                "it speaks version {}.{} of the protocol, and 1.{OLDEST} is the oldest that can be \
                 used",
                version >> 8,
                version & 0xff
            );
            return Err(Fault::new(Kind::Unsupported, text));
        }
        if minor >= WITH_FEATURES {
            let none: [&str; 0] = [];
            push_texts(&mut wire.output, &none);
            wire.flush()?;
            wire.texts()?;
        }
        // On which processor to run, and whether to reserve space: both are obsolete.
        push_number(&mut wire.output, 0);
        push_number(&mut wire.output, 0);
        wire.flush()?;
        if minor >= WITH_NIX_VERSION {
            wire.text()?;
        }
        if minor >= WITH_TRUST {
            wire.number()?;
        }
        messages::until_done(&mut wire, minor)?;
        Ok(Self { wire, minor })
    }

    fn until_done(&mut self) -> Result<(), Fault> {
        messages::until_done(&mut self.wire, self.minor)
    }

    /// Those of the paths that are valid there; they are kept until the connection ends.
    pub(super) fn valid_paths(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, Fault> {
        let keep = |this: &mut Self, path: &StorePath| {
            push_number(&mut this.wire.output, ADD_TEMP_ROOT);
            this.wire.push_path(path);
        };
        self.each(paths, keep, |this, _| {
            this.until_done()?;
            this.wire.number().map(drop)
        })?;
        push_number(&mut self.wire.output, QUERY_VALID_PATHS);
        self.wire.push_paths(paths);
        if self.minor >= WITH_SUBSTITUTE {
            push_number(&mut self.wire.output, 0);
        }
        self.wire.flush()?;
        self.until_done()?;
        self.wire.paths()
    }

    /// Asks something of each path, without waiting for one answer before the next question.
    fn each(
        &mut self,
        paths: &[StorePath],
        ask: impl Fn(&mut Self, &StorePath),
        mut hear: impl FnMut(&mut Self, &StorePath) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (mut asked, mut heard) = (0, 0);
        while heard < paths.len() {
            if asked - heard <= UNANSWERED / 2 {
                for path in paths[asked..].iter().take(UNANSWERED + heard - asked) {
                    ask(self, path);
                    asked += 1;
                }
                self.wire.flush()?;
            }
            hear(self, &paths[heard])?;
            heard += 1;
        }
        Ok(())
    }

    /// What is known there of paths; tells of each.
    pub(super) fn infos(&mut self, paths: &[StorePath], tell: Tell<'_>) -> Result<(), Fault> {
        let ask = |this: &mut Self, path: &StorePath| {
            push_number(&mut this.wire.output, QUERY_PATH_INFO);
            this.wire.push_path(path);
        };
        self.each(paths, ask, |this, path| {
            let told = match this.until_done() {
                Ok(()) => this.info(path),
                Err(fault) if fault.kind == Kind::Refused => Err(fault),
                Err(fault) => return Err(fault),
            };
            match told {
                Err(fault) if fault.kind != Kind::Refused => Err(fault),
                told => {
                    tell(path, told);
                    Ok(())
                }
            }
        })
    }

    fn info(&mut self, path: &StorePath) -> Result<Option<crate::narinfo::NarInfo>, Fault> {
        let wire = &mut self.wire;
        if !wire.boolean()? {
            return Ok(None);
        }
        let deriver = wire.optional_path()?;
        let nar_hash = wire.text()?;
        let nar_hash = Hash::parse(&nar_hash, Some(HashAlgo::Sha256)).map_err(protocol)?;
        let references = wire.paths()?;
        let _registration_time = wire.number()?;
        let nar_size = wire.number()?;
        let _ultimate = wire.number()?;
        let sigs = wire.texts()?;
        let ca = wire.text()?;
        let told = Told {
            deriver,
            references,
            nar_hash: Some(nar_hash),
            nar_size,
            ca,
            sigs,
        };
        info_of(path, told).map(Some)
    }

    /// Copies the archive of a path.
    pub(super) fn nar(
        &mut self,
        path: &StorePath,
        size: u64,
        into: &mut dyn Write,
    ) -> Result<(), Fault> {
        push_number(&mut self.wire.output, NAR_FROM_PATH);
        self.wire.push_path(path);
        self.wire.flush()?;
        self.until_done()?;
        let received = nar::receive(&mut self.wire, size, into);
        received.map_err(|failure| {
            let instead = failure.instead;
            let said = instead.and_then(|it| messages::instead(&mut self.wire, self.minor, it));
            said.unwrap_or(failure.fault)
        })
    }

    /// Adds paths, in this order.
    pub(super) fn add(
        &mut self,
        infos: &[PathInfo],
        signatures: Signatures,
        open: Open<'_>,
        done: &mut dyn FnMut(&PathInfo),
    ) -> Result<(), Fault> {
        if self.minor >= WITH_MANY {
            return self.add_many(infos, signatures, open, done);
        }
        for info in infos {
            push_number(&mut self.wire.output, ADD_TO_STORE_NAR);
            push_text(&mut self.wire.output, &info.path);
            push_info(&mut self.wire.output, info);
            push_options(&mut self.wire.output, signatures);
            self.send(info, open)?;
            done(info);
        }
        Ok(())
    }

    /// All of them as one stream.
    fn add_many(
        &mut self,
        infos: &[PathInfo],
        signatures: Signatures,
        open: Open<'_>,
        done: &mut dyn FnMut(&PathInfo),
    ) -> Result<(), Fault> {
        push_number(&mut self.wire.output, ADD_MULTIPLE_TO_STORE);
        push_options(&mut self.wire.output, signatures);
        let mut frames = Frames::new(&mut self.wire, self.minor);
        let mut head = Vec::new();
        push_number(&mut head, infos.len() as u64);
        for info in infos {
            push_text(&mut head, &info.path);
            push_info(&mut head, info);
            frames.send(&head)?;
            head.clear();
            let mut source = opened(open(info))?;
            frames.send_nar(&mut Outgoing::new(&mut source, info.nar_size))?;
        }
        frames.send(&head)?;
        frames.end()?;
        infos.iter().for_each(done);
        Ok(())
    }

    /// Sends the archive of a path as the version wants it.
    fn send(&mut self, info: &PathInfo, open: Open<'_>) -> Result<(), Fault> {
        let mut source = opened(open(info))?;
        let mut nar = Outgoing::new(&mut source, info.nar_size);
        if self.minor >= WITH_FRAMES {
            let mut frames = Frames::new(&mut self.wire, self.minor);
            frames.send_nar(&mut nar)?;
            return frames.end();
        }
        if self.minor >= WITH_REQUESTS {
            return self.send_as_asked(&mut nar);
        }
        while let Some(bytes) = nar.next(u64::MAX)? {
            self.wire.output.extend_from_slice(bytes);
            self.wire.flush_if_much()?;
        }
        self.wire.flush()?;
        self.until_done()
    }

    fn send_as_asked(&mut self, nar: &mut Outgoing<'_>) -> Result<(), Fault> {
        self.wire.flush()?;
        loop {
            match messages::next(&mut self.wire, self.minor)? {
                Message::Last => return Ok(()),
                Message::Error(fault) => return Err(fault),
                Message::Other => {}
                Message::Wants(count) => {
                    let Some(bytes) = nar.next(count.min(PIECE_MAX))? else {
                        return Err(protocol("it wants more than the archive has"));
                    };
                    let out = &mut self.wire.output;
                    push_number(out, bytes.len() as u64);
                    out.extend_from_slice(bytes);
                    out.resize(out.len().next_multiple_of(8), 0);
                    self.wire.flush()?;
                }
            }
        }
    }
}

fn opened<R>(source: std::io::Result<R>) -> Result<R, Fault> {
    source.map_err(|error| Fault::io("cannot read what is to be sent", &error))
}

/// Writes what is known of a path.
fn push_info(out: &mut Vec<u8>, info: &PathInfo) {
    push_text(out, info.deriver.as_deref().unwrap_or_default());
    push_text(out, &base16(&info.nar_hash));
    push_texts(out, &info.references);
    push_number(out, info.registration_time.max(0).unsigned_abs());
    push_number(out, info.nar_size);
    push_number(out, info.ultimate.into());
    push_texts(out, &info.sigs);
    push_text(out, info.ca.as_deref().unwrap_or_default());
}

/// Writes that nothing is to be repaired, and whether signatures count.
fn push_options(out: &mut Vec<u8>, signatures: Signatures) {
    push_number(out, 0);
    push_number(out, (signatures == Signatures::Ignored).into());
}
