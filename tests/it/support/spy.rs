//! A transport between the bus and the engine that counts, remembers and fails on request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use harness::bus::{CallFuture, Invocation, Transport, Write};
use harness::error::{Error, Result};

use serde_json::Value;

use super::bus::Wrap;
use super::pass_on::pass_on_to;

/// What passes the spy.
pub(crate) enum Op<'a> {
    Call(&'a Invocation),
    Commit(&'a [Write]),
}

type Judge = Box<dyn FnMut(&Op<'_>) -> Option<Error> + Send>;

/// Handle for the test.
#[derive(Clone, Default)]
pub(crate) struct Spy {
    fails: Arc<Mutex<Option<Judge>>>,
    writes: Arc<Mutex<Vec<Write>>>,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    shares: Arc<AtomicBool>,
}

impl Spy {
    /// For [`super::TestOptions::wrap`].
    pub(crate) fn wrap(&self) -> Wrap {
        let spy = self.clone();
        Box::new(move |inner| Arc::new(Wrapped { inner, spy }))
    }

    /// Says that other processes use the engine too.
    pub(crate) fn sharing() -> Self {
        let spy = Self::default();
        spy.shares.store(true, Ordering::SeqCst);
        spy
    }

    /// Fails, as if the store were away, whatever the judge says yes to.
    pub(crate) fn fail_when(&self, judge: impl FnMut(&Op<'_>) -> bool + Send + 'static) {
        self.fail_with(Error::store("test", "the store is away"), judge);
    }

    /// Fails with an error.
    pub(crate) fn fail_with(&self, error: Error, mut judge: impl FnMut(&Op<'_>) -> bool + Send + 'static) {
        let judge = move |op: &Op<'_>| judge(op).then(|| error.clone());
        *self.fails.lock().unwrap() = Some(Box::new(judge));
    }

    pub(crate) fn heal(&self) {
        *self.fails.lock().unwrap() = None;
    }

    /// All writes of commits that were let through, in order.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.writes.lock().unwrap().clone()
    }

    /// Engine functions that were called, and the scope each was asked about.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    fn judge(&self, op: &Op<'_>) -> Result<()> {
        let mut judge = self.fails.lock().unwrap();
        if let Some(error) = judge.as_mut().and_then(|judge| judge(op)) {
            return Err(error);
        }
        match op {
            Op::Call(invocation) => self.calls.lock().unwrap().push((
                invocation.function_id.to_string(),
                invocation.payload["scope"].clone(),
            )),
            Op::Commit(writes) => self.writes.lock().unwrap().extend(writes.iter().cloned()),
        }
        Ok(())
    }
}

struct Wrapped {
    inner: Arc<dyn Transport>,
    spy: Spy,
}

impl Transport for Wrapped {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        match self.spy.judge(&Op::Call(&invocation)) {
            Ok(()) => self.inner.call(invocation),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        match self.spy.judge(&Op::Commit(&writes)) {
            Ok(()) => self.inner.commit(writes),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn is_exclusive(&self) -> bool {
        !self.spy.shares.load(Ordering::SeqCst) && self.inner.is_exclusive()
    }
}
