//! A long answer to a daemon in frames, so that it finds the end whatever goes wrong with it.

use windrow_store::wire::push_number;

use super::messages::{self, Message};
use super::nar::Outgoing;
use super::wire::{Wire, protocol};
use crate::error::Fault;

/// Sends frames. Between them it is heard whether the daemon has failed.
pub(super) struct Frames<'w> {
    wire: &'w mut Wire,
    minor: u64,
}

impl<'w> Frames<'w> {
    pub(super) fn new(wire: &'w mut Wire, minor: u64) -> Self {
        Self { wire, minor }
    }

    /// Sends a frame, unless it is empty, which would be the end.
    ///
    /// # Errors
    /// When the daemon has failed, after the end was sent.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        push_number(&mut self.wire.output, bytes.len() as u64);
        self.wire.output.extend_from_slice(bytes);
        self.wire.flush_if_much()?;
        while self.wire.has_input()? {
            match messages::next(self.wire, self.minor)? {
                Message::Other => {}
                Message::Error(fault) => {
                    push_number(&mut self.wire.output, 0);
                    self.wire.flush()?;
                    return Err(fault);
                }
                Message::Last | Message::Wants(_) => {
                    return Err(protocol("it answers before it was told all"));
                }
            }
        }
        Ok(())
    }

    /// Sends an archive.
    ///
    /// # Errors
    /// As [`Frames::send`], and when it can't be read.
    pub(super) fn send_nar(&mut self, nar: &mut Outgoing<'_>) -> Result<(), Fault> {
        while let Some(bytes) = nar.next(u64::MAX)? {
            self.send(bytes)?;
        }
        Ok(())
    }

    /// Sends the end, and waits until the daemon is done.
    ///
    /// # Errors
    /// When it has failed.
    pub(super) fn end(self) -> Result<(), Fault> {
        push_number(&mut self.wire.output, 0);
        self.wire.flush()?;
        messages::until_done(self.wire, self.minor)
    }
}
