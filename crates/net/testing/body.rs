//! Bodies of answers: bytes that come in pieces, and end as they are told.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As it should.
    Well,
    /// With an error, which breaks the connection.
    Broken,
    /// Never: nothing more comes.
    Silent,
    /// Never: the same bytes come again and again.
    Endless,
}

/// A body.
pub(super) struct Pieces {
    bytes: Bytes,
    all: Bytes,
    /// How large the pieces are, with what pause before each.
    drip: (usize, Duration),
    pause: Option<Pin<Box<Sleep>>>,
    end: End,
}

impl Pieces {
    pub(super) fn new(bytes: Bytes, end: End) -> Self {
        Self {
            all: bytes.clone(),
            bytes,
            drip: (64 << 10, Duration::ZERO),
            pause: None,
            end,
        }
    }

    pub(super) fn dripping(mut self, piece: usize, pause: Duration) -> Self {
        self.drip = (piece.max(1), pause);
        self
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.bytes.is_empty() {
            match self.end {
                End::Well => return Poll::Ready(None),
                End::Broken => {
                    // What was sent before is to arrive.
                    let moment = || Box::pin(tokio::time::sleep(Duration::from_millis(20)));
                    std::task::ready!(self.pause.get_or_insert_with(moment).as_mut().poll(context));
                    return Poll::Ready(Some(Err(io::Error::other("told to break"))));
                }
                End::Silent => return Poll::Pending,
                End::Endless => self.bytes = self.all.clone(),
            }
        }
        let (piece, pause) = self.drip;
        if !pause.is_zero() {
            let sleep = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(sleep.as_mut().poll(context));
            self.pause = None;
        }
        let piece = piece.min(self.bytes.len());
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            End::Well => SizeHint::with_exact(self.bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// Reads a body to its end.
pub(super) async fn read(body: hyper::body::Incoming) -> Result<Bytes, hyper::Error> {
    use http_body_util::BodyExt as _;
    Ok(body.collect().await?.to_bytes())
}

/// Reads that number of bytes of a body, or as many as there are.
pub(super) async fn read_some(mut body: hyper::body::Incoming, most: u64) {
    use http_body_util::BodyExt as _;
    let mut count = 0;
    while count < most
        && let Some(Ok(frame)) = body.frame().await
    {
        count += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
