//! The wish to stop a run: set by anybody, seen by the step at work, answered once the stop is stored (contract 02 §3.1).

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::TurnState;

/// What somebody who asked for a stop hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// A run was stopped.
    pub(super) aborted: bool,
    /// The state in which it was, or in which the session rests; `None` for an unknown session.
    pub(super) state: Option<TurnState>,
}

/// One who asks.
pub(super) struct Ask {
    /// The only run that is meant; any without one.
    pub(super) run: Option<String>,
    /// Who waits to hear about it.
    pub(super) reply: Option<oneshot::Sender<Result<Answer>>>,
}

impl Ask {
    /// Asks about one run, without waiting to hear.
    pub(super) fn about(run: String) -> Self {
        Self {
            run: Some(run),
            reply: None,
        }
    }

    /// Tells the one who asks.
    pub(super) fn answer(self, answer: Result<Answer>) {
        if self.reply.is_some_and(|reply| reply.send(answer).is_err()) {
            tracing::debug!("who asked for a stop went away before the answer");
        }
    }

    fn is_about(&self, run: &str) -> bool {
        self.run.as_deref().is_none_or(|meant| meant == run)
    }
}

/// The wish, shared by a session's actor and those who ask.
#[derive(Default)]
pub(super) struct Stop(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    wished: CancellationToken,
    asks: Vec<Ask>,
    /// The run at work.
    run: Option<String>,
}

impl Stop {
    /// Asks for a stop; one that means another run than the one at work is dropped.
    pub(super) fn ask(&self, ask: Ask) {
        let mut inner = self.lock();
        if inner.run.as_deref().is_none_or(|run| ask.is_about(run)) {
            inner.asks.push(ask);
            inner.wished.cancel();
        }
    }

    /// Whether somebody asked and nobody has heard how it ended.
    pub(super) fn is_asked(&self) -> bool {
        self.lock().wished.is_cancelled()
    }

    /// Whether one of those who asked waits to hear about it. The others found the wish in state.
    pub(super) fn is_waited_for(&self) -> bool {
        self.lock().asks.iter().any(|ask| ask.reply.is_some())
    }

    /// Set once somebody asks; hand it to what must end with the run.
    pub(super) fn token(&self) -> CancellationToken {
        self.lock().wished.clone()
    }

    /// Does the work unless somebody asks for a stop before it is done. Work that ends because it heard of the stop counts as
    /// not done.
    pub(super) async fn unless_asked<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let wished = self.token();
        tokio::select! {
            biased;
            () = wished.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// A run is at work: wishes that mean another one are void.
    pub(super) fn enter(&self, run: String) {
        let mut inner = self.lock();
        inner.asks.retain(|ask| ask.is_about(&run));
        if inner.asks.is_empty() {
            inner.wished = CancellationToken::new();
        }
        inner.run = Some(run);
    }

    /// The run goes on elsewhere: what watches the wish here ends, and those who asked may ask there.
    pub(super) fn cut(&self) {
        let inner = std::mem::take(&mut *self.lock());
        inner.wished.cancel();
        let elsewhere = Error::Transient("the session is another process's now".into());
        tell(inner.asks, &Err(elsewhere));
    }

    /// Tells all who asked. The wish stands until the run [leaves](Self::leave).
    pub(super) fn answer(&self, answer: Answer) {
        let asks = std::mem::take(&mut self.lock().asks);
        tell(asks, &Ok(answer));
    }

    /// No run is at work any more: tells all who asked, and forgets the wish.
    pub(super) fn leave(&self, answer: &Result<Answer>) {
        let asks = std::mem::take(&mut *self.lock()).asks;
        tell(asks, answer);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(asks: Vec<Ask>, answer: &Result<Answer>) {
    for ask in asks {
        ask.answer(answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn ask(run: Option<&str>) -> (Ask, oneshot::Receiver<Result<Answer>>) {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            run: run.map(str::to_owned),
            reply: Some(reply),
        };
        (ask, answer)
    }

    #[test]
    fn a_wish_for_one_run_does_not_stop_another() {
        let stop = Stop::default();
        let (early, _answer) = ask(Some("r1"));
        stop.ask(early);
        stop.enter("r2".into());
        assert!(!stop.is_asked());
        stop.ask(ask(Some("r1")).0);
        assert!(!stop.is_asked());
        stop.ask(ask(Some("r2")).0);
        assert!(stop.is_asked());
    }

    #[test]
    fn all_who_asked_hear_the_same_and_the_next_run_is_free() {
        let stop = Stop::default();
        stop.enter("r1".into());
        let token = stop.token();
        let asked: Vec<_> = (0..3).map(|_| ask(None)).collect();
        let answers: Vec<_> = asked
            .into_iter()
            .map(|(ask, answer)| {
                stop.ask(ask);
                answer
            })
            .collect();
        assert!(token.is_cancelled());
        let said = Answer {
            aborted: true,
            state: Some(TurnState::FunctionExecute),
        };
        stop.answer(said);
        assert!(stop.is_asked(), "the run is not over yet");
        for mut answer in answers {
            assert_eq!(answer.try_recv().unwrap(), Ok(said));
        }
        stop.leave(&Ok(said));
        assert!(!stop.is_asked());
    }
}
