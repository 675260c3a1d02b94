//! Work on the thread of the network that its giver can call off, and its one answer.

use std::future::Future;

use tokio::sync::oneshot;

use crate::error::{Doing, Fault, NetError};

/// Somebody's wish for an answer. Dropped before the answer has come, it cancels the work; the
/// answer is then [`Kind::Cancelled`](crate::error::Kind::Cancelled).
#[derive(Debug)]
#[must_use = "the work is cancelled when the ticket is dropped"]
pub struct Ticket(Option<oneshot::Sender<()>>);

impl Ticket {
    pub(crate) fn new() -> (Self, Wanted) {
        let (send, receive) = oneshot::channel();
        (Self(Some(send)), Wanted(receive))
    }

    /// Has the work done to its end without a ticket, or until the client is dropped.
    pub fn detach(mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

/// The other end of a ticket.
#[derive(Debug)]
pub(crate) struct Wanted(oneshot::Receiver<()>);

impl Wanted {
    /// Ends when nobody wants the work any more.
    pub(crate) async fn ended(&mut self) {
        if (&mut self.0).await.is_ok() {
            // Detached.
            std::future::pending::<()>().await;
        }
    }

    /// What `work` comes to, unless it is called off before.
    pub(crate) async fn or_cancelled<T>(
        &mut self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.ended() => Err(Fault::cancelled()),
        }
    }
}

/// Calls back exactly once: with the result, or with the word that the work was dropped.
pub(crate) struct Done<T, F: FnOnce(Result<T, NetError>)> {
    call: Option<F>,
    doing: Doing,
    url: String,
    result: std::marker::PhantomData<fn(T)>,
}

impl<T, F: FnOnce(Result<T, NetError>)> Done<T, F> {
    pub(crate) fn new(call: F, doing: Doing, url: String) -> Self {
        Self {
            call: Some(call),
            doing,
            url,
            result: std::marker::PhantomData,
        }
    }

    pub(crate) fn tell(mut self, result: Result<T, Fault>) {
        if let Some(call) = self.call.take() {
            call(result.map_err(|fault| fault.about(self.doing, &self.url)));
        }
    }
}

impl<T, F: FnOnce(Result<T, NetError>)> Drop for Done<T, F> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call(Err(Fault::cancelled().about(self.doing, &self.url)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_answer_comes_once_even_if_the_work_is_dropped() {
        let mut answers = Vec::new();
        let mut tell = |result: Result<u8, NetError>| answers.push(result.map_err(|e| e.kind()));
        Done::new(&mut tell, Doing::Fetch, String::new()).tell(Ok(1));
        drop(Done::new(&mut tell, Doing::Fetch, String::new()));
        assert_eq!(answers, [Ok(1), Err(Kind::Cancelled)]);
    }
}
