//! What the engine waits for: pipes and pidfds of children, signals, and word from the pool. One
//! mio poll.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::Entity;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use windrow_sys::interrupt;

use crate::process::side_channel::SideChannel;

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
/// The hook that has not accepted a build yet: what it says, and its exit.
const HOOK: usize = 2;
const FIRST_CHILD: usize = 4;
/// How many descriptors of one child are told apart.
const PER_CHILD: usize = 4;

/// What is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readable {
    /// The log of the goal with that entity index.
    Log(u32),
    /// The pidfd of the goal with that entity index: its child has exited.
    Exit(u32),
    /// What the helper of the goal with that entity index says beside its log.
    Said(u32),
    /// The helper of the goal with that entity index can be told more.
    Told(u32),
    /// The hook that has not accepted a build yet said something or has exited.
    Hook,
}

/// The event loop's one sleeping place.
pub struct Reactor {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    /// A buffer for reading from pipes, reused.
    pub buffer: Box<[u8]>,
}

impl Reactor {
    /// Makes the poll. Signals that ask for an end are heard of if the program has taken them over.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        if let Some(event) = interrupt::event() {
            let fd = event.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
        }
        let events = Events::with_capacity(256);
        Ok(Self {
            poll,
            events,
            waker,
            buffer: vec![0; 64 * 1024].into(),
        })
    }

    /// Something other threads can end the sleep with.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Watches the child of a goal: its log, its exit, and the pipes it has beside.
    ///
    /// # Errors
    /// When the system refuses, for want of memory or descriptors.
    pub fn watch(
        &self,
        goal: Entity,
        (log, pidfd): (&OwnedFd, &OwnedFd),
        channel: Option<&SideChannel>,
    ) -> io::Result<()> {
        let first = first_token(goal);
        self.register(log, first, Interest::READABLE)?;
        self.register(pidfd, first + 1, Interest::READABLE)?;
        if let Some(pipe) = channel.and_then(SideChannel::from_child) {
            self.register(pipe, first + 2, Interest::READABLE)?;
        }
        if let Some(pipe) = channel.and_then(SideChannel::to_child) {
            self.register(pipe, first + 3, Interest::WRITABLE)?;
        }
        Ok(())
    }

    /// Watches the hook that has not accepted a build yet.
    ///
    /// # Errors
    /// When the system refuses, for want of memory or descriptors.
    pub fn watch_hook(&self, from_hook: &OwnedFd, pidfd: &OwnedFd) -> io::Result<()> {
        self.register(from_hook, HOOK, Interest::READABLE)?;
        self.register(pidfd, HOOK + 1, Interest::READABLE)
    }

    fn register(&self, fd: &OwnedFd, token: usize, interest: Interest) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(token), interest)
    }

    /// Forgets a descriptor before it is closed.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        // Closing makes the kernel forget it anyway; that it is not known any more is no trouble.
        let _ = self
            .poll
            .registry()
            .deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Sleeps until something happens or `timeout` is over. Adds what is readable, and returns the
    /// first signal that has asked the engine to stop if another one has come.
    ///
    /// # Errors
    /// When the poll itself fails.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        readable: &mut Vec<Readable>,
    ) -> io::Result<Option<i32>> {
        let mut timeout = timeout;
        loop {
            match self.poll.poll(&mut self.events, timeout) {
                // A process that was stopped and goes on hears of it so. What has happened until
                // then is still to be heard of.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    timeout = Some(Duration::ZERO);
                }
                other => break other?,
            }
        }
        let mut signal = None;
        for event in &self.events {
            match event.token() {
                WAKER => {}
                SIGNALS => signal = interrupt::signal(),
                Token(token) if token < FIRST_CHILD => readable.push(Readable::Hook),
                Token(token) => {
                    let child = token - FIRST_CHILD;
                    let index = (child / PER_CHILD) as u32;
                    readable.push(match child % PER_CHILD {
                        0 => Readable::Log(index),
                        1 => Readable::Exit(index),
                        2 => Readable::Said(index),
                        _ => Readable::Told(index),
                    });
                }
            }
        }
        Ok(signal)
    }
}

fn first_token(goal: Entity) -> usize {
    FIRST_CHILD + goal.index_u32() as usize * PER_CHILD
}
