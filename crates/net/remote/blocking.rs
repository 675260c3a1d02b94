//! The same for who can wait, such as the command line. A signal or a `Stop` ends the wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use windrow_sys::interrupt;

use super::{Expected, Partial, Remote, Source};
use crate::client::Ticket;
use crate::error::{Doing, Fault, NetError};

impl Remote {
    /// As [`Remote::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get_now(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, NetError> {
        let (send, answer) = channel();
        let ticket = self.get(name, limit, move |result| drop(send.send(result)));
        self.wait(ticket, &answer, (Doing::Fetch, name))
    }

    /// As [`Remote::exists`].
    ///
    /// # Errors
    /// As there.
    pub fn exists_now(&self, name: &str) -> Result<bool, NetError> {
        let (send, answer) = channel();
        let ticket = self.exists(name, move |result| drop(send.send(result)));
        self.wait(ticket, &answer, (Doing::LookFor, name))
    }

    /// As [`Remote::download`].
    ///
    /// # Errors
    /// As there.
    pub fn download_now(
        &self,
        name: &str,
        partial: Partial,
        expected: impl Into<Expected>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Partial, NetError> {
        let (send, answer) = channel();
        let done = move |result| drop(send.send(result));
        let ticket = self.download(name, partial, expected, progress, done);
        self.wait(ticket, &answer, (Doing::Fetch, name))
    }

    /// As [`Remote::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put_now(&self, name: &str, source: Source, content_type: &str) -> Result<(), NetError> {
        let (send, answer) = channel();
        let done = move |result| drop(send.send(result));
        let ticket = self.put(name, source, content_type, done);
        self.wait(ticket, &answer, (Doing::Upload, name))
    }

    fn wait<T>(
        &self,
        ticket: Ticket,
        answer: &Receiver<Result<T, NetError>>,
        (doing, name): (Doing, &str),
    ) -> Result<T, NetError> {
        let mut ticket = Some(ticket);
        loop {
            match answer.recv_timeout(interrupt::SLICE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if interrupt::has_come() => drop(ticket.take()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::cancelled().about(doing, &self.shown(name)));
                }
            }
        }
    }
}
