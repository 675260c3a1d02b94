//! The connections at the collector's socket: one thread serves all, and waits for none of them.
//!
//! Everybody on the machine may connect, so a connection costs a bounded amount of memory, a user
//! has a bounded number of them, and who sends without reading, or reads without sending, holds up
//! only himself.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;

use super::{HashPart, Shared, Told};
use crate::Layout;
use crate::roots::local_socket::peer_uid;

/// No line is longer, in bytes.
const LINE_MAX: usize = 4096;
/// How many connections a user may have. The one that was silent for longest makes room; its owner
/// connects again.
const PER_USER: usize = 64;
/// How many there may be in all, which leaves most of the 1,024 descriptors that a process usually
/// has.
const ALL: usize = 512;
/// How many connections are accepted before those there are get their turn.
const ACCEPTED_AT_ONCE: usize = 64;
/// How often a connection is read from before others get their turn.
const READS_AT_ONCE: usize = 16;

/// Answers until the collection has ended.
pub(super) fn serve(listener: &UnixListener, woken: &UnixStream, layout: &Layout, shared: &Shared) {
    let mut desk = Desk {
        layout,
        shared,
        clients: Vec::new(),
        turn: 0,
    };
    while !shared.has_ended() {
        let mut polled = vec![
            PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        let clients = desk.clients.iter();
        polled.extend(clients.map(|client| PollFd::new(client.stream.as_fd(), client.awaits())));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => break,
        }
        let ready: Vec<PollFlags> = polled
            .iter()
            .map(|it| it.revents().unwrap_or(PollFlags::empty()))
            .collect();
        drop(polled);
        let mut bytes = [0; 64];
        while matches!((&mut &*woken).read(&mut bytes), Ok(1..)) {}
        desk.go_on(&ready[2..]);
        if !ready[1].is_empty() {
            desk.accept(listener, ACCEPTED_AT_ONCE);
        }
    }
    desk.close(listener);
}

struct Desk<'a> {
    layout: &'a Layout,
    shared: &'a Shared,
    clients: Vec<Client>,
    turn: u64,
}

impl Desk<'_> {
    /// Serves those that sent something, can be sent something, or wait for a deletion.
    fn go_on(&mut self, ready: &[PollFlags]) {
        self.turn += 1;
        let (layout, shared, turn) = (self.layout, self.shared, self.turn);
        let mut ready = ready.iter();
        self.clients.retain_mut(|client| {
            let events = *ready.next().unwrap_or(&PollFlags::empty());
            if client.waits.is_some() && events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
            {
                return false;
            }
            if !events.is_empty() {
                client.heard = turn;
            }
            (events.is_empty() && client.waits.is_none()) || client.go_on(layout, shared)
        });
    }

    fn accept(&mut self, listener: &UnixListener, limit: usize) {
        for _ in 0..limit {
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::InvalidInput => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // No descriptors are left; else it would be tried again at once, and for ever.
                    _ => {
                        let most = self.user_with_most();
                        if !self.make_room(most) {
                            std::thread::sleep(std::time::Duration::from_millis(10));
                        }
                        return;
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        let (Ok(uid), Ok(())) = (peer_uid(&stream), stream.set_nonblocking(true)) else {
            return;
        };
        let own = self.clients.iter().filter(|client| client.uid == uid);
        let has_room = if own.count() >= PER_USER {
            self.make_room(Some(uid))
        } else if self.clients.len() >= ALL {
            let most = self.user_with_most();
            self.make_room(most)
        } else {
            true
        };
        // Closed, it tells its owner that nothing was acknowledged.
        if !has_room {
            return;
        }
        let mut client = Client {
            stream,
            uid,
            input: Vec::new(),
            answers: 0,
            waits: None,
            heard: self.turn,
        };
        if client.go_on(self.layout, self.shared) {
            self.clients.push(client);
        }
    }

    fn user_with_most(&self) -> Option<u32> {
        let mut counts = hashbrown::HashMap::<u32, usize>::new();
        for client in &self.clients {
            *counts.entry(client.uid).or_default() += 1;
        }
        counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(uid, _)| uid)
    }

    /// Ends the connection of a user that was silent for longest; false if all wait for deletions.
    fn make_room(&mut self, uid: Option<u32>) -> bool {
        let theirs = self.clients.iter().enumerate();
        let theirs = theirs.filter(|(_, client)| Some(client.uid) == uid && client.waits.is_none());
        let Some((index, _)) = theirs.min_by_key(|(_, client)| client.heard) else {
            return false;
        };
        // Of those that were silent for equally long, the first is the oldest: the order is kept.
        let client = self.clients.remove(index);
        client.part(self.layout, self.shared);
        true
    }

    /// Ends all connections, those too that nobody has accepted yet: a client of Nix 2.8 takes one
    /// that is reset for an answer, so what was sent is answered before.
    fn close(mut self, listener: &UnixListener) {
        // Connecting is refused from here on.
        let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        self.accept(listener, usize::MAX);
        for client in std::mem::take(&mut self.clients) {
            client.part(self.layout, self.shared);
        }
    }
}

struct Client {
    stream: UnixStream,
    uid: u32,
    /// What has come of a line, and lines that have to wait for it.
    input: Vec<u8>,
    /// How many lines are to be acknowledged.
    answers: usize,
    /// A root that was told and whose path is being deleted.
    waits: Option<HashPart>,
    /// When it last did something.
    heard: u64,
}

impl Client {
    fn awaits(&self) -> PollFlags {
        match (self.waits, self.answers) {
            (Some(_), _) => PollFlags::empty(),
            (None, 0) => PollFlags::POLLIN,
            // Who does not read is not read from.
            (None, _) => PollFlags::POLLOUT,
        }
    }

    /// Reads and answers for as long as neither has to be waited for; false when it is over.
    fn go_on(&mut self, layout: &Layout, shared: &Shared) -> bool {
        for read in 0..=READS_AT_ONCE {
            if !self.take_lines(layout, shared) || !self.answer() {
                return false;
            }
            if self.waits.is_some() || self.answers > 0 || read == READS_AT_ONCE {
                return true;
            }
            let have = self.input.len();
            if have >= LINE_MAX {
                return false;
            }
            self.input.resize(LINE_MAX, 0);
            let read = self.stream.read(&mut self.input[have..]);
            self.input
                .truncate(have + read.as_ref().map_or(0, |count| *count));
            match read {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes the lines that have come, up to one that has to wait; false if there are too many.
    fn take_lines(&mut self, layout: &Layout, shared: &Shared) -> bool {
        if let Some(part) = self.waits {
            if shared.is_being_deleted(&part) {
                return true;
            }
            self.waits = None;
            self.answers += 1;
        }
        let stranger = self.uid != 0 && self.uid != geteuid().as_raw();
        let mut taken = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.input[taken..]) {
            let line = &self.input[taken..taken + length];
            taken += length + 1;
            // As Nix does, nonsense is acknowledged: it protects nothing.
            let path = str::from_utf8(line).ok();
            let Some(part) = path.and_then(|path| layout.hash_part(path).ok()) else {
                self.answers += 1;
                continue;
            };
            match shared.add_root(*part, stranger) {
                Told::Kept => self.answers += 1,
                Told::Refused => return false,
                Told::Waits => {
                    self.waits = Some(*part);
                    break;
                }
            }
        }
        self.input.drain(..taken);
        true
    }

    /// Sends as many answers as there is room for; false if nobody can get them any more.
    fn answer(&mut self) -> bool {
        const ANSWERS: [u8; LINE_MAX] = [b'1'; LINE_MAX];
        while self.answers > 0 {
            match self.stream.write(&ANSWERS[..self.answers.min(LINE_MAX)]) {
                Ok(count) => self.answers -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Ends the connection: nothing more can be sent, and what was sent is answered, if that is
    /// read.
    fn part(mut self, layout: &Layout, shared: &Shared) {
        let _ = self.stream.shutdown(Shutdown::Read);
        // A socket holds no more than this.
        for _ in 0..256 {
            if !self.go_on(layout, shared) || self.waits.is_some() || self.answers > 0 {
                return;
            }
        }
    }
}

/// What the collector answers to a client that sends these bytes and nothing more. For fuzz
/// targets.
pub(in crate::gc) fn answers_to_client(layout: &Layout, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut theirs, ours) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    theirs.write_all(bytes)?;
    theirs.shutdown(Shutdown::Write)?;
    let shared = Shared::default();
    let mut client = Client {
        uid: peer_uid(&ours)?,
        stream: ours,
        input: Vec::new(),
        answers: 0,
        waits: None,
        heard: 0,
    };
    let mut answers = Vec::new();
    let mut buffer = [0; LINE_MAX];
    loop {
        let goes_on = client.go_on(layout, &shared);
        while let Ok(count @ 1..) = theirs.read(&mut buffer) {
            answers.extend_from_slice(&buffer[..count]);
        }
        if !goes_on {
            return Ok(answers);
        }
    }
}

#[cfg(test)]
mod tests;
