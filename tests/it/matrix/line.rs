//! The line between the program and its world. Everything durable and everything outside passes it; each passage is a
//! point with a stable name, and at one of them the program dies or its store fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::{pending, ready};
use harness::bus::{Bus, CallContext, CallFuture, Invocation, StreamItem, Transport, Write, commit_apart};
use harness::error::{Error, Result};
use harness::scripted::Gate;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::names;
use crate::support::bus::Wrap;
use crate::support::pass_on::pass_on_to;

/// What happens at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The program dies before what the point is about is done.
    DieBefore(String),
    /// It dies when that is done, before anybody hears of it.
    DieAfter(String),
    /// The store refuses this once.
    FailOnce(String),
    /// The store refuses this and whatever follows, as often as a step with all its repetitions asks once.
    FailLong(String),
    /// The store refuses everything from here on, until it is healed.
    FailOn(String),
}

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// Nothing of the store: an event shown, a call outside.
    Moment,
}

/// A passage of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Handle for the test; one line serves all lives of a world.
#[derive(Clone, Default)]
pub(crate) struct Line {
    inner: Arc<Mutex<Inner>>,
    /// The engine seems to be shared with others: it takes single writes only.
    shared: bool,
}

#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four things that happen independently"
)]
struct Inner {
    fault: Option<Fault>,
    /// Points are counted.
    armed: bool,
    hit: bool,
    failing: bool,
    /// Refusals until the store answers again by itself.
    left: Option<usize>,
    /// Passages until death.
    die_in: Option<usize>,
    /// The last event of the run was shown.
    over: bool,
    death: CancellationToken,
    seen: BTreeMap<String, usize>,
    points: Vec<Point>,
    stored: BTreeSet<String>,
    streams: Vec<Gate>,
    engine: Option<Arc<dyn Transport>>,
    /// Lives so far.
    lives: usize,
}

/// Refusals of a [`Fault::FailLong`]: a save asks twice, and a step of these worlds is repeated twice.
const LONG: usize = 6;

enum Verdict {
    Go,
    Refuse,
    /// Nobody is left to do it.
    Dead,
    /// It is done, then nobody is left.
    LastDeed,
}

impl Line {
    /// A line to an engine that others write to as well.
    pub(crate) fn shared() -> Self {
        Self {
            shared: true,
            ..Self::default()
        }
    }

    /// Counts points from here on; one of them gets the fault.
    pub(crate) fn arm(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        inner.fault = fault;
        inner.armed = true;
    }

    /// The next life begins; nothing happens to it.
    pub(crate) fn revive(&self) {
        let mut inner = self.lock();
        inner.armed = false;
        inner.fault = None;
        inner.failing = false;
        inner.over = false;
        inner.die_in = None;
        inner.death = CancellationToken::new();
        inner.engine = None;
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// The store answers again.
    pub(crate) fn heal(&self) {
        self.lock().failing = false;
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.lock().failing
    }

    /// Whether the fault has happened.
    pub(crate) fn was_hit(&self) -> bool {
        self.lock().hit
    }

    /// All points so far, in order.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.lock().points.clone()
    }

    /// Dies now.
    pub(crate) fn die(&self) {
        let mut inner = self.lock();
        inner.hit = true;
        inner.death.cancel();
    }

    /// Dies at so many passages from now.
    pub(crate) fn die_in(&self, passages: usize) {
        self.lock().die_in = Some(passages);
    }

    /// What was to come does not come any more; false when it has come.
    pub(crate) fn calm(&self) -> bool {
        let mut inner = self.lock();
        inner.die_in = None;
        !inner.death.is_cancelled()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().death.is_cancelled()
    }

    /// Whether the end of a run was shown.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// What a client does while the program lives; `None` when it died meanwhile.
    pub(crate) async fn alive<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let death = self.lock().death.clone();
        death.run_until_cancelled(work).await
    }

    /// Something outside happens; never returns when the program dies of it.
    pub(crate) async fn outside(&self, name: String) {
        if !matches!(self.pass(Some(name), Kind::Moment), Verdict::Go) {
            pending::<()>().await;
        }
    }

    /// Something outside happens; false when the program dies of it.
    pub(crate) fn reach(&self, name: String) -> bool {
        matches!(self.pass(Some(name), Kind::Moment), Verdict::Go)
    }

    /// Waits until a call's result is stored.
    pub(crate) async fn result_stored(&self, call: &str) {
        while !self.lock().stored.contains(call) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// A gate that opens once streamed text is stored, or could not be.
    pub(crate) fn until_text_is_stored(&self) -> Gate {
        let gate = Gate::new();
        let mut inner = self.lock();
        if inner.armed {
            inner.streams.push(gate.clone());
        } else {
            gate.release();
        }
        gate
    }

    /// Asks the engine past the line.
    pub(crate) async fn peek(&self, id: &str, payload: Value) -> Value {
        let engine = self.lock().engine.clone().unwrap();
        let invocation = Invocation {
            function_id: id.into(),
            payload,
            context: CallContext::default(),
        };
        engine.call(invocation).await.unwrap()
    }

    /// For [`crate::support::TestOptions::wrap`].
    pub(crate) fn wrap(&self) -> Wrap {
        let line = self.clone();
        Box::new(move |inner| {
            let life = {
                let mut state = line.lock();
                state.engine = Some(Arc::clone(&inner));
                state.lives += 1;
                state.lives
            };
            let wrapped = Wrapped { inner, line };
            if !wrapped.line.shared {
                return Arc::new(wrapped);
            }
            // Each life is another owner of the engine, so that the leases of the one before do not bind it.
            let owner = watch::Sender::new(Some(format!("life-{life}").into()));
            Arc::new(Shared {
                line: Arc::new(wrapped),
                owner,
            })
        })
    }

    /// Counts the events of the bus.
    pub(crate) fn watch(&self, bus: &Bus) {
        let line = self.clone();
        let tap = move |item: &StreamItem| {
            let Some(name) = names::event(&item.data) else {
                return;
            };
            if line.reach(format!("event: {name}")) && item.data["type"] == "agent_end" {
                line.lock().over = true;
            }
        };
        bus.tap_stream("agent::events", Arc::new(tap));
    }

    fn pass(&self, name: Option<String>, kind: Kind) -> Verdict {
        let mut inner = self.lock();
        if inner.death.is_cancelled() {
            return Verdict::Dead;
        }
        if let Some(left) = &mut inner.die_in {
            if *left == 0 {
                inner.death.cancel();
                return Verdict::Dead;
            }
            *left -= 1;
        }
        if let Some(name) = name.filter(|_| inner.armed) {
            let times = inner.seen.entry(name.clone()).or_default();
            *times += 1;
            let name = match *times {
                1 => name,
                more => format!("{name} ({more})"),
            };
            inner.points.push(Point {
                name: name.clone(),
                kind,
            });
            match inner.fault.clone() {
                Some(Fault::DieBefore(at)) if at == name => {
                    inner.hit = true;
                    inner.death.cancel();
                    return Verdict::Dead;
                }
                Some(Fault::DieAfter(at)) if at == name => {
                    inner.hit = true;
                    return Verdict::LastDeed;
                }
                Some(Fault::FailOnce(at)) if at == name => {
                    inner.hit = true;
                    return Verdict::Refuse;
                }
                Some(Fault::FailOn(at)) if at == name => {
                    inner.hit = true;
                    inner.failing = true;
                }
                Some(Fault::FailLong(at)) if at == name => {
                    inner.hit = true;
                    inner.failing = true;
                    inner.left = Some(LONG);
                }
                _ => {}
            }
        }
        if inner.failing && kind != Kind::Moment {
            if let Some(left) = &mut inner.left {
                *left -= 1;
                inner.failing = *left > 0;
            }
            return Verdict::Refuse;
        }
        Verdict::Go
    }

    /// Lets a write or read through, or not.
    fn let_through<T: Send + 'static>(
        &self,
        name: Option<String>,
        kind: Kind,
        work: impl FnOnce() -> CallFuture<T>,
    ) -> CallFuture<T> {
        match self.pass(name, kind) {
            Verdict::Go => work(),
            Verdict::Refuse => ready(Err(Error::store("test", "the store is away"))).boxed(),
            Verdict::Dead => pending().boxed(),
            Verdict::LastDeed => {
                let (line, work) = (self.clone(), work());
                async move {
                    work.await?;
                    line.die();
                    pending().await
                }
                .boxed()
            }
        }
    }

    /// A commit was stored, or refused. When it had streamed text the model may go on.
    fn settled(&self, has_text: bool, results: Vec<String>, stored: bool) {
        let mut inner = self.lock();
        if has_text {
            for gate in std::mem::take(&mut inner.streams) {
                gate.release();
            }
        }
        if stored {
            inner.stored.extend(results);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

struct Wrapped {
    inner: Arc<dyn Transport>,
    line: Line,
}

impl Transport for Wrapped {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        let (name, kind) = names::call(&invocation);
        let inner = Arc::clone(&self.inner);
        self.line.let_through(name, kind, move || inner.call(invocation))
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let name = names::commit(&writes);
        let has_text = names::streams_text(&writes);
        let results = names::results(&writes);
        let inner = Arc::clone(&self.inner);
        let commit = self
            .line
            .let_through(name, Kind::Write, move || inner.commit(writes));
        let line = self.line.clone();
        async move {
            let outcome: Result<()> = commit.await;
            line.settled(has_text, results, outcome.is_ok());
            outcome
        }
        .boxed()
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }
}

/// An engine that is shared with others: each write passes the line by itself, those before the last side by side.
struct Shared {
    line: Arc<Wrapped>,
    owner: watch::Sender<Option<Arc<str>>>,
}

impl Transport for Shared {
    pass_on_to!(line, owned);

    fn call(&self, invocation: Invocation) -> CallFuture {
        self.line.call(invocation)
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let line = Arc::clone(&self.line);
        let has_text = names::streams_text(&writes);
        let results = names::results(&writes);
        let commit = commit_apart(move |invocation| line.call(invocation), writes);
        let line = self.line.line.clone();
        async move {
            let outcome = commit.await;
            line.settled(has_text, results, outcome.is_ok());
            outcome
        }
        .boxed()
    }

    fn ownership(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.owner.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        false
    }
}
