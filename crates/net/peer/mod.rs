//! A store that a Nix serves: on another machine, reached through ssh, or behind the socket of a
//! daemon. Asked for many paths at once, fetched from, and written to, by who can wait.
//!
//! There are two protocols, in `serve.rs` and `worker.rs`; [`Peer`] is a connection of either.

mod frames;
pub(crate) mod fuzzing;
mod login;
mod messages;
mod nar;
mod serve;
#[cfg(test)]
mod tests;
mod told;
mod wire;
mod words;
mod worker;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windrow_components::store_path::{StoreDir, StorePath};
use windrow_store::PathInfo;
use windrow_sys::program::{Group, Program};
use windrow_sys::stream::Stream;

use crate::client::Limits;
use crate::error::{Doing, Fault, Kind, NetError};
use crate::narinfo::NarInfo;
use crate::remote;
use crate::store_url::{self, StoreUrl};
use login::{KnownHosts, Run};
use serve::Serve;
use wire::Wire;
use worker::Worker;

/// Where a daemon listens that was not told otherwise.
const DAEMON_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";

/// The variable that tells otherwise.
const DAEMON_SOCKET_VARIABLE: &str = "NIX_DAEMON_SOCKET_PATH";

/// The variable with options of ssh.
const SSH_OPTIONS_VARIABLE: &str = "NIX_SSHOPTS";

/// How many paths are asked about in one question: an answer to more could be longer than one may
/// be, and nothing would be told of it before all of it is read there.
pub(crate) const ASKED_AT_ONCE: usize = 5000;

/// How long a program may take that has ended the connection, to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes what is known of a path, which is nothing if the store does not have it.
type Tell<'a> = &'a mut dyn FnMut(&StorePath, Result<Option<NarInfo>, Fault>);

/// Opens the archive of a path.
type Open<'a> = &'a mut dyn FnMut(&PathInfo) -> io::Result<Box<dyn Read>>;

/// What a connection is for, and how long it may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// The store directory that its paths are in.
    pub store_dir: StoreDir,
    /// Whether paths are to be added.
    pub write: bool,
    /// Whether people may be asked for a password, at the terminal.
    pub may_ask: bool,
    /// How long waits may take, where the URL does not say otherwise. The connection has the time
    /// of `connect_timeout` and `answer_timeout`, or of `stalled_timeout` if people may be asked.
    pub limits: Limits,
}

/// Whether signatures count for a store that paths are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// It takes what somebody has signed whom it trusts. `nix-store --serve` does not ask for that.
    Checked,
    /// It takes everything, if it trusts who asks.
    Ignored,
}

/// A connection to a store that a Nix serves. When something on it has failed it can be used no
/// more, unless the other side has just refused what it was asked ([`Kind::Refused`]).
pub struct Peer {
    protocol: Protocol,
    reach: Reach,
    shown: String,
    limits: Limits,
    broken: bool,
}

enum Protocol {
    Serve(Serve),
    Worker(Worker),
}

/// What a connection holds on to.
#[derive(Default)]
struct Reach {
    program: Option<Program>,
    _known_hosts: Option<KnownHosts>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Peer").field(&self.shown).finish()
    }
}

impl Peer {
    /// Connects to the store of a URL.
    ///
    /// # Errors
    /// When no connection can be made; [`Kind::Unsupported`] if the other side is too old, and
    /// [`Kind::BadAddress`] if the URL names another kind of store.
    pub fn connect(url: &StoreUrl, options: &Options) -> Result<Self, NetError> {
        let limits = remote::limits(&options.limits, &url.params);
        let shown = url.to_string();
        let about = |fault: Fault| fault.about(Doing::Use, &shown);
        let (mut reach, stream) = open(url, options, &limits).map_err(about)?;
        let wait = match limits.connect_timeout.is_zero() || limits.answer_timeout.is_zero() {
            _ if options.may_ask => limits.stalled_timeout,
            true => Duration::ZERO,
            false => limits.connect_timeout + limits.answer_timeout,
        };
        let mut wire = Wire::new(Box::new(stream), options.store_dir.clone());
        wire.set_limit(wait);
        let greeted = match &url.kind {
            store_url::Kind::Ssh(_) => Serve::greet(wire).map(Protocol::Serve),
            _ => Worker::greet(wire).map(Protocol::Worker),
        };
        Ok(Self {
            protocol: greeted.map_err(|fault| about(reach.explain(fault)))?,
            reach,
            shown,
            limits,
            broken: false,
        })
    }

    /// Whether it can be used no more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether it is told of paths what must be known to fetch them.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if it is too old.
    pub fn can_tell(&self) -> Result<(), NetError> {
        match &self.protocol {
            Protocol::Worker(_) => Ok(()),
            Protocol::Serve(serve) => serve
                .can_tell()
                .map_err(|fault| fault.about(Doing::Use, &self.shown)),
        }
    }

    /// Those of the paths that the store has, in the order of their names. Where paths may be
    /// added, all of them are kept from being collected there until the connection ends. Many are
    /// asked for at once.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn valid_paths(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, NetError> {
        self.set_limit(self.limits.answer_timeout);
        let mut valid = Vec::new();
        for paths in paths.chunks(ASKED_AT_ONCE) {
            let some = match &mut self.protocol {
                Protocol::Serve(serve) => serve.valid_paths(paths),
                Protocol::Worker(worker) => worker.valid_paths(paths),
            };
            valid.extend(self.checked(some)?);
        }
        valid.sort_unstable();
        Ok(valid)
    }

    /// What the store knows of each of the paths, told as it comes; nothing of those that it does
    /// not have. Many are asked for at once.
    ///
    /// # Errors
    /// When it can't be asked, or not to the end; what it refuses for one path is told with that.
    pub fn infos(
        &mut self,
        paths: &[StorePath],
        mut tell: impl FnMut(&StorePath, Result<Option<NarInfo>, NetError>),
    ) -> Result<(), NetError> {
        self.can_tell()?;
        self.set_limit(self.limits.answer_timeout);
        let shown = self.shown.clone();
        let mut tell = |path: &StorePath, told: Result<_, Fault>| {
            tell(path, told.map_err(|fault| fault.about(Doing::Use, &shown)));
        };
        for paths in paths.chunks(ASKED_AT_ONCE) {
            let told = match &mut self.protocol {
                Protocol::Serve(serve) => serve.infos(paths, &mut tell),
                Protocol::Worker(worker) => worker.infos(paths, &mut tell),
            };
            self.checked(told)?;
        }
        Ok(())
    }

    /// Copies the archive of a path, of which `info` says how long it is. That it is the right one
    /// is for the caller to check.
    ///
    /// # Errors
    /// When it can't be had, has another length, or `into` fails.
    pub fn nar(&mut self, info: &NarInfo, into: &mut dyn Write) -> Result<(), NetError> {
        self.set_limit(self.limits.stalled_timeout);
        let (path, size) = (&info.store_path, info.nar_size);
        let copied = match &mut self.protocol {
            Protocol::Serve(serve) => serve.nar(path, size, into),
            Protocol::Worker(worker) => worker.nar(path, size, into),
        };
        self.checked(copied)
    }

    /// Adds paths in this order, so that each comes after those that it refers to. `open` gives
    /// their archives, and `done` is told when the store has them.
    ///
    /// # Errors
    /// When an archive can't be read, or the store does not take one. Those of which `done` was
    /// told are there, and others may be.
    pub fn add(
        &mut self,
        infos: &[PathInfo],
        signatures: Signatures,
        mut open: impl FnMut(&PathInfo) -> io::Result<Box<dyn Read>>,
        mut done: impl FnMut(&PathInfo),
    ) -> Result<(), NetError> {
        self.set_limit(self.limits.stalled_timeout);
        let added = match &mut self.protocol {
            Protocol::Serve(serve) => serve.add(infos, &mut open, &mut done),
            Protocol::Worker(worker) => worker.add(infos, signatures, &mut open, &mut done),
        };
        self.checked(added)
    }

    fn set_limit(&mut self, limit: Duration) {
        match &mut self.protocol {
            Protocol::Serve(serve) => serve.wire.set_limit(limit),
            Protocol::Worker(worker) => worker.wire.set_limit(limit),
        }
    }

    /// Puts into words what has failed.
    fn checked<T>(&mut self, result: Result<T, Fault>) -> Result<T, NetError> {
        result.map_err(|fault| {
            let fault = match fault.kind {
                Kind::Refused => fault,
                _ => {
                    self.broken = true;
                    self.reach.explain(fault)
                }
            };
            fault.about(Doing::Use, &self.shown)
        })
    }
}

impl Reach {
    /// Ends the program, and adds to a failure what it has said. Of one that has ended the
    /// connection that is the reason.
    fn explain(&mut self, mut fault: Fault) -> Fault {
        let Some(program) = self.program.take() else {
            return fault;
        };
        if fault.kind == Kind::Cancelled {
            return fault;
        }
        let has_ended = matches!(fault.kind, Kind::Reset | Kind::Connect);
        let patience = if has_ended {
            LAST_WORDS
        } else {
            Duration::ZERO
        };
        let (said, status) = program.last_words(patience);
        if let Some(status) = status.filter(|status| has_ended && !status.success()) {
            fault.reason.push_str(&format!(" ({status})"));
        }
        let said = plain(&said);
        // The last lines are those that tell what was wrong.
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        let lines = lines.iter().rev().filter(|line| !line.is_empty()).take(3);
        let mut lines: Vec<&str> = lines.copied().collect();
        lines.reverse();
        if !lines.is_empty() {
            let text = format!("{}: {}", fault.reason, lines.join("; "));
            fault.reason = crate::error::one_line(&text);
        }
        fault
    }
}

/// Opens the way to the store of a URL.
fn open(url: &StoreUrl, options: &Options, limits: &Limits) -> Result<(Reach, Stream), Fault> {
    let (host, program, args): (_, _, &[&str]) = match &url.kind {
        store_url::Kind::Ssh(host) if options.write => (host, "nix-store", &["--serve", "--write"]),
        store_url::Kind::Ssh(host) => (host, "nix-store", &["--serve"]),
        store_url::Kind::SshNg(host) => (host, "nix-daemon", &["--stdio"]),
        store_url::Kind::Daemon { socket } => {
            let stream = connect_to_daemon(socket.as_deref())?;
            return Ok((Reach::default(), stream));
        }
        _ => {
            let text = "it is no store that a Nix serves";
            return Err(Fault::new(Kind::BadAddress, text));
        }
    };
    let run = Run {
        host,
        login: &url.params.login,
        program,
        args,
        connect_timeout: limits.connect_timeout,
        may_ask: options.may_ask,
    };
    let given = std::env::var(SSH_OPTIONS_VARIABLE).unwrap_or_default();
    let (mut command, known_hosts) = run
        .command(&given)
        .map_err(|text| Fault::new(Kind::Io, text))?;
    let group = if options.may_ask {
        Group::Ours
    } else {
        Group::Own
    };
    let (program, stream) = Program::start(&mut command, group).map_err(|error| {
        let name = command.get_program().to_string_lossy();
        Fault::io(format_args!("cannot start '{name}'"), &error)
    })?;
    let reach = Reach {
        program: Some(program),
        _known_hosts: known_hosts,
    };
    Ok((reach, stream))
}

fn connect_to_daemon(socket: Option<&Path>) -> Result<Stream, Fault> {
    let path = match socket {
        Some(path) => path.to_owned(),
        None => {
            let named = std::env::var_os(DAEMON_SOCKET_VARIABLE);
            let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
            named.unwrap_or_else(|| DAEMON_SOCKET.into())
        }
    };
    let connected = UnixStream::connect(&path).and_then(|socket| {
        let from: OwnedFd = socket.try_clone()?.into();
        Stream::new(from, socket.into())
    });
    connected.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::InvalidInput => Kind::BadAddress,
            _ => Kind::Connect,
        };
        let text = format!("no daemon answers at '{}': {error}", path.display());
        Fault::new(kind, text)
    })
}

/// Text without the sequences that colour it on a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\x1b' {
            if letters.as_str().starts_with('[') {
                letters.next();
                // Up to the letter that says what it is.
                letters.find(|letter| ('@'..='~').contains(letter));
            }
        } else {
            plain.push(letter);
        }
    }
    plain
}
