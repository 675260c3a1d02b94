//! Bodies of answers, as hyper takes them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc::Receiver;

use super::connection::UnderWay;
use super::notice::{Answered, Event, Notice};
use super::stream::Piece;
use super::turns::Wanted;

/// Where a body comes from.
#[derive(Debug)]
pub(super) enum From {
    Bytes(Bytes),
    /// A thread, which says when there is no more.
    Thread {
        /// What has come already.
        first: Option<Piece>,
        rest: Receiver<Piece>,
        /// What has the thread go on; it hears last that nobody takes anything any more.
        _wanted: Wanted,
    },
    /// There is no more of it.
    Nowhere,
}

/// The body of an answer. When it is dropped, its client has all of it or has gone.
pub(super) struct Body {
    pub(super) from: From,
    /// How many bytes are still to come, if that is known.
    pub(super) left: Option<u64>,
    /// Whether its connection may not end yet.
    pub(super) under_way: UnderWay,
    pub(super) answered: Answered,
    pub(super) notice: Notice,
}

impl Body {
    fn take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let piece = match &mut self.from {
            From::Nowhere => return Poll::Ready(Ok(None)),
            From::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.from = From::Nowhere;
                return Poll::Ready(Ok(Some(bytes)));
            }
            From::Thread { first, rest, .. } => match first.take() {
                Some(first) => Some(first),
                None => ready!(rest.poll_recv(context)),
            },
        };
        Poll::Ready(match piece {
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::End) => {
                self.from = From::Nowhere;
                Ok(None)
            }
            // Also when the thread has come to an end that nobody expected.
            Some(Piece::Failed) | None => Err(io::Error::other("the rest is not to be had")),
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(bytes) = ready!(self.take(context)).transpose() else {
            return Poll::Ready(None);
        };
        let bytes = bytes?;
        let count = bytes.len() as u64;
        self.answered.sent += count;
        self.left = self.left.map(|left| left.saturating_sub(count));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Nowhere => true,
            From::Bytes(bytes) => bytes.is_empty(),
            From::Thread { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        use hyper::body::Body as _;
        self.answered.is_whole = self.is_end_stream() || self.left == Some(0);
        if self.answered.is_whole {
            self.under_way.end();
        }
        (self.notice)(&Event::Answered(&self.answered));
    }
}
